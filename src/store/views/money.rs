//! Top-ups and funds as the API shows them.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection, PgPool};

use super::{HISTORY, StoreError};

/// A top-up that something described.
#[derive(Clone, Debug, FromRow)]
pub struct Topup {
    /// Stripe's id.
    #[sqlx(rename = "topup")]
    pub id: String,
    /// Live or test mode.
    pub livemode: bool,
    /// Stripe's word.
    pub status: String,
    /// Gross, in minor units.
    pub amount: i64,
    /// Its currency.
    pub currency: String,
    /// The id of its balance transaction.
    pub balance_transaction: Option<String>,
    /// Stripe's forecast.
    pub expected_availability_date: Option<OffsetDateTime>,
    /// Stripe's code for the bank's refusal.
    pub failure_code: Option<String>,
    /// Stripe's text for it.
    pub failure_message: Option<String>,
    /// For the platform's own use.
    pub description: Option<String>,
    /// On the bank's statement.
    pub statement_descriptor: Option<String>,
    /// A label.
    pub transfer_group: Option<String>,
    /// For the platform's own use.
    pub metadata: Json<BTreeMap<String, String>>,
    /// When it was created at Stripe.
    pub stripe_created: Option<OffsetDateTime>,
    /// When the shown values were true.
    pub as_of: OffsetDateTime,
    /// An event id, or `api`.
    pub source: String,
    /// When its money is, or was, to be available.
    pub proof_available_on: Option<OffsetDateTime>,
    /// `pending` or `available`, once its balance transaction told.
    pub proof_status: Option<String>,
    /// The currency in which its money lands, once its balance transaction told.
    pub proof_currency: Option<String>,
    /// Its money has arrived.
    pub settled: bool,
    /// Since when.
    pub settled_at: Option<OffsetDateTime>,
    /// Settled, and not money to release: it was there before the service was to count it.
    pub excluded: Option<bool>,
    /// What the ledger holds as settled for it, in minor units of `booked_currency`.
    pub booked_amount: i64,
    /// In which currency.
    pub booked_currency: Option<String>,
    /// When it was first heard of.
    pub first_seen: OffsetDateTime,
}

/// The top-up with this id, if anything described it.
pub async fn find_topup(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Option<Topup>, StoreError> {
    const SQL: &str = "-- view_topup
        select * from topups where livemode = $1 and topup = $2 and known";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(id).fetch_optional(conn).await?)
}

/// Those of these top-ups that something described.
pub async fn list_topups_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
) -> Result<Vec<Topup>, StoreError> {
    const SQL: &str = "-- view_topups_by_ids
        select * from topups where livemode = $1 and topup = any ((select $2::text[])::text[]) and known";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(ids).fetch_all(conn).await?)
}

/// Which top-ups to list; a none narrows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopupFilter<'a> {
    /// With this status.
    pub status: Option<&'a str>,
    /// Whose money has arrived, or has not.
    pub settled: Option<bool>,
    /// In this currency.
    pub currency: Option<&'a str>,
}

/// Top-ups by when they were first heard of, the newest first, from below `after`.
pub async fn list_topups(
    conn: &mut PgConnection,
    livemode: bool,
    filter: &TopupFilter<'_>,
    after: Option<(OffsetDateTime, &str)>,
    limit: i64,
) -> Result<Vec<Topup>, StoreError> {
    const SQL: &str = "-- list_topups
        select * from topups
        where livemode = $1 and known and ($2::timestamptz is null or (first_seen, topup) < ($2, $3))
            and ($5::text is null or status = $5) and ($6::bool is null or settled = $6)
            and ($7::text is null or currency = $7)
        order by first_seen desc, topup desc limit $4";
    let query =
        sqlx::query_as(SQL).bind(livemode).bind(after.map(|(at, _)| at)).bind(after.map(|(_, id)| id));
    let query = query.bind(limit).bind(filter.status).bind(filter.settled).bind(filter.currency);
    Ok(query.persistent(false).fetch_all(conn).await?)
}

/// What a top-up became, and by what evidence.
#[derive(Clone, Debug, FromRow)]
pub struct TopupChange {
    /// When it was recorded.
    pub at: OffsetDateTime,
    /// When it was true.
    pub as_of: OffsetDateTime,
    /// An event id, or `api`.
    pub source: String,
    /// Stripe's word.
    pub status: String,
    /// Its money had arrived.
    pub settled: bool,
    /// What changed, in codes.
    pub steps: Vec<String>,
    /// The same in words.
    pub reason: String,
}

/// The latest changes of a top-up, oldest first.
pub async fn list_topup_changes(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Vec<TopupChange>, StoreError> {
    const SQL: &str = "-- list_topup_changes
        select at, as_of, source, status, settled, steps, reason from topup_changes
        where livemode = $1 and topup = $2 order by id desc limit $3";
    let query = sqlx::query_as(SQL).bind(livemode).bind(id).bind(HISTORY);
    let mut changes: Vec<TopupChange> = query.fetch_all(conn).await?;
    changes.reverse();
    Ok(changes)
}

/// One currency's money.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Currency {
    /// The currency.
    pub currency: String,
    /// All that settled, in minor units.
    pub settled: i64,
    /// Set aside for transfers under way.
    pub reserved: i64,
    /// At connected accounts, net of what came back.
    pub released: i64,
    /// Top-ups on their way.
    pub pending: i64,
    /// What Stripe last said.
    pub stripe_available: Option<i64>,
    /// How far that was from what the books said should be there.
    pub drift: Option<i64>,
    /// When.
    pub checked_at: Option<OffsetDateTime>,
}

impl Currency {
    /// Settled and free, in minor units.
    pub fn available(&self) -> i64 {
        self.settled - self.reserved - self.released
    }
}

/// A top-up on its way.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Arrival {
    /// Its currency.
    pub currency: String,
    /// Its id.
    pub topup: String,
    /// Gross, in minor units.
    pub amount: i64,
    /// When its money should be available, as far as Stripe told.
    pub expected_at: Option<OffsetDateTime>,
}

/// All currencies at one instant.
#[derive(Clone, Debug)]
pub struct Funds {
    /// By currency.
    pub currencies: Vec<Currency>,
    /// By currency, then by expected date; the first hundred of each currency.
    pub arrivals: Vec<Arrival>,
}

/// The money of every currency, from one snapshot.
pub async fn funds(pool: &PgPool, livemode: bool) -> Result<Funds, StoreError> {
    const CURRENCIES: &str = "-- view_funds
        with books as (
            select currency,
                coalesce(-sum(balance) filter (where kind = 'money_in'), 0)::bigint as settled,
                coalesce(sum(balance) filter (where kind = 'reserved'), 0)::bigint as reserved,
                coalesce(sum(balance) filter (where kind = 'released'), 0)::bigint as released
            from ledger_accounts where livemode = $1 group by currency
        ), arriving as (
            select currency, sum(amount)::bigint as pending from topups
            where livemode = $1 and known and not settled and status in ('pending', 'succeeded') group by currency
        ), named as (
            select currency from funds where livemode = $1 union select currency from arriving
        )
        select n.currency, coalesce(b.settled, 0) as settled, coalesce(b.reserved, 0) as reserved,
            coalesce(b.released, 0) as released, coalesce(a.pending, 0) as pending,
            f.stripe_available, f.drift, f.checked_at
        from named n
        left join books b on b.currency = n.currency
        left join arriving a on a.currency = n.currency
        left join funds f on f.livemode = $1 and f.currency = n.currency
        order by n.currency";
    const ARRIVALS: &str = "-- view_arrivals
        select currency, topup, amount, expected_at from (
            select currency, topup, amount, coalesce(proof_available_on, expected_availability_date) as expected_at,
                row_number() over (partition by currency
                    order by coalesce(proof_available_on, expected_availability_date) nulls last, topup) as place
            from topups
            where livemode = $1 and known and not settled and status in ('pending', 'succeeded')
        ) placed
        where place <= 100 order by currency, place";
    let mut tx = super::snapshot(pool).await?;
    let currencies = sqlx::query_as(CURRENCIES).bind(livemode).fetch_all(&mut *tx).await?;
    let arrivals = sqlx::query_as(ARRIVALS).bind(livemode).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(Funds { currencies, arrivals })
}
