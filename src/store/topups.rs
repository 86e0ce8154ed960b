//! Top-ups and the proof of their money.

use std::collections::BTreeMap;

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection, Postgres};

use super::accounts::StandingColumns;
use super::db::StoreError;
use crate::domain::evidence::Standing;
use crate::domain::forecast::Coming;
use crate::domain::money::Currency;
use crate::domain::topup::story::Face;
use crate::domain::topup::{Known, Proof, Status};

mod write;

pub use write::{ChangedFace, Written, insert_changes, put_all};

/// A top-up as stored.
#[derive(Clone, Debug)]
pub struct Topup {
    /// Something readable described it.
    pub known: bool,
    /// Its status at Stripe.
    pub status: Status,
    /// Gross, in minor units.
    pub amount_minor: i64,
    /// Its currency; `None` while nothing described it.
    pub currency: Option<Currency>,
    /// The id of its balance transaction.
    pub balance_transaction: Option<String>,
    /// Stripe's forecast.
    pub expected_availability_date: Option<OffsetDateTime>,
    /// Why the bank refused, Stripe's code.
    pub failure_code: Option<String>,
    /// Why the bank refused, Stripe's text.
    pub failure_message: Option<String>,
    /// For the platform's own use.
    pub description: Option<String>,
    /// On the bank's statement.
    pub statement_descriptor: Option<String>,
    /// A label.
    pub transfer_group: Option<String>,
    /// For the platform's own use.
    pub metadata: BTreeMap<String, String>,
    /// When it was created at Stripe.
    pub stripe_created: Option<OffsetDateTime>,
    /// When the shown values were true.
    pub as_of: OffsetDateTime,
    /// Where they come from: an event id, or `api`.
    pub source: String,
    /// How far the evidence reaches.
    pub standing: Standing,
    /// Its balance transaction, as last fetched.
    pub proof: Option<Proof>,
    /// When that was fetched.
    pub proof_at: Option<OffsetDateTime>,
    /// Since when its money is looked for.
    pub watched_since: Option<OffsetDateTime>,
    /// The settlement rule holds.
    pub settled: bool,
    /// Since when.
    pub settled_at: Option<OffsetDateTime>,
    /// The latest moment at which its money was seen to be still on its way.
    pub on_its_way_at: Option<OffsetDateTime>,
    /// Decided when it settled: it did so before the service was to count it.
    pub excluded: Option<bool>,
    /// What the ledger holds as settled for it, in minor units.
    pub booked_minor: i64,
    /// In which currency.
    pub booked_currency: Option<Currency>,
    /// How often that was changed.
    pub bookings: i32,
}

impl Topup {
    /// When its money should be there, as far as Stripe told.
    pub fn expected_at(&self) -> Option<OffsetDateTime> {
        self.proof.as_ref().and_then(|proof| proof.available_on).or(self.expected_availability_date)
    }

    /// The currency its money can be spent in: the one it lands in; until that is known, the one asked of the bank.
    pub fn lands_in(&self) -> Option<Currency> {
        self.proof.as_ref().map(|proof| proof.currency).or(self.currency)
    }

    /// What its history shows of it; `None` while nothing described it.
    pub fn face(&self) -> Option<Face> {
        let currency = self.currency.filter(|_| self.known)?;
        Some(Face {
            status: self.status,
            available: self.proof.as_ref().is_some_and(|proof| proof.available),
            settled: self.settled,
            excluded: self.excluded == Some(true),
            amount_minor: self.amount_minor,
            currency,
            expected_at: self.expected_at(),
        })
    }

    /// What settlement is decided upon; `None` while nothing described it.
    pub fn known(&self) -> Option<Known> {
        let currency = self.currency.filter(|_| self.known)?;
        Some(Known {
            status: self.status,
            amount_minor: self.amount_minor,
            currency,
            proof: self.proof.clone(),
            on_its_way_at: self.on_its_way_at,
            excluded: self.excluded,
            as_of: self.as_of,
        })
    }
}

#[derive(FromRow)]
pub(super) struct Row {
    topup: String,
    known: bool,
    status: String,
    amount: i64,
    currency: String,
    balance_transaction: Option<String>,
    expected_availability_date: Option<OffsetDateTime>,
    failure_code: Option<String>,
    failure_message: Option<String>,
    description: Option<String>,
    statement_descriptor: Option<String>,
    transfer_group: Option<String>,
    metadata: Json<BTreeMap<String, String>>,
    stripe_created: Option<OffsetDateTime>,
    as_of: OffsetDateTime,
    source: String,
    #[sqlx(flatten)]
    standing: StandingColumns,
    proof_status: Option<String>,
    proof_available_on: Option<OffsetDateTime>,
    proof_amount: Option<i64>,
    proof_currency: Option<String>,
    proof_at: Option<OffsetDateTime>,
    watched_since: Option<OffsetDateTime>,
    settled: bool,
    settled_at: Option<OffsetDateTime>,
    on_its_way_at: Option<OffsetDateTime>,
    excluded: Option<bool>,
    booked_amount: i64,
    booked_currency: Option<String>,
    bookings: i32,
}

impl Row {
    fn read(self) -> Topup {
        let currency = |code: &Option<String>| code.as_deref().and_then(|code| Currency::parse(code).ok());
        let proof = match (self.proof_amount, currency(&self.proof_currency)) {
            (Some(amount_minor), Some(currency)) => Some(Proof {
                available: self.proof_status.as_deref() == Some("available"),
                available_on: self.proof_available_on,
                amount_minor,
                currency,
            }),
            _ => None,
        };
        Topup {
            known: self.known,
            status: Status::parse(&self.status),
            amount_minor: self.amount,
            currency: Currency::parse(&self.currency).ok(),
            balance_transaction: self.balance_transaction,
            expected_availability_date: self.expected_availability_date,
            failure_code: self.failure_code,
            failure_message: self.failure_message,
            description: self.description,
            statement_descriptor: self.statement_descriptor,
            transfer_group: self.transfer_group,
            metadata: self.metadata.0,
            stripe_created: self.stripe_created,
            as_of: self.as_of,
            source: self.source,
            standing: self.standing.read(),
            proof,
            proof_at: self.proof_at,
            watched_since: self.watched_since,
            settled: self.settled,
            settled_at: self.settled_at,
            on_its_way_at: self.on_its_way_at,
            excluded: self.excluded,
            booked_minor: self.booked_amount,
            booked_currency: currency(&self.booked_currency),
            bookings: self.bookings,
        }
    }
}

/// Reads these top-ups and keeps others from changing them until the transaction ends, whether they have a row yet
/// or not. The ids must be sorted: two that lock crosswise would wait for each other.
pub async fn list_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
) -> Result<BTreeMap<String, Topup>, StoreError> {
    const LOCK: &str = "-- lock_topups
        select pg_advisory_xact_lock(hashtextextended('topup:' || $1::text || ':' || id, 0))
        from unnest($2::text[]) as t (id)";
    sqlx::query(LOCK).bind(livemode).bind(ids).execute(&mut *conn).await?;
    list_by_ids(conn, livemode, ids).await
}

/// The currencies that these top-ups are in, or are booked in.
pub async fn list_currencies(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
) -> Result<Vec<Currency>, StoreError> {
    const SQL: &str = "-- list_topup_currencies
        select distinct named from topups, unnest(array[currency, booked_currency, proof_currency]) as c (named)
        where livemode = $1 and topup = any ((select $2::text[])::text[]) and named is not null";
    let named: Vec<String> = sqlx::query_scalar(SQL).bind(livemode).bind(ids).fetch_all(conn).await?;
    // A top-up that nothing described yet has none, written as an empty text.
    Ok(named.iter().filter_map(|code| Currency::parse(code).ok()).collect())
}

/// Reads a top-up as it is.
pub async fn find(conn: &mut PgConnection, livemode: bool, topup: &str) -> Result<Option<Topup>, StoreError> {
    const SQL: &str = "-- find_topup
        select * from topups where livemode = $1 and topup = $2";
    read_one(sqlx::query_as(SQL).bind(livemode).bind(topup), conn).await
}

/// The top-up that a query of a whole row finds.
pub(super) async fn read_one(
    query: QueryAs<'_, Postgres, Row, PgArguments>,
    conn: &mut PgConnection,
) -> Result<Option<Topup>, StoreError> {
    Ok(query.fetch_optional(conn).await?.map(Row::read))
}

/// Those of these top-ups that have a row, by their ids, as they are.
pub async fn list_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    topups: &[&str],
) -> Result<BTreeMap<String, Topup>, StoreError> {
    const SQL: &str = "-- list_topups_by_ids
        select * from topups where livemode = $1 and topup = any ((select $2::text[])::text[])";
    if topups.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(topups).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|mut row| (std::mem::take(&mut row.topup), row.read())).collect())
}

/// Keeps these top-ups as they are until the transaction ends, with a row or without: whoever writes one takes this
/// lock first, and then looks whom it rings for. The ids must be sorted.
pub async fn hold_all(conn: &mut PgConnection, livemode: bool, topups: &[&str]) -> Result<(), StoreError> {
    const SQL: &str = "-- hold_topups
        select pg_advisory_xact_lock_shared(hashtextextended('topup:' || $1::text || ':' || id, 0))
        from unnest($2::text[]) as t (id)";
    if !topups.is_empty() {
        sqlx::query(SQL).bind(livemode).bind(topups).execute(conn).await?;
    }
    Ok(())
}

/// The top-ups whose money is still on its way, at most `limit`, the oldest first.
pub async fn list_arriving(
    conn: &mut PgConnection,
    livemode: bool,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_arriving
        select topup from topups
        where livemode = $1 and known and not settled and status in ('pending', 'succeeded')
        order by first_seen limit $2";
    Ok(sqlx::query_scalar(SQL).bind(livemode).bind(limit).fetch_all(conn).await?)
}

/// The top-ups of a currency whose money is on its way and has a date, the soonest first.
pub async fn list_coming(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    limit: i64,
) -> Result<Vec<Coming>, StoreError> {
    const SQL: &str = "-- list_coming
        select topup, coalesce(proof_amount, amount), coalesce(proof_available_on, expected_availability_date)
        from topups
        where livemode = $1 and coalesce(proof_currency, currency) = $2 and known and not settled
            and status in ('pending', 'succeeded')
            and coalesce(proof_available_on, expected_availability_date) is not null
        order by 3, topup limit $3";
    let rows: Vec<(String, i64, OffsetDateTime)> =
        sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).bind(limit).fetch_all(conn).await?;
    let coming = |(topup, amount_minor, at)| Coming { topup, amount_minor, at };
    Ok(rows.into_iter().map(coming).collect())
}
