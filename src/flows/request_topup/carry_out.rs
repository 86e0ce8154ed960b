//! One order is carried out as far as it goes now: send, look, or wait for whoever is at it.

use std::time::Duration;

use tokio::time::Instant;

use super::{look_up, send};
use crate::domain::ids::TopupIntentId;
use crate::domain::release::Step;
use crate::domain::task::Kind;
use crate::domain::topup::intent::demanded;
use crate::flows::{Context, FlowError};
use crate::store::db::{self, StoreError};
use crate::store::topup_intents::{self, Outcome};
use crate::store::{attempts, heartbeats, outbox, tasks};

/// How long a repetition waits for a call with the same key that may be under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether that has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A look that finds nothing leads to a call, proof to the next key, and that to a call.
const MOST_STEPS: u32 = 4;

/// What follows from a step.
pub(super) enum Next {
    /// Another one, at once.
    Again,
    /// Somebody else's call is under way.
    UnderWay,
    /// Nothing more now.
    Done,
}

pub(super) async fn carry_out(ctx: &Context, id: &TopupIntentId) -> Result<(), FlowError> {
    let began = Instant::now();
    let patience = PATIENCE.min(ctx.longest_call);
    let mut steps = 0;
    while steps < MOST_STEPS {
        match step(ctx, id, began.elapsed() < patience).await? {
            Next::Again => steps += 1,
            Next::UnderWay => tokio::time::sleep(LOOK_AGAIN).await,
            Next::Done => break,
        }
    }
    Ok(())
}

async fn step(ctx: &Context, id: &TopupIntentId, patient: bool) -> Result<Next, FlowError> {
    let now = ctx.clock.now();
    let longest_call = time::Duration::try_from(ctx.longest_call).unwrap_or(time::Duration::MINUTE);
    let mut tx = db::begin(&ctx.pool).await?;
    let found = topup_intents::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let Some(intent) = found.filter(|intent| intent.status.is_unsettled()) else { return Ok(Next::Done) };
    if heartbeats::is_catching_up(&mut tx, ctx.livemode).await? {
        // What was sent after the backup is found first.
        return Ok(Next::Done);
    }
    let n = intent.generation;
    let Some(attempt) = attempts::find(&mut tx, id.as_str(), n).await? else {
        return Err(StoreError::Unreadable(format!("top-up intent {id} is without attempt {n}")).into());
    };
    if patient && attempt.is_under_way(longest_call, now) {
        return Ok(Next::UnderWay);
    }
    let view = attempt.view(longest_call);
    match demanded(&view, ctx.grace, now) {
        Step::Send => {
            let after_seq = outbox::last_seq(&mut tx).await?;
            attempts::begin_send(&mut tx, id.as_str(), n, now).await?;
            // Should this process die in the call, the worker looks for what it made.
            let look_at = now + longest_call + ctx.grace;
            tasks::ring(&mut tx, Kind::TopupIntent, ctx.livemode, &[id.as_str()], look_at).await?;
            tx.commit().await?;
            send::send(ctx, &intent, &attempt, after_seq, now).await
        }
        Step::LookUp => {
            drop(tx);
            let found = look_up::look_up(ctx, &intent, &view).await?;
            Ok(if found.may_go_on() { Next::Again } else { Next::Done })
        }
        Step::NextKey => {
            attempts::close(&mut tx, id.as_str(), n, "superseded").await?;
            attempts::freeze(&mut tx, id.as_str(), n + 1, &attempt.body, false, now).await?;
            topup_intents::record_outcome(&mut tx, id, Outcome::NextKey(n + 1), now).await?;
            tx.commit().await?;
            Ok(Next::Again)
        }
        Step::Wait(_) | Step::Withdraw => Ok(Next::Done),
    }
}
