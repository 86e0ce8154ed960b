//! A caller asks for a transfer, calls it off, holds it, or lets it go on.
//!
//! Asking is exactly once by the caller's key: the answer is stored in the transaction that stores the
//! transfer, and a concurrent request with the same key waits for it.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::transfer_snapshot::Snapshot;
use super::{Actor, Context, Once};
use crate::domain::funds::{Claim, Purse};
use crate::domain::ids::{AccountId, TopupId, TransferId};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::db::StoreError;
use crate::store::idempotency::{self, Kept};
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

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Requested {
    /// The answer, new or as it was given before.
    Answer(Value),
    /// The key was used with another body.
    KeyReused,
}

/// Stores a transfer and says why it waits. `render` makes the answer that is kept for the key.
pub async fn create(
    ctx: &Context,
    actor: &Actor,
    once: &Once,
    request: Request,
    render: impl Fn(&Transfer) -> Value,
) -> Result<Requested, StoreError> {
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    idempotency::lock(&mut tx, idempotency::MONEY, &once.key).await?;
    if let Some(kept) = idempotency::find(&mut tx, idempotency::MONEY, &once.key, now).await? {
        let same = kept.request_hash == once.request_hash;
        return Ok(if same { Requested::Answer(kept.response) } else { Requested::KeyReused });
    }
    let mut transfer = new_transfer(ctx, request, now);
    controls::ensure_funds(&mut tx, ctx.livemode, transfer.currency).await?;
    transfers::insert(&mut tx, &transfer, &actor.id, &once.key).await?;
    let reasons = reasons_to_wait(&mut tx, ctx, &transfer, now).await?;
    // Not in the line for money yet: the worker looks again, with locks, and puts it there.
    let change = Change { waiting_on: &reasons, ..Change::of(&transfer) };
    // An empty list before and after is no change: the first line of the history is written in any case.
    transfers::record_change(&mut tx, &transfer, &change, "requested", now).await?;
    if reasons.is_empty() {
        transfers::insert_history(&mut tx, transfer.id.as_str(), Status::Waiting, &[], "requested", now)
            .await?;
    }
    transfer.waiting_on = reasons;
    let response = render(&transfer);
    let kept = Kept { request_hash: once.request_hash.clone(), status: 201, response: response.clone() };
    idempotency::keep(&mut tx, idempotency::MONEY, &once.key, &kept, now).await?;
    tasks::ring(&mut tx, Kind::Transfer, ctx.livemode, &[transfer.id.as_str()], now).await?;
    tx.commit().await?;
    Ok(Requested::Answer(response))
}

fn new_transfer(ctx: &Context, request: Request, now: OffsetDateTime) -> Transfer {
    Transfer {
        id: TransferId::from_uuid(Uuid::now_v7()),
        livemode: ctx.livemode,
        status: Status::Waiting,
        waiting_on: Vec::new(),
        destination: request.destination,
        amount_minor: request.amount_minor,
        currency: request.currency,
        topup: request.topup,
        transfer_group: request.transfer_group,
        description: request.description,
        metadata: request.metadata,
        expected_release_at: request.release_after.filter(|at| *at > now),
        release_after: request.release_after,
        fundable: false,
        priority: request.priority,
        held_at: None,
        generation: 1,
        reservations: 0,
        hold_off: None,
        stripe_transfer: None,
        amount_reversed_minor: 0,
        failure: None,
        created_at: now,
        updated_at: now,
    }
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
        if purse.take(Claim { amount_minor: transfer.amount_minor, topup }).is_none() {
            reasons.push(Reason::FundsInsufficient);
        }
    }
    Ok(reasons)
}

/// Why an order about a transfer was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no such transfer.
    #[error("no transfer has this id")]
    NotFound,
    /// Its status does not allow it.
    #[error("a transfer that is {} can't be changed this way", .0.as_str())]
    State(Status),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OrderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Calls off a transfer that has not gone out.
pub async fn cancel(ctx: &Context, actor: &Actor, id: &str) -> Result<Transfer, OrderError> {
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let transfer = transfers::find_for_update(&mut tx, id).await?.ok_or(OrderError::NotFound)?;
    if transfer.status != Status::Waiting {
        return Err(OrderError::State(transfer.status));
    }
    let change = Change { status: Status::Canceled, expected_release_at: None, ..Change::of(&transfer) };
    transfers::record_change(&mut tx, &transfer, &change, &format!("canceled by {}", actor.id), now).await?;
    // What it stood in the way of can go on.
    tasks::ring(&mut tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await?;
    let canceled = transfers::find(&mut tx, id).await?.ok_or(OrderError::NotFound)?;
    tx.commit().await?;
    Ok(canceled)
}

/// Holds a transfer back, or lets it go on; both may be repeated.
pub async fn set_hold(ctx: &Context, actor: &Actor, id: &str, hold: bool) -> Result<Transfer, OrderError> {
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let transfer = transfers::find_for_update(&mut tx, id).await?.ok_or(OrderError::NotFound)?;
    if !matches!(transfer.status, Status::Waiting | Status::Releasing) {
        return Err(OrderError::State(transfer.status));
    }
    if transfer.held_at.is_some() != hold {
        transfers::set_hold(&mut tx, id, hold.then_some(actor.id.as_str()), now).await?;
        let mut reasons: Vec<Reason> =
            transfer.waiting_on.iter().copied().filter(|reason| *reason != Reason::OnHold).collect();
        if hold {
            reasons.push(Reason::OnHold);
            reasons.sort_unstable();
        }
        let cause = format!("{} by {}", if hold { "held" } else { "resumed" }, actor.id);
        let change = Change { waiting_on: &reasons, ..Change::of(&transfer) };
        transfers::record_change(&mut tx, &transfer, &change, &cause, now).await?;
        if transfer.fundable {
            // It leaves the line: what it stood in the way of can go on.
            tasks::ring(&mut tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await?;
        }
        tasks::ring(&mut tx, Kind::Transfer, ctx.livemode, &[id], now).await?;
    }
    let changed = transfers::find(&mut tx, id).await?.ok_or(OrderError::NotFound)?;
    tx.commit().await?;
    Ok(changed)
}
