//! Stripe is asked about a connected account, and what it shows is folded into what its events told.

use time::{Duration, OffsetDateTime};

use super::account_evidence::{flags_as_they_are, fold_fetch};
use super::account_record::{self, Changed, FETCH_PAUSE, fetch_due};
use super::rings::Rings;
use super::{Context, FlowError, observation_id};
use crate::domain::evidence::Fetched;
use crate::domain::ids::AccountId;
use crate::domain::task::Kind;
use crate::store::accounts;
use crate::store::outbox::{self, Observation};
use crate::store::tasks;
use crate::store::transfers::{Of, list_open_ids};
use crate::stripe::client::Lane;
use crate::stripe::error::StripeError;

/// An account that Stripe does not show, but a transfer waits for, is asked for this often.
const UNSEEN_LOOK: Duration = Duration::minutes(5);

/// Asks Stripe for somebody who waits for the answer; what is left to ask is left to the worker.
pub async fn refresh(ctx: &Context, id: &AccountId) -> Result<(), FlowError> {
    if let Some(at) = confirm(ctx, id).await? {
        let mut conn = ctx.pool.acquire().await?;
        tasks::ring(&mut conn, Kind::Account, ctx.livemode, &[id.as_str()], at).await?;
    }
    Ok(())
}

/// Asks Stripe about an account and folds the answer in. Returns when to ask again, if a doubt is left.
pub async fn confirm(ctx: &Context, id: &AccountId) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let answer = ctx.stripe.account(Lane::Release, id).await;
    let (flags, event_type, payload) = match &answer {
        Ok(answer) if answer.object.deleted != Some(true) => {
            (Some(flags_as_they_are(&answer.object)), "account", answer.raw.to_vec())
        }
        Ok(answer) => (None, "account.unreachable", answer.raw.to_vec()),
        Err(StripeError::Refused(failure)) if matches!(failure.status, Some(403 | 404)) => {
            let seen = serde_json::json!({"status": failure.status, "code": failure.code, "message": failure.message});
            (None, "account.unreachable", seen.to_string().into_bytes())
        }
        Err(error) => return Err(error.clone().into()),
    };
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let before = accounts::list_for_update(&mut tx, ctx.livemode, &[id.as_str()]).await?.remove(id.as_str());
    let seen = Observation {
        id: observation_id(),
        event_type,
        subject_kind: Kind::Account.as_str(),
        subject: id.as_str(),
        livemode: ctx.livemode,
        observed_from: began_at,
        after_seq,
        received_at: now,
        payload: &payload,
    };
    outbox::insert_observation(&mut tx, &seen).await?;
    let account = fold_fetch(before.clone(), flags, Fetched { at: began_at, after_seq }, &ctx.conditions);
    let unseen = account.known.deauthorized() && account.known.deauthorized_at == Some(began_at);
    let next = fetch_due(&account, now + FETCH_PAUSE);
    let mut rings = Rings::default();
    let changed = Changed { id: id.to_string(), before, after: account };
    account_record::record(&mut tx, ctx, &[changed], &mut rings, now).await?;
    let waited_for =
        unseen && !list_open_ids(&mut tx, ctx.livemode, Of::Destinations(&[id.as_str()])).await?.is_empty();
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    if waited_for {
        // Refused with 403 or 404, perhaps only for now: as long as money waits for it, it is asked for again.
        return Ok(Some(now + UNSEEN_LOOK));
    }
    Ok(next)
}
