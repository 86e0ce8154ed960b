//! A caller asks for a transfer: once by the caller's key, and on record with all that was asked.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::order::{Answer, Begun, Order, Ordered, begin_money};
use super::transfer_snapshot::Snapshot;
use super::{Actor, Context, Once};
use crate::domain::audit::Action;
use crate::domain::forecast;
use crate::domain::funds::{Claim, Purse};
use crate::domain::ids::{AccountId, TopupId, TransferId};
use crate::domain::limits::Beyond;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::db::StoreError;
use crate::store::transfers::{Change, Transfer};
use crate::store::{controls, ledger, tasks, transfers};

/// What a caller asks for; every field already has its form.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whom to pay.
    pub destination: AccountId,
    /// How much, in minor units of `currency`; within Stripe's limits.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// Pay it from this top-up alone.
    pub topup: Option<TopupId>,
    /// The caller's label.
    pub transfer_group: Option<String>,
    /// The caller's text.
    pub description: Option<String>,
    /// The caller's pairs.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Not before this.
    pub release_after: Option<OffsetDateTime>,
    /// Higher goes first.
    pub priority: i32,
}

/// Why a transfer was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// On no day could it go out.
    #[error("the amount alone is beyond the daily cap of {}", .0.cap_minor)]
    BeyondCap(Beyond),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores a transfer and says why it waits. `render` makes the answer that is kept for the key.
pub async fn create(
    ctx: &Context,
    actor: &Actor,
    once: &Once,
    request: Request,
    render: impl Fn(&Transfer) -> Value,
) -> Result<Ordered, RequestError> {
    let mut order = match begin_money(ctx, actor, Some(once)).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    if let Some(beyond) = ctx.limits.beyond_alone(request.currency, request.amount_minor) {
        return Err(RequestError::BeyondCap(beyond));
    }
    match asked_before_a_restore(&mut order, ctx, &once.key, &request).await? {
        None => {}
        Some(Remembered::Otherwise) => return Ok(Ordered::KeyReused),
        Some(Remembered::AsAsked(adopted)) => {
            return Ok(order.end(Answer { status: 201, body: render(&adopted) }).await?);
        }
    }
    let now = order.now;
    let mut transfer = new_transfer(ctx, actor, &once.key, request, now);
    let tx = order.tx();
    controls::ensure_funds(tx, ctx.livemode, transfer.currency).await?;
    transfers::insert(tx, &transfer, &once.key).await?;
    let reasons = reasons_to_wait(tx, ctx, &transfer, now).await?;
    // Not in the line for money yet: the worker looks again, with locks, and puts it there.
    let change = Change { waiting_on: &reasons, ..Change::of(&transfer) };
    // An empty list before and after is no change: the first line of the history is written in any case.
    transfers::record_change(tx, &transfer, &change, "requested", now).await?;
    if reasons.is_empty() {
        transfers::insert_history(tx, transfer.id.as_str(), Status::Waiting, &[], "requested", now).await?;
    }
    transfer.waiting_on = reasons;
    let foreseen = now + forecast::AFTER;
    tasks::ring(tx, Kind::Forecast, ctx.livemode, &[transfer.currency.as_str()], foreseen).await?;
    tasks::ring(tx, Kind::Transfer, ctx.livemode, &[transfer.id.as_str()], now).await?;
    order.note(Action::TransferRequested, transfer.id.as_str(), &on_record(&transfer, &once.key));
    Ok(order.end(Answer { status: 201, body: render(&transfer) }).await?)
}

/// All that was asked, so that the transfer can be told from the log alone.
fn on_record(transfer: &Transfer, idempotency_key: &str) -> Value {
    let release_after = transfer.release_after.map(|at| at.unix_timestamp_nanos() / 1_000);
    json!({
        "destination": transfer.destination,
        "amount": transfer.amount_minor,
        "currency": transfer.currency,
        "topup": transfer.topup,
        "transfer_group": transfer.transfer_group,
        "description": transfer.description,
        "metadata": transfer.metadata,
        "release_after_us": release_after.map(|us| us.to_string()),
        "priority": transfer.priority,
        "idempotency_key": idempotency_key,
    })
}

fn new_transfer(ctx: &Context, actor: &Actor, key: &str, request: Request, now: OffsetDateTime) -> Transfer {
    let id = TransferId::for_key(Uuid::now_v7(), key);
    let sum = (request.amount_minor, request.currency);
    Transfer {
        topup: request.topup,
        transfer_group: request.transfer_group,
        description: request.description,
        metadata: request.metadata,
        expected_release_at: request.release_after.filter(|at| *at > now),
        release_after: request.release_after,
        priority: request.priority,
        ..Transfer::new(id, ctx.livemode, request.destination, sum, &actor.id, now)
    }
}

/// What was first asked for with this key and taken in again after a restore forgot it: asking once more does
/// not pay once more.
async fn asked_before_a_restore(
    order: &mut Order,
    ctx: &Context,
    key: &str,
    request: &Request,
) -> Result<Option<Remembered>, StoreError> {
    let mark = TransferId::mark_of_key(key);
    let Some(adopted) = transfers::find_adopted(order.tx(), ctx.livemode, &mark).await? else {
        return Ok(None);
    };
    let same = adopted.destination == request.destination
        && adopted.amount_minor == request.amount_minor
        && adopted.currency == request.currency;
    Ok(Some(if same { Remembered::AsAsked(Box::new(adopted)) } else { Remembered::Otherwise }))
}

/// What a key was used for before a restore.
enum Remembered {
    /// For this.
    AsAsked(Box<Transfer>),
    /// For another transfer.
    Otherwise,
}

/// The first answer to "why does it wait?": as true as a look without locks can be. The worker decides.
async fn reasons_to_wait(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<Vec<Reason>, StoreError> {
    let mut reasons = Snapshot::load(tx, ctx, transfer).await?.reasons(ctx, transfer, now);
    if reasons.is_empty() {
        let mut purse = Purse::new(ledger::list_lots(tx, ctx.livemode, transfer.currency).await?);
        let topup = transfer.topup.as_ref().map(|id| id.as_str());
        if purse.take(Claim { amount_minor: transfer.amount_minor, topup, blocks: true }).is_none() {
            reasons.push(Reason::FundsInsufficient);
        }
    }
    Ok(reasons)
}
