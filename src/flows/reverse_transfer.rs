//! Money that went out comes back, once: write the intent down, call, record what it showed, book what Stripe
//! says has come back in all.
//!
//! The same care as for a release: a frozen body, one key after the other, a look-up where calls proved
//! nothing. Before the very first send the transfer's reversals are looked through as well, so that a restored
//! database asks for nothing again. Pausing releases does not stop what comes back.

use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::attempt_record::{self, Sent, unanswered};
use super::transfer_evidence::{self, Recorded};
use super::{Context, FlowError, observation_id};
use crate::domain::ids::{ReversalId, StripeTransferId};
use crate::domain::reason::Reason;
use crate::domain::refusal::Sorted;
use crate::domain::release::{self, Step};
use crate::domain::reversal::{Status, pause_after_refusal};
use crate::domain::task::Kind;
use crate::store::attempts::{self, Attempt, Call, SendEnd};
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, Observation};
use crate::store::reversals::{self, Change, Reversal};
use crate::store::tasks::{self, Lease};
use crate::stripe::client::{Answer, Lane};
use crate::stripe::error::{Failure, FailureKind, StripeError};
use crate::stripe::form;
use crate::stripe::wire::TransferReversal;

/// The pair in a reversal's metadata at Stripe that names ours.
const METADATA_KEY: &str = "sluicegate_reversal";

/// Takes the next step for a reversal; returns when there is something to do again without being rung.
pub async fn advance(
    ctx: &Context,
    lease: &Lease,
    id: &ReversalId,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let found = reversals::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let Some(reversal) = found.filter(|reversal| reversal.status == Status::Pending) else { return Ok(None) };
    let Some(at_stripe) = reversal.stripe_transfer.clone() else {
        return Err(StoreError::Unreadable(format!("reversal {id} of a transfer that never went out")).into());
    };
    if reversal.stripe_reversal.is_some() {
        drop(tx);
        return settle(ctx, &reversal, &at_stripe).await;
    }
    if reversal.waiting_on.contains(&Reason::ApprovalRequired) {
        return Ok(None);
    }
    let n = reversal.generation;
    let Some(attempt) = attempts::find(&mut tx, id.as_str(), n).await? else {
        attempts::freeze(&mut tx, id.as_str(), n, &body(&reversal), true, now).await?;
        tx.commit().await?;
        return Ok(Some(now));
    };
    if !tasks::hold(&mut tx, lease, now).await? {
        return Err(FlowError::LeaseLost);
    }
    let view = attempt.view(Duration::try_from(ctx.longest_call).unwrap_or(Duration::MINUTE));
    match view.next_step(true, ctx.grace, now) {
        Step::Wait(until) => Ok(Some(until)),
        Step::NextKey => {
            attempts::close(&mut tx, id.as_str(), n, "superseded").await?;
            attempts::freeze(&mut tx, id.as_str(), n + 1, &attempt.body, false, now).await?;
            let change = Change { generation: n + 1, ..Change::of(&reversal) };
            reversals::record_change(&mut tx, id, &change, now).await?;
            tx.commit().await?;
            Ok(Some(now))
        }
        Step::Send => {
            attempts::begin_send(&mut tx, id.as_str(), n, now).await?;
            tx.commit().await?;
            send(ctx, &reversal, &at_stripe, &attempt, now).await
        }
        Step::LookUp => {
            drop(tx);
            look_up(ctx, lease, &reversal, &at_stripe, &view).await
        }
        Step::Withdraw => Err(FlowError::Unreadable(format!(
            "reversal {id}: nothing can speak against money that comes back"
        ))),
    }
}

/// The form body of the call, byte for byte what every repetition sends.
fn body(reversal: &Reversal) -> String {
    let metadata = json!({METADATA_KEY: reversal.id});
    form::encode(&json!({"amount": reversal.amount_minor, "metadata": metadata}))
}

async fn send(
    ctx: &Context,
    reversal: &Reversal,
    at_stripe: &StripeTransferId,
    attempt: &Attempt,
    prepared_at: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let subject = reversal.id.as_str();
    if let Some(now) = attempt_record::drop_if_late(ctx, subject, attempt, prepared_at).await? {
        return Ok(Some(now));
    }
    let key = format!("{subject}.{}", attempt.n);
    let started_at = ctx.clock.now();
    let answer = ctx.stripe.create_reversal(at_stripe, &attempt.body, &key).await;
    let call = Sent { subject, attempt, started_at, ended_at: ctx.clock.now() };
    match answer {
        Ok(answer) => made(ctx, reversal, &call, &answer).await,
        Err(StripeError::Refused(failure)) => refused(ctx, reversal, &call, &failure).await,
        Err(StripeError::Retry(failure) | StripeError::Unknown(failure)) => {
            unknown(ctx, reversal, &call, &failure, unanswered(&failure, call.ended_at)).await
        }
    }
}

/// Stripe made it: that is written down first; the books follow the transfer as Stripe then shows it.
async fn made(
    ctx: &Context,
    reversal: &Reversal,
    call: &Sent<'_>,
    answer: &Answer<TransferReversal>,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let current = reversals::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
    let end = SendEnd { outcome: Some("created"), ..SendEnd::default() };
    call.end(&mut tx, end).await?;
    call.keep(&mut tx, "created", None, answer.request_id.as_deref()).await?;
    let fits = answer.object.amount == reversal.amount_minor;
    if let Some(current) = current.filter(|current| current.status == Status::Pending && fits) {
        mark_made(&mut tx, &current, &answer.object, call.ended_at).await?;
    }
    tx.commit().await?;
    if !fits {
        tracing::error!(reversal = %reversal.id, stripe_reversal = answer.object.id, "Stripe made another reversal than was asked for");
    }
    Ok(Some(if fits { call.ended_at } else { call.ended_at + ctx.grace }))
}

async fn mark_made(
    tx: &mut sqlx::PgConnection,
    current: &Reversal,
    seen: &TransferReversal,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let change =
        Change { waiting_on: &[], stripe_reversal: Some(&seen.id), failure: None, ..Change::of(current) };
    reversals::record_change(tx, &current.id, &change, now).await
}

/// It exists at Stripe: the books take over what came back of the transfer in all, whoever asked for it.
async fn settle(
    ctx: &Context,
    reversal: &Reversal,
    at_stripe: &StripeTransferId,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let observed_from = ctx.clock.now();
    let after_seq = outbox::last_seq(&mut *ctx.pool.acquire().await?).await?;
    let answer = ctx.stripe.transfer(Lane::Release, at_stripe).await?;
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let cause = "reversed by order";
    let recorded =
        transfer_evidence::record(&mut tx, ctx, &reversal.transfer, &answer.object, cause, now).await?;
    let all = reversals::list(&mut tx, reversal.transfer.as_str()).await?;
    let made = all.iter().filter(|other| other.status == Status::Reversed || other.id == reversal.id);
    let made_minor: i64 = made.map(|other| other.amount_minor).sum();
    if recorded != Recorded::Booked || answer.object.amount_reversed < made_minor {
        // Stripe does not show it yet, or shows something else: nothing is booked on our own word.
        return Ok(Some(attempt_record::look_again_at(ctx, now)));
    }
    let seen = Observation {
        id: observation_id(),
        event_type: "transfer",
        subject_kind: Kind::StripeTransfer.as_str(),
        subject: at_stripe.as_str(),
        livemode: ctx.livemode,
        observed_from,
        after_seq,
        received_at: now,
        payload: &answer.raw,
    };
    outbox::insert_observation(&mut tx, &seen).await?;
    let current = reversals::find_for_update(&mut tx, ctx.livemode, reversal.id.as_str()).await?;
    if let Some(current) = current.filter(|current| current.status == Status::Pending) {
        let change = Change { status: Status::Reversed, ..Change::of(&current) };
        reversals::record_change(&mut tx, &current.id, &change, now).await?;
    }
    tx.commit().await?;
    Ok(None)
}

/// No definite answer: the same key and body again, later, or a look-up.
async fn unknown(
    ctx: &Context,
    reversal: &Reversal,
    call: &Sent<'_>,
    failure: &Failure,
    end: SendEnd,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let current = reversals::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
    call.end(&mut tx, end).await?;
    call.keep(&mut tx, failure.kind.as_str(), Some(failure), failure.request_id.as_deref()).await?;
    if let Some(current) = current.filter(|current| current.status == Status::Pending) {
        // Pausing releases would not keep money from coming back: the cause stands with the reversal itself.
        let refused = (failure.kind == FailureKind::Refused)
            .then(|| (failure.code.as_deref().unwrap_or("refused"), failure.message.as_str()));
        let change = Change {
            waiting_on: &[Reason::StripeUnavailable],
            failure: refused.or(Change::of(&current).failure),
            ..Change::of(&current)
        };
        reversals::record_change(&mut tx, &current.id, &change, call.ended_at).await?;
    }
    tx.commit().await?;
    tracing::warn!(reversal = %reversal.id, n = call.attempt.n, %failure, "no definite answer from Stripe");
    Ok(Some(attempt_record::go_on_at(ctx, call)))
}

/// Stripe definitely refused.
async fn refused(
    ctx: &Context,
    reversal: &Reversal,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let refusal = attempt_record::refusal_of(failure);
    let sorted = refusal.sort();
    if matches!(sorted, Sorted::SlowDown | Sorted::LookUp) {
        return unknown(ctx, reversal, call, failure, unanswered(failure, call.ended_at)).await;
    }
    let n = call.attempt.n;
    let again_at = call.ended_at + pause_after_refusal(n);
    if sorted == Sorted::Configuration || (!refusal.is_stored() && call.attempt.sends > 0) {
        // Refused before it ran: that uses up no key, and says nothing about the sends before it.
        let end = SendEnd { not_before: Some(again_at), ..SendEnd::default() };
        return unknown(ctx, reversal, call, failure, end).await;
    }
    let mut tx = db::begin(&ctx.pool).await?;
    let current = reversals::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
    call.keep(&mut tx, "refused", Some(failure), failure.request_id.as_deref()).await?;
    call.end(&mut tx, SendEnd { outcome: Some("refused"), ..SendEnd::default() }).await?;
    let Some(current) = current.filter(|r| r.status == Status::Pending && r.generation == n) else {
        tx.commit().await?;
        return Ok(None);
    };
    let failure = Some((refusal.code.as_deref().unwrap_or("refused"), refusal.message.as_str()));
    let change = match sorted {
        Sorted::Permanent => {
            Change { status: Status::Failed, waiting_on: &[], failure, ..Change::of(&current) }
        }
        // The account has too little now. Stripe would replay its refusal for this key: the next, later.
        _ => {
            attempts::freeze(&mut tx, call.subject, n + 1, &call.attempt.body, false, call.ended_at).await?;
            attempts::put_off(&mut tx, call.subject, n + 1, again_at).await?;
            let waiting_on = &[Reason::StripeBalanceInsufficient];
            Change { waiting_on, generation: n + 1, failure, ..Change::of(&current) }
        }
    };
    reversals::record_change(&mut tx, &current.id, &change, call.ended_at).await?;
    if let Some(at_stripe) = &current.stripe_transfer {
        // It may have come back another way.
        tasks::ring(&mut tx, Kind::StripeTransfer, ctx.livemode, &[at_stripe.as_str()], call.ended_at)
            .await?;
    }
    tx.commit().await?;
    tracing::warn!(reversal = %reversal.id, n, ?sorted, refusal = refusal.message, "Stripe refused a reversal");
    Ok((sorted != Sorted::Permanent).then_some(again_at))
}

/// Looks for the reversal among those of its transfer. Only a complete list proves anything.
async fn look_up(
    ctx: &Context,
    lease: &Lease,
    reversal: &Reversal,
    at_stripe: &StripeTransferId,
    view: &release::Attempt,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let began_at = ctx.clock.now();
    let answer = ctx.stripe.list_reversals(Lane::Release, at_stripe).await;
    let ended_at = ctx.clock.now();
    let subject = reversal.id.as_str();
    let call = Call::begun("look_up", began_at, ended_at);
    let mut tx = db::begin(&ctx.pool).await?;
    let items = match answer {
        Ok(items) => items,
        Err(error) => {
            let again_at =
                attempt_record::look_up_failed(ctx, &mut tx, subject, view.n, call, error.failure()).await?;
            tx.commit().await?;
            return Ok(Some(again_at));
        }
    };
    let current = reversals::find_for_update(&mut tx, ctx.livemode, subject).await?;
    let Some(current) = current.filter(|current| current.status == Status::Pending) else { return Ok(None) };
    let ours = items.iter().find(|item| is_ours(reversal, &item.object));
    let call = Call { outcome: if ours.is_some() { "found" } else { call.outcome }, ..call };
    if let Some(item) = ours {
        attempts::close(&mut tx, subject, view.n, "created").await?;
        mark_made(&mut tx, &current, &item.object, ended_at).await?;
    } else {
        // What another holder of the task did meanwhile is not in this list.
        if !tasks::hold(&mut tx, lease, ctx.clock.now()).await? {
            return Err(FlowError::LeaseLost);
        }
        attempts::record_empty_look_up(&mut tx, subject, view.n, view.sends, began_at).await?;
    }
    attempts::insert_call(&mut tx, subject, view.n, &call).await?;
    tx.commit().await?;
    Ok(Some(ended_at))
}

/// By the mark of the caller's key, so that one is known that the database was made to forget.
fn is_ours(reversal: &Reversal, seen: &TransferReversal) -> bool {
    let id = seen.metadata.as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let id = id.and_then(|id| ReversalId::parse(id).ok());
    id.is_some_and(|id| id.mark() == reversal.id.mark()) && seen.amount == reversal.amount_minor
}
