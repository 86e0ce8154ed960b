//! Stripe tells of a transfer: created, changed or reversed.
//!
//! Ours are known by the id that was recorded for them, or by what they were created with.

use super::transfer_evidence::{self, Recorded};
use super::{Context, FlowError, observation_id};
use crate::domain::evidence::Fetched;
use crate::domain::ids::StripeTransferId;
use crate::domain::task::Kind;
use crate::store::outbox::{self, Observation, StoredEvent};
use crate::store::{db, transfers};
use crate::stripe::client::Lane;
use crate::stripe::error::StripeError;
use crate::stripe::wire;

/// Applies events about one transfer at Stripe; without any it is fetched. What came back only grows, so their
/// order does not matter.
pub async fn apply(ctx: &Context, id: &StripeTransferId, events: &[StoredEvent]) -> Result<(), FlowError> {
    let mut unread = events.is_empty();
    for event in events {
        match transfer_evidence::read(event)? {
            Some(object) if object.id == *id => record(ctx, &object, &event.event_id).await?,
            Some(_) | None => unread = true,
        }
    }
    if unread { fetch(ctx, id).await } else { Ok(()) }
}

async fn fetch(ctx: &Context, id: &StripeTransferId) -> Result<(), FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let fetch = Fetched { at: ctx.clock.now(), after_seq };
    let answer = match ctx.stripe.transfer(Lane::Sweep, id).await {
        Ok(answer) => answer,
        // Not visible to us, so not of our making.
        Err(StripeError::Refused(failure)) if failure.status == Some(404) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut conn = ctx.pool.acquire().await?;
    let seen = Observation {
        id: observation_id(),
        event_type: "transfer",
        subject_kind: Kind::StripeTransfer.as_str(),
        subject: id.as_str(),
        livemode: ctx.livemode,
        observed_from: fetch.at,
        after_seq: fetch.after_seq,
        received_at: ctx.clock.now(),
        payload: &answer.raw,
    };
    outbox::insert_observation(&mut conn, &seen).await?;
    drop(conn);
    record(ctx, &answer.object, "api").await
}

async fn record(ctx: &Context, seen: &wire::Transfer, cause: &str) -> Result<(), FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let Some(id) = transfer_evidence::known_as(&mut tx, seen).await? else { return Ok(()) };
    // Most events tell what the answer to our own call has told before: the books need not be held for those.
    let held = transfers::find(&mut tx, id.as_str()).await?;
    if held.is_some_and(|held| transfer_evidence::is_booked(ctx, &held, seen)) {
        return Ok(());
    }
    match transfer_evidence::record(&mut tx, ctx, &id, seen, cause, ctx.clock.now()).await? {
        Recorded::Booked => tx.commit().await?,
        Recorded::Mismatch => {}
        Recorded::NotOurs => {
            tracing::warn!(transfer = %id, stripe_transfer = %seen.id, "a transfer at Stripe carries an id that this database never gave")
        }
    }
    Ok(())
}
