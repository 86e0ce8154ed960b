//! What Sluicegate decides, as pure functions over plain values.
//!
//! Nothing here is async, reads a clock, draws a random number, or knows of a database, HTTP or Stripe's wire.

pub mod ids;
pub mod money;
