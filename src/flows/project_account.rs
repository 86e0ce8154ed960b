//! Stripe is asked about a connected account, and what it shows is folded into what its events told.

use time::{Duration, OffsetDateTime};

use super::account_answer::{Seen, kept_of, take_in};
use super::account_evidence::flags_as_they_are;
use super::account_record::{FETCH_PAUSE, fetch_due};
use super::rings::Rings;
use super::{Context, FlowError};
use crate::domain::evidence::Fetched;
use crate::domain::ids::AccountId;
use crate::domain::task::Kind;
use crate::store::transfers::{Of, list_open_ids};
use crate::store::{outbox, tasks};
use crate::stripe::client::Lane;
use crate::stripe::error::StripeError;

/// How often it is asked on before a doubt is left to the worker.
const ASKED_FOR_A_DOUBT: u32 = 3;
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

/// The same for somebody who goes on with the answer: news that was under way meanwhile leaves a doubt, which is
/// settled first, if it can be within a moment.
pub async fn settle(ctx: &Context, id: &AccountId) -> Result<(), FlowError> {
    for _ in 0..ASKED_FOR_A_DOUBT {
        let Some(at) = confirm(ctx, id).await? else { return Ok(()) };
        let pause = at - ctx.clock.now();
        if pause > FETCH_PAUSE {
            let mut conn = ctx.pool.acquire().await?;
            return Ok(tasks::ring(&mut conn, Kind::Account, ctx.livemode, &[id.as_str()], at).await?);
        }
        tokio::time::sleep(pause.try_into().unwrap_or_default()).await;
    }
    refresh(ctx, id).await
}

/// Asks Stripe about an account and folds the answer in. Returns when to ask again, if a doubt is left.
pub async fn confirm(ctx: &Context, id: &AccountId) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let seen = ask(ctx, id, Fetched { at: began_at, after_seq }).await?;
    let now = ctx.clock.now();
    let (mut tx, mut rings) = (ctx.pool.begin().await?, Rings::default());
    let account = take_in(&mut tx, ctx, id, seen, &mut rings, now).await?;
    let unseen = account.known.deauthorized() && account.known.deauthorized_at == Some(began_at);
    let waited_for =
        unseen && !list_open_ids(&mut tx, ctx.livemode, Of::Destinations(&[id.as_str()])).await?.is_empty();
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    if waited_for {
        // Refused with 403 or 404, perhaps only for now: as long as money waits for it, it is asked for again.
        return Ok(Some(now + UNSEEN_LOOK));
    }
    Ok(fetch_due(&account, now + FETCH_PAUSE))
}

/// What Stripe says of an account, or that it does not show it.
async fn ask(ctx: &Context, id: &AccountId, fetch: Fetched) -> Result<Seen, FlowError> {
    let (flags, event_type, payload) = match ctx.stripe.account(Lane::Release, id).await {
        Ok(answer) if answer.object.deleted != Some(true) => {
            (Some(flags_as_they_are(&answer.object)), "account", kept_of(&answer.raw))
        }
        Ok(answer) => (None, "account.unreachable", kept_of(&answer.raw)),
        Err(StripeError::Refused(failure)) if matches!(failure.status, Some(403 | 404)) => {
            let seen = serde_json::json!({"status": failure.status, "code": failure.code, "message": failure.message});
            (None, "account.unreachable", seen.to_string().into_bytes())
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Seen { flags, event_type, payload, fetch })
}
