//! Events take effect: many at a time where nothing asks Stripe, those about one subject folded together.
//!
//! One transaction takes fresh events, folds them into accounts and top-ups, writes what came of it, and lets the
//! events' tasks go. What can't be applied among others, and what needs a lease since it may lead to a call, is left
//! to those who work on one subject at a time.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::Span;

use super::account_record::{self, Changed, fetch_due};
use super::rings::Rings;
use super::topup_evidence::currencies_in;
use super::topup_record::{self, Told};
use super::{Context, FlowError, account_evidence, transfer_evidence};
use crate::domain::ids::{AccountId, TopupId};
use crate::domain::task::Kind;
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, StoredEvent};
use crate::store::tasks::{self, Fresh};
use crate::store::{accounts, transfers};
use crate::trail;

/// Events taken in one transaction: more were not faster, and hold their locks for longer.
const BATCH: i64 = 512;

/// What one transaction took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many events.
    pub events: usize,
    /// How many of them were left to those who work alone.
    pub left_alone: usize,
    /// The lowest id among them: nothing before it was there to take.
    pub first_id: i64,
}

/// The events about one subject.
#[derive(Debug)]
pub struct About<'a> {
    /// Which one.
    pub subject: &'a str,
    /// Oldest first.
    pub events: Vec<&'a StoredEvent>,
}

/// Takes fresh events from `from_id` on and applies them; `None` where there are none.
pub async fn fresh(ctx: &Context, from_id: i64) -> Result<Option<Taken>, FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    // One of a kind that this version does not know waits for one that does.
    let kinds = Kind::ALL.map(Kind::as_str);
    let tasks = tasks::claim_fresh(&mut tx, ctx.livemode, &kinds, from_id, BATCH).await?;
    let Some(first_id) = tasks.first().map(|task| task.id) else { return Ok(None) };
    let ids: Vec<i64> = tasks.iter().map(|task| task.id).collect();
    let taken = |left_alone| Some(Taken { events: ids.len(), left_alone, first_id });
    // They end with the commit that makes what they tell of true.
    let mut spans = Vec::new();
    let left = match apply(&mut tx, ctx, &tasks, &mut spans, now).await {
        Ok(left) => left,
        Err(error @ FlowError::Store(StoreError::Unavailable(_))) => return Err(error),
        Err(error) => {
            drop(tx);
            spans.iter().for_each(|span| {
                span.record("failed", true);
            });
            tracing::warn!(%error, events = ids.len(), "events could not be applied together; each is tried alone");
            let mut conn = ctx.pool.acquire().await?;
            tasks::leave_alone(&mut conn, &ids, now).await?;
            return Ok(taken(ids.len()));
        }
    };
    let done: Vec<i64> = ids.iter().copied().filter(|id| !left.contains(id)).collect();
    let left: Vec<i64> = left.into_iter().collect();
    tasks::finish_fresh(&mut tx, &done).await?;
    tasks::leave_alone(&mut tx, &left, now).await?;
    tx.commit().await?;
    Ok(taken(left.len()))
}

/// Applies the events of one account or top-up for somebody who holds their lease.
pub async fn alone(
    ctx: &Context,
    kind: Kind,
    subject: &str,
    events: &[StoredEvent],
) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let mut rings = Rings::default();
    let about = [About { subject, events: events.iter().collect() }];
    let failed = match kind {
        Kind::Topup => to_topups(&mut tx, ctx, &about, &mut rings, now).await?,
        _ => to_accounts(&mut tx, ctx, &about, &mut rings, now).await?,
    };
    if let Some((_, error)) = failed.into_iter().next() {
        return Err(error);
    }
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    Ok(())
}

/// Applies what these tasks are about; returns the ids of those to be left alone.
async fn apply(
    tx: &mut PgConnection,
    ctx: &Context,
    tasks: &[Fresh],
    spans: &mut Vec<Span>,
    now: OffsetDateTime,
) -> Result<BTreeSet<i64>, FlowError> {
    let keys: Vec<_> = tasks.iter().map(|task| (task.event_id.clone(), task.event_created)).collect();
    // Oldest first, so that a burst about one subject leaves no doubt that its order would have spared.
    let events = outbox::list_by_keys(tx, &keys).await?;
    let by_id: BTreeMap<i64, &Fresh> = tasks.iter().map(|task| (task.id, task)).collect();
    let mut by_kind: BTreeMap<Kind, BTreeMap<&str, Vec<&StoredEvent>>> = BTreeMap::new();
    for event in &events {
        let Some(task) = by_id.get(&event.seq) else { continue };
        let Some(kind) = Kind::parse(&task.kind) else { continue };
        by_kind.entry(kind).or_default().entry(&task.subject).or_default().push(event);
    }
    let mut about = |kind: Kind| -> Vec<About<'_>> {
        let subjects = by_kind.remove(&kind).unwrap_or_default().into_iter();
        subjects.map(|(subject, events)| About { subject, events }).collect()
    };
    let mut rings = Rings::default();
    let mut left: BTreeSet<(Kind, String)> = BTreeSet::new();
    let (topups, accounts, transfers) =
        (about(Kind::Topup), about(Kind::Account), about(Kind::StripeTransfer));
    spans.extend(topups.iter().map(|about| span_of(Kind::Topup, about)));
    spans.extend(accounts.iter().map(|about| span_of(Kind::Account, about)));
    // In the order in which everybody locks: currencies and top-ups, then accounts, then the bells.
    let failed = to_topups(tx, ctx, &topups, &mut rings, now).await?;
    left.extend(failed.into_iter().map(|(subject, _)| (Kind::Topup, subject)));
    let failed = to_accounts(tx, ctx, &accounts, &mut rings, now).await?;
    left.extend(failed.into_iter().map(|(subject, _)| (Kind::Account, subject)));
    let ours = ours(tx, &transfers).await?;
    left.extend(ours.into_iter().map(|subject| (Kind::StripeTransfer, subject)));
    rings.ring(tx, ctx).await?;
    let is_left = |task: &&Fresh| match Kind::parse(&task.kind) {
        Some(kind @ (Kind::Account | Kind::Topup | Kind::StripeTransfer)) => {
            left.contains(&(kind, task.subject.clone()))
        }
        _ => true,
    };
    Ok(tasks.iter().filter(is_left).map(|task| task.id).collect())
}

/// One subject's share of the transaction, in the trace of its first event.
fn span_of(kind: Kind, about: &About<'_>) -> Span {
    let mut events = about.events.iter().map(|event| event.event_id.as_str());
    let (subject, first, count) = (about.subject, events.next(), about.events.len());
    let span = tracing::debug_span!(
        parent: None,
        "apply",
        kind = kind.as_str(),
        subject,
        events = count,
        event = first,
        failed = tracing::field::Empty,
    );
    if let Some(first) = first {
        trail::begin(&span, first);
    }
    trail::link(&span, events);
    span
}

/// What did not work, by subject.
type Failed = Vec<(String, FlowError)>;

/// Folds events into accounts and writes them down. Where they leave a doubt, the account's timer is rung and a
/// fetch settles it.
async fn to_accounts(
    tx: &mut PgConnection,
    ctx: &Context,
    about: &[About<'_>],
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<Failed, FlowError> {
    let mut failed = Vec::new();
    if about.is_empty() {
        return Ok(failed);
    }
    let ids: Vec<&str> = about.iter().map(|about| about.subject).collect();
    let mut held = accounts::list_for_update(tx, ctx.livemode, &ids).await?;
    let mut changed = Vec::with_capacity(about.len());
    for About { subject, events } in about {
        let before = held.remove(*subject);
        let mut after = before.clone();
        let folded = AccountId::parse(subject).map_err(|_| unnamed("account")).and_then(|_| {
            events
                .iter()
                .try_for_each(|event| account_evidence::fold_kept(&mut after, event, &ctx.conditions))
        });
        match (folded, after) {
            (Ok(()), Some(after)) => {
                if let Some(at) = fetch_due(&after, now) {
                    rings.add(Kind::Account, *subject, at);
                }
                changed.push(Changed { id: (*subject).to_owned(), before, after });
            }
            (Ok(()), None) => {}
            (Err(error), _) => failed.push(((*subject).to_owned(), error)),
        }
    }
    account_record::record(tx, ctx, &changed, rings, now).await?;
    Ok(failed)
}

/// Folds events into top-ups and books what follows.
async fn to_topups(
    tx: &mut PgConnection,
    ctx: &Context,
    about: &[About<'_>],
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<Failed, FlowError> {
    let mut failed = Vec::new();
    let mut readable = Vec::with_capacity(about.len());
    for About { subject, events } in about {
        match told_of_topup(subject, events) {
            Ok(told) => readable.push(told),
            Err(error) => failed.push(((*subject).to_owned(), error)),
        }
    }
    failed.extend(topup_record::apply(tx, ctx, &readable, rings, now).await?);
    Ok(failed)
}

fn told_of_topup<'a>(subject: &str, events: &'a [&'a StoredEvent]) -> Result<Told<'a>, FlowError> {
    let id = TopupId::parse(subject).map_err(|_| unnamed("top-up"))?;
    let mut currencies = Vec::new();
    for event in events {
        currencies.extend(currencies_in(event)?);
    }
    Ok(Told { id, events, currencies })
}

/// Which of these transfers at Stripe are ours, or may be: those are booked one by one, under their currency's lock.
async fn ours(tx: &mut PgConnection, about: &[About<'_>]) -> Result<Vec<String>, StoreError> {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for About { subject, events } in about {
        let foreign = |event: &&StoredEvent| {
            let seen = transfer_evidence::read(event).ok().flatten();
            seen.is_some_and(|seen| transfer_evidence::our_id(&seen).is_none())
        };
        if events.iter().all(foreign) { others.push(*subject) } else { ours.push((*subject).to_owned()) }
    }
    ours.extend(transfers::list_known_at_stripe(tx, &others).await?);
    Ok(ours)
}

fn unnamed(what: &str) -> FlowError {
    FlowError::Unreadable(format!("the event names no {what}"))
}
