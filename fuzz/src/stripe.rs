//! Of Stripe's room, what a delivery meets first.

#[path = "../../src/stripe/signature.rs"]
pub mod signature;
#[path = "../../src/stripe/wire/mod.rs"]
pub mod wire;

/// Stands for the service's own: an envelope is read alike whatever it is.
pub const API_VERSION: &str = "2026-10-28.endive";
