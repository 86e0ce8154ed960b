//! Reversals: what was ordered to come back, and what became of it.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::ids::{ReversalId, StripeTransferId, TransferId};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::reversal::Status;

/// A reversal as stored.
#[derive(Clone, Debug)]
pub struct Reversal {
    /// Ours.
    pub id: ReversalId,
    /// Of which transfer.
    pub transfer: TransferId,
    /// That transfer's id at Stripe.
    pub stripe_transfer: Option<StripeTransferId>,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// The transfer's currency.
    pub currency: Currency,
    /// Why, in the caller's words.
    pub reason: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// What a pending one waits for.
    pub waiting_on: Vec<Reason>,
    /// N of the idempotency key used now or next.
    pub generation: i32,
    /// Which key asked for it.
    pub created_by: String,
    /// When another key approved it.
    pub approved_at: Option<OffsetDateTime>,
    /// Its id at Stripe.
    pub stripe_reversal: Option<String>,
    /// Stripe's last refusal: code and text.
    pub failure: Option<(String, String)>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    id: String,
    transfer: String,
    stripe_transfer: Option<String>,
    amount: i64,
    currency: String,
    reason: Option<String>,
    status: String,
    waiting_on: Vec<String>,
    generation: i32,
    created_by: String,
    approved_at: Option<OffsetDateTime>,
    stripe_reversal: Option<String>,
    failure_code: Option<String>,
    failure_message: Option<String>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Row {
    fn read(self) -> Result<Reversal, StoreError> {
        let bad = |what: &str| StoreError::Unreadable(format!("reversal {}: {what}", self.id));
        let waiting_on: Option<Vec<Reason>> =
            self.waiting_on.iter().map(|code| Reason::parse(code)).collect();
        Ok(Reversal {
            id: ReversalId::parse(&self.id).map_err(|_| bad("id"))?,
            transfer: TransferId::parse(&self.transfer).map_err(|_| bad("transfer"))?,
            stripe_transfer: self
                .stripe_transfer
                .as_deref()
                .map(StripeTransferId::parse)
                .transpose()
                .map_err(|_| bad("transfer at Stripe"))?,
            currency: Currency::parse(&self.currency).map_err(|_| bad("currency"))?,
            status: Status::parse(&self.status).ok_or_else(|| bad("status"))?,
            waiting_on: waiting_on.ok_or_else(|| bad("waiting_on"))?,
            failure: self.failure_code.zip(self.failure_message),
            amount_minor: self.amount,
            reason: self.reason,
            generation: self.generation,
            created_by: self.created_by,
            approved_at: self.approved_at,
            stripe_reversal: self.stripe_reversal,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// What is stored with a new one.
#[derive(Debug)]
pub struct New<'a> {
    /// Ours.
    pub id: &'a ReversalId,
    /// Live or test mode.
    pub livemode: bool,
    /// Of which transfer.
    pub transfer: &'a TransferId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// The transfer's currency.
    pub currency: Currency,
    /// Why.
    pub reason: Option<&'a str>,
    /// What it waits for.
    pub waiting_on: &'a [Reason],
    /// By which key.
    pub created_by: &'a str,
}

/// Stores a reversal that was asked for.
pub async fn insert(conn: &mut PgConnection, new: &New<'_>, now: OffsetDateTime) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_reversal
        insert into reversals (id, livemode, transfer, amount, currency, reason, status, waiting_on, created_by,
            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9, $9)";
    sqlx::query(SQL)
        .bind(new.id.as_str())
        .bind(new.livemode)
        .bind(new.transfer.as_str())
        .bind(new.amount_minor)
        .bind(new.currency.as_str())
        .bind(new.reason)
        .bind(new.waiting_on.iter().map(|reason| reason.code()).collect::<Vec<_>>())
        .bind(new.created_by)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// A reversal, locked.
pub async fn find_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Option<Reversal>, StoreError> {
    const SQL: &str = "-- find_reversal_for_update
        select r.*, t.stripe_transfer from reversals r join transfers t on t.id = r.transfer
        where r.id = $1 and r.livemode = $2 for update of r";
    let row: Option<Row> = sqlx::query_as(SQL).bind(id).bind(livemode).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// The reversals of a transfer, in the order they were asked for.
pub async fn list(conn: &mut PgConnection, transfer: &str) -> Result<Vec<Reversal>, StoreError> {
    const SQL: &str = "-- list_reversals
        select r.*, t.stripe_transfer from reversals r join transfers t on t.id = r.transfer
        where r.transfer = $1 order by r.created_at, r.id";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(transfer).fetch_all(conn).await?;
    rows.into_iter().map(Row::read).collect()
}

/// What changes of a reversal.
#[derive(Debug)]
pub struct Change<'a> {
    /// Where it stands.
    pub status: Status,
    /// What it waits for.
    pub waiting_on: &'a [Reason],
    /// N of its key.
    pub generation: i32,
    /// Its id at Stripe.
    pub stripe_reversal: Option<&'a str>,
    /// Stripe's last refusal.
    pub failure: Option<(&'a str, &'a str)>,
}

impl<'a> Change<'a> {
    /// No change.
    pub fn of(reversal: &'a Reversal) -> Self {
        Self {
            status: reversal.status,
            waiting_on: &reversal.waiting_on,
            generation: reversal.generation,
            stripe_reversal: reversal.stripe_reversal.as_deref(),
            failure: reversal.failure.as_ref().map(|(code, text)| (code.as_str(), text.as_str())),
        }
    }
}

/// Records a change of a locked reversal.
pub async fn record_change(
    conn: &mut PgConnection,
    id: &ReversalId,
    change: &Change<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_reversal_change
        update reversals set status = $2, waiting_on = $3, generation = $4, stripe_reversal = $5,
            failure_code = $6, failure_message = $7, updated_at = $8
        where id = $1";
    sqlx::query(SQL)
        .bind(id.as_str())
        .bind(change.status.as_str())
        .bind(change.waiting_on.iter().map(|reason| reason.code()).collect::<Vec<_>>())
        .bind(change.generation)
        .bind(change.stripe_reversal)
        .bind(change.failure.map(|(code, _)| code))
        .bind(change.failure.map(|(_, text)| text))
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes who approved a reversal; it then waits for nothing any more.
pub async fn set_approved(
    conn: &mut PgConnection,
    id: &ReversalId,
    by: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- set_reversal_approved
        update reversals set approved_by = $2, approved_at = $3, waiting_on = '{}', updated_at = $3 where id = $1";
    sqlx::query(SQL).bind(id.as_str()).bind(by).bind(now).execute(conn).await?;
    Ok(())
}
