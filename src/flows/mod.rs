//! One file a story: load, decide, record.
//!
//! A flow reads what it needs (store or Stripe), asks one pure function of `domain`, and writes the outcome
//! in one transaction. No call to Stripe happens inside a transaction. Flows never call each other; what one
//! leaves for another is a rung bell.

use std::time::Duration;

use sqlx::PgPool;

use crate::clock::Clock;
use crate::domain::account::Policy;
use crate::domain::topup::Rule;

pub mod request_transfer;

/// What every flow works with: the database, Stripe, the time, and the platform's rules.
#[derive(Clone, Debug)]
pub struct Context {
    /// The database.
    pub pool: PgPool,
    /// The time; a flow that calls Stripe needs to know it before and after.
    pub clock: Clock,
    /// The key's mode: true for live.
    pub livemode: bool,
    /// Which conditions make an account ready.
    pub policy: Policy,
    /// When a top-up's money counts as settled.
    pub rule: Rule,
    /// An account last confirmed longer ago is fetched before it is paid.
    pub max_age: time::Duration,
    /// How long after the last call a look-up counts as proof.
    pub grace: time::Duration,
    /// `source_type` sent with transfers, if any.
    pub source_type: Option<String>,
    /// No call to Stripe takes longer; shorter than a lease.
    pub longest_call: Duration,
}

/// Who does something, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The API key's id; `admin` for the bootstrap key.
    pub id: String,
}
