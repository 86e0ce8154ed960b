//! Stripe's wire: signatures, objects, and calls. Knows nothing about Sluicegate's tables or decisions.

mod calls;
pub mod client;
pub mod error;
pub mod form;
pub mod rate;
pub mod signature;
mod transport;
pub mod wire;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod error_tests;

/// The API version every call is pinned to; its part after the dot names the release train.
pub const API_VERSION: &str = "2026-10-28.endive";
