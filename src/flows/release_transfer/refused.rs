//! Stripe definitely refused: nothing exists under this key, the money goes back, and the cause decides
//! what happens next.

use serde_json::json;
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError, Sent, give_back, ring_for_room, send, show_unknown};
use crate::domain::audit::{self, Action};
use crate::domain::event::BALANCE_SUBJECT;
use crate::domain::funds::next_balance_check;
use crate::domain::reason::Reason;
use crate::domain::refusal::{Refusal, Sorted};
use crate::domain::release::pause_after;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::flows::attempt_record;
use crate::store::attempts::SendEnd;
use crate::store::audit as log;
use crate::store::db::{self, StoreError};
use crate::store::tasks::{self, Lease};
use crate::store::transfers::{self, Change, Transfer};
use crate::store::{controls, holds};
use crate::stripe::error::Failure;

/// Who stops the releases where Stripe refuses our configuration.
const OURSELVES: &str = "sluicegate";

/// Records a refusal.
pub(super) async fn record(
    ctx: &Context,
    lease: &Lease,
    transfer: &Transfer,
    call: &Sent<'_>,
    failure: &Failure,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let refusal = attempt_record::refusal_of(failure);
    let sorted = refusal.sort();
    if matches!(sorted, Sorted::SlowDown | Sorted::LookUp) {
        return send::unknown(ctx, transfer, call, failure).await;
    }
    let now = call.ended_at;
    if !refusal.is_stored() && call.attempt.sends > 0 {
        return refused_at_the_door(ctx, lease, transfer, call, failure, sorted).await;
    }
    let mut tx = db::begin(&ctx.pool).await?;
    let funds = controls::lock_funds(&mut tx, ctx.livemode, transfer.currency).await?;
    call.keep(&mut tx, "refused", Some(failure), failure.request_id.as_deref()).await?;
    let end = SendEnd { outcome: Some("refused"), ..SendEnd::default() };
    let current = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?;
    call.end(&mut tx, end).await?;
    // An event may have settled it while the call was under way, and somebody else may hold the lease by now.
    let Some(current) = current.filter(|t| t.status == Status::Releasing && t.generation == call.attempt.n)
    else {
        tx.commit().await?;
        return Ok(None);
    };
    // Before any bell: whoever evaluates a transfer holds the emergency stop's row while it rings.
    let paused = sorted == Sorted::Configuration && pause(&mut tx, ctx, &refusal, now).await?;
    give_back(&mut tx, ctx, &current, now).await?;
    tracing::warn!(transfer = %transfer.id, n = call.attempt.n, %failure, ?sorted, "Stripe refused a transfer");
    let again_at = match sorted {
        Sorted::WaitForFunds => {
            controls::set_stop(&mut tx, ctx.livemode, current.currency, Some(now), funds.stop_checks).await?;
            let check_at = now + next_balance_check(funds.stop_checks);
            tasks::ring(&mut tx, Kind::Balance, ctx.livemode, &[BALANCE_SUBJECT], check_at).await?;
            wait(&mut tx, &current, &refusal, Reason::StripeBalanceInsufficient, true, now).await?;
            None
        }
        Sorted::WaitForAccount => wait_for_account(&mut tx, ctx, &current, &refusal, now).await?,
        Sorted::Configuration => {
            let cause = cause_of(&refusal);
            let change = Change {
                status: Status::Waiting,
                waiting_on: &[Reason::ReleasesPaused],
                counted_on: None,
                ..Change::of(&current)
            };
            transfers::record_change(&mut tx, &current, &change, &cause, now).await?;
            tasks::ring_open_transfers(&mut tx, ctx.livemode, now).await?;
            None
        }
        Sorted::Permanent => {
            let code = refusal.code.as_deref().unwrap_or("refused");
            let change = Change {
                status: Status::Failed,
                failure: Some((code, &refusal.message)),
                counted_on: None,
                ..Change::of(&current)
            };
            transfers::record_change(&mut tx, &current, &change, "Stripe refused it for good", now).await?;
            None
        }
        // Neither is definite, and neither comes here: `unknown` took them above.
        Sorted::SlowDown | Sorted::LookUp => None,
    };
    ring_for_room(&mut tx, ctx, &current, now).await?;
    // Last, since rings lock the rows of many tasks in their own order, this one's among them.
    if !tasks::hold(&mut tx, lease, ctx.clock.now()).await? {
        return Err(FlowError::LeaseLost);
    }
    put_on_record(&mut tx, ctx, paused, transfer, &refusal, now).await?;
    tx.commit().await?;
    Ok(again_at)
}

/// Refused before the request ran, on a repetition: that says nothing about the sends before it, which may
/// have gone through. The reservation stays, nothing more is sent until the cause has gone, and a look-up
/// tells what became of them.
async fn refused_at_the_door(
    ctx: &Context,
    lease: &Lease,
    transfer: &Transfer,
    call: &Sent<'_>,
    failure: &Failure,
    sorted: Sorted,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let now = call.ended_at;
    let refusal = Refusal {
        status: 401,
        error_type: None,
        code: failure.code.clone(),
        param: None,
        message: failure.message.clone(),
        told_to_repeat: false,
    };
    let mut tx = db::begin(&ctx.pool).await?;
    let current = transfers::find_for_update(&mut tx, transfer.id.as_str()).await?;
    let paused = sorted == Sorted::Configuration && pause(&mut tx, ctx, &refusal, now).await?;
    call.end(&mut tx, SendEnd::default()).await?;
    call.keep(&mut tx, "refused_at_the_door", Some(failure), failure.request_id.as_deref()).await?;
    if let Some(current) = current.filter(|current| current.status == Status::Releasing) {
        let against = if sorted == Sorted::Configuration { vec![Reason::ReleasesPaused] } else { Vec::new() };
        show_unknown(&mut tx, &current, against, now).await?;
    }
    tasks::ring(&mut tx, Kind::Account, ctx.livemode, &[transfer.destination.as_str()], now).await?;
    if sorted == Sorted::Configuration {
        tasks::ring_open_transfers(&mut tx, ctx.livemode, now).await?;
    }
    if !tasks::hold(&mut tx, lease, ctx.clock.now()).await? {
        return Err(FlowError::LeaseLost);
    }
    put_on_record(&mut tx, ctx, paused, transfer, &refusal, now).await?;
    tx.commit().await?;
    tracing::warn!(transfer = %transfer.id, n = call.attempt.n, %failure, "Stripe refused a repetition at the door");
    Ok(Some(attempt_record::go_on_at(ctx, call)))
}

fn cause_of(refusal: &Refusal) -> String {
    format!("Stripe refused our key or settings: {}", refusal.message)
}

/// Stops all releases; false where they were stopped already.
async fn pause(
    tx: &mut PgConnection,
    ctx: &Context,
    refusal: &Refusal,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    controls::set_pause(tx, ctx.livemode, Some((&cause_of(refusal), OURSELVES)), now).await
}

/// A stop that the service made itself stands in the audit log like one that a person ordered.
async fn put_on_record(
    tx: &mut PgConnection,
    ctx: &Context,
    paused: bool,
    transfer: &Transfer,
    refusal: &Refusal,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if !paused {
        return Ok(());
    }
    let details = json!({
        "reason": cause_of(refusal), "changed": true, "transfer": transfer.id,
        "status": refusal.status, "code": refusal.code,
    });
    let entry = audit::Entry {
        at: now,
        livemode: ctx.livemode,
        actor: OURSELVES.to_owned(),
        action: Action::ReleasesPaused.as_str().to_owned(),
        subject: "releases".to_owned(),
        details: details.to_string(),
    };
    log::append(tx, &entry).await
}

/// Not now: the account. It is fetched, and whatever that shows, the next try keeps a growing distance, since
/// Stripe knows better than its own flags.
async fn wait_for_account(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    refusal: &Refusal,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, StoreError> {
    let until = now + pause_after(transfer.generation + 1).min(Duration::HOUR);
    holds::set_hold_off(tx, transfer.id.as_str(), until, Reason::TransfersInactive).await?;
    tasks::ring(tx, Kind::Account, ctx.livemode, &[transfer.destination.as_str()], now).await?;
    wait(tx, transfer, refusal, Reason::TransfersInactive, false, now).await?;
    Ok(Some(until))
}

/// Back to waiting. The next try has the next key: Stripe would replay its refusal for this one.
async fn wait(
    tx: &mut PgConnection,
    transfer: &Transfer,
    refusal: &Refusal,
    reason: Reason,
    fundable: bool,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let change = Change {
        status: Status::Waiting,
        waiting_on: &[reason],
        fundable,
        generation: transfer.generation + 1,
        counted_on: None,
        ..Change::of(transfer)
    };
    transfers::record_change(tx, transfer, &change, &format!("Stripe refused: {}", refusal.message), now)
        .await
}
