//! The platform's own account: who it is, where it is, and whether Stripe pays its balance out by itself.
//!
//! It is read at each start, now and then, and when an event tells that it may have changed. An automatic payout
//! is the symptom of a dangerous schedule, seen also where the key may not read the schedule itself.

use std::sync::{PoisonError, RwLock};

use time::{Duration, OffsetDateTime};

use super::{Context, FlowError, observation_id};
use crate::domain::event::{Ourselves, PLATFORM_SUBJECT};
use crate::domain::ids::AccountId;
use crate::domain::task::Kind;
use crate::store::outbox::{self, Observation, StoredEvent};
use crate::store::platforms::{self, Platform, Seen};
use crate::store::{db, tasks};
use crate::stripe::client::Lane;
use crate::stripe::error::StripeError;
use crate::stripe::wire::{self, Object};

mod borders;

/// How often it is read without a cause.
const EVERY: Duration = Duration::hours(1);

/// At a process's start: reads it, so that the process knows its own account's events, and says what is dangerous.
pub async fn learn(ctx: &Context, ourselves: &RwLock<Ourselves>) -> Result<(), FlowError> {
    let (_, platform) = read(ctx).await?;
    warn(&platform);
    let account = platform.account.and_then(|id| AccountId::parse(&id).ok());
    ourselves.write().unwrap_or_else(PoisonError::into_inner).platform = account;
    let mut conn = ctx.pool.acquire().await?;
    let next_at = ctx.clock.now() + EVERY;
    tasks::ring(&mut conn, Kind::Platform, ctx.livemode, &[PLATFORM_SUBJECT], next_at).await?;
    drop(conn);
    borders::draw(ctx).await
}

/// Events that tell of the platform's account or of a payout of its own: it is read anew.
pub async fn apply(ctx: &Context, events: &[StoredEvent]) -> Result<(), FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    for event in events {
        if is_automatic_payout(event)? {
            platforms::record_automatic_payout(&mut tx, ctx.livemode, event.created).await?;
        }
    }
    let now = ctx.clock.now();
    tasks::ring(&mut tx, Kind::Platform, ctx.livemode, &[PLATFORM_SUBJECT], now).await?;
    tx.commit().await?;
    Ok(())
}

fn is_automatic_payout(event: &StoredEvent) -> Result<bool, FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", event.event_id));
    if event.event_type != "payout.created" {
        return Ok(false);
    }
    let envelope = wire::Envelope::parse(&event.payload).map_err(|error| unreadable(&error))?;
    let payout = envelope.data_object.and_then(|object| wire::Payout::from_json(object.get()).ok());
    Ok(payout.and_then(|payout| payout.automatic) == Some(true))
}

/// Reads it; returns when to read it again. What became dangerous since is said in the log.
pub async fn look(ctx: &Context) -> Result<Option<OffsetDateTime>, FlowError> {
    let (before, platform) = read(ctx).await?;
    if before.payouts().warnings() != platform.payouts().warnings() {
        warn(&platform);
    }
    if before.country != platform.country {
        borders::draw(ctx).await?;
    }
    Ok(Some(ctx.clock.now() + EVERY))
}

/// Asks Stripe, and keeps the answer; what was held before, and what is held now.
async fn read(ctx: &Context) -> Result<(Platform, Platform), FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let answer = ctx.stripe.own_account(Lane::Sweep).await;
    let mut tx = db::begin(&ctx.pool).await?;
    let before = platforms::get(&mut tx, ctx.livemode).await?;
    match answer {
        Ok(answer) => {
            let own = &answer.object;
            let seen = Seen {
                account: own.id.as_str(),
                country: own.country.as_deref(),
                default_currency: own.default_currency.as_deref(),
                payout_interval: own.payout_interval.as_deref(),
                as_of: began_at,
            };
            platforms::record_if_newer(&mut tx, ctx.livemode, &seen).await?;
            let kept = Observation {
                id: observation_id(),
                event_type: "account",
                subject_kind: Kind::Platform.as_str(),
                subject: PLATFORM_SUBJECT,
                livemode: ctx.livemode,
                observed_from: began_at,
                after_seq,
                received_at: ctx.clock.now(),
                payload: &answer.raw,
            };
            outbox::insert_observation(&mut tx, &kept).await?;
        }
        // A restricted key may not be allowed to ask; then only what has no account is the platform's.
        Err(StripeError::Refused(failure)) => {
            platforms::record_refusal(&mut tx, ctx.livemode, &failure.message).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let after = platforms::get(&mut tx, ctx.livemode).await?;
    ctx.home.learn(after.country.as_deref());
    if before.country != after.country {
        // Which borders there are is another question now.
        tasks::ring_open_transfers(&mut tx, ctx.livemode, ctx.clock.now()).await?;
    }
    tx.commit().await?;
    Ok((before, after))
}

fn warn(platform: &Platform) {
    for warning in platform.payouts().warnings() {
        tracing::warn!(code = warning.code, "{}. {}", warning.message, warning.mend);
    }
}
