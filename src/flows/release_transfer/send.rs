//! The call to Stripe, and what its answer shows.
//!
//! The intent is written down before; whatever comes back is written down after, with its evidence.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::show_unknown;
use crate::domain::release::pause_after;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::flows::transfer_evidence::{self, Recorded};
use crate::flows::{Context, FlowError, observation_id};
use crate::store::attempts::{self, Attempt, Call, SendEnd};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation};
use crate::store::transfers::{self, Transfer};
use crate::stripe::client::Answer;
use crate::stripe::error::{Failure, FailureKind};
use crate::stripe::wire;

/// A call that has ended.
pub(super) struct Sent<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) started_at: OffsetDateTime,
    pub(super) ended_at: OffsetDateTime,
}

impl Sent<'_> {
    /// Writes down how this send ended; a later one of the same key is not touched.
    pub(super) async fn end(
        &self,
        tx: &mut PgConnection,
        transfer: &Transfer,
        end: SendEnd,
    ) -> Result<(), StoreError> {
        let sends = self.attempt.sends + 1;
        attempts::end_send(tx, transfer.id.as_str(), self.attempt.n, sends, end, self.ended_at).await
    }

    pub(super) async fn keep(
        &self,
        tx: &mut PgConnection,
        transfer: &Transfer,
        outcome: &str,
        failure: Option<&Failure>,
        request_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let call = Call {
            kind: "create",
            started_at: self.started_at,
            ended_at: self.ended_at,
            outcome,
            status: failure.map_or(Some(200), |failure| failure.status),
            code: failure.and_then(|failure| failure.code.as_deref()),
            message: failure.map(|failure| failure.message.as_str()),
            request_id,
        };
        attempts::insert_call(tx, transfer.id.as_str(), self.attempt.n, &call).await
    }
}

pub(super) async fn created(
    ctx: &Context,
    transfer: &Transfer,
    call: &Sent<'_>,
    answer: &Answer<wire::Transfer>,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut tx = ctx.pool.begin().await?;
    let after_seq = outbox::last_seq(&mut tx).await?;
    let recorded = transfer_evidence::record(
        &mut tx,
        ctx,
        &transfer.id,
        &answer.object,
        "Stripe created it",
        call.ended_at,
    )
    .await?;
    keep_observation(
        &mut tx,
        ctx,
        transfer,
        &answer.object,
        &answer.raw,
        call.started_at,
        after_seq,
        call.ended_at,
    )
    .await?;
    call.keep(&mut tx, transfer, "created", None, answer.request_id.as_deref()).await?;
    // Also where Stripe answered with something that is not what was asked for: then nothing is ever sent again
    // for this transfer, and somebody must look.
    let end = SendEnd { outcome: Some("created"), ..SendEnd::default() };
    call.end(&mut tx, transfer, end).await?;
    tx.commit().await?;
    Ok((recorded != Recorded::Booked).then_some(call.ended_at + ctx.grace))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one observation, from two kinds of answers")]
pub(super) async fn keep_observation(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    seen: &wire::Transfer,
    payload: &[u8],
    observed_from: OffsetDateTime,
    after_seq: i64,
    received_at: OffsetDateTime,
) -> Result<(), StoreError> {
    debug_assert_eq!(transfer.livemode, ctx.livemode);
    let observation = Observation {
        id: observation_id(),
        event_type: "transfer",
        subject_kind: Kind::StripeTransfer.as_str(),
        subject: seen.id.as_str(),
        livemode: ctx.livemode,
        observed_from,
        after_seq,
        received_at,
        payload,
    };
    outbox::insert_observation(tx, &observation).await
}

/// No definite answer: the same key and body again, later, or a look-up.
pub(super) async fn unknown(
    ctx: &Context,
    transfer: &Transfer,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let stored = failure.kind == FailureKind::ServerError;
    let told_to_stop = failure.should_retry == Some(false) && failure.kind != FailureKind::NotSent;
    let patience = failure.retry_after.and_then(|pause| Duration::try_from(pause).ok());
    let end = SendEnd {
        answered: stored,
        // A replayed 5xx will be replayed for ever: repeating it shows nothing new.
        look_up_due: told_to_stop || failure.kind == FailureKind::KeyReuse || (stored && failure.replayed),
        not_before: patience.map(|pause| call.ended_at + pause.min(Duration::HOUR)),
        outcome: None,
    };
    let mut tx = ctx.pool.begin().await?;
    // The transfer before the attempt, as everybody who books a transfer does.
    let current = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?;
    call.end(&mut tx, transfer, end).await?;
    call.keep(&mut tx, transfer, failure.kind.as_str(), Some(failure), failure.request_id.as_deref()).await?;
    if let Some(current) = current.filter(|current| current.status == Status::Releasing) {
        show_unknown(&mut tx, &current, Vec::new(), call.ended_at).await?;
    }
    tx.commit().await?;
    tracing::warn!(transfer = %transfer.id, n = call.attempt.n, %failure, "no definite answer from Stripe");
    Ok(Some(call.ended_at + pause_after(call.attempt.sends + 1)))
}
