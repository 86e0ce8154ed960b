//! What an outsider asks of a database that a service worked on: how all ended, and whether anything was lost.

use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::db::StoreError;

/// Makes a database of this name as a copy of `template`, to which nobody may be connected. Both are plain names.
pub async fn create_database(conn: &mut PgConnection, name: &str, template: &str) -> Result<(), StoreError> {
    let statement = format!("-- create_database\ncreate database \"{name}\" template \"{template}\"");
    sqlx::query(AssertSqlSafe(statement)).execute(conn).await?;
    Ok(())
}

/// Drops a database and whoever is connected to it.
pub async fn drop_database(conn: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    let statement = format!("-- drop_database\ndrop database if exists \"{name}\" with (force)");
    sqlx::query(AssertSqlSafe(statement)).execute(conn).await?;
    Ok(())
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Transfer {
    /// Ours.
    pub id: String,
    /// Its status.
    pub status: String,
    /// Why it waits.
    pub waiting_on: Vec<String>,
    /// In minor units.
    pub amount_reversed: i64,
}

/// Every transfer.
pub async fn list_transfers(conn: &mut PgConnection) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- inspect_transfers
        select id, status, waiting_on, amount_reversed from transfers order by id";
    Ok(sqlx::query_as(SQL).fetch_all(conn).await?)
}

/// Every account, and why it can't be paid.
pub async fn list_accounts(conn: &mut PgConnection) -> Result<Vec<(String, Vec<String>)>, StoreError> {
    const SQL: &str = "-- inspect_accounts
        select account, reasons from accounts order by account";
    Ok(sqlx::query_as(SQL).fetch_all(conn).await?)
}

/// Every top-up: its status, and what of it is booked, in minor units.
pub async fn list_topups(conn: &mut PgConnection) -> Result<Vec<(String, String, i64)>, StoreError> {
    const SQL: &str = "-- inspect_topups
        select topup, status, booked_amount from topups order by topup";
    Ok(sqlx::query_as(SQL).fetch_all(conn).await?)
}

/// When which account became ready, or not, in the service's eyes: the account, when, and why it can't be paid.
pub async fn list_readiness(
    conn: &mut PgConnection,
) -> Result<Vec<(String, OffsetDateTime, Vec<String>)>, StoreError> {
    const SQL: &str = "-- inspect_readiness
        select account, at, reasons from account_changes order by account, id";
    Ok(sqlx::query_as(SQL).fetch_all(conn).await?)
}

/// Those of these events that were not received by the time given for each.
pub async fn list_lost(
    conn: &mut PgConnection,
    events: &[String],
    answered: &[OffsetDateTime],
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- inspect_lost
        select id from unnest($1::text[], $2::timestamptz[]) as told (id, at)
        where not exists (select from outbox where event_id = id and received_at <= at)";
    Ok(sqlx::query_scalar(SQL).bind(events).bind(answered).fetch_all(conn).await?)
}

/// Events that are not applied, and events that could not be.
pub async fn count_unapplied(conn: &mut PgConnection) -> Result<(i64, i64), StoreError> {
    const SQL: &str = "-- inspect_unapplied
        select (select count(*) from tasks where event_id is not null), (select count(*) from dead_letters)";
    Ok(sqlx::query_as(SQL).fetch_one(conn).await?)
}

/// A currency's money, in minor units: settled, reserved, released, available.
pub async fn list_funds(conn: &mut PgConnection) -> Result<Vec<(String, Json<Vec<i64>>)>, StoreError> {
    const SQL: &str = "-- inspect_funds
        select currency, json_build_array(
            coalesce(-sum(balance) filter (where kind = 'money_in'), 0),
            coalesce(sum(balance) filter (where kind = 'reserved'), 0),
            coalesce(sum(balance) filter (where kind = 'released'), 0),
            coalesce(sum(balance) filter (where kind = 'available'), 0))
        from ledger_accounts group by currency order by currency";
    Ok(sqlx::query_as(SQL).fetch_all(conn).await?)
}
