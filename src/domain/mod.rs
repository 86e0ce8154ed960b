//! What Sluicegate decides, as pure functions over plain values.
//!
//! Nothing here is async, reads a clock, draws a random number, or knows of a database, HTTP or Stripe's wire.

pub mod account;
pub mod audit;
pub mod change;
pub mod checkup;
pub mod corridors;
pub mod count;
pub mod declined;
pub mod endpoint;
pub mod event;
pub mod evidence;
pub mod explanation;
pub mod forecast;
pub mod funds;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod money;
pub mod network;
pub mod next_step;
pub mod onboarding;
pub mod platform;
pub mod reason;
pub mod refusal;
pub mod release;
pub mod return_url;
pub mod reversal;
pub mod session;
pub mod share;
pub mod task;
pub mod topup;
pub mod transfer;
