//! The order that money of a transfer shall come back, in part or in whole.
//!
//! What is asked for is decided on the locked transfer, so that no two orders ask for the same money.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::OrderError;
use crate::domain::audit::Action;
use crate::domain::ids::{ReversalId, TransferId};
use crate::domain::reason::Reason;
use crate::domain::reversal::{self, left};
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::flows::order::{Answer, Begun, Ordered, begin_money};
use crate::flows::{Actor, Context, Once};
use crate::store::reversals::{self, New, Reversal};
use crate::store::transfers::Transfer;
use crate::store::{tasks, transfers};

/// What shall come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In minor units; all that is left where none is named.
    pub amount_minor: Option<i64>,
    /// Why, for the record.
    pub reason: Option<String>,
}

/// Takes the order. `render` makes the answer from the transfer and its reversals.
pub async fn reverse(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    id: &TransferId,
    request: &Request,
    render: impl Fn(&Transfer, &[Reversal]) -> Value,
) -> Result<Ordered, OrderError> {
    let mut order = match begin_money(ctx, actor, once).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let now = order.now;
    let tx = order.tx();
    let found = transfers::find_for_update(tx, id.as_str()).await?;
    let transfer = found.filter(|t| t.livemode == ctx.livemode).ok_or(OrderError::NotFound)?;
    if !matches!(transfer.status, Status::Released | Status::PartiallyReversed) {
        return Err(OrderError::State(transfer.status));
    }
    let before = reversals::list(tx, id.as_str()).await?;
    let pending = before.iter().filter(|reversal| reversal.status == reversal::Status::Pending);
    let pending_minor = pending.map(|reversal| reversal.amount_minor).sum();
    let left_minor = left(transfer.amount_minor, transfer.amount_reversed_minor, pending_minor);
    let amount_minor = request.amount_minor.unwrap_or(left_minor);
    if amount_minor > left_minor || amount_minor < 1 {
        return Err(OrderError::TooMuch(left_minor));
    }
    let key = once.map_or_else(|| Uuid::new_v4().to_string(), |once| once.key.clone());
    let reversal = ReversalId::for_key(Uuid::now_v7(), &key);
    let held = ctx.limits.needs_approval(transfer.currency, amount_minor);
    let new = New {
        id: &reversal,
        livemode: ctx.livemode,
        transfer: id,
        amount_minor,
        currency: transfer.currency,
        reason: request.reason.as_deref(),
        waiting_on: if held { &[Reason::ApprovalRequired] } else { &[] },
        created_by: &actor.id,
    };
    reversals::insert(tx, &new, now).await?;
    tasks::ring(tx, Kind::Reversal, ctx.livemode, &[reversal.as_str()], now).await?;
    let after = reversals::list(tx, id.as_str()).await?;
    let details = json!({
        "reversal": reversal, "amount": amount_minor, "currency": transfer.currency, "reason": request.reason,
    });
    order.note(Action::ReversalRequested, id.as_str(), &details);
    Ok(order.end(Answer { status: 200, body: render(&transfer, &after) }).await?)
}

/// Approves what waits for it of a transfer that has gone out; returns which reversals that were.
pub(super) async fn approve(
    tx: &mut PgConnection,
    ctx: &Context,
    actor: &Actor,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<Vec<ReversalId>, OrderError> {
    let waiting: Vec<Reversal> = reversals::list(tx, transfer.id.as_str())
        .await?
        .into_iter()
        .filter(|reversal| reversal.waiting_on.contains(&Reason::ApprovalRequired))
        .collect();
    if waiting.is_empty() {
        return Err(OrderError::State(transfer.status));
    }
    let mut approved = Vec::new();
    for reversal in waiting.into_iter().filter(|reversal| reversal.created_by != actor.id) {
        reversals::set_approved(tx, &reversal.id, &actor.id, now).await?;
        approved.push(reversal.id);
    }
    if approved.is_empty() {
        return Err(OrderError::ApprovalByCreator);
    }
    let mut ids: Vec<&str> = approved.iter().map(ReversalId::as_str).collect();
    ids.sort_unstable();
    tasks::ring(tx, Kind::Reversal, ctx.livemode, &ids, now).await?;
    Ok(approved)
}
