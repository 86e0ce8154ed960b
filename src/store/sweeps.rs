//! How far the walks through Stripe's lists have come.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;

/// A walk through one of Stripe's lists.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Sweep {
    /// Which list.
    pub name: String,
    /// Only what was created then or later is listed in this run.
    pub since: Option<OffsetDateTime>,
    /// The last id of the page read last.
    pub after: Option<String>,
    /// When this run began.
    pub started_at: OffsetDateTime,
    /// When it came to the end of the list.
    pub finished_at: Option<OffsetDateTime>,
    /// Entries read in this run.
    pub seen: i64,
    /// Of those, what was not known here, or held differently.
    pub found: i64,
    /// Everything Stripe created up to then has been read.
    pub complete_to: Option<OffsetDateTime>,
    /// Runs that came to the end.
    pub runs: i64,
}

/// The walk through this list, if there ever was one.
pub async fn find(conn: &mut PgConnection, livemode: bool, name: &str) -> Result<Option<Sweep>, StoreError> {
    const SQL: &str = "-- find_sweep
        select name, since, after, started_at, finished_at, seen, found, complete_to, runs from sweeps
        where livemode = $1 and name = $2";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(name).fetch_optional(conn).await?)
}

/// All of them.
pub async fn list(conn: &mut PgConnection, livemode: bool) -> Result<Vec<Sweep>, StoreError> {
    const SQL: &str = "-- list_sweeps
        select name, since, after, started_at, finished_at, seen, found, complete_to, runs from sweeps
        where livemode = $1 order by name";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_all(conn).await?)
}

/// Begins a run at the head of the list. One that is under way ends here; what it was to read as well is `since`'s
/// business.
pub async fn begin(
    conn: &mut PgConnection,
    livemode: bool,
    name: &str,
    since: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<Sweep, StoreError> {
    const SQL: &str = "-- begin_sweep
        insert into sweeps (livemode, name, since, started_at) values ($1, $2, $3, $4)
        on conflict (livemode, name) do update set since = excluded.since, after = null,
            started_at = excluded.started_at, finished_at = null, seen = 0, found = 0
        returning name, since, after, started_at, finished_at, seen, found, complete_to, runs";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(name).bind(since).bind(now).fetch_one(conn).await?)
}

/// What a page brought.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// Its last id, where more follow.
    pub after: Option<&'a str>,
    /// Entries on it.
    pub seen: i64,
    /// Of those, what was not known here, or held differently.
    pub found: i64,
    /// Where it was the last one: up to when everything has been read.
    pub complete_to: Option<OffsetDateTime>,
}

/// Moves the cursor past a page; the run ends with its last. None where somebody else was there before, or began
/// a new run.
pub async fn record_page(
    conn: &mut PgConnection,
    livemode: bool,
    before: &Sweep,
    page: &Page<'_>,
    now: OffsetDateTime,
) -> Result<Option<Sweep>, StoreError> {
    const SQL: &str = "-- record_page
        update sweeps set after = $5, seen = seen + $6, found = found + $7,
            finished_at = case when $5::text is null then $9::timestamptz end,
            runs = runs + case when $5::text is null then 1 else 0 end,
            complete_to = greatest(complete_to, $8)
        where livemode = $1 and name = $2 and started_at = $3 and after is not distinct from $4
            and finished_at is null
        returning name, since, after, started_at, finished_at, seen, found, complete_to, runs";
    let query = sqlx::query_as(SQL)
        .bind(livemode)
        .bind(&before.name)
        .bind(before.started_at)
        .bind(before.after.as_deref())
        .bind(page.after)
        .bind(page.seen)
        .bind(page.found)
        .bind(page.complete_to)
        .bind(now);
    Ok(query.fetch_optional(conn).await?)
}

/// Forgets which accounts a walk through their list has come by.
pub async fn clear_listed(conn: &mut PgConnection, livemode: bool) -> Result<(), StoreError> {
    const SQL: &str = "-- clear_listed
        delete from accounts_listed where livemode = $1";
    sqlx::query(SQL).bind(livemode).execute(conn).await?;
    Ok(())
}

/// Notes accounts that a walk through their list has come by.
pub async fn note_listed(conn: &mut PgConnection, livemode: bool, ids: &[&str]) -> Result<(), StoreError> {
    const SQL: &str = "-- note_listed
        insert into accounts_listed (livemode, account) select $1, unnest($2::text[]) on conflict do nothing";
    sqlx::query(SQL).bind(livemode).bind(ids).execute(conn).await?;
    Ok(())
}

/// Accounts known since before `known_before` that the walk did not come by, by id: not those that are known to have
/// left or were closed, nor those fetched since `fetched_before`.
pub async fn list_unlisted(
    conn: &mut PgConnection,
    livemode: bool,
    known_before: OffsetDateTime,
    fetched_before: OffsetDateTime,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_unlisted
        select a.account from accounts a
        where a.livemode = $1 and a.first_seen < $2 and (a.fetched_at is null or a.fetched_at < $3)
            and a.closed_at is null and not 'account_deauthorized' = any (a.reasons)
            and not exists (select from accounts_listed l where l.livemode = a.livemode and l.account = a.account)
        order by a.livemode, a.account limit $4";
    let query = sqlx::query_scalar(SQL).bind(livemode).bind(known_before).bind(fetched_before).bind(limit);
    Ok(query.fetch_all(conn).await?)
}
