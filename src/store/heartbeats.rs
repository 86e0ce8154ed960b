//! When the service last ran on this database, and whether it has to catch up with Stripe before it pays.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use time::Duration;

use super::db::StoreError;

/// A catch-up under way.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CatchUp {
    /// Stripe's transfers since then have to be matched.
    #[sqlx(rename = "catch_up_from")]
    pub from: OffsetDateTime,
    /// The last transfer of the last page.
    #[sqlx(rename = "catch_up_after")]
    pub after: Option<String>,
    /// How many were matched.
    #[sqlx(rename = "catch_up_seen")]
    pub seen: i64,
}

/// Beats, and starts a catch-up from `overlap` before the last beat where that is older than `stale_after`, or
/// than `last`, the one this process itself wrote: then the database is another than it was. A beat never goes
/// back, since the clocks of replicas differ. At a start, one that is as far ahead is a wrong clock's and tells
/// nothing: then, and where there are transfers and no beat at all, the catch-up begins with the first of them.
/// True when it is started.
pub async fn beat(
    conn: &mut PgConnection,
    livemode: bool,
    now: OffsetDateTime,
    stale_after: Duration,
    overlap: sqlx::postgres::types::PgInterval,
    last: Option<OffsetDateTime>,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- beat_heart
        with before as materialized (
            select at, catch_up_from from heartbeats where livemode = $1 for update
        ), due as (
            select case
                when not exists (select from before where at <= $6 or $5::timestamptz is not null)
                    then (select min(created_at) - $4::interval from transfers where livemode = $1)
                else (select at - $4::interval from before where at < $3 or at < $5) end as since
        )
        insert into heartbeats as h (livemode, at, catch_up_from)
        select $1, $2, since from due
        on conflict (livemode) do update set at = case when h.at > $6 then $2 else greatest(h.at, $2) end,
            catch_up_from = least(h.catch_up_from, excluded.catch_up_from),
            catch_up_after = case when excluded.catch_up_from is null then h.catch_up_after end
        returning (select since is not null from due)";
    let query = sqlx::query_scalar(SQL).bind(livemode).bind(now).bind(now - stale_after).bind(overlap);
    Ok(query.bind(last).bind(now + stale_after).fetch_one(conn).await?)
}

/// While a catch-up is under way, keeps it from taking anything in until the transaction ends.
pub async fn hold_catch_up(conn: &mut PgConnection, livemode: bool) -> Result<(), StoreError> {
    const SQL: &str = "-- hold_catch_up
        select 1 from heartbeats where livemode = $1 and catch_up_from is not null for share";
    sqlx::query(SQL).bind(livemode).execute(conn).await?;
    Ok(())
}

/// Waits for whoever holds the catch-up, and lets nobody hold it until the transaction ends.
pub async fn lock_catch_up(conn: &mut PgConnection, livemode: bool) -> Result<(), StoreError> {
    const SQL: &str = "-- lock_catch_up
        select 1 from heartbeats where livemode = $1 for no key update";
    sqlx::query(SQL).bind(livemode).execute(conn).await?;
    Ok(())
}

/// Has the list read from its head again.
pub async fn start_over(conn: &mut PgConnection, livemode: bool, begun: &CatchUp) -> Result<(), StoreError> {
    const SQL: &str = "-- start_catch_up_over
        update heartbeats set catch_up_after = null, catch_up_seen = 0
        where livemode = $1 and catch_up_from = $2 and catch_up_after is not distinct from $3";
    sqlx::query(SQL).bind(livemode).bind(begun.from).bind(&begun.after).execute(conn).await?;
    Ok(())
}

/// The catch-up under way, if there is one.
pub async fn find_catch_up(conn: &mut PgConnection, livemode: bool) -> Result<Option<CatchUp>, StoreError> {
    const SQL: &str = "-- find_catch_up
        select catch_up_from, catch_up_after, catch_up_seen from heartbeats
        where livemode = $1 and catch_up_from is not null";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_optional(conn).await?)
}

/// Whether nothing may be released before Stripe's transfers were matched.
pub async fn is_catching_up(conn: &mut PgConnection, livemode: bool) -> Result<bool, StoreError> {
    const SQL: &str = "-- is_catching_up
        select exists (select from heartbeats where livemode = $1 and catch_up_from is not null)";
    Ok(sqlx::query_scalar(SQL).bind(livemode).fetch_one(conn).await?)
}

/// Whether nothing may be released in this mode: the emergency stop is on, or the catching up after a restore is not
/// through.
pub async fn are_releases_stopped(conn: &mut PgConnection, livemode: bool) -> Result<bool, StoreError> {
    const SQL: &str = "-- are_releases_stopped
        select exists (select from release_controls where livemode = $1 and paused)
            or exists (select from heartbeats where livemode = $1 and catch_up_from is not null)";
    Ok(sqlx::query_scalar(SQL).bind(livemode).fetch_one(conn).await?)
}

/// Notes how far it has come, or with no `after` that it is done; false where it was started anew meanwhile.
pub async fn record_progress(
    conn: &mut PgConnection,
    livemode: bool,
    begun: &CatchUp,
    after: Option<&str>,
    seen: i64,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- record_catch_up
        update heartbeats set catch_up_after = $4, catch_up_seen = case when $4::text is null then 0 else $5 end,
            catch_up_from = case when $4::text is null then null else catch_up_from end
        where livemode = $1 and catch_up_from = $2 and catch_up_after is not distinct from $3";
    let query = sqlx::query(SQL).bind(livemode).bind(begun.from).bind(&begun.after).bind(after).bind(seen);
    Ok(query.execute(conn).await?.rows_affected() == 1)
}
