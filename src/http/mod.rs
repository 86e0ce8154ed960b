//! HTTP: what Stripe and internal services reach.
//!
//! Handlers read a request strictly, hand writes to a flow and reads to `store::views`, and render. They
//! decide nothing about money; what Stripe is asked, they learn through the two doors in `state`.

mod api;
mod auth;
mod console;
mod declined;
mod docs;
mod document;
mod door;
mod error;
mod etag;
mod extract;
mod feed;
mod frames;
mod health;
mod idempotency;
mod layers;
mod listener;
mod live;
mod lookups;
mod measures;
mod metadata;
mod onboarding;
mod query;
mod refusals;
mod router;
mod serving;
mod state;
mod waits;
mod webhook;
mod words;

pub use self::console::Gate as ConsoleGate;
pub use self::door::Door;
pub use self::live::Live;
pub use self::onboarding::Limiter as OnboardingLimiter;
pub use self::router::{Served, document, in_process, operations, public, whole};
pub use self::serving::{Serving, Tls, TlsError, serve};
pub use self::state::{AdminKey, AppState};
