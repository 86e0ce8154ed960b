//! All SQL, one file a table family.
//!
//! Functions take a connection and say verb and guard in their name; they decide nothing about business.
//! Times come in as parameters, so that the database's clock never takes part.

pub mod accounts;
pub mod adjustments;
pub mod admin;
pub mod attempts;
pub mod audit;
pub mod caps;
pub mod checkup;
pub mod claims;
pub mod controls;
pub mod db;
pub mod door_keys;
pub mod fresh_tasks;
pub mod heartbeats;
pub mod holds;
pub mod idempotency;
pub mod inspect;
pub mod keys;
pub mod ledger;
pub mod line;
pub mod outbox;
pub mod platforms;
pub mod pulses;
pub mod rebuild;
pub mod retention;
pub mod reversals;
pub mod sessions;
pub mod statistics;
pub mod sweeps;
pub mod tasks;
pub mod topup_intents;
pub mod topups;
pub mod transfers;
pub mod trial;
pub mod unhandled;
pub mod views;
