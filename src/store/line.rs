//! The line of a currency: transfers that wait for nothing but money, in release order.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::db::StoreError;
use super::transfers::{Row, Transfer};
use crate::domain::money::Currency;

/// The head of the line of a currency, locked: transfers that wait for nothing but money, in release order.
pub async fn list_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    after: Option<&Transfer>,
    limit: i64,
) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- list_for_update
        select * from transfers
        where livemode = $1 and currency = $2 and fundable
            and ($3::text is null or (-priority, created_at, id) > (-$4::int, $5, $3))
        order by -priority, created_at, id limit $6 for no key update";
    let rows: Vec<Row> = sqlx::query_as(SQL)
        .bind(livemode)
        .bind(currency.as_str())
        .bind(after.map(|t| t.id.as_str()))
        .bind(after.map(|t| t.priority))
        .bind(after.map(|t| t.created_at))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(Row::read).collect()
}

/// Waiting transfers that are not in the line and whose task is due or being worked on, in release order.
pub async fn list_rung_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- list_rung_for_update
        select t.* from tasks k join transfers t on t.id = k.subject
        where k.livemode = $1 and k.kind = 'transfer' and k.event_id is null
            and (k.run_at <= $3 or k.token is not null)
            and t.livemode = $1 and t.currency = $2 and t.status = 'waiting' and not t.fundable
        order by -t.priority, t.created_at, t.id limit $4 for no key update of t";
    let rows: Vec<Row> = sqlx::query_as(SQL)
        .bind(livemode)
        .bind(currency.as_str())
        .bind(now)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(Row::read).collect()
}

/// The first in a currency's line.
pub async fn find_first(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Option<Transfer>, StoreError> {
    const SQL: &str = "-- find_first
        select * from transfers where livemode = $1 and currency = $2 and fundable
        order by -priority, created_at, id limit 1";
    let row: Option<Row> =
        sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}
