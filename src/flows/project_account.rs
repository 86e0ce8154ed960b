//! Stripe is asked about a connected account, and what it shows is folded into what its events told.

use time::{Duration, OffsetDateTime};

use super::account_answer::{Seen, kept_of, take_in};
use super::account_record::{FETCH_PAUSE, fetch_due};
use super::account_view::{Shown, View, keep, looks_like_v2, recipient};
use super::rings::Rings;
use super::{Context, FlowError};
use crate::domain::evidence::Fetched;
use crate::domain::ids::AccountId;
use crate::domain::task::Kind;
use crate::store::transfers::{Of, list_open_ids};
use crate::store::{accounts, db, outbox, tasks};
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
    look(ctx, id, false).await
}

/// The same about an account that is one of v2, as something other than an event about it told.
pub async fn confirm_v2(ctx: &Context, id: &AccountId) -> Result<(), FlowError> {
    if let Some(at) = look(ctx, id, true).await? {
        let mut conn = ctx.pool.acquire().await?;
        tasks::ring(&mut conn, Kind::Account, ctx.livemode, &[id.as_str()], at).await?;
    }
    Ok(())
}

async fn look(ctx: &Context, id: &AccountId, v2: bool) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let v2 = v2 || accounts::find(&mut conn, ctx.livemode, id.as_str()).await?.is_some_and(|held| held.v2);
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let seen = ask(ctx, id, v2, Fetched { at: began_at, after_seq }).await?;
    let now = ctx.clock.now();
    let (mut tx, mut rings) = (db::begin(&ctx.pool).await?, Rings::default());
    let waited_for = seen.shown.is_none()
        && !list_open_ids(&mut tx, ctx.livemode, Of::Destinations(&[id.as_str()])).await?.is_empty();
    let nobody_asks = seen.shown.is_none() && !waited_for;
    if nobody_asks && accounts::find(&mut tx, ctx.livemode, id.as_str()).await?.is_none() {
        // Nobody but the caller ever named it: a mistyped id must not become an account.
        return Ok(None);
    }
    let account = take_in(&mut tx, ctx, id, seen, &mut rings, now).await?;
    let waited_for =
        waited_for && account.known.deauthorized() && account.known.deauthorized_at == Some(began_at);
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    if waited_for {
        // Refused with 403 or 404, perhaps only for now: as long as money waits for it, it is asked for again.
        return Ok(Some(now + UNSEEN_LOOK));
    }
    Ok(fetch_due(&account, now + FETCH_PAUSE))
}

/// What Stripe says of an account, or that it does not show it.
async fn ask(ctx: &Context, id: &AccountId, v2: bool, fetch: Fetched) -> Result<Seen, FlowError> {
    let (shown, event_type, payload) = match ctx.stripe.account(Lane::Release, id).await {
        Ok(answer) if answer.object.deleted != Some(true) => {
            let kept = kept_of(&answer.raw);
            let (view, kept) = match v2 || looks_like_v2(&answer.object) {
                true => ask_v2(ctx, id, &kept).await?,
                false => (View::NotAsked, kept),
            };
            (Some(Shown::of(&answer.object, view)), "account", kept)
        }
        Ok(answer) => (None, "account.unreachable", kept_of(&answer.raw)),
        Err(StripeError::Refused(failure))
            if matches!(failure.status, Some(403 | 404)) && !failure.is_of_permissions() =>
        {
            let seen = serde_json::json!({"status": failure.status, "code": failure.code, "message": failure.message});
            (None, "account.unreachable", seen.to_string().into_bytes())
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Seen { shown, event_type, payload, fetch })
}

/// What v2 says of the same account, and both answers as they are kept. A refusal says nothing about the account: a
/// restricted key has no v2, nor have all platforms in test mode.
async fn ask_v2(ctx: &Context, id: &AccountId, v1: &[u8]) -> Result<(View, Vec<u8>), FlowError> {
    match ctx.stripe.v2_account(Lane::Release, id).await {
        Ok(answer) => Ok((View::Shown(recipient(&answer.object)), keep(v1, Some(&answer.raw)))),
        Err(error) if error.is_without_v2() => {
            tracing::info!(account = %id, %error, "v2 of the API does not show the account: v1 decides alone");
            Ok((View::Refused, keep(v1, None)))
        }
        Err(error) => Err(error.into()),
    }
}
