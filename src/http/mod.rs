//! HTTP: what Stripe and internal services reach.
//!
//! Handlers read a request strictly, hand writes to a flow and reads to `store::views`, and render. They
//! decide nothing about money; what Stripe is asked, they learn through the two doors in `state`.

mod api;
mod auth;
mod error;
mod extract;
mod health;
mod idempotency;
mod layers;
mod query;
mod router;
mod state;
mod webhook;

pub use self::router::{intake_only, operations, public, whole};
pub use self::state::{AdminKey, AppState};
