//! Stripe's wire: signatures, objects, and calls. Knows nothing about Sluicegate's tables or decisions.

pub mod signature;
pub mod wire;

/// The API version every call is pinned to; its part after the dot names the release train.
pub const API_VERSION: &str = "2026-10-28.endive";
