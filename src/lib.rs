//! Sluicegate pays out Stripe Connect accounts with money the platform adds itself.
//!
//! The map of the house is `docs/ARCHITECTURE.md`. Arrows between modules go one way only:
//! `cli → {http, worker} → flows → {store, stripe} → domain`, and `tests/walls.rs` holds them to it.

pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod flows;
pub mod http;
pub mod planted;
pub mod sandbox;
pub mod store;
pub mod stripe;
pub mod telemetry;
pub mod trail;
pub mod worker;
