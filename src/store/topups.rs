//! Top-ups and the proof of their money.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::accounts::{StandingColumns, by_word};
use super::db::StoreError;
use crate::domain::evidence::Standing;
use crate::domain::forecast::Coming;
use crate::domain::money::Currency;
use crate::domain::topup::story::{Face, Step, in_words};
use crate::domain::topup::{Known, Proof, Status};

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
struct Row {
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

/// Reads a top-up and keeps others from changing it until the transaction ends.
pub async fn find_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    topup: &str,
) -> Result<Option<Topup>, StoreError> {
    const LOCK: &str = "-- lock_topup
        select pg_advisory_xact_lock(hashtextextended('topup:' || $1::text || ':' || $2, 0))";
    sqlx::query(LOCK).bind(livemode).bind(topup).execute(&mut *conn).await?;
    find(conn, livemode, topup).await
}

/// Reads a top-up as it is.
pub async fn find(conn: &mut PgConnection, livemode: bool, topup: &str) -> Result<Option<Topup>, StoreError> {
    const SQL: &str = "-- find_topup
        select * from topups where livemode = $1 and topup = $2";
    let row: Option<Row> = sqlx::query_as(SQL).bind(livemode).bind(topup).fetch_optional(conn).await?;
    Ok(row.map(Row::read))
}

/// Those of these top-ups that have a row, by their ids, as they are.
pub async fn list_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    topups: &[&str],
) -> Result<BTreeMap<String, Topup>, StoreError> {
    const SQL: &str = "-- list_topups_by_ids
        select * from topups where livemode = $1 and topup = any($2)";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(topups).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|mut row| (std::mem::take(&mut row.topup), row.read())).collect())
}

/// Reads a top-up; its row stays as it is until the transaction ends, so that whoever changes it afterwards
/// rings for what was decided on it.
pub async fn find_for_share(
    conn: &mut PgConnection,
    livemode: bool,
    topup: &str,
) -> Result<Option<Topup>, StoreError> {
    const SQL: &str = "-- find_topup_for_share
        select * from topups where livemode = $1 and topup = $2 for share";
    let row: Option<Row> = sqlx::query_as(SQL).bind(livemode).bind(topup).fetch_optional(conn).await?;
    Ok(row.map(Row::read))
}

/// Writes a top-up's whole row.
pub async fn put(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
    topup: &Topup,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- put_topup
        insert into topups (livemode, topup, known, status, amount, currency, balance_transaction,
            expected_availability_date, failure_code, failure_message, description, statement_descriptor,
            transfer_group, metadata, stripe_created, as_of, source, standing_at, standing_by, standing_seq,
            fetched_at, fetch_seq, doubted, proof_status, proof_available_on, proof_amount, proof_currency, proof_at,
            watched_since, settled, settled_at, excluded, booked_amount, booked_currency, bookings, on_its_way_at,
            first_seen, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
            $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $37)
        on conflict (livemode, topup) do update set
            known = excluded.known, status = excluded.status, amount = excluded.amount, currency = excluded.currency,
            balance_transaction = excluded.balance_transaction,
            expected_availability_date = excluded.expected_availability_date, failure_code = excluded.failure_code,
            failure_message = excluded.failure_message, description = excluded.description,
            statement_descriptor = excluded.statement_descriptor, transfer_group = excluded.transfer_group,
            metadata = excluded.metadata, stripe_created = excluded.stripe_created, as_of = excluded.as_of,
            source = excluded.source, standing_at = excluded.standing_at, standing_by = excluded.standing_by,
            standing_seq = excluded.standing_seq, fetched_at = excluded.fetched_at, fetch_seq = excluded.fetch_seq,
            doubted = excluded.doubted, proof_status = excluded.proof_status,
            proof_available_on = excluded.proof_available_on, proof_amount = excluded.proof_amount,
            proof_currency = excluded.proof_currency, proof_at = excluded.proof_at,
            watched_since = excluded.watched_since, settled = excluded.settled, settled_at = excluded.settled_at,
            excluded = excluded.excluded, booked_amount = excluded.booked_amount,
            booked_currency = excluded.booked_currency, bookings = excluded.bookings,
            on_its_way_at = excluded.on_its_way_at,
            updated_at = excluded.updated_at";
    let (standing, proof) = (&topup.standing, topup.proof.as_ref());
    let query = sqlx::query(SQL)
        .bind(livemode)
        .bind(id)
        .bind(topup.known)
        .bind(topup.status.as_str())
        .bind(topup.amount_minor)
        .bind(topup.currency.map(|c| c.to_string()).unwrap_or_default())
        .bind(&topup.balance_transaction)
        .bind(topup.expected_availability_date)
        .bind(&topup.failure_code)
        .bind(&topup.failure_message)
        .bind(&topup.description)
        .bind(&topup.statement_descriptor)
        .bind(&topup.transfer_group)
        .bind(Json(&topup.metadata))
        .bind(topup.stripe_created)
        .bind(topup.as_of)
        .bind(&topup.source)
        .bind(standing.at)
        .bind(by_word(standing.by))
        .bind(standing.seq)
        .bind(standing.fetched.map(|f| f.at))
        .bind(standing.fetched.map(|f| f.after_seq))
        .bind(standing.doubted);
    query
        .bind(proof.map(|p| if p.available { "available" } else { "pending" }))
        .bind(proof.and_then(|p| p.available_on))
        .bind(proof.map(|p| p.amount_minor))
        .bind(proof.map(|p| p.currency.to_string()))
        .bind(topup.proof_at)
        .bind(topup.watched_since)
        .bind(topup.settled)
        .bind(topup.settled_at)
        .bind(topup.excluded)
        .bind(topup.booked_minor)
        .bind(topup.booked_currency.map(|c| c.to_string()))
        .bind(topup.bookings)
        .bind(topup.on_its_way_at)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds to the history of a top-up.
pub async fn insert_change(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
    topup: &Topup,
    face: &Face,
    steps: &[Step],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_topup_change
        insert into topup_changes (livemode, topup, at, as_of, source, status, available, settled, amount, currency,
            steps, reason)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    sqlx::query(SQL)
        .bind(livemode)
        .bind(id)
        .bind(now)
        .bind(topup.as_of)
        .bind(&topup.source)
        .bind(face.status.as_str())
        .bind(face.available)
        .bind(face.settled)
        .bind(face.amount_minor)
        .bind(face.currency.as_str())
        .bind(steps.iter().map(|step| step.code()).collect::<Vec<_>>())
        .bind(in_words(steps))
        .execute(conn)
        .await?;
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
