//! One transfer goes out, exactly once: decide, write the intent down, call, record what it showed.
//!
//! Nothing is sent without a reservation and a frozen body, and no call happens inside a transaction. An
//! answer that proves nothing leaves the transfer under way; what proves something is written down with it.

use std::sync::Arc;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use tracing::Instrument as _;

use self::book::Created;
use self::prepare::{Came, Intent, Prepared};
use super::attempt_record::{self, Sent};
use super::rings::Rings;
use super::together::Together;
use super::transfer_snapshot::Snapshot;
use super::{Context, FlowError};
use crate::domain::ids::TransferId;
use crate::domain::ledger::{Entry, Place};
use crate::domain::reason::Reason;
use crate::domain::release::Step;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::planted::{self, Bug};
use crate::store::attempts::{self, Attempt};
use crate::store::db::{self, StoreError};
use crate::store::tasks::{self, Lease};
use crate::store::transfers::{self, Change, Transfer};
use crate::store::{caps, controls, ledger};
use crate::stripe::client::{Lane, Turn};
use crate::stripe::error::StripeError;
use crate::trail;

mod book;
mod look;
mod look_up;
mod prepare;
mod refused;
mod send;

/// Where the releases of this process meet, to be prepared and booked together.
#[derive(Debug, Default)]
pub struct Company {
    intents: Together<Intent, Came>,
    bookings: Together<Arc<Created>, bool>,
}

/// Takes the next step for a transfer; returns when there is something to do again without being rung.
pub async fn advance(
    ctx: &Context,
    lease: &Lease,
    id: &TransferId,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let intent = Intent { id: id.clone(), lease: lease.clone() };
    let together = async |intents: &[Intent]| prepare::all(ctx, intents).await;
    let mut turn = match ctx.releases.intents.join(intent, together).await {
        Some(Came::Looked(again_at)) => return Ok(again_at),
        Some(Came::Prepared(prepared)) => match send(ctx, lease, *prepared, None).await? {
            Went::Through(again_at) => return Ok(again_at),
            Went::TurnCameLate(turn) => Some(turn),
        },
        Some(Came::Nowhere) | None => None,
    };
    loop {
        match alone(ctx, lease, id, turn).await? {
            Went::Through(again_at) => return Ok(again_at),
            Went::TurnCameLate(late) => turn = Some(late),
        }
    }
}

/// How far a step went.
enum Went {
    /// To its end; when there is something to do again.
    Through(Option<OffsetDateTime>),
    /// To the call, for which it had to wait: what was checked before may no longer hold. With the turn in hand all is
    /// checked once more, and then nothing is waited for.
    TurnCameLate(Turn),
}

/// The next step, without others.
async fn alone(ctx: &Context, lease: &Lease, id: &TransferId, turn: Option<Turn>) -> Result<Went, FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let Some(transfer) = transfers::find_for_update(&mut tx, id.as_str()).await? else {
        return Ok(Went::Through(None));
    };
    if transfer.livemode != ctx.livemode {
        return Err(FlowError::Unreadable(format!("transfer {id} is of the other mode")));
    }
    match transfer.status {
        Status::Waiting => {
            let mut again = look::evaluate(tx, ctx, std::slice::from_ref(&transfer)).await?;
            Ok(Went::Through(again.remove(transfer.id.as_str()).flatten()))
        }
        Status::Releasing => step(tx, ctx, lease, transfer, turn).await,
        Status::Released
        | Status::PartiallyReversed
        | Status::Reversed
        | Status::Failed
        | Status::Canceled => Ok(Went::Through(None)),
    }
}

type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

/// One step of a transfer whose money is reserved.
async fn step(
    mut tx: Tx,
    ctx: &Context,
    lease: &Lease,
    transfer: Transfer,
    turn: Option<Turn>,
) -> Result<Went, FlowError> {
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
    let snapshot = Snapshot::hold(&mut tx, ctx, &transfer, now).await?;
    let funds = controls::find_funds(&mut tx, ctx.livemode, transfer.currency).await?;
    let against = prepare::against(ctx, &snapshot, &transfer, funds.as_ref(), now);
    // After the account: whoever changes an account rings its transfers while holding it.
    if !tasks::hold(&mut tx, lease, now).await? {
        return Err(FlowError::LeaseLost);
    }
    match next_step(ctx, &attempt, against.is_empty(), now) {
        Step::Wait(until) => {
            show_unknown(&mut tx, &transfer, against, now).await?;
            let mut rings = Rings::default();
            snapshot.ring_for_missing(ctx, &transfer, &mut rings, now);
            rings.ring(&mut tx, ctx).await?;
            tx.commit().await?;
            Ok(Went::Through(Some(until)))
        }
        Step::Withdraw => {
            drop(tx);
            withdraw(ctx, &transfer, &against, now).await?;
            Ok(Went::Through(Some(now)))
        }
        Step::NextKey => {
            attempts::close(&mut tx, transfer.id.as_str(), n, "superseded").await?;
            attempts::freeze(&mut tx, transfer.id.as_str(), n + 1, &attempt.body, false, now).await?;
            let change = Change {
                generation: n + 1,
                waiting_on: &[Reason::StripeUnavailable],
                ..Change::of(&transfer)
            };
            transfers::record_change(&mut tx, &transfer, &change, "proven not to exist, next key", now)
                .await?;
            tx.commit().await?;
            Ok(Went::Through(Some(now)))
        }
        Step::Send => {
            attempts::begin_send(&mut tx, transfer.id.as_str(), n, now).await?;
            tx.commit().await?;
            send(ctx, lease, Prepared { transfer, attempt, snapshot, at: now }, turn).await
        }
        Step::LookUp => {
            show_unknown(&mut tx, &transfer, against, now).await?;
            tx.commit().await?;
            let view = attempt.view(longest_call(ctx));
            look_up::look_up(ctx, lease, &transfer, &view).await.map(Went::Through)
        }
    }
}

fn longest_call(ctx: &Context) -> Duration {
    Duration::try_from(ctx.longest_call).unwrap_or(Duration::MINUTE)
}

fn next_step(ctx: &Context, attempt: &Attempt, clear: bool, now: OffsetDateTime) -> Step {
    let view = attempt.view(longest_call(ctx));
    let hasty = planted::has(Bug::OneLookUpIsProof) && view.sends > 0;
    match view.next_step(clear, ctx.grace, now) {
        _ if hasty && view.empty_look_ups > 0 => Step::NextKey,
        _ if hasty => Step::LookUp,
        _ if planted::has(Bug::TrustServerErrors) && view.answered => Step::NextKey,
        step => step,
    }
}

/// The release, in the trace of its transfer; it leads to that of the event which last told of the account.
fn span_of(transfer: &Transfer, attempt: &Attempt, snapshot: &Snapshot) -> tracing::Span {
    let told_by = snapshot.account.as_ref().map(|account| account.source.as_str());
    let span = tracing::info_span!(
        "release",
        transfer = transfer.id.as_str(),
        key = format!("{}.{}", transfer.id, attempt.n),
        send = attempt.sends + 1,
        destination = transfer.destination.as_str(),
        topup = transfer.topup.as_ref().map(|topup| topup.as_str()),
        account_told_by = told_by,
        stripe_transfer = tracing::field::Empty,
    );
    trail::link(&span, told_by.filter(|source| source.starts_with("evt_")));
    span
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
    let mut tx = db::begin(&ctx.pool).await?;
    controls::lock_funds(&mut tx, ctx.livemode, transfer.currency).await?;
    let current = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?;
    let attempt = attempts::find(&mut tx, transfer.id.as_str(), transfer.generation).await?;
    let unsent = attempt.is_some_and(|attempt| attempt.sends == 0);
    if let Some(current) =
        current.filter(|t| unsent && t.status == Status::Releasing && t.generation == transfer.generation)
    {
        give_back(&mut tx, ctx, &current, now).await?;
        let change =
            Change { status: Status::Waiting, waiting_on: against, counted_on: None, ..Change::of(&current) };
        transfers::record_change(&mut tx, &current, &change, "no longer ready, nothing was sent", now)
            .await?;
        ring_for_room(&mut tx, ctx, &current, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Returns a reservation to its lots and to its day's caps, under the currency's lock. The change of the
/// transfer that follows must forget the day.
async fn give_back(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let shares = ledger::list_shares(tx, transfer.id.as_str(), Place::Reserved).await?;
    let entry = Entry::reservation_return(&transfer.id, transfer.reservations, &shares);
    ledger::post(tx, ctx.livemode, transfer.currency, &entry, now).await?;
    tasks::ring(tx, Kind::Funds, ctx.livemode, &[transfer.currency.as_str()], now).await?;
    if let Some(day) = transfer.counted_on {
        let (currency, destination) = (transfer.currency, transfer.destination.as_str());
        caps::take_back(tx, ctx.livemode, currency, day, destination, transfer.amount_minor).await?;
    }
    Ok(())
}

/// What was given back leaves room within the day's caps; rung last, as all bells of transfers are.
async fn ring_for_room(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if transfer.counted_on.is_none() || !ctx.limits.caps(transfer.currency) {
        return Ok(());
    }
    caps::ring_capped(tx, ctx.livemode, transfer.currency, now).await
}

/// The call itself, and what it showed.
async fn send(
    ctx: &Context,
    lease: &Lease,
    prepared: Prepared,
    turn: Option<Turn>,
) -> Result<Went, FlowError> {
    let span = span_of(&prepared.transfer, &prepared.attempt, &prepared.snapshot);
    call(ctx, lease, prepared, turn).instrument(span).await
}

/// A turn that came within this time was as good as free.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(5);

async fn call(
    ctx: &Context,
    lease: &Lease,
    prepared: Prepared,
    turn: Option<Turn>,
) -> Result<Went, FlowError> {
    let Prepared { transfer, attempt, at, .. } = prepared;
    let id = transfer.id.as_str();
    let turn = match turn {
        Some(turn) => turn,
        None => match ctx.stripe.turn(Lane::Release).await {
            Some(turn) if turn.waited <= AT_ONCE => turn,
            Some(late) => {
                attempt_record::undo(ctx, id, &attempt).await?;
                return Ok(Went::TurnCameLate(late));
            }
            None => {
                attempt_record::undo(ctx, id, &attempt).await?;
                return Ok(Went::Through(Some(ctx.clock.now())));
            }
        },
    };
    if let Some(now) = attempt_record::drop_if_late(ctx, id, &attempt, at).await? {
        return Ok(Went::Through(Some(now)));
    }
    let mut key = format!("{id}.{}", attempt.n);
    if planted::has(Bug::FreshKey) {
        key = format!("{key}-{}", attempt.sends);
    }
    let started_at = ctx.clock.now();
    let answer = ctx.stripe.create_transfer(turn, &attempt.body, &key).await;
    let ended_at = ctx.clock.now();
    let call = Sent { subject: id, attempt: &attempt, started_at, ended_at };
    let again_at = match answer {
        Ok(answer) => {
            tracing::Span::current().record("stripe_transfer", answer.object.id.as_str());
            send::created(ctx, Created { transfer, attempt, started_at, ended_at, answer }).await
        }
        Err(StripeError::Refused(failure)) => refused::record(ctx, lease, &transfer, &call, &failure).await,
        Err(StripeError::Retry(failure) | StripeError::Unknown(failure)) => {
            send::unknown(ctx, &transfer, &call, &failure).await
        }
    };
    again_at.map(Went::Through)
}
