//! A look at Stripe for a top-up: its status where that is in doubt, and the proof of its money.
//!
//! Stripe announces neither a changed forecast nor, for one top-up, the moment its money becomes available,
//! so a timer looks until the money is there. Settlement is booked in the transaction that finds it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::rings::Rings;
use super::topup_evidence::{currency_of, fold_seen, is_money, never_told_of};
use super::topup_record::{self, Changed, PENDING_LOOK};
use super::{Context, FlowError, observation_id};
use crate::domain::evidence::Fetched;
use crate::domain::ids::TopupId;
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::domain::topup::{self, Status};
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, Observation};
use crate::store::topups::{self, Topup};
use crate::store::transfers::{Of, list_open_ids};
use crate::stripe::client::{Answer, Lane};
use crate::stripe::error::StripeError;
use crate::stripe::wire::{self, Expandable};

/// A top-up that Stripe does not know, but a waiting transfer names, is asked for this often.
const UNKNOWN_LOOK: Duration = Duration::minutes(5);

/// What a look at Stripe brought.
struct Seen {
    fetch: Fetched,
    object: Option<Answer<wire::Topup>>,
    transaction: Option<Answer<wire::BalanceTransaction>>,
    /// The balance transaction came within the top-up.
    expanded: bool,
}

/// Looks at a top-up whose status is in doubt or whose money is still on its way. Returns when to look again.
pub async fn look(ctx: &Context, id: &TopupId) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let held = topups::find(&mut conn, ctx.livemode, id.as_str()).await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let fetch = Fetched { at: ctx.clock.now(), after_seq };
    let Some(seen) = ask(ctx, id, held.as_ref(), fetch).await? else {
        return not_at_stripe(ctx, id, held.as_ref()).await;
    };
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let currencies = seen.object.iter().filter_map(|answer| currency_of(&answer.object));
    let landed = seen.proof_currency();
    let currencies = currencies.chain(landed).collect();
    let before = topup_record::lock(&mut tx, ctx, &[id.as_str()], currencies).await?.remove(id.as_str());
    let mut topup = before.clone().unwrap_or_else(never_told_of);
    keep_evidence(&mut tx, ctx, id, &seen, now).await?;
    let (object, transaction) = (seen.object.as_ref(), seen.transaction.as_ref());
    let (object, transaction) =
        (object.map(|answer| &answer.object), transaction.map(|answer| &answer.object));
    fold_seen(&mut topup, object, transaction, seen.fetch);
    topup.watched_since = topup.watched_since.or(Some(now));
    let again_at = next_look(&topup, now);
    let mut rings = Rings::default();
    let changed = Changed { id: id.clone(), before, after: topup };
    topup_record::record(&mut tx, ctx, vec![changed], &mut rings, now).await?;
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    Ok(again_at)
}

/// Asks for what is missing: the top-up, unless its success is beyond doubt, and then its balance
/// transaction. `None` where Stripe does not know the top-up.
async fn ask(
    ctx: &Context,
    id: &TopupId,
    held: Option<&Topup>,
    fetch: Fetched,
) -> Result<Option<Seen>, FlowError> {
    let settling = |topup: &&Topup| topup.status == Status::Succeeded && !topup.standing.doubted;
    let mut named = held.filter(settling).and_then(|topup| topup.balance_transaction.clone());
    let mut seen = Seen { fetch, object: None, transaction: None, expanded: false };
    if named.is_none() {
        let answer = match ctx.stripe.topup(Lane::Sweep, id).await {
            Ok(answer) => answer,
            Err(StripeError::Refused(failure)) if failure.status == Some(404) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !is_money(&answer.object) {
            return Err(FlowError::Unreadable(format!("{id}: its amount or currency can't be read")));
        }
        let succeeded = Status::parse(&answer.object.status) == Status::Succeeded;
        let expanded = answer.object.balance_transaction.as_ref();
        named = expanded.filter(|_| succeeded).map(|transaction| transaction.id().to_owned());
        if let Some(Expandable::Object(_, transaction)) = expanded {
            let object = (**transaction).clone();
            let raw = answer.raw.clone();
            let request_id = answer.request_id.clone();
            seen.transaction = Some(Answer { object, raw, request_id, answered_at: None, replayed: false });
            seen.expanded = true;
        }
        seen.object = Some(answer);
    }
    if let (Some(named), None) = (named, &seen.transaction) {
        seen.transaction = match ctx.stripe.balance_transaction(Lane::Sweep, &named).await {
            Ok(answer) => Some(answer),
            Err(StripeError::Refused(failure)) if failure.status == Some(404) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Some(seen))
}

/// Stripe does not know it now. As long as its money is expected, or a transfer waits for it, it is asked for
/// now and then.
async fn not_at_stripe(
    ctx: &Context,
    id: &TopupId,
    held: Option<&Topup>,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let expected = held.is_some_and(|t| {
        t.standing.doubted && t.known || !t.settled && matches!(t.status, Status::Pending | Status::Succeeded)
    });
    let waited_for =
        expected || !list_open_ids(&mut conn, ctx.livemode, Of::Topups(&[id.as_str()])).await?.is_empty();
    Ok(waited_for.then(|| ctx.clock.now() + UNKNOWN_LOOK))
}

async fn keep_evidence(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    seen: &Seen,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let object = seen.object.as_ref().map(|answer| ("topup", &answer.raw));
    // An expanded balance transaction is part of the top-up's own answer.
    let transaction = seen.transaction.as_ref().filter(|_| !seen.expanded);
    let transaction = transaction.map(|answer| ("balance_transaction", &answer.raw));
    for (event_type, payload) in object.into_iter().chain(transaction) {
        let observation = Observation {
            id: observation_id(),
            event_type,
            subject_kind: Kind::Topup.as_str(),
            subject: id.as_str(),
            livemode: ctx.livemode,
            observed_from: seen.fetch.at,
            after_seq: seen.fetch.after_seq,
            received_at: now,
            payload,
        };
        outbox::insert_observation(tx, &observation).await?;
    }
    Ok(())
}

impl Seen {
    fn proof_currency(&self) -> Option<Currency> {
        self.transaction.as_ref().and_then(|answer| Currency::parse(&answer.object.currency).ok())
    }
}

fn next_look(topup: &Topup, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let watched = now - topup.watched_since.unwrap_or(now);
    let forecast =
        topup.proof.as_ref().and_then(|proof| proof.available_on).or(topup.expected_availability_date);
    let pause = topup::next_look(watched, forecast.map(|at| at - now));
    match topup.status {
        Status::Pending => Some(now + pause.max(PENDING_LOOK)),
        Status::Succeeded => {
            let available = topup.proof.as_ref().is_some_and(|proof| proof.available);
            (!available || topup.standing.doubted).then(|| now + pause)
        }
        Status::Unknown => Some(now + pause.max(PENDING_LOOK)),
        Status::Failed | Status::Canceled | Status::Reversed => topup.standing.doubted.then(|| now + pause),
    }
}
