//! Looks for a top-up among Stripe's, where the calls that should have made it proved nothing.

use time::{Duration, OffsetDateTime};

use super::send::fits;
use crate::domain::evidence::Fetched;
use crate::domain::ids::TopupIntentId;
use crate::domain::release;
use crate::domain::topup::intent::{self, METADATA_KEY, Watch, is_proof};
use crate::flows::rings::Rings;
use crate::flows::topup_record::{self, Answered};
use crate::flows::{Context, FlowError, attempt_record};
use crate::store::attempts::{self, Call};
use crate::store::topup_intents::{self, Intent, Outcome};
use crate::store::{db, outbox};
use crate::stripe::client::Lane;
use crate::stripe::wire;

/// Top-ups created this much before ours was ordered can't be ours, whatever the two clocks say.
const CLOCK_SLACK: Duration = Duration::DAY;

/// What a look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is there, or something else under its name.
    Found,
    /// It is not there, which counts.
    Proof,
    /// It is not there, which proves nothing yet.
    Nothing,
    /// Stripe's list could not be had.
    Failed,
}

impl Look {
    /// Whether something may be done now that could not be done before.
    pub(super) fn may_go_on(self) -> bool {
        self == Self::Proof
    }
}

/// Looks for it. Only a complete list proves anything.
pub(super) async fn look_up(
    ctx: &Context,
    intent: &Intent,
    view: &release::Attempt,
) -> Result<Look, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let since = (intent.created_at.min(began_at) - CLOCK_SLACK).unix_timestamp();
    let answer = ctx.stripe.list_topups(Lane::Release, since).await;
    let ended_at = ctx.clock.now();
    let subject = intent.id.as_str();
    let mut call = Call::begun("look_up", began_at, ended_at);
    let mut rings = Rings::default();
    let mut tx = db::begin(&ctx.pool).await?;
    let items = match answer {
        Ok(items) => items,
        Err(error) => {
            attempt_record::look_up_failed(ctx, &mut tx, subject, view.n, call, error.failure()).await?;
            tx.commit().await?;
            return Ok(Look::Failed);
        }
    };
    let named = |seen: &wire::Topup| {
        seen.metadata.as_ref().and_then(|pairs| pairs.get(METADATA_KEY)).is_some_and(|id| id == subject)
    };
    let ours = items.iter().find(|item| named(&item.object) && fits(ctx, intent, &item.object));
    let look = if let Some(item) = ours {
        call.outcome = "found";
        let raw = item.raw.get().as_bytes();
        let answered = Answered { object: &item.object, raw, fetch: Fetched { at: began_at, after_seq } };
        topup_record::take_in(&mut tx, ctx, answered, &mut rings, ended_at).await?;
        Look::Found
    } else if items.iter().any(|item| named(&item.object)) {
        // What carries our id but differs is never followed by another call.
        call.outcome = "found";
        tracing::error!(intent = %intent.id, "a top-up at Stripe carries our id but differs from what was ordered");
        attempts::bar(&mut tx, subject, view.n, ended_at + ctx.grace).await?;
        Look::Found
    } else if is_proof(view, ctx.grace, began_at) {
        attempts::record_empty_look_up(&mut tx, subject, view.n, view.sends, began_at).await?;
        Look::Proof
    } else {
        Look::Nothing
    };
    attempts::insert_call(&mut tx, subject, view.n, &call).await?;
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    Ok(look)
}

/// Finds out, without anybody waiting, what came of an order; returns when to look again. Nothing is sent: whoever
/// ordered may have gone another way since.
pub async fn watch(ctx: &Context, id: &TopupIntentId) -> Result<Option<OffsetDateTime>, FlowError> {
    let now = ctx.clock.now();
    let longest_call = Duration::try_from(ctx.longest_call).unwrap_or(Duration::MINUTE);
    let mut tx = db::begin(&ctx.pool).await?;
    let found = topup_intents::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let Some(intent) = found.filter(|intent| intent.status == intent::Status::Open) else { return Ok(None) };
    let attempt = attempts::find(&mut tx, id.as_str(), intent.generation).await?;
    let Some(view) = attempt.map(|attempt| attempt.view(longest_call)) else { return Ok(None) };
    match intent::watch(&view, ctx.grace, now) {
        Watch::Wait(until) => Ok(Some(until)),
        Watch::Rest => Ok(None),
        Watch::Absent => {
            topup_intents::record_outcome(&mut tx, id, Outcome::Absent, now).await?;
            tx.commit().await?;
            tracing::warn!(intent = %id, "a top-up whose outcome was not known was never made");
            Ok(None)
        }
        Watch::LookUp => {
            drop(tx);
            let look = look_up(ctx, &intent, &view).await?;
            let now = ctx.clock.now();
            Ok(match look {
                Look::Found => None,
                // What was counted decides on the next look.
                Look::Proof => Some(now),
                Look::Nothing | Look::Failed => Some(attempt_record::look_again_at(ctx, now)),
            })
        }
    }
}
