//! Orders about one transfer: call it off, hold it, let it go on, approve it, try it once more.
//!
//! Each is decided on the locked transfer, in the transaction that carries it out, keeps its answer and puts
//! it on record; whoever comes too late is told the status that was faster.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::order::{Answer, Begun, Ordered, begin};
use super::{Actor, Context, Once};
use crate::domain::audit::Action;
use crate::domain::ids::TransferId;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::db::StoreError;
use crate::store::transfers::{Change, Transfer};
use crate::store::{holds, tasks, transfers};

pub mod reverse;

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It shall not go out.
    Cancel,
    /// It shall not go out for now.
    Hold,
    /// It may go on.
    Resume,
    /// Somebody else than its creator says that it may go out.
    Approve,
    /// It failed, and is to be tried once more.
    Retry,
}

impl Control {
    fn action(self) -> Action {
        match self {
            Self::Cancel => Action::TransferCanceled,
            Self::Hold => Action::TransferHeld,
            Self::Resume => Action::TransferResumed,
            Self::Approve => Action::TransferApproved,
            Self::Retry => Action::TransferRetried,
        }
    }
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
    /// Whoever asked for it can't approve it.
    #[error("the key that asked for a transfer can't approve it")]
    ApprovalByCreator,
    /// More is to come back than is left: this much, in minor units.
    #[error("only {0} is left to come back")]
    TooMuch(i64),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OrderError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Carries an order out. `reason` is what the caller said why; `render` makes the answer.
pub async fn control(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    id: &TransferId,
    control: Control,
    reason: Option<&str>,
    render: impl Fn(&Transfer) -> Value,
) -> Result<Ordered, OrderError> {
    let mut order = match begin(ctx, actor, once).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let now = order.now;
    let tx = order.tx();
    let found = transfers::find_for_update(tx, id.as_str()).await?;
    let transfer = found.filter(|t| t.livemode == ctx.livemode).ok_or(OrderError::NotFound)?;
    let gone_out = matches!(transfer.status, Status::Released | Status::PartiallyReversed);
    if control == Control::Approve && gone_out {
        let approved = reverse::approve(tx, ctx, actor, &transfer, now).await?;
        let details = json!({"reason": reason, "reversals": approved});
        order.note(Action::ReversalApproved, id.as_str(), &details);
        return Ok(order.end(Answer { status: 200, body: render(&transfer) }).await?);
    }
    let changed = match control {
        Control::Cancel => cancel(tx, ctx, actor, &transfer, now).await?,
        Control::Hold => set_hold(tx, ctx, actor, &transfer, true, now).await?,
        Control::Resume => set_hold(tx, ctx, actor, &transfer, false, now).await?,
        Control::Approve => approve(tx, ctx, actor, &transfer, now).await?,
        Control::Retry => retry(tx, ctx, actor, &transfer, now).await?,
    };
    let after = transfers::find(tx, id.as_str()).await?.ok_or(OrderError::NotFound)?;
    order.note(control.action(), id.as_str(), &json!({"reason": reason, "changed": changed}));
    Ok(order.end(Answer { status: 200, body: render(&after) }).await?)
}

/// Calls off a transfer that has not gone out.
async fn cancel(
    tx: &mut PgConnection,
    ctx: &Context,
    actor: &Actor,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<bool, OrderError> {
    if transfer.status != Status::Waiting {
        return Err(OrderError::State(transfer.status));
    }
    let change = Change { status: Status::Canceled, expected_release_at: None, ..Change::of(transfer) };
    transfers::record_change(tx, transfer, &change, &format!("canceled by {}", actor.id), now).await?;
    // What it stood in the way of can go on.
    tasks::ring(tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await?;
    Ok(true)
}

/// Holds a transfer back, or lets it go on; both may be repeated. False when it was so already.
async fn set_hold(
    tx: &mut PgConnection,
    ctx: &Context,
    actor: &Actor,
    transfer: &Transfer,
    hold: bool,
    now: OffsetDateTime,
) -> Result<bool, OrderError> {
    if !matches!(transfer.status, Status::Waiting | Status::Releasing) {
        return Err(OrderError::State(transfer.status));
    }
    if transfer.held_at.is_some() == hold {
        return Ok(false);
    }
    let id = transfer.id.as_str();
    holds::set_hold(tx, id, hold.then_some(actor.id.as_str()), now).await?;
    let mut reasons: Vec<Reason> =
        transfer.waiting_on.iter().copied().filter(|reason| *reason != Reason::OnHold).collect();
    if hold {
        reasons.push(Reason::OnHold);
        reasons.sort_unstable();
    }
    let cause = format!("{} by {}", if hold { "held" } else { "resumed" }, actor.id);
    let change = Change { waiting_on: &reasons, ..Change::of(transfer) };
    transfers::record_change(tx, transfer, &change, &cause, now).await?;
    if transfer.fundable {
        // It leaves the line: what it stood in the way of can go on.
        tasks::ring(tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await?;
    }
    tasks::ring(tx, Kind::Transfer, ctx.livemode, &[id], now).await?;
    Ok(true)
}

/// Approves a transfer; may be repeated. False when it needs no approval, or has one.
async fn approve(
    tx: &mut PgConnection,
    ctx: &Context,
    actor: &Actor,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<bool, OrderError> {
    if !matches!(transfer.status, Status::Waiting | Status::Releasing) {
        return Err(OrderError::State(transfer.status));
    }
    if actor.id == transfer.created_by {
        return Err(OrderError::ApprovalByCreator);
    }
    let needed = ctx.limits.needs_approval(transfer.currency, transfer.amount_minor);
    if transfer.approved_at.is_some() || !needed {
        return Ok(false);
    }
    let id = transfer.id.as_str();
    holds::set_approved(tx, id, &actor.id, now).await?;
    let reasons: Vec<Reason> =
        transfer.waiting_on.iter().copied().filter(|reason| *reason != Reason::ApprovalRequired).collect();
    let change = Change { waiting_on: &reasons, ..Change::of(transfer) };
    transfers::record_change(tx, transfer, &change, &format!("approved by {}", actor.id), now).await?;
    tasks::ring(tx, Kind::Transfer, ctx.livemode, &[id], now).await?;
    Ok(true)
}

/// Tries a failed transfer once more: with the next key, and only after a look-up found nothing.
async fn retry(
    tx: &mut PgConnection,
    ctx: &Context,
    actor: &Actor,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<bool, OrderError> {
    if transfer.status != Status::Failed {
        return Err(OrderError::State(transfer.status));
    }
    let change = Change {
        status: Status::Waiting,
        generation: transfer.generation + 1,
        look_up_first: true,
        failure: None,
        ..Change::of(transfer)
    };
    transfers::record_change(tx, transfer, &change, &format!("tried again by {}", actor.id), now).await?;
    tasks::ring(tx, Kind::Transfer, ctx.livemode, &[transfer.id.as_str()], now).await?;
    Ok(true)
}
