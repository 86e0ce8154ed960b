//! What the API shows and nobody decides upon.
//!
//! Lists are read by key, never by offset, so that a page does not move under its reader. Statements with
//! optional filters are not kept prepared: Postgres then plans each with its values and drops the filters
//! that are absent, instead of settling on one plan that fits none.

mod accounts;
mod changes;
mod events;
mod forecast;
mod gauges;
mod money;
mod progress;
mod transfers;

use sqlx::PgPool;

pub use self::accounts::{
    Account, AccountChange, find_account, list_account_changes, list_accounts, list_accounts_by_ids,
    list_accounts_changed,
};
pub use self::changes::{Change, first_started, last_change, list_changes, present};
pub use self::events::{
    Event, EventFilter, EventStatus, find_event, find_payload, find_signature, list_events,
};
pub use self::forecast::{Outlook, outlook};
pub use self::gauges::{Gauges, Waiting, gauges};
pub use self::money::{
    Arrival, Currency, Funds, Topup, TopupChange, TopupFilter, find_topup, funds, list_topup_changes,
    list_topups, list_topups_by_ids,
};
pub use self::progress::{Progress, progress};
pub use self::transfers::{
    Attempt, Call, HistoryLine, TransferFilter, find_reversed_transfer, find_transfer, is_key_used,
    list_attempts, list_calls, list_history, list_transfers, list_transfers_by_ids,
};
pub use super::adjustments::{Adjustment, list as list_adjustments};
pub use super::audit::list_newest as list_audit;
pub use super::controls::{Pause, find_pause};
pub use super::db::StoreError;
pub use super::keys::{Key, list as list_keys};
pub use super::ledger::{Posting, list_postings};
pub use super::platforms::{Platform, get as get_platform};
pub use super::pulses::{Pulse, list_since as list_pulses};
pub use super::reversals::{Reversal, list as list_reversals};
pub use super::sweeps::Sweep;
pub use super::topup_intents::{Intent as TopupIntent, find as find_topup_intent};
pub use super::transfers::Transfer;

/// A transaction in which everything that is read is from one moment.
pub async fn snapshot(pool: &PgPool) -> Result<Snapshot, StoreError> {
    super::db::begin_with(pool, "begin isolation level repeatable read read only").await
}

/// What [`snapshot`] opens; it ends when it is dropped.
pub type Snapshot = sqlx::Transaction<'static, sqlx::Postgres>;

/// How many lines of a history are shown, the newest.
const HISTORY: i64 = 1_000;

/// What the database says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// It answers.
    pub database: bool,
    /// It has every migration of this binary.
    pub migrations: bool,
}

/// Whether the database answers and is migrated.
pub async fn health(pool: &PgPool) -> Health {
    match super::db::is_ready(pool).await {
        Ok(migrations) => Health { database: true, migrations },
        // It answered, but not with what a migrated database has.
        Err(StoreError::Refused(_) | StoreError::Unreadable(_)) => {
            Health { database: true, migrations: false }
        }
        Err(StoreError::Unavailable(_)) => Health { database: false, migrations: false },
    }
}

/// A connection for one answer.
pub async fn connect(pool: &PgPool) -> Result<Pooled, StoreError> {
    Ok(pool.acquire().await?)
}

/// A connection out of the pool.
pub type Pooled = sqlx::pool::PoolConnection<sqlx::Postgres>;
