//! A top-up is ordered: the intent first, then the call, then what it showed, so that the bank is debited once.
//!
//! As long as the outcome is not known the order's answer says so (202) and stands for the caller's key. A repetition
//! goes on where the last one stopped; an event, a list or a look-up may settle it in between.

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::order::{Answer, Begun, Order, Ordered, begin_money};
use super::{Actor, Context, FlowError, NotDone, Once};
use crate::domain::audit::Action;
use crate::domain::declined::{self, Fault};
use crate::domain::ids::TopupIntentId;
use crate::domain::money::Currency;
use crate::domain::refusal::Refusal;
use crate::domain::topup::intent::{METADATA_KEY, Status};
use crate::store::db::{self, StoreError};
use crate::store::topup_intents::{self, Intent};
use crate::store::views::{self, Topup};
use crate::store::{attempts, heartbeats, idempotency};
use crate::stripe::form;

mod carry_out;
mod look_up;
mod send;

pub use look_up::watch;

/// What is said while the outcome is not known.
const UNKNOWN: u16 = 202;
/// The parameters of ours that Stripe may complain of.
const PARAMETERS: [&str; 7] =
    ["amount", "currency", "description", "statement_descriptor", "source", "transfer_group", "metadata"];

/// What a caller asks for; every field already has its form.
#[derive(Clone, Debug)]
pub struct Request {
    /// How much, in minor units of `currency`; within Stripe's limits.
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
    pub metadata: std::collections::BTreeMap<String, String>,
}

/// How the answers are written.
#[derive(Clone, Copy, Debug)]
pub struct Render {
    /// The top-up.
    pub topup: fn(&Topup) -> Value,
    /// An order whose outcome is not known.
    pub unknown: fn(&Intent) -> Value,
}

/// Orders a top-up, or goes on with one that was ordered with the same key.
pub async fn create(
    ctx: &Context,
    actor: &Actor,
    once: &Once,
    request: Request,
    render: Render,
) -> Result<Ordered, NotDone> {
    let id = match begin_money(ctx, actor, Some(once)).await? {
        Begun::Fresh(order) => match store(ctx, actor, order, once, request, render).await? {
            Stored::Intent(id) => id,
            Stored::Before(ordered) => return Ok(ordered),
        },
        Begun::Before(Ordered::Answer(kept)) if kept.status == UNKNOWN => {
            let mut conn = ctx.pool.acquire().await?;
            let id = topup_intents::find_id_by_key(&mut conn, ctx.livemode, &once.key).await?;
            match id.and_then(|id| TopupIntentId::parse(&id).ok()) {
                Some(id) => id,
                // Of the other mode: another program's to go on with.
                None => return Ok(Ordered::Answer(kept)),
            }
        }
        Begun::Before(before) => return Ok(before),
    };
    // On its own, so that it comes to its end even where the caller hangs up.
    let work = tokio::spawn({
        let (ctx, id) = (ctx.clone(), id.clone());
        async move { carry_out::carry_out(&ctx, &id).await }
    });
    work.await.map_err(|panic| unreadable(&id, &panic))?.map_err(|error| not_done(&id, error))?;
    answer(ctx, once, &id, render).await
}

fn unreadable(id: &TopupIntentId, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable(format!("top-up intent {id}: {error}"))
}

fn not_done(id: &TopupIntentId, error: FlowError) -> NotDone {
    match error {
        FlowError::Store(error) => error.into(),
        FlowError::Stripe(error) => error.into(),
        error @ (FlowError::Unreadable(_) | FlowError::LeaseLost) => unreadable(id, &error).into(),
    }
}

/// What became of a new order.
enum Stored {
    Intent(TopupIntentId),
    Before(Ordered),
}

/// Stores the intent with the body of its call, and the answer that its outcome is not known.
async fn store(
    ctx: &Context,
    actor: &Actor,
    mut order: Order,
    once: &Once,
    request: Request,
    render: Render,
) -> Result<Stored, NotDone> {
    let now = order.now;
    let id = TopupIntentId::for_key(Uuid::now_v7(), &once.key);
    let tx = order.tx();
    if heartbeats::is_catching_up(tx, ctx.livemode).await? {
        // What this database forgot may have been ordered with this very key.
        return Err(NotDone::Unanswered);
    }
    if let Some((topup, amount, currency)) =
        topup_intents::find_made_for_mark(tx, ctx.livemode, id.mark()).await?
    {
        // Ordered before a restore: asking once more does not debit the bank once more.
        let same = (amount, currency.as_str()) == (request.amount_minor, request.currency.as_str());
        let Some(topup) = views::find_topup(tx, ctx.livemode, &topup).await?.filter(|_| same) else {
            return Ok(Stored::Before(Ordered::KeyReused));
        };
        let answer = Answer { status: 201, body: (render.topup)(&topup) };
        return Ok(Stored::Before(order.end(answer).await?));
    }
    let intent = Intent {
        id: id.clone(),
        livemode: ctx.livemode,
        status: Status::Open,
        amount_minor: request.amount_minor,
        currency: request.currency,
        description: request.description,
        statement_descriptor: request.statement_descriptor,
        source: request.source,
        transfer_group: request.transfer_group,
        metadata: request.metadata,
        created_by: actor.id.clone(),
        generation: 1,
        topup: None,
        refusal: None,
        created_at: now,
    };
    topup_intents::insert(tx, &intent, &once.key).await?;
    attempts::freeze(tx, id.as_str(), 1, &body(&intent), false, now).await?;
    order.note(Action::TopupRequested, id.as_str(), &on_record(&intent, &once.key));
    order.end(Answer { status: UNKNOWN, body: (render.unknown)(&intent) }).await?;
    Ok(Stored::Intent(id))
}

/// The form body of the call, byte for byte what every repetition sends.
fn body(intent: &Intent) -> String {
    let mut metadata: Map<String, Value> =
        intent.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    metadata.insert(METADATA_KEY.to_owned(), json!(intent.id));
    form::encode(&json!({
        "amount": intent.amount_minor,
        "currency": intent.currency,
        "description": intent.description,
        "statement_descriptor": intent.statement_descriptor,
        "source": intent.source,
        "transfer_group": intent.transfer_group,
        "metadata": metadata,
    }))
}

fn on_record(intent: &Intent, idempotency_key: &str) -> Value {
    json!({
        "amount": intent.amount_minor,
        "currency": intent.currency,
        "description": intent.description,
        "statement_descriptor": intent.statement_descriptor,
        "source": intent.source,
        "transfer_group": intent.transfer_group,
        "metadata": intent.metadata,
        "idempotency_key": idempotency_key,
    })
}

/// What is known now. Once the top-up is, its answer stands for the key for good.
async fn answer(ctx: &Context, once: &Once, id: &TopupIntentId, render: Render) -> Result<Ordered, NotDone> {
    let mut tx = db::begin(&ctx.pool).await?;
    let found = topup_intents::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let intent = found.ok_or_else(|| unreadable(id, &"it is gone"))?;
    if let Some(topup) = &intent.topup {
        let topup = views::find_topup(&mut tx, ctx.livemode, topup.as_str()).await?;
        let topup = topup.ok_or_else(|| unreadable(id, &"its top-up is not known"))?;
        let body = (render.topup)(&topup);
        let kept = idempotency::settle(&mut tx, &once.key, 201, &body).await?;
        tx.commit().await?;
        let (status, body) = kept.unwrap_or((201, body));
        return Ok(Ordered::Answer(Answer { status: u16::try_from(status).unwrap_or(201), body }));
    }
    if let Some(refusal) = &intent.refusal {
        return Err(declined(refusal));
    }
    if !was_sent(&mut tx, &intent).await? {
        return Err(NotDone::Unanswered);
    }
    Ok(Ordered::Answer(Answer { status: UNKNOWN, body: (render.unknown)(&intent) }))
}

async fn was_sent(tx: &mut PgConnection, intent: &Intent) -> Result<bool, StoreError> {
    let attempt = attempts::find(tx, intent.id.as_str(), intent.generation).await?;
    Ok(attempt.is_some_and(|attempt| attempt.sends > 0))
}

/// Who can mend a refusal: the caller only where Stripe names one of the parameters that the caller gives.
fn declined(refusal: &Refusal) -> NotDone {
    let fault = match declined::sort(refusal) {
        Fault::Parameter(param) if is_ours(&param) => Fault::Parameter(param),
        Fault::Key => Fault::Key,
        Fault::Parameter(_) | Fault::Account | Fault::Platform => Fault::Platform,
    };
    NotDone::Declined { fault, message: refusal.message.clone(), replayed: false }
}

fn is_ours(param: &str) -> bool {
    PARAMETERS.contains(&param.split('[').next().unwrap_or_default())
}
