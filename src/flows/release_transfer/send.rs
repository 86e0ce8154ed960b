//! The call to Stripe, and what its answer shows.
//!
//! The intent is written down before; whatever comes back is written down after, with its evidence.

use std::sync::Arc;

use time::OffsetDateTime;

use super::book::{self, Created};
use super::show_unknown;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::flows::attempt_record::{Sent, go_on_at, unanswered};
use crate::flows::transfer_evidence::{self, Recorded};
use crate::flows::{Context, FlowError, observation_id};
use crate::store::attempts::SendEnd;
use crate::store::db;
use crate::store::outbox::{self, Observation};
use crate::store::transfers::{self, Transfer};
use crate::stripe::error::Failure;
use crate::stripe::wire;

/// Stripe made it: booked with the others that it made at the same moment, or alone.
pub(super) async fn created(ctx: &Context, created: Created) -> Result<Option<OffsetDateTime>, FlowError> {
    let created = Arc::new(created);
    let together = async |created: &[Arc<Created>]| book::all(ctx, created).await;
    match ctx.releases.bookings.join(Arc::clone(&created), together).await {
        Some(true) => Ok(None),
        Some(false) | None => created_alone(ctx, &created).await,
    }
}

async fn created_alone(ctx: &Context, created: &Created) -> Result<Option<OffsetDateTime>, FlowError> {
    let (transfer, answer, call) = (&created.transfer, &created.answer, created.sent());
    let mut tx = db::begin(&ctx.pool).await?;
    let after_seq = outbox::last_seq(&mut tx).await?;
    // What needs no lock goes first: everybody who moves money of this currency waits for the rest.
    let seen = observation(ctx, &answer.object, &answer.raw, call.started_at, after_seq, call.ended_at);
    outbox::insert_observation(&mut tx, &seen).await?;
    let cause = "Stripe created it";
    let recorded =
        transfer_evidence::record(&mut tx, ctx, &transfer.id, &answer.object, cause, call.ended_at).await?;
    call.keep(&mut tx, "created", None, answer.request_id.as_deref()).await?;
    // Also where Stripe answered with something that is not what was asked for: then nothing is ever sent again
    // for this transfer, and somebody must look.
    let end = SendEnd { outcome: Some("created"), ..SendEnd::default() };
    call.end(&mut tx, end).await?;
    tx.commit().await?;
    Ok((recorded != Recorded::Booked).then_some(call.ended_at + ctx.grace))
}

/// What Stripe's API showed of a transfer, to be kept.
pub(super) fn observation<'a>(
    ctx: &Context,
    seen: &'a wire::Transfer,
    payload: &'a [u8],
    observed_from: OffsetDateTime,
    after_seq: i64,
    received_at: OffsetDateTime,
) -> Observation<'a> {
    Observation {
        id: observation_id(),
        event_type: "transfer",
        subject_kind: Kind::StripeTransfer.as_str(),
        subject: seen.id.as_str(),
        livemode: ctx.livemode,
        observed_from,
        after_seq,
        received_at,
        payload,
    }
}

/// No definite answer: the same key and body again, later, or a look-up.
pub(super) async fn unknown(
    ctx: &Context,
    transfer: &Transfer,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let end = unanswered(failure, call.ended_at);
    let mut tx = db::begin(&ctx.pool).await?;
    // The transfer before the attempt, as everybody who books a transfer does.
    let current = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?;
    call.end(&mut tx, end).await?;
    call.keep(&mut tx, failure.kind.as_str(), Some(failure), failure.request_id.as_deref()).await?;
    if let Some(current) = current.filter(|current| current.status == Status::Releasing) {
        show_unknown(&mut tx, &current, Vec::new(), call.ended_at).await?;
    }
    tx.commit().await?;
    tracing::warn!(transfer = %transfer.id, n = call.attempt.n, %failure, "no definite answer from Stripe");
    Ok(Some(go_on_at(ctx, call)))
}
