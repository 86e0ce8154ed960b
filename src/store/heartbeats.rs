//! When the service last ran on this database, and whether it has to catch up with Stripe before it pays.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

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

/// Beats, and starts a catch-up from `overlap` before the last beat where that is before `stale_before`, or
/// where it is not `last`, the one this process itself wrote: then the database is another than it was. A
/// database with transfers and no beat at all catches up from the first of them. True when it is started.
pub async fn beat(
    conn: &mut PgConnection,
    livemode: bool,
    now: OffsetDateTime,
    stale_before: OffsetDateTime,
    overlap: sqlx::postgres::types::PgInterval,
    last: Option<OffsetDateTime>,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- beat_heart
        with before as materialized (
            select at, catch_up_from from heartbeats where livemode = $1 for update
        ), due as (
            select case
                when not exists (select from before)
                    then (select min(created_at) - $4::interval from transfers where livemode = $1)
                else (select at - $4::interval from before where at < $3 or at < $5) end as since
        )
        insert into heartbeats as h (livemode, at, catch_up_from)
        select $1, $2, since from due
        on conflict (livemode) do update set at = $2,
            catch_up_from = least(h.catch_up_from, excluded.catch_up_from),
            catch_up_after = case when excluded.catch_up_from is null then h.catch_up_after end
        returning (select since is not null from due)";
    let query = sqlx::query_scalar(SQL).bind(livemode).bind(now).bind(stale_before).bind(overlap).bind(last);
    Ok(query.fetch_one(conn).await?)
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
