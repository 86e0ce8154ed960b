//! The rooms under test, compiled by their files: whatever is not needed to read a delivery stays out of the build.

#[path = "../../src/domain/mod.rs"]
pub mod domain;
pub mod stripe;
