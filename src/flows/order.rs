//! An order of a person or a program: carried out once, answered alike when repeated, and on record.
//!
//! With an Idempotency-Key the answer is kept in the transaction that carries the order out, and a concurrent one
//! waits for it. The audit rows are written last: they hold the end of the chain. An order that asks Stripe holds no
//! transaction meanwhile: it claims its key, for a bounded time, so that a repetition waits, or goes on after a crash.

use serde_json::Value;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Actor, Context, Once};
use crate::domain::audit::{self, Action};
use crate::store::audit as log;
use crate::store::claims;
use crate::store::db::{self, StoreError};
use crate::store::idempotency::{self, Kept};

/// How long an answer is kept for its Idempotency-Key.
const KEPT_FOR: Duration = Duration::hours(24);
/// When one that waits looks first whether the order under way has ended,
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);
/// and how often later.
const SELDOM: std::time::Duration = std::time::Duration::from_millis(400);
/// A claim outlasts three calls by this: one, and a question that is asked again. A request is cut off sooner.
const BEYOND_THE_CALLS: Duration = Duration::seconds(10);

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
    begin_unless_claimed(ctx, actor, once, None).await
}

/// Begins an order about money: its key never expires and holds across API keys.
pub async fn begin_money(ctx: &Context, actor: &Actor, once: Option<&Once>) -> Result<Begun, StoreError> {
    begin_for(ctx, actor, idempotency::MONEY, once).await
}

/// An order that asks Stripe: by whom, and its key, which is kept meanwhile.
#[derive(Debug)]
pub struct Claim {
    pool: PgPool,
    actor: Actor,
    once: Option<Once>,
    token: Uuid,
    is_held: bool,
}

/// Whether an order may go to Stripe.
#[derive(Debug)]
pub enum Claimed {
    /// It may, and no other with this key.
    Mine(Claim),
    /// It was carried out before, or its key was used for another.
    Before(Ordered),
}

/// Claims the key of an order that asks Stripe; waits for one under way with the same key.
pub async fn claim(ctx: &Context, actor: &Actor, once: Option<&Once>) -> Result<Claimed, StoreError> {
    let mut claim = Claim::without_key(ctx, actor);
    let Some(once) = once else { return Ok(Claimed::Mine(claim)) };
    let mut order = match begin(ctx, actor, Some(once)).await? {
        Begun::Before(before) => return Ok(Claimed::Before(before)),
        Begun::Fresh(order) => order,
    };
    let calls = Duration::try_from(ctx.longest_call * 3).unwrap_or(Duration::MINUTE);
    let until = order.now + calls + BEYOND_THE_CALLS;
    claims::take(order.tx(), &actor.id, &once.key, claim.token, until).await?;
    order.tx.commit().await?;
    (claim.once, claim.is_held) = (Some(once.clone()), true);
    Ok(Claimed::Mine(claim))
}

impl Claim {
    /// An order without a key, which nobody can repeat.
    pub fn without_key(ctx: &Context, actor: &Actor) -> Self {
        let (pool, actor) = (ctx.pool.clone(), actor.clone());
        Self { pool, actor, once: None, token: Uuid::new_v4(), is_held: false }
    }

    /// Who orders.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The key, and what it was sent with.
    pub fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// Begins a transaction of the order.
    pub async fn begin(&self, ctx: &Context) -> Result<Begun, StoreError> {
        begin_unless_claimed(ctx, &self.actor, self.once.as_ref(), Some(self.token)).await
    }

    /// Gives the key back: the order has ended, or failed.
    pub async fn release(mut self) {
        if let Some(given) = self.take() {
            given.back().await;
        }
    }

    fn take(&mut self) -> Option<Given> {
        let once = self.once.as_ref().filter(|_| self.is_held)?;
        let given = Given {
            pool: self.pool.clone(),
            owner: self.actor.id.clone(),
            key: once.key.clone(),
            token: self.token,
        };
        self.is_held = false;
        Some(given)
    }
}

impl Drop for Claim {
    /// For a caller who hung up; whoever comes to an end gives it back before they answer.
    fn drop(&mut self) {
        if let (Some(given), Ok(runtime)) = (self.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(given.back());
        }
    }
}

/// A key that is given back.
struct Given {
    pool: PgPool,
    owner: String,
    key: String,
    token: Uuid,
}

impl Given {
    /// Where it can't be given back, its time ends.
    async fn back(self) {
        if let Ok(mut conn) = self.pool.acquire().await {
            let _ = claims::release(&mut conn, &self.owner, &self.key, self.token).await;
        }
    }
}

/// Whoever waits for the order that claimed the key holds nothing meanwhile, and does not queue for its lock.
async fn begin_unless_claimed(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    token: Option<Uuid>,
) -> Result<Begun, StoreError> {
    let mut pause = LOOK_AGAIN;
    loop {
        let mut order = match begin_for(ctx, actor, &actor.id, once).await? {
            Begun::Before(before) => return Ok(Begun::Before(before)),
            Begun::Fresh(order) => order,
        };
        let Some(once) = once else { return Ok(Begun::Fresh(order)) };
        let now = order.now;
        if !claims::is_held(order.tx(), &actor.id, &once.key, token, now).await? {
            return Ok(Begun::Fresh(order));
        }
        drop(order);
        loop {
            tokio::time::sleep(pause).await;
            let mut conn = ctx.pool.acquire().await?;
            if !claims::is_held(&mut conn, &actor.id, &once.key, token, ctx.clock.now()).await? {
                break;
            }
            pause = (pause * 2).min(SELDOM);
        }
    }
}

async fn begin_for(
    ctx: &Context,
    actor: &Actor,
    owner: &str,
    once: Option<&Once>,
) -> Result<Begun, StoreError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
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
