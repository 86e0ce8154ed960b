//! What a call under a frozen idempotency key showed, written down the same way for everything that moves money.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError};
use crate::domain::refusal::Refusal;
use crate::domain::release::{SEND_WITHIN, pause_after};
use crate::store::attempts::{self, Attempt, Call, Ended, SendEnd};
use crate::store::db::StoreError;
use crate::stripe::error::{Failure, FailureKind};

/// A failed look-up is repeated after this, or after the grace where that is shorter.
const LOOK_UP_AGAIN: Duration = Duration::seconds(10);

/// A call that has ended.
#[derive(Debug)]
pub struct Sent<'a> {
    /// The transfer or reversal it was made for.
    pub subject: &'a str,
    /// The attempt as it was before the call.
    pub attempt: &'a Attempt,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
}

impl Sent<'_> {
    /// Writes down how this send ended; a later one of the same key is not touched.
    pub async fn end(&self, tx: &mut PgConnection, end: SendEnd) -> Result<(), StoreError> {
        attempts::end_sends(tx, &[self.ended()], end).await?;
        Ok(())
    }

    /// Which send it was.
    pub fn ended(&self) -> Ended<'_> {
        let sends = self.attempt.sends + 1;
        Ended { subject: self.subject, n: self.attempt.n, sends, at: self.ended_at }
    }

    /// Keeps the call as evidence.
    pub async fn keep(
        &self,
        tx: &mut PgConnection,
        outcome: &str,
        failure: Option<&Failure>,
        request_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let call = Call {
            status: failure.map_or(Some(200), |failure| failure.status),
            code: failure.and_then(|failure| failure.code.as_deref()),
            message: failure.map(|failure| failure.message.as_str()),
            ..self.answered(outcome, request_id)
        };
        attempts::insert_call(tx, self.subject, self.attempt.n, &call).await
    }

    /// The call as evidence, answered without a failure.
    pub fn answered<'b>(&self, outcome: &'b str, request_id: Option<&'b str>) -> Call<'b> {
        Call { outcome, request_id, ..Call::begun("create", self.started_at, self.ended_at) }
    }
}

/// What Stripe refused a call with, for sorting.
pub fn refusal_of(failure: &Failure) -> Refusal {
    Refusal {
        status: failure.status.unwrap_or(400),
        error_type: failure.error_type.clone(),
        code: failure.code.clone(),
        param: failure.param.clone(),
        message: failure.message.clone(),
        told_to_repeat: failure.should_retry == Some(true),
    }
}

/// What a call without a definite answer means for its key.
pub fn unanswered(failure: &Failure, ended_at: OffsetDateTime) -> SendEnd {
    let stored = failure.kind == FailureKind::ServerError;
    let told_to_stop = failure.should_retry == Some(false) && failure.kind != FailureKind::NotSent;
    SendEnd {
        answered: stored,
        // A replayed 5xx will be replayed for ever: repeating it shows nothing new.
        look_up_due: told_to_stop || failure.kind == FailureKind::KeyReuse || (stored && failure.replayed),
        not_before: failure.patience().map(|patience| ended_at + patience),
        outcome: None,
    }
}

/// Drops a send that was prepared too long ago: what was checked before it may no longer be true.
pub async fn drop_if_late(
    ctx: &Context,
    subject: &str,
    attempt: &Attempt,
    prepared_at: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let now = ctx.clock.now();
    // Those who take no turn beforehand wait for one in the client, half a call's time at most.
    let turn = Duration::try_from(ctx.longest_call / 2).unwrap_or(Duration::ZERO);
    if now - prepared_at <= SEND_WITHIN - turn {
        return Ok(None);
    }
    undo(ctx, subject, attempt).await?;
    Ok(Some(now))
}

/// Takes back that a send began which was not made.
pub async fn undo(ctx: &Context, subject: &str, attempt: &Attempt) -> Result<(), FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(attempts::undo_send(&mut conn, subject, attempt.n, attempt.sends + 1).await?)
}

/// When to go on after a send without a definite answer: ever later, but no later than a look-up shows what came
/// of it.
pub fn go_on_at(ctx: &Context, call: &Sent<'_>) -> OffsetDateTime {
    let longest = ctx.grace.max(pause_after(1));
    call.ended_at + pause_after(call.attempt.sends + 1).min(longest)
}

/// When to look again after a look-up that showed nothing.
pub fn look_again_at(ctx: &Context, now: OffsetDateTime) -> OffsetDateTime {
    now + LOOK_UP_AGAIN.min(ctx.grace)
}

/// Writes down a look-up that failed; it proves nothing. Returns when to look again.
pub async fn look_up_failed(
    ctx: &Context,
    tx: &mut PgConnection,
    subject: &str,
    n: i32,
    call: Call<'_>,
    failure: &Failure,
) -> Result<OffsetDateTime, StoreError> {
    let call = Call {
        outcome: failure.kind.as_str(),
        status: failure.status,
        code: failure.code.as_deref(),
        message: Some(&failure.message),
        request_id: failure.request_id.as_deref(),
        ..call
    };
    let again_at = look_again_at(ctx, call.ended_at);
    attempts::put_off(tx, subject, n, again_at).await?;
    attempts::insert_call(tx, subject, n, &call).await?;
    Ok(again_at)
}
