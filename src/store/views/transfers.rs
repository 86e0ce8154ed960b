//! Transfers as the API lists them, their history, and what was sent to Stripe.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::super::{idempotency, transfers};
use super::{HISTORY, StoreError, Transfer};

/// Which transfers are asked for; an absent field asks for all.
#[derive(Clone, Debug, Default)]
pub struct TransferFilter {
    /// With this status.
    pub status: Option<String>,
    /// With this among their reasons to wait.
    pub waiting_on: Option<String>,
    /// To this account.
    pub destination: Option<String>,
    /// In this currency.
    pub currency: Option<String>,
    /// Tied to this top-up.
    pub topup: Option<String>,
    /// With this label.
    pub transfer_group: Option<String>,
    /// With this id at Stripe.
    pub stripe_transfer: Option<String>,
    /// Asked for with this Idempotency-Key.
    pub idempotency_key: Option<String>,
    /// Created then or later.
    pub created_from: Option<OffsetDateTime>,
    /// Created before.
    pub created_to: Option<OffsetDateTime>,
}

/// Transfers, the newest first, from below the id `after`.
pub async fn list_transfers(
    conn: &mut PgConnection,
    livemode: bool,
    filter: &TransferFilter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Transfer>, StoreError> {
    // Only open transfers have reasons to wait, and the open ones have an index.
    const SQL: &str = "-- list_transfers
        select * from transfers
        where livemode = $1
            and ($2::text is null or id < $2)
            and ($3::text is null or status = $3)
            and ($4::text is null or (waiting_on @> array[$4] and status in ('waiting', 'releasing')))
            and ($5::text is null or destination = $5)
            and ($6::text is null or currency = $6)
            and ($7::text is null or topup = $7)
            and ($8::text is null or transfer_group = $8)
            and ($9::text is null or stripe_transfer = $9)
            and ($10::text is null or idempotency_key = $10)
            and ($11::timestamptz is null or created_at >= $11)
            and ($12::timestamptz is null or created_at < $12)
        order by id desc limit $13";
    let rows: Vec<transfers::Row> = sqlx::query_as(SQL)
        .bind(livemode)
        .bind(after)
        .bind(&filter.status)
        .bind(&filter.waiting_on)
        .bind(&filter.destination)
        .bind(&filter.currency)
        .bind(&filter.topup)
        .bind(&filter.transfer_group)
        .bind(&filter.stripe_transfer)
        .bind(&filter.idempotency_key)
        .bind(filter.created_from)
        .bind(filter.created_to)
        .bind(limit)
        .persistent(false)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(transfers::Row::read).collect()
}

/// The transfer with this id, in this mode.
pub async fn find_transfer(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Option<Transfer>, StoreError> {
    Ok(transfers::find(conn, id).await?.filter(|transfer| transfer.livemode == livemode))
}

/// Those of these transfers that there are, in this mode.
pub async fn list_transfers_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- view_transfers_by_ids
        select * from transfers where id = any ((select $2::text[])::text[]) and livemode = $1";
    let rows: Vec<transfers::Row> = sqlx::query_as(SQL).bind(livemode).bind(ids).fetch_all(conn).await?;
    rows.into_iter().map(transfers::Row::read).collect()
}

/// Whether a transfer was asked for with this Idempotency-Key.
pub async fn is_key_used(
    conn: &mut PgConnection,
    key: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    Ok(idempotency::find(conn, idempotency::MONEY, key, now).await?.is_some())
}

/// A line of a transfer's history.
#[derive(Clone, Debug, FromRow)]
pub struct HistoryLine {
    /// When.
    pub at: OffsetDateTime,
    /// The status it got.
    pub status: String,
    /// The reasons it got.
    pub waiting_on: Vec<String>,
    /// What brought it there.
    pub cause: String,
}

/// The latest lines of a transfer's history, oldest first.
pub async fn list_history(conn: &mut PgConnection, id: &str) -> Result<Vec<HistoryLine>, StoreError> {
    const SQL: &str = "-- list_transfer_history
        select at, status, waiting_on, cause from transfer_history where transfer = $1 order by id desc limit $2";
    let mut lines: Vec<HistoryLine> = sqlx::query_as(SQL).bind(id).bind(HISTORY).fetch_all(conn).await?;
    lines.reverse();
    Ok(lines)
}

/// One idempotency key's use at Stripe.
#[derive(Clone, Debug, FromRow)]
pub struct Attempt {
    /// N of `xfer_….N`.
    pub n: i32,
    /// How often it was sent.
    pub sends: i32,
    /// When first.
    pub first_sent_at: Option<OffsetDateTime>,
    /// When last.
    pub last_sent_at: Option<OffsetDateTime>,
    /// `created`, `refused` or `superseded`; none while open.
    pub outcome: Option<String>,
}

/// The attempts of a transfer, in order.
pub async fn list_attempts(conn: &mut PgConnection, id: &str) -> Result<Vec<Attempt>, StoreError> {
    const SQL: &str = "-- list_attempts
        select n, sends, first_sent_at, last_sent_at, outcome from attempts where subject = $1
        order by n desc limit $2";
    let mut attempts: Vec<Attempt> = sqlx::query_as(SQL).bind(id).bind(HISTORY).fetch_all(conn).await?;
    attempts.reverse();
    Ok(attempts)
}

/// One call to Stripe about a transfer.
#[derive(Clone, Debug, FromRow)]
pub struct Call {
    /// N of the attempt it belongs to.
    pub n: i32,
    /// `create` or `look_up`.
    pub kind: String,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
    /// What it showed.
    pub outcome: String,
    /// HTTP status.
    pub status: Option<i32>,
    /// Stripe's error code.
    pub code: Option<String>,
    /// Stripe's text.
    pub message: Option<String>,
    /// Stripe's request id.
    pub request_id: Option<String>,
}

/// The latest calls about a transfer, oldest first.
pub async fn list_calls(conn: &mut PgConnection, id: &str) -> Result<Vec<Call>, StoreError> {
    const SQL: &str = "-- list_calls
        select n, kind, started_at, ended_at, outcome, status, code, message, request_id from calls
        where subject = $1 order by id desc limit $2";
    let mut calls: Vec<Call> = sqlx::query_as(SQL).bind(id).bind(HISTORY).fetch_all(conn).await?;
    calls.reverse();
    Ok(calls)
}

/// The transfer that a reversal is of, by our id for the reversal or Stripe's.
pub async fn find_reversed_transfer(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Option<String>, StoreError> {
    const SQL: &str = "-- find_reversed_transfer
        select transfer from reversals where (id = $1 or stripe_reversal = $1) and livemode = $2 limit 1";
    Ok(sqlx::query_scalar(SQL).bind(id).bind(livemode).fetch_optional(conn).await?)
}
