//! Top-ups that were ordered here, and what came of each.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::ids::{TopupId, TopupIntentId};
use crate::domain::money::Currency;
use crate::domain::refusal::Refusal;
use crate::domain::topup::intent::Status;

/// An intent as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Ours.
    pub id: TopupIntentId,
    /// Live or test mode.
    pub livemode: bool,
    /// What came of it.
    pub status: Status,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// For the platform's own use.
    pub description: Option<String>,
    /// On the bank's statement.
    pub statement_descriptor: Option<String>,
    /// Which bank account; Stripe's default where none is named.
    pub source: Option<String>,
    /// A label.
    pub transfer_group: Option<String>,
    /// The caller's pairs.
    pub metadata: BTreeMap<String, String>,
    /// Which key ordered it.
    pub created_by: String,
    /// N of the idempotency key used now or next.
    pub generation: i32,
    /// The top-up it became.
    pub topup: Option<TopupId>,
    /// Why Stripe refused it.
    pub refusal: Option<Refusal>,
    /// When it was ordered.
    pub created_at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    id: String,
    livemode: bool,
    status: String,
    amount: i64,
    currency: String,
    description: Option<String>,
    statement_descriptor: Option<String>,
    source: Option<String>,
    transfer_group: Option<String>,
    metadata: Json<BTreeMap<String, String>>,
    created_by: String,
    generation: i32,
    topup: Option<String>,
    refusal_status: Option<i32>,
    refusal_code: Option<String>,
    refusal_param: Option<String>,
    refusal_message: Option<String>,
    created_at: OffsetDateTime,
}

impl Row {
    fn read(self) -> Result<Intent, StoreError> {
        let bad = |what: &str| StoreError::Unreadable(format!("top-up intent {}: {what}", self.id));
        let topup = self.topup.as_deref().map(TopupId::parse).transpose();
        let refusal = self.refusal_status.map(|status| Refusal {
            status: u16::try_from(status).unwrap_or(400),
            error_type: None,
            code: self.refusal_code.clone(),
            param: self.refusal_param.clone(),
            message: self.refusal_message.clone().unwrap_or_default(),
            told_to_repeat: false,
        });
        Ok(Intent {
            id: TopupIntentId::parse(&self.id).map_err(|_| bad("id"))?,
            status: Status::parse(&self.status).ok_or_else(|| bad("status"))?,
            currency: Currency::parse(&self.currency).map_err(|_| bad("currency"))?,
            topup: topup.map_err(|_| bad("top-up"))?,
            refusal,
            livemode: self.livemode,
            amount_minor: self.amount,
            description: self.description,
            statement_descriptor: self.statement_descriptor,
            source: self.source,
            transfer_group: self.transfer_group,
            metadata: self.metadata.0,
            created_by: self.created_by,
            generation: self.generation,
            created_at: self.created_at,
        })
    }
}

/// Stores an intent under the caller's key.
pub async fn insert(
    conn: &mut PgConnection,
    intent: &Intent,
    idempotency_key: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_topup_intent
        insert into topup_intents (id, livemode, status, amount, currency, description, statement_descriptor, source,
            transfer_group, metadata, created_by, idempotency_key, generation, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)";
    sqlx::query(SQL)
        .bind(intent.id.as_str())
        .bind(intent.livemode)
        .bind(intent.status.as_str())
        .bind(intent.amount_minor)
        .bind(intent.currency.as_str())
        .bind(&intent.description)
        .bind(&intent.statement_descriptor)
        .bind(&intent.source)
        .bind(&intent.transfer_group)
        .bind(Json(&intent.metadata))
        .bind(&intent.created_by)
        .bind(idempotency_key)
        .bind(intent.generation)
        .bind(intent.created_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// An intent, locked.
pub async fn find_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Option<Intent>, StoreError> {
    const SQL: &str = "-- find_topup_intent_for_update
        select * from topup_intents where id = $1 and livemode = $2 for update";
    let row: Option<Row> = sqlx::query_as(SQL).bind(id).bind(livemode).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// An intent as it is.
pub async fn find(conn: &mut PgConnection, livemode: bool, id: &str) -> Result<Option<Intent>, StoreError> {
    const SQL: &str = "-- find_topup_intent
        select * from topup_intents where id = $1 and livemode = $2";
    let row: Option<Row> = sqlx::query_as(SQL).bind(id).bind(livemode).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// The intent that stands under a caller's key; a refused one gave it free.
pub async fn find_id_by_key(
    conn: &mut PgConnection,
    livemode: bool,
    key: &str,
) -> Result<Option<String>, StoreError> {
    const SQL: &str = "-- find_topup_intent_by_key
        select id from topup_intents where idempotency_key = $1 and livemode = $2 and status <> 'refused'";
    Ok(sqlx::query_scalar(SQL).bind(key).bind(livemode).fetch_optional(conn).await?)
}

/// The top-up that carries an intent's mark, if one is held: its id, amount in minor units, and currency.
pub async fn find_made_for_mark(
    conn: &mut PgConnection,
    livemode: bool,
    mark: &str,
) -> Result<Option<(String, i64, String)>, StoreError> {
    const SQL: &str = "-- find_topup_by_mark
        select topup, amount, currency from topups
        where livemode = $1 and metadata ? 'sluicegate_topup' and right(metadata ->> 'sluicegate_topup', 12) = $2
        order by first_seen limit 1";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(mark).fetch_optional(conn).await?)
}

/// What came of a locked intent.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It is this top-up.
    Created(&'a TopupId),
    /// Stripe refused it.
    Refused(&'a Refusal),
    /// Look-ups proved that nothing was made.
    Absent,
    /// It is to be tried with the idempotency key of this number.
    NextKey(i32),
}

/// Records what came of a locked intent.
pub async fn record_outcome(
    conn: &mut PgConnection,
    id: &TopupIntentId,
    outcome: Outcome<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_topup_intent
        update topup_intents set status = $2, topup = $3, generation = coalesce($4, generation), refusal_status = $5,
            refusal_code = $6, refusal_param = $7, refusal_message = $8, updated_at = $9
        where id = $1";
    let (status, topup, generation, refusal) = match outcome {
        Outcome::Created(topup) => (Status::Created, Some(topup), None, None),
        Outcome::Refused(refusal) => (Status::Refused, None, None, Some(refusal)),
        Outcome::Absent => (Status::Absent, None, None, None),
        Outcome::NextKey(n) => (Status::Open, None, Some(n), None),
    };
    sqlx::query(SQL)
        .bind(id.as_str())
        .bind(status.as_str())
        .bind(topup.map(TopupId::as_str))
        .bind(generation)
        .bind(refusal.map(|refusal| i32::from(refusal.status)))
        .bind(refusal.and_then(|refusal| refusal.code.as_deref()))
        .bind(refusal.and_then(|refusal| refusal.param.as_deref()))
        .bind(refusal.map(|refusal| refusal.message.as_str()))
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}
