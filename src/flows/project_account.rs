//! A connected account's readiness follows from what Stripe tells and what a fetch shows.
//!
//! Events are folded together; where they leave a doubt, the account's timer is rung and a fetch settles it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::account_evidence::{flags_as_they_are, fold_fetch, fold_kept};
use super::{Context, FlowError, observation_id};
use crate::domain::account::REAUTHORIZED_AFTER;
use crate::domain::evidence::Fetched;
use crate::domain::ids::AccountId;
use crate::domain::reason::codes;
use crate::domain::task::Kind;
use crate::store::accounts::{self, Account, Lock};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation, StoredEvent};
use crate::store::tasks;
use crate::store::transfers::{Of, list_open_ids};
use crate::stripe::client::Lane;
use crate::stripe::error::StripeError;

/// An account that Stripe does not show, but a transfer waits for, is asked for this often.
const UNSEEN_LOOK: Duration = Duration::minutes(5);

/// Folds events into an account's row.
pub async fn apply(ctx: &Context, id: &AccountId, events: &[StoredEvent]) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let before = load(&mut tx, ctx, id).await?;
    let mut account = before.clone();
    for event in events {
        fold_kept(&mut account, event, &ctx.policy)?;
    }
    if let Some(account) = account {
        // The account's own bell before its transfers': a refusal takes them in this order.
        if let Some(at) = fetch_due(&account, now) {
            tasks::ring(&mut tx, Kind::Account, ctx.livemode, &[id.as_str()], at).await?;
        }
        record(&mut tx, ctx, id, before.as_ref(), &account, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The same for somebody who waits for the answer; what is left to ask is left to the worker.
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
    let before = load(&mut tx, ctx, id).await?;
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
    let account = fold_fetch(before.clone(), flags, Fetched { at: began_at, after_seq }, &ctx.policy);
    record(&mut tx, ctx, id, before.as_ref(), &account, now).await?;
    let unseen = account.known.deauthorized() && account.known.deauthorized_at == Some(began_at);
    let waited_for =
        unseen && !list_open_ids(&mut tx, ctx.livemode, Of::Destination(id.as_str())).await?.is_empty();
    tx.commit().await?;
    if waited_for {
        // Refused with 403 or 404, perhaps only for now: as long as money waits for it, it is asked for again.
        return Ok(Some(now + UNSEEN_LOOK));
    }
    // The pause keeps a stream of events dated in the same moment from turning into a stream of calls.
    Ok(fetch_due(&account, now + Duration::milliseconds(200)))
}

async fn load(tx: &mut PgConnection, ctx: &Context, id: &AccountId) -> Result<Option<Account>, StoreError> {
    let account = accounts::find_locked(tx, ctx.livemode, id.as_str(), Lock::Update).await?;
    if account.is_some() {
        return Ok(account);
    }
    accounts::lock_absent(tx, ctx.livemode, id.as_str()).await?;
    accounts::find_locked(tx, ctx.livemode, id.as_str(), Lock::Update).await
}

/// Writes the row, its history, and rings for what depends on it.
async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &AccountId,
    before: Option<&Account>,
    account: &Account,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let reasons = account.known.reasons(&ctx.policy);
    let reason_codes = codes(&reasons);
    accounts::put(tx, ctx.livemode, id.as_str(), account, &reason_codes, now).await?;
    let reasons_before = before.map(|before| before.known.reasons(&ctx.policy));
    let flags_before = before.and_then(|before| before.known.flags.as_ref());
    if reasons_before.as_ref() != Some(&reasons) || flags_before != account.known.flags.as_ref() {
        accounts::insert_change(tx, ctx.livemode, id.as_str(), account, &reason_codes, now).await?;
    }
    let fresher = before.is_none_or(|before| {
        before.as_of < account.as_of || before.standing.doubted != account.standing.doubted
    });
    if reasons_before.as_ref() != Some(&reasons) || fresher {
        let open = list_open_ids(tx, ctx.livemode, Of::Destination(id.as_str())).await?;
        let open: Vec<&str> = open.iter().map(String::as_str).collect();
        tasks::ring(tx, Kind::Transfer, ctx.livemode, &open, now).await?;
    }
    Ok(())
}

/// When Stripe should be asked about an account: at once if it is in doubt; if it is taken to have left but
/// something was told of it later, as soon as a fetch could show that it is back.
fn fetch_due(account: &Account, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if account.standing.doubted {
        return Some(now);
    }
    let left_at = account.known.deauthorized_at.filter(|_| account.known.deauthorized())?;
    (account.standing.at > left_at).then_some(now.max(left_at + REAUTHORIZED_AFTER))
}
