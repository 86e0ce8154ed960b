//! A caller has a connected account made: once by the caller's key, and known here at once.
//!
//! What was prefilled is about a person: it goes to Stripe and nowhere else. Kept are a hash of the request, the
//! names of the parameters, and what readiness rests on of the answer.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::account_answer::{Seen, kept_of, take_in};
use super::account_record::fetch_due;
use super::account_view::{Shown, View};
use super::order::{Answer, Begun, Claim, Claimed, Ordered, claim};
use super::rings::Rings;
use super::{Actor, Context, NotDone, Once};
use crate::domain::audit::Action;
use crate::domain::evidence::Fetched;
use crate::domain::ids::AccountId;
use crate::domain::task::Kind;
use crate::store::views::{self, Account, AccountChange};
use crate::store::{controls, outbox};
use crate::stripe::client::{self, Lane};
use crate::stripe::error::{FailureKind, StripeError};
use crate::stripe::wire;

/// Pauses before the call is made again with the same key: one with no answer, and one that meets another with
/// its key under way, which was made by a process that died.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_600)];

/// Makes an account from Stripe's own parameters. `render` makes the answer.
pub async fn create(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    parameters: &Map<String, Value>,
    render: impl Fn(&Account, Vec<AccountChange>) -> Value,
) -> Result<Ordered, NotDone> {
    // No connection is held while Stripe is called, and of several orders with one key one calls.
    let claim = match claim(ctx, actor, once).await? {
        Claimed::Before(before) => return Ok(before),
        Claimed::Mine(claim) => claim,
    };
    let done = carry_out(ctx, &claim, parameters, render).await;
    claim.release().await;
    done
}

async fn carry_out(
    ctx: &Context,
    claim: &Claim,
    parameters: &Map<String, Value>,
    render: impl Fn(&Account, Vec<AccountChange>) -> Value,
) -> Result<Ordered, NotDone> {
    let key = stripe_key(ctx, claim).await?;
    let Some((id, seen)) = make(ctx, parameters, &key).await? else { return Ok(Ordered::KeyReused) };
    let mut order = match claim.begin(ctx).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let (now, mut rings) = (order.now, Rings::default());
    let tx = order.tx();
    let held = take_in(tx, ctx, &id, seen, &mut rings, now).await?;
    if let Some(at) = fetch_due(&held, now) {
        rings.add(Kind::Account, id.as_str(), at);
    }
    rings.ring(tx, ctx).await?;
    let body = match views::find_account(tx, ctx.livemode, id.as_str()).await? {
        Some(account) => render(&account, views::list_account_changes(tx, ctx.livemode, id.as_str()).await?),
        // It was written a line above, in the same transaction.
        None => Value::Null,
    };
    let named: Vec<&String> = parameters.keys().collect();
    let details = json!({"parameters": named, "idempotency_key": claim.once().map(|once| &once.key)});
    order.note(Action::AccountCreated, id.as_str(), &details);
    Ok(order.end(Answer { status: 201, body }).await?)
}

/// Calls Stripe. `None`: the key was used with other parameters before.
async fn make(
    ctx: &Context,
    parameters: &Map<String, Value>,
    key: &str,
) -> Result<Option<(AccountId, Seen)>, NotDone> {
    let mut pauses = PAUSES.iter();
    let (fetch, answer) = loop {
        let fetch = begin_fetch(ctx).await?;
        match ctx.stripe.create_account(&Value::Object(parameters.clone()), key).await {
            Ok(answer) => break (fetch, answer),
            Err(StripeError::Unknown(failure)) if failure.kind == FailureKind::KeyReuse => {
                return Ok(None);
            }
            Err(error) => match pauses.next().filter(|_| is_worth_another(&error)) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(error.into()),
            },
        }
    };
    let id = answer.object.id.clone();
    if !answer.replayed {
        return Ok(Some((id, seen(&answer, fetch))));
    }
    // What Stripe had stored for the key is the account as it was then; much may have been told since.
    let fetch = begin_fetch(ctx).await?;
    let answer = ctx.stripe.account(Lane::Release, &id).await?;
    Ok(Some((id, seen(&answer, fetch))))
}

/// The moment of a call that is about to be made.
async fn begin_fetch(ctx: &Context) -> Result<Fetched, NotDone> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    Ok(Fetched { at: ctx.clock.now(), after_seq })
}

fn seen(answer: &client::Answer<wire::Account>, fetch: Fetched) -> Seen {
    let shown = Some(Shown::of(&answer.object, View::NotAsked));
    Seen { shown, event_type: "account", payload: kept_of(&answer.raw), fetch }
}

/// Whether the same call may tell more a moment later. A 5xx of Stripe's own is stored and would be replayed.
fn is_worth_another(error: &StripeError) -> bool {
    let failure = error.failure();
    let passes = match failure.kind {
        FailureKind::NotSent | FailureKind::NoAnswer | FailureKind::Busy | FailureKind::RateLimited => true,
        FailureKind::ServerError | FailureKind::KeyReuse | FailureKind::Refused => false,
    };
    passes && failure.should_retry != Some(false)
}

/// The key sent to Stripe: the same for a repeated order, even if the first answer was lost on its way; of two
/// API keys, and of two installations on one Stripe account, never the same.
async fn stripe_key(ctx: &Context, claim: &Claim) -> Result<String, NotDone> {
    let Some(once) = claim.once() else {
        return Ok(format!("sluicegate-account-{}", Uuid::new_v4().simple()));
    };
    let mut conn = ctx.pool.acquire().await?;
    let installation = controls::get_installation_id(&mut conn).await?;
    let mut hasher = Sha256::new();
    for part in [installation.as_bytes().as_slice(), claim.actor().id.as_bytes(), once.key.as_bytes()] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Ok(format!("sluicegate-account-{}", hex::encode(hasher.finalize())))
}
