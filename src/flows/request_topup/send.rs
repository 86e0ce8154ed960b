//! The call that debits the bank, and what its answer shows.

use time::OffsetDateTime;

use super::carry_out::Next;
use crate::domain::evidence::Fetched;
use crate::domain::money::Currency;
use crate::domain::refusal::{Refusal, Sorted};
use crate::domain::task::Kind;
use crate::flows::attempt_record::{self, Sent, unanswered};
use crate::flows::rings::Rings;
use crate::flows::topup_evidence::is_money;
use crate::flows::topup_record::{self, Answered};
use crate::flows::{Context, FlowError};
use crate::store::attempts::{self, Attempt, SendEnd};
use crate::store::topup_intents::{self, Intent, Outcome};
use crate::store::{db, idempotency, tasks};
use crate::stripe::client::Answer;
use crate::stripe::error::{Failure, StripeError};
use crate::stripe::wire;

pub(super) async fn send(
    ctx: &Context,
    intent: &Intent,
    attempt: &Attempt,
    after_seq: i64,
    prepared_at: OffsetDateTime,
) -> Result<Next, FlowError> {
    let subject = intent.id.as_str();
    if attempt_record::drop_if_late(ctx, subject, attempt, prepared_at).await?.is_some() {
        return Ok(Next::Again);
    }
    let key = format!("{subject}.{}", attempt.n);
    let started_at = ctx.clock.now();
    let answer = ctx.stripe.create_topup(&attempt.body, &key).await;
    let call = Sent { subject, attempt, started_at, ended_at: ctx.clock.now() };
    match answer {
        Ok(answer) => made(ctx, intent, &call, &answer, after_seq).await?,
        Err(StripeError::Refused(failure)) => refused(ctx, intent, &call, &failure).await?,
        Err(StripeError::Retry(failure)) if attempt.sends == 0 => {
            not_sent(ctx, intent, &call, &failure).await?
        }
        Err(StripeError::Retry(failure) | StripeError::Unknown(failure)) => {
            unknown(ctx, intent, &call, &failure).await?;
        }
    }
    Ok(Next::Done)
}

/// Whether a top-up is what an intent asked for.
pub(super) fn fits(ctx: &Context, intent: &Intent, seen: &wire::Topup) -> bool {
    is_money(seen)
        && seen.amount == intent.amount_minor
        && Currency::parse(&seen.currency) == Ok(intent.currency)
        && seen.livemode.is_none_or(|livemode| livemode == ctx.livemode)
}

async fn made(
    ctx: &Context,
    intent: &Intent,
    call: &Sent<'_>,
    answer: &Answer<wire::Topup>,
    after_seq: i64,
) -> Result<(), FlowError> {
    let mut rings = Rings::default();
    let mut tx = db::begin(&ctx.pool).await?;
    if fits(ctx, intent, &answer.object) {
        let fetch = match call.attempt.first_sent_at() {
            // What Stripe had stored for the key is the top-up as it was then: it outranks nothing told since.
            Some(then) if answer.replayed => Fetched { at: then, after_seq: 0 },
            Some(_) | None => Fetched { at: call.started_at, after_seq },
        };
        let answered = Answered { object: &answer.object, raw: &answer.raw, fetch };
        topup_record::take_in(&mut tx, ctx, answered, &mut rings, call.ended_at).await?;
        let current = topup_intents::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
        if current.is_some_and(|current| current.topup.is_none()) {
            let outcome = Outcome::Created(&answer.object.id);
            topup_intents::record_outcome(&mut tx, &intent.id, outcome, call.ended_at).await?;
        }
        if answer.replayed {
            rings.add(Kind::Topup, answer.object.id.as_str(), call.ended_at);
        }
    } else {
        tracing::error!(intent = %intent.id, topup = %answer.object.id, "Stripe made another top-up than was ordered");
    }
    call.keep(&mut tx, "created", None, answer.request_id.as_deref()).await?;
    call.end(&mut tx, SendEnd { outcome: Some("created"), ..SendEnd::default() }).await?;
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    Ok(())
}

/// The call never got as far as Stripe, or was turned away before it ran: it is as if it had not been made.
async fn not_sent(
    ctx: &Context,
    intent: &Intent,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<(), FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    topup_intents::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
    attempts::undo_send(&mut tx, call.subject, call.attempt.n, call.attempt.sends + 1).await?;
    call.keep(&mut tx, failure.kind.as_str(), Some(failure), failure.request_id.as_deref()).await?;
    tx.commit().await?;
    tracing::warn!(intent = %intent.id, %failure, "a top-up could not be asked for");
    Ok(())
}

/// No definite answer: the same key again, or a look-up.
async fn unknown(
    ctx: &Context,
    intent: &Intent,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<(), FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    topup_intents::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
    call.end(&mut tx, unanswered(failure, call.ended_at)).await?;
    call.keep(&mut tx, failure.kind.as_str(), Some(failure), failure.request_id.as_deref()).await?;
    let look_at = call.ended_at + ctx.grace;
    tasks::ring(&mut tx, Kind::TopupIntent, ctx.livemode, &[call.subject], look_at).await?;
    tx.commit().await?;
    tracing::warn!(intent = %intent.id, n = call.attempt.n, %failure, "no definite answer from Stripe");
    Ok(())
}

/// Stripe definitely refused: nothing was made, and the caller's key is free again.
async fn refused(
    ctx: &Context,
    intent: &Intent,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<(), FlowError> {
    let refusal = Refusal {
        status: failure.status.unwrap_or(400),
        error_type: failure.error_type.clone(),
        code: failure.code.clone(),
        param: failure.param.clone(),
        message: failure.message.clone(),
        told_to_repeat: failure.should_retry == Some(true),
    };
    let at_the_door = !refusal.is_stored() && call.attempt.sends > 0;
    if at_the_door || matches!(refusal.sort(), Sorted::SlowDown | Sorted::LookUp) {
        // Refused before it ran: that says nothing about the calls with this key before it.
        return unknown(ctx, intent, call, failure).await;
    }
    let mut tx = db::begin(&ctx.pool).await?;
    let current = topup_intents::find_for_update(&mut tx, ctx.livemode, call.subject).await?;
    call.keep(&mut tx, "refused", Some(failure), failure.request_id.as_deref()).await?;
    call.end(&mut tx, SendEnd { outcome: Some("refused"), ..SendEnd::default() }).await?;
    if current.is_some_and(|current| current.status.is_unsettled()) {
        topup_intents::record_outcome(&mut tx, &intent.id, Outcome::Refused(&refusal), call.ended_at).await?;
        idempotency::free_key_of_intent(&mut tx, call.subject).await?;
    }
    tx.commit().await?;
    // Without Stripe's text: it may repeat what the caller sent.
    tracing::warn!(intent = %intent.id, status = refusal.status, code = refusal.code, "Stripe refused a top-up");
    Ok(())
}
