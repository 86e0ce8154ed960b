//! An order of a person or a program: carried out once, answered alike when repeated, and on record.
//!
//! With an Idempotency-Key the answer is kept in the transaction that carries the order out, and a concurrent
//! one with the same key waits for it. The audit rows are written last: they hold the end of the chain.

use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};
use time::{Duration, OffsetDateTime};

use super::{Actor, Context, Once};
use crate::domain::audit::{self, Action};
use crate::store::audit as log;
use crate::store::db::StoreError;
use crate::store::idempotency::{self, Kept};

/// How long an answer is kept for its Idempotency-Key.
const KEPT_FOR: Duration = Duration::hours(24);

/// What a caller is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Ordered {
    /// The answer, new or as it was given before.
    Answer(Answer),
    /// The key was used with another body.
    KeyReused,
}

/// An order under way: the transaction that will keep its answer and its audit rows.
#[derive(Debug)]
pub struct Order {
    tx: Transaction<'static, Postgres>,
    owner: String,
    once: Option<Once>,
    actor: String,
    livemode: bool,
    notes: Vec<audit::Entry>,
    /// When it began.
    pub now: OffsetDateTime,
}

/// Whether an order is new.
#[derive(Debug)]
pub enum Begun {
    /// It is; dropping it keeps nothing.
    Fresh(Order),
    /// It was carried out before, or its key was used for another.
    Before(Ordered),
}

/// Begins an order. With a key, one with the same key waits here until this one ends.
pub async fn begin(ctx: &Context, actor: &Actor, once: Option<&Once>) -> Result<Begun, StoreError> {
    begin_for(ctx, actor, &actor.id, once).await
}

/// Begins an order about money: its key never expires and holds across API keys.
pub async fn begin_money(ctx: &Context, actor: &Actor, once: Option<&Once>) -> Result<Begun, StoreError> {
    begin_for(ctx, actor, idempotency::MONEY, once).await
}

async fn begin_for(
    ctx: &Context,
    actor: &Actor,
    owner: &str,
    once: Option<&Once>,
) -> Result<Begun, StoreError> {
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    if let Some(once) = once {
        idempotency::lock(&mut tx, owner, &once.key).await?;
        if let Some(kept) = idempotency::find(&mut tx, owner, &once.key, now - KEPT_FOR).await? {
            let same = kept.request_hash == once.request_hash;
            let answer = Answer { status: u16::try_from(kept.status).unwrap_or(200), body: kept.response };
            return Ok(Begun::Before(if same { Ordered::Answer(answer) } else { Ordered::KeyReused }));
        }
    }
    let (owner, once, actor) = (owner.to_owned(), once.cloned(), actor.id.clone());
    Ok(Begun::Fresh(Order { tx, owner, once, actor, livemode: ctx.livemode, notes: Vec::new(), now }))
}

impl Order {
    /// The transaction in which the order is carried out.
    pub fn tx(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Notes for the audit log what is done, about what, and with what; written with the end.
    pub fn note(&mut self, action: Action, subject: &str, details: &Value) {
        self.notes.push(audit::Entry {
            at: self.now,
            livemode: self.livemode,
            actor: self.actor.clone(),
            action: action.as_str().to_owned(),
            subject: subject.to_owned(),
            details: details.to_string(),
        });
    }

    /// Writes the audit rows and commits, with no answer kept yet: what was ordered is still to be asked of Stripe.
    pub async fn put_on_record(mut self) -> Result<(), StoreError> {
        log::append_all(&mut self.tx, &self.notes).await?;
        self.tx.commit().await?;
        Ok(())
    }

    /// Ends the order: keeps its answer for the key, writes the audit rows and commits.
    pub async fn end(mut self, answer: Answer) -> Result<Ordered, StoreError> {
        if let Some(once) = &self.once {
            let kept = Kept {
                request_hash: once.request_hash.clone(),
                status: i32::from(answer.status),
                response: answer.body.clone(),
            };
            idempotency::keep(&mut self.tx, &self.owner, &once.key, &kept, self.now).await?;
        }
        log::append_all(&mut self.tx, &self.notes).await?;
        self.tx.commit().await?;
        Ok(Ordered::Answer(answer))
    }
}
