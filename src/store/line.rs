//! The line of a currency: transfers that wait for nothing but money, in release order.

use std::collections::BTreeSet;

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use super::transfers::{Row, Transfer};
use crate::domain::money::Currency;
use crate::domain::transfer::Status;

/// One of those whose turn it may be.
#[derive(Debug, FromRow)]
pub struct Next {
    /// Which transfer.
    pub id: String,
    /// It waits for nothing but money.
    pub in_line: bool,
    /// Its task is due or being worked on.
    pub rung: bool,
}

/// Up to `limit` transfers that are in the line, and up to `limit` that are about to be looked at, in release
/// order, from beyond `after`. In one statement: between two, somebody could be looked at, join the line, and
/// be in neither list.
pub async fn list_next(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    after: Option<&Transfer>,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Next>, StoreError> {
    const SQL: &str = "-- list_next
        with line as materialized (
            select id, priority, created_at from transfers
            where livemode = $1 and currency = $2 and fundable
                and ($5::text is null or (-priority, created_at, id) > (-$6::int, $7, $5))
            order by -priority, created_at, id limit $4
        ), rung as materialized (
            select t.id, t.priority, t.created_at from tasks k join transfers t on t.id = k.subject
            where k.livemode = $1 and k.kind = 'transfer' and k.event_id is null
                and (k.run_at <= $3 or k.token is not null)
                and t.livemode = $1 and t.currency = $2 and t.status = 'waiting'
                and ($5::text is null or (-t.priority, t.created_at, t.id) > (-$6::int, $7, $5))
            order by -t.priority, t.created_at, t.id limit $4
        )
        select id, bool_or(in_line) as in_line, bool_or(not in_line) as rung
        from (select *, true as in_line from line union all select *, false from rung) both_lists
        group by id, priority, created_at order by -priority, created_at, id";
    let query = sqlx::query_as(SQL)
        .bind(livemode)
        .bind(currency.as_str())
        .bind(now)
        .bind(limit)
        .bind(after.map(|t| t.id.as_str()))
        .bind(after.map(|t| t.priority))
        .bind(after.map(|t| t.created_at));
    Ok(query.fetch_all(conn).await?)
}

/// Those of these transfers that still wait, locked, in release order.
pub async fn list_for_update(conn: &mut PgConnection, ids: &[&str]) -> Result<Vec<Transfer>, StoreError> {
    // By their ids alone: asked for the status as well, Postgres may walk along all that wait.
    const SQL: &str = "-- list_for_update
        select * from transfers where id = any ((select $1::text[])::text[])
        order by -priority, created_at, id for no key update";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(ids).fetch_all(conn).await?;
    let mut transfers = rows.into_iter().map(Row::read).collect::<Result<Vec<_>, _>>()?;
    transfers.retain(|transfer| transfer.status == Status::Waiting);
    Ok(transfers)
}

/// A text that changes whenever one of these accounts, or the emergency stop, is written.
pub async fn state_of(
    conn: &mut PgConnection,
    livemode: bool,
    accounts: &BTreeSet<String>,
) -> Result<String, StoreError> {
    // The id of the transaction that wrote a row: unlike a time, it cannot be from before it was seen.
    const SQL: &str = "-- state_of
        select concat_ws(' ',
            (select c.xmin::text from release_controls c where c.livemode = $1),
            (select string_agg(a.xmin::text, ' ' order by a.account) from accounts a
                where a.livemode = $1 and a.account = any($2)))";
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    Ok(sqlx::query_scalar(SQL).bind(livemode).bind(accounts).fetch_one(conn).await?)
}

/// The first in a currency's line that the settled money reaches, as the line last said: who goes out next.
pub async fn find_first(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Option<Transfer>, StoreError> {
    const SQL: &str = "-- find_first
        select * from transfers
        where livemode = $1 and currency = $2 and fundable and not 'funds_insufficient' = any (waiting_on)
        order by -priority, created_at, id limit 1";
    let row: Option<Row> =
        sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// Notes of transfers in the line that a later one got money before them.
pub async fn note_passed_over(
    conn: &mut PgConnection,
    ids: &[String],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- note_passed_over
        update transfers set passed_over_at = $2
        where id = any ((select $1::text[])::text[]) and fundable and passed_over_at is null";
    sqlx::query(SQL).bind(ids).bind(now).execute(conn).await?;
    Ok(())
}

/// How many stand before one in the line and draw on the same money, and how much they ask for.
pub async fn count_before(conn: &mut PgConnection, transfer: &Transfer) -> Result<(i64, i64), StoreError> {
    const SQL: &str = "-- count_before
        select count(*), coalesce(sum(amount), 0)::bigint from transfers
        where livemode = $1 and currency = $2 and fundable and topup is not distinct from $3
            and (-priority, created_at, id) < (-$4::int, $5, $6)";
    let query = sqlx::query_as(SQL)
        .bind(transfer.livemode)
        .bind(transfer.currency.as_str())
        .bind(transfer.topup.as_ref().map(|id| id.as_str()))
        .bind(transfer.priority)
        .bind(transfer.created_at)
        .bind(transfer.id.as_str());
    Ok(query.fetch_one(conn).await?)
}

/// All waiting transfers of a currency, in release order.
pub async fn list_waiting(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    limit: i64,
) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- list_waiting
        select * from transfers where livemode = $1 and currency = $2 and status = 'waiting'
        order by -priority, created_at, id limit $3";
    let rows: Vec<Row> =
        sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).bind(limit).fetch_all(conn).await?;
    rows.into_iter().map(Row::read).collect()
}

/// Keeps when waiting transfers should go out.
pub async fn record_expected(
    conn: &mut PgConnection,
    ids: &[&str],
    expected: &[Option<OffsetDateTime>],
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_expected
        update transfers t set expected_release_at = f.at
        from unnest($1::text[], $2::timestamptz[]) as f (id, at) where t.id = f.id and t.status = 'waiting'";
    sqlx::query(SQL).bind(ids).bind(expected).execute(conn).await?;
    Ok(())
}
