//! What holds for the whole installation: its start, the emergency stop, each currency's lock and stop, and
//! who else is running.

use sqlx::types::Uuid;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::money::Currency;

/// Notes the first start on this database and returns since when arrivals count. `wanted` replaces what is
/// kept; without it the first start's default stays for good.
pub async fn ensure_installation(
    conn: &mut PgConnection,
    now: OffsetDateTime,
    default_since: OffsetDateTime,
    wanted: Option<OffsetDateTime>,
) -> Result<OffsetDateTime, StoreError> {
    const SQL: &str = "-- ensure_installation
        insert into installation (first_started, funds_since) values ($1, coalesce($3::timestamptz, $2))
        on conflict (one) do update set funds_since = coalesce($3, installation.funds_since)
        returning funds_since";
    Ok(sqlx::query_scalar(SQL).bind(now).bind(default_since).bind(wanted).fetch_one(conn).await?)
}

/// When the service first started on this database.
pub async fn get_first_started(conn: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    const SQL: &str = "-- get_first_started
        select first_started from installation";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// What tells this installation from another on the same Stripe account.
pub async fn get_installation_id(conn: &mut PgConnection) -> Result<Uuid, StoreError> {
    const SQL: &str = "-- get_installation_id
        select id from installation";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// Since when arrivals count.
pub async fn get_funds_since(conn: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    const SQL: &str = "-- get_funds_since
        select funds_since from installation";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// The emergency stop.
#[derive(Clone, Debug, FromRow)]
pub struct Pause {
    /// Releases are stopped.
    pub paused: bool,
    /// Why.
    pub cause: Option<String>,
    /// By whom: a key's id, or `sluicegate`.
    pub paused_by: Option<String>,
    /// Since when it is so.
    pub at: OffsetDateTime,
}

/// The state of the emergency stop; none where it was never used.
pub async fn find_pause(conn: &mut PgConnection, livemode: bool) -> Result<Option<Pause>, StoreError> {
    const SQL: &str = "-- find_pause
        select paused, cause, paused_by, at from release_controls where livemode = $1";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_optional(conn).await?)
}

/// Keeps the emergency stop as it is until the transaction ends. It reads nothing: what it was before the lock was
/// granted may be old. A lock on the row would not do: Postgres lets those who share a row go past an update that
/// waits for it, so that a stop could wait for as long as looks follow each other. This one has a queue.
pub async fn hold_pause(conn: &mut PgConnection, livemode: bool) -> Result<(), StoreError> {
    const SQL: &str = "-- hold_pause
        select pg_advisory_xact_lock_shared(hashtextextended('releases:' || $1::text, 0))";
    sqlx::query(SQL).bind(livemode).execute(conn).await?;
    Ok(())
}

/// Makes sure that there is a row for `set_pause` to change.
pub async fn ensure_release_controls(
    conn: &mut PgConnection,
    livemode: bool,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- ensure_release_controls
        insert into release_controls (livemode, paused, at) values ($1, false, $2) on conflict do nothing";
    sqlx::query(SQL).bind(livemode).bind(now).execute(conn).await?;
    Ok(())
}

/// Stops or starts all releases, once those end who hold them as they are; false when it was so already. `pause` holds
/// the cause and by whom.
pub async fn set_pause(
    conn: &mut PgConnection,
    livemode: bool,
    pause: Option<(&str, &str)>,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    const LOCK: &str = "-- lock_pause
        select pg_advisory_xact_lock(hashtextextended('releases:' || $1::text, 0))";
    const SQL: &str = "-- set_pause
        update release_controls set paused = $2, cause = $3, paused_by = $4, at = $5
        where livemode = $1 and paused <> $2";
    sqlx::query(LOCK).bind(livemode).execute(&mut *conn).await?;
    let done = sqlx::query(SQL)
        .bind(livemode)
        .bind(pause.is_some())
        .bind(pause.map(|(cause, _)| cause))
        .bind(pause.map(|(_, by)| by))
        .bind(now)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// A currency's row.
#[derive(Clone, Debug, FromRow)]
pub struct Funds {
    /// Stripe refused for lack of funds then.
    pub stopped_at: Option<OffsetDateTime>,
    /// How often the balance was asked since.
    pub stop_checks: i32,
    /// More is reserved and released than has settled.
    pub overdrawn: bool,
}

/// Makes sure a currency has its row.
pub async fn ensure_funds(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<(), StoreError> {
    const SQL: &str = "-- ensure_funds
        insert into funds (livemode, currency) values ($1, $2) on conflict do nothing";
    sqlx::query(SQL).bind(livemode).bind(currency.as_str()).execute(conn).await?;
    Ok(())
}

/// Takes a currency's lock: whoever books or reserves holds it. It comes before every other lock.
pub async fn lock_funds(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Funds, StoreError> {
    const SQL: &str = "-- lock_funds
        select stopped_at, stop_checks, overdrawn from funds where livemode = $1 and currency = $2
        for no key update";
    let lock = sqlx::query_as(SQL).bind(livemode).bind(currency.as_str());
    if let Some(funds) = lock.fetch_optional(&mut *conn).await? {
        return Ok(funds);
    }
    ensure_funds(conn, livemode, currency).await?;
    Ok(sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_one(conn).await?)
}

/// A currency's row as it is; whether it stands still is to be asked before each send.
pub async fn find_funds(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Option<Funds>, StoreError> {
    const SQL: &str = "-- find_funds
        select stopped_at, stop_checks, overdrawn from funds where livemode = $1 and currency = $2";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_optional(conn).await?)
}

/// Notes whether more is reserved and released than has settled. The caller holds the currency.
pub async fn note_overdrawn(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<(), StoreError> {
    const SQL: &str = "-- note_overdrawn
        update funds f set overdrawn = b.below_zero
        from (select coalesce(sum(balance), 0) < 0 as below_zero from ledger_accounts
              where livemode = $1 and currency = $2 and kind = 'available') b
        where f.livemode = $1 and f.currency = $2 and f.overdrawn <> b.below_zero";
    sqlx::query(SQL).bind(livemode).bind(currency.as_str()).execute(conn).await?;
    Ok(())
}

/// Stops a currency after Stripe refused for lack of funds, counts a check, or lets it go on.
pub async fn set_stop(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    stopped_at: Option<OffsetDateTime>,
    checks: i32,
) -> Result<(), StoreError> {
    const SQL: &str = "-- set_stop
        update funds set stopped_at = $3, stop_checks = $4 where livemode = $1 and currency = $2";
    sqlx::query(SQL)
        .bind(livemode)
        .bind(currency.as_str())
        .bind(stopped_at)
        .bind(checks)
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps what Stripe said its balance is, and how far that is from the books. The caller holds the currency.
pub async fn record_balance(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    available_minor: i64,
    drift_minor: i64,
    checked_at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_balance
        update funds set stripe_available = $3, checked_at = $4, drift = $5
        where livemode = $1 and currency = $2 and (checked_at is null or checked_at <= $4)";
    sqlx::query(SQL)
        .bind(livemode)
        .bind(currency.as_str())
        .bind(available_minor)
        .bind(checked_at)
        .bind(drift_minor)
        .execute(conn)
        .await?;
    Ok(())
}

/// What Stripe last said of a currency's balance, and whether it stands still.
#[derive(Clone, Debug, FromRow)]
pub struct Balance {
    /// Stripe refused for lack of funds then.
    pub stopped_at: Option<OffsetDateTime>,
    /// Available at Stripe, in minor units.
    pub stripe_available: Option<i64>,
    /// When that was asked.
    pub checked_at: Option<OffsetDateTime>,
}

/// A currency's balance at Stripe, where it has a row.
pub async fn find_balance(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Option<Balance>, StoreError> {
    const SQL: &str = "-- find_balance
        select stopped_at, stripe_available, checked_at from funds where livemode = $1 and currency = $2";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_optional(conn).await?)
}

/// The currencies with a row.
pub async fn list_currencies(conn: &mut PgConnection, livemode: bool) -> Result<Vec<Currency>, StoreError> {
    const SQL: &str = "-- list_currencies
        select currency from funds where livemode = $1 order by currency limit 200";
    let codes: Vec<String> = sqlx::query_scalar(SQL).bind(livemode).fetch_all(conn).await?;
    Ok(codes.iter().filter_map(|code| Currency::parse(code).ok()).collect())
}

/// Notes that this process is alive and returns how many are, itself included.
pub async fn beat(
    conn: &mut PgConnection,
    replica: Uuid,
    now: OffsetDateTime,
    alive_since: OffsetDateTime,
) -> Result<i64, StoreError> {
    const SQL: &str = "-- beat
        with gone as (
            delete from replicas where seen_at < $3 and id <> $1
        ), beat as (
            insert into replicas (id, seen_at) values ($1, $2) on conflict (id) do update set seen_at = $2
        )
        select count(*) + 1 from replicas where seen_at >= $3 and id <> $1";
    Ok(sqlx::query_scalar(SQL).bind(replica).bind(now).bind(alive_since).fetch_one(conn).await?)
}

/// How many processes said since then that they are alive.
pub async fn count_alive(conn: &mut PgConnection, since: OffsetDateTime) -> Result<i64, StoreError> {
    const SQL: &str = "-- count_alive
        select count(*) from replicas where seen_at >= $1";
    Ok(sqlx::query_scalar(SQL).bind(since).fetch_one(conn).await?)
}

/// Notes that this process has left.
pub async fn leave(conn: &mut PgConnection, replica: Uuid) -> Result<(), StoreError> {
    const SQL: &str = "-- leave
        delete from replicas where id = $1";
    sqlx::query(SQL).bind(replica).execute(conn).await?;
    Ok(())
}
