//! One transfer goes out, exactly once: decide, write the intent down, call, record what it showed.
//!
//! Nothing is sent without a reservation and a frozen body, and no call happens inside a transaction. An
//! answer that proves nothing leaves the transfer under way; what proves something is written down with it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::transfer_evidence::{self, Recorded};
use super::transfer_snapshot::Snapshot;
use super::{Context, FlowError, observation_id};
use crate::domain::ids::TransferId;
use crate::domain::ledger::{Entry, Place};
use crate::domain::reason::Reason;
use crate::domain::release::{self, SEND_WITHIN, Step};
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::attempts::{self, Attempt, Call, SendEnd};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation};
use crate::store::tasks::{self, Lease};
use crate::store::transfers::{self, Change, Of, Transfer};
use crate::store::{controls, ledger};
use crate::stripe::client::{Answer, Lane, TransferQuery};
use crate::stripe::error::{Failure, FailureKind, StripeError};
use crate::stripe::wire;

mod refused;

/// A failed look-up is repeated after this.
const LOOK_UP_AGAIN: Duration = Duration::seconds(10);
/// Transfers created this much before ours was asked for can't be ours, whatever the two clocks say.
const CLOCK_SLACK: Duration = Duration::DAY;

/// Takes the next step for a transfer; returns when there is something to do again without being rung.
pub async fn advance(
    ctx: &Context,
    lease: &Lease,
    id: &TransferId,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut tx = ctx.pool.begin().await?;
    let Some(transfer) = transfers::find_for_update(&mut tx, id.as_str()).await? else { return Ok(None) };
    match transfer.status {
        Status::Waiting => evaluate(tx, ctx, &transfer).await,
        Status::Releasing => step(tx, ctx, lease, &transfer).await,
        Status::Released
        | Status::PartiallyReversed
        | Status::Reversed
        | Status::Failed
        | Status::Canceled => Ok(None),
    }
}

type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

/// Says why it waits, and puts it in the line for money when nothing else is missing.
async fn evaluate(
    mut tx: Tx,
    ctx: &Context,
    transfer: &Transfer,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let now = ctx.clock.now();
    let snapshot = Snapshot::load(&mut tx, ctx, transfer).await?;
    let reasons = snapshot.reasons(ctx, transfer, now);
    snapshot.ring_for_missing(&mut tx, ctx, transfer, now).await?;
    let fundable = reasons.is_empty();
    // In the line it keeps what the line last said about it, until the line is served.
    let kept: Vec<Reason> = transfer
        .waiting_on
        .iter()
        .copied()
        .filter(|r| !r.before_funds() && *r != Reason::StripeUnavailable)
        .collect();
    let waiting_on = if fundable { &kept } else { &reasons };
    let change = Change { waiting_on, fundable, ..Change::of(transfer) };
    let cause = if fundable { "nothing but money is missing" } else { "looked at again" };
    transfers::record_change(&mut tx, transfer, &change, cause, now).await?;
    tasks::ring(&mut tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await?;
    tx.commit().await?;
    let later = [transfer.release_after, transfer.hold_off.map(|(until, _)| until)];
    Ok(later.into_iter().flatten().filter(|at| *at > now).min())
}

/// One step of a transfer whose money is reserved.
async fn step(
    mut tx: Tx,
    ctx: &Context,
    lease: &Lease,
    transfer: &Transfer,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let now = ctx.clock.now();
    let n = transfer.generation;
    let attempt = attempts::find(&mut tx, transfer.id.as_str(), n).await?;
    let Some(attempt) = attempt else {
        return Err(StoreError::Unreadable(format!(
            "transfer {} is under way without attempt {n}",
            transfer.id
        ))
        .into());
    };
    let longest_call = Duration::try_from(ctx.longest_call).unwrap_or(Duration::MINUTE);
    let snapshot = Snapshot::load(&mut tx, ctx, transfer).await?;
    let against = snapshot.reasons(ctx, transfer, now);
    // After the account: whoever changes an account rings its transfers while holding it.
    if !tasks::hold(&mut tx, lease, now).await? {
        return Err(FlowError::LeaseLost);
    }
    let view = attempt.view(longest_call);
    match view.next_step(against.is_empty(), ctx.grace, now) {
        Step::Wait(until) => {
            snapshot.ring_for_missing(&mut tx, ctx, transfer, now).await?;
            show_unknown(&mut tx, transfer, against, now).await?;
            tx.commit().await?;
            Ok(Some(until))
        }
        Step::Withdraw => {
            drop(tx);
            withdraw(ctx, transfer, &against, now).await?;
            Ok(Some(now))
        }
        Step::NextKey => {
            attempts::close(&mut tx, transfer.id.as_str(), n, "superseded").await?;
            attempts::freeze(&mut tx, transfer.id.as_str(), n + 1, &attempt.body, now).await?;
            let change = Change {
                generation: n + 1,
                waiting_on: &[Reason::StripeUnavailable],
                ..Change::of(transfer)
            };
            transfers::record_change(&mut tx, transfer, &change, "proven not to exist, next key", now)
                .await?;
            tx.commit().await?;
            Ok(Some(now))
        }
        Step::Send => {
            attempts::begin_send(&mut tx, transfer.id.as_str(), n, now).await?;
            tx.commit().await?;
            send(ctx, lease, transfer, &attempt, now).await
        }
        Step::LookUp => {
            show_unknown(&mut tx, transfer, against, now).await?;
            tx.commit().await?;
            look_up(ctx, transfer, &view).await
        }
    }
}

/// Under way without an answer: shows that, and what speaks against another send.
async fn show_unknown(
    tx: &mut PgConnection,
    transfer: &Transfer,
    mut against: Vec<Reason>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    against.push(Reason::StripeUnavailable);
    against.sort_unstable();
    against.dedup();
    let change = Change { waiting_on: &against, ..Change::of(transfer) };
    transfers::record_change(tx, transfer, &change, "no definite answer yet", now).await
}

/// Nothing was sent under this key and something speaks against it now: back to waiting. In a transaction of
/// its own, since the currency's lock comes before the transfer's.
async fn withdraw(
    ctx: &Context,
    transfer: &Transfer,
    against: &[Reason],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let mut tx = ctx.pool.begin().await?;
    controls::lock_funds(&mut tx, ctx.livemode, transfer.currency).await?;
    let current = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?;
    let attempt = attempts::find(&mut tx, transfer.id.as_str(), transfer.generation).await?;
    let unsent = attempt.is_some_and(|attempt| attempt.sends == 0);
    if let Some(current) =
        current.filter(|t| unsent && t.status == Status::Releasing && t.generation == transfer.generation)
    {
        give_back(&mut tx, ctx, &current, now).await?;
        let change = Change { status: Status::Waiting, waiting_on: against, ..Change::of(&current) };
        transfers::record_change(&mut tx, &current, &change, "no longer ready, nothing was sent", now)
            .await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Returns a reservation to its lots, under the currency's lock.
async fn give_back(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let shares = ledger::list_shares(tx, transfer.id.as_str(), Place::Reserved).await?;
    let entry = Entry::reservation_return(&transfer.id, transfer.reservations, &shares);
    ledger::post(tx, ctx.livemode, transfer.currency, &entry, now).await?;
    tasks::ring(tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await
}

/// The call itself, and what it showed.
async fn send(
    ctx: &Context,
    lease: &Lease,
    transfer: &Transfer,
    attempt: &Attempt,
    prepared_at: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let key = format!("{}.{}", transfer.id, attempt.n);
    let started_at = ctx.clock.now();
    if started_at - prepared_at > SEND_WITHIN {
        let mut conn = ctx.pool.acquire().await?;
        attempts::undo_send(&mut conn, transfer.id.as_str(), attempt.n).await?;
        return Ok(Some(started_at));
    }
    let answer = ctx.stripe.create_transfer(&attempt.body, &key).await;
    let call = Sent { attempt, started_at, ended_at: ctx.clock.now() };
    match answer {
        Ok(answer) => created(ctx, transfer, &call, &answer).await,
        Err(StripeError::Refused(failure)) => refused::record(ctx, lease, transfer, &call, &failure).await,
        Err(StripeError::Retry(failure) | StripeError::Unknown(failure)) => {
            unknown(ctx, transfer, &call, &failure).await
        }
    }
}

/// A call that has ended.
struct Sent<'a> {
    attempt: &'a Attempt,
    started_at: OffsetDateTime,
    ended_at: OffsetDateTime,
}

impl Sent<'_> {
    async fn keep(
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

async fn created(
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
    let definite = SendEnd { outcome: Some("created"), ..SendEnd::default() };
    let end = match recorded {
        Recorded::Booked => definite,
        // Stripe answered with something that is not what was asked for. It is not sent again: somebody must look.
        Recorded::Mismatch | Recorded::NotOurs => SendEnd { look_up_due: true, ..SendEnd::default() },
    };
    attempts::end_send(&mut tx, transfer.id.as_str(), call.attempt.n, end, call.ended_at).await?;
    tx.commit().await?;
    Ok((recorded != Recorded::Booked).then_some(call.ended_at + ctx.grace))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one observation, from two kinds of answers")]
async fn keep_observation(
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
async fn unknown(
    ctx: &Context,
    transfer: &Transfer,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let stored = failure.kind == FailureKind::ServerError || failure.kind == FailureKind::KeyReuse;
    let told_to_stop = failure.should_retry == Some(false) && failure.kind != FailureKind::NotSent;
    let patience = failure.retry_after.and_then(|pause| Duration::try_from(pause).ok());
    let end = SendEnd {
        answered: stored,
        // A replayed 5xx will be replayed for ever: repeating it shows nothing new.
        look_up_due: told_to_stop || failure.kind == FailureKind::KeyReuse || (stored && failure.replayed),
        not_before: patience.map(|pause| call.ended_at + pause.min(ctx.grace)),
        outcome: None,
    };
    let mut tx = ctx.pool.begin().await?;
    attempts::end_send(&mut tx, transfer.id.as_str(), call.attempt.n, end, call.ended_at).await?;
    call.keep(&mut tx, transfer, failure.kind.as_str(), Some(failure), failure.request_id.as_deref()).await?;
    if let Some(current) = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?
        && current.status == Status::Releasing
    {
        show_unknown(&mut tx, &current, Vec::new(), call.ended_at).await?;
    }
    tx.commit().await?;
    tracing::warn!(transfer = %transfer.id, n = call.attempt.n, %failure, "no definite answer from Stripe");
    Ok(Some(call.ended_at + release::pause_after(call.attempt.sends + 1)))
}

/// Looks for the transfer among Stripe's. Only a complete list proves anything.
async fn look_up(
    ctx: &Context,
    transfer: &Transfer,
    view: &release::Attempt,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let began_at = ctx.clock.now();
    let query = TransferQuery {
        transfer_group: Some(transfer.group_at_stripe().to_owned()),
        destination: Some(transfer.destination.clone()),
        created_gte: Some((transfer.created_at - CLOCK_SLACK).unix_timestamp()),
    };
    let answer = ctx.stripe.list_transfers(Lane::Release, &query).await;
    let ended_at = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let mut call = Call {
        kind: "look_up",
        started_at: began_at,
        ended_at,
        outcome: "not_found",
        status: Some(200),
        code: None,
        message: None,
        request_id: None,
    };
    let again_at = match &answer {
        Err(error) => {
            let failure = error.failure();
            call = Call {
                outcome: failure.kind.as_str(),
                status: failure.status,
                code: failure.code.as_deref(),
                message: Some(&failure.message),
                request_id: failure.request_id.as_deref(),
                ..call
            };
            attempts::put_off(&mut tx, transfer.id.as_str(), view.n, ended_at + LOOK_UP_AGAIN).await?;
            Some(ended_at + LOOK_UP_AGAIN)
        }
        Ok(items) => {
            let ours = items
                .iter()
                .find(|item| transfer_evidence::our_id(&item.object).as_ref() == Some(&transfer.id));
            match ours {
                Some(item) => {
                    call.outcome = "found";
                    let after_seq = outbox::last_seq(&mut tx).await?;
                    let cause = "found by a look-up";
                    let recorded =
                        transfer_evidence::record(&mut tx, ctx, &transfer.id, &item.object, cause, ended_at)
                            .await?;
                    let raw = item.raw.get().as_bytes();
                    keep_observation(
                        &mut tx,
                        ctx,
                        transfer,
                        &item.object,
                        raw,
                        began_at,
                        after_seq,
                        ended_at,
                    )
                    .await?;
                    // What carries our id but differs is never followed by another send.
                    if recorded != Recorded::Booked {
                        attempts::put_off(&mut tx, transfer.id.as_str(), view.n, ended_at + ctx.grace)
                            .await?;
                    }
                    (recorded != Recorded::Booked).then_some(ended_at + ctx.grace)
                }
                None => {
                    attempts::record_empty_look_up(&mut tx, transfer.id.as_str(), view.n, began_at).await?;
                    Some(ended_at)
                }
            }
        }
    };
    attempts::insert_call(&mut tx, transfer.id.as_str(), view.n, &call).await?;
    tx.commit().await?;
    Ok(again_at)
}

/// Rings every transfer that waits or is under way: a rule or the emergency stop changed.
pub async fn ring_all(
    conn: &mut PgConnection,
    ctx: &Context,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    let open = transfers::list_open_ids(conn, ctx.livemode, Of::Everyone).await?;
    for some in open.chunks(1_000) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        tasks::ring(conn, Kind::Transfer, ctx.livemode, &some, now).await?;
    }
    Ok(open.len())
}
