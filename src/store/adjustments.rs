//! Money that was counted in or out by hand.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::ids::AdjustmentId;
use crate::domain::money::Currency;

/// An adjustment as stored.
#[derive(Clone, Debug, FromRow)]
pub struct Adjustment {
    /// Its id, which is also its lot's.
    pub id: String,
    /// Its currency.
    pub currency: String,
    /// In minor units; negative takes money out.
    pub amount: i64,
    /// Why.
    pub reason: String,
    /// By which key.
    pub created_by: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// Stores an adjustment. Its money is booked by the caller, in the same transaction.
pub async fn insert(
    conn: &mut PgConnection,
    livemode: bool,
    id: &AdjustmentId,
    (amount_minor, currency): (i64, Currency),
    reason: &str,
    created_by: &str,
    now: OffsetDateTime,
) -> Result<Adjustment, StoreError> {
    const SQL: &str = "-- insert_adjustment
        insert into adjustments (id, livemode, currency, amount, reason, created_by, created_at)
        values ($1, $2, $3, $4, $5, $6, $7) returning id, currency, amount, reason, created_by, created_at";
    let query =
        sqlx::query_as(SQL).bind(id.as_str()).bind(livemode).bind(currency.as_str()).bind(amount_minor);
    Ok(query.bind(reason).bind(created_by).bind(now).fetch_one(conn).await?)
}

/// Adjustments, the newest first, from below `after`.
pub async fn list(
    conn: &mut PgConnection,
    livemode: bool,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Adjustment>, StoreError> {
    const SQL: &str = "-- list_adjustments
        select id, currency, amount, reason, created_by, created_at from adjustments
        where livemode = $1 and ($2::text is null or id < $2) order by id desc limit $3";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(after).bind(limit).fetch_all(conn).await?)
}
