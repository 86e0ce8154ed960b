//! Events take effect: many at a time where nothing asks Stripe, those about one subject folded together.
//!
//! One transaction takes fresh events, folds them into accounts and top-ups, writes what came of it, and lets the
//! events' tasks go. What can't be applied among others, and what needs a lease since it may lead to a call, is left
//! to those who work on one subject at a time.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use tracing::Span;

use super::account_record::{self, Changed, fetch_due};
use super::rings::Rings;
use super::topup_evidence::currencies_in;
use super::topup_record::{self, Told};
use super::{Context, FlowError, account_evidence, transfer_evidence};
use crate::domain::ids::{AccountId, TopupId};
use crate::domain::share::{Part, Share};
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::accounts;
use crate::store::db::{self, StoreError};
use crate::store::fresh_tasks::{self, Fresh, Wanted};
use crate::store::outbox::{self, StoredEvent};

use crate::store::transfers::{self, Transfer};
use crate::stripe::wire;
use crate::trail;

/// Events taken in one transaction: more were not faster, and hold their locks for longer.
const BATCH: i64 = 512;
/// And no more bytes of payloads than this, but for a larger one that is taken alone.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// An event about a transfer that is under way waits so long for the answer to our own call to be booked.
const OWN_BOOKING: Duration = Duration::milliseconds(300);
/// It is looked at again after this.
const AGAIN: Duration = Duration::milliseconds(100);

/// What one transaction took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many events.
    pub events: usize,
    /// How many of them were left to those who work alone.
    pub left_alone: usize,
    /// The lowest id among them: nothing before it was there to take.
    pub first_id: i64,
    /// There may be more.
    pub full: bool,
}

impl Taken {
    /// What this and another transaction took that began at the same id.
    pub fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            left_alone: self.left_alone + other.left_alone,
            first_id: self.first_id.min(other.first_id),
            full: self.full || other.full,
        }
    }
}

/// The events about one subject.
#[derive(Debug)]
pub struct About<'a> {
    /// Which one.
    pub subject: &'a str,
    /// Oldest first.
    pub events: Vec<&'a StoredEvent>,
}

/// Takes fresh events of a part of a share from `from_id` on and applies them; `None` where there are none.
pub async fn fresh(
    ctx: &Context,
    share: Share,
    part: Part,
    from_id: i64,
) -> Result<Option<Taken>, FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin_in_order(&ctx.pool).await?;
    let kinds = share.kinds();
    let wanted = Wanted { livemode: ctx.livemode, kinds: &kinds, part: (part.nth, part.of) };
    let mut tasks = fresh_tasks::claim(&mut tx, &wanted, now, from_id, BATCH).await?;
    let Some(first_id) = tasks.first().map(|task| task.id) else { return Ok(None) };
    let found = tasks.len();
    tasks.truncate(how_many_fit(&tasks));
    let full = tasks.len() < found || i64::try_from(found) == Ok(BATCH);
    let ids: Vec<i64> = tasks.iter().map(|task| task.id).collect();
    let taken = |left_alone| Some(Taken { events: ids.len(), left_alone, first_id, full });
    // They end with the commit that makes what they tell of true.
    let mut spans = Vec::new();
    let ends = match apply(&mut tx, ctx, &tasks, &mut spans, now).await {
        Ok(ends) => ends,
        Err(error @ FlowError::Store(StoreError::Unavailable(_))) => return Err(error),
        Err(error) => {
            drop(tx);
            spans.iter().for_each(|span| {
                span.record("failed", true);
            });
            tracing::warn!(%error, events = ids.len(), "events could not be applied together; each is tried alone");
            let mut conn = ctx.pool.acquire().await?;
            fresh_tasks::leave_alone(&mut conn, &ids, now).await?;
            return Ok(taken(ids.len()));
        }
    };
    fresh_tasks::finish(&mut tx, &ends.done).await?;
    fresh_tasks::leave_alone(&mut tx, &ends.alone, now).await?;
    fresh_tasks::put_off(&mut tx, &ends.later, now + AGAIN).await?;
    tx.commit().await?;
    Ok(taken(ends.alone.len()))
}

/// The highest id there is, of whatever share.
pub async fn newest_id(ctx: &Context) -> Result<Option<i64>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(fresh_tasks::find_newest_id(&mut conn).await?)
}

/// How many from the front fit in memory together, one at least; the others stay where they are.
fn how_many_fit(tasks: &[Fresh]) -> usize {
    let mut bytes = 0;
    let fits = |task: &&Fresh| {
        bytes += usize::try_from(task.bytes.unwrap_or(0)).unwrap_or(0);
        bytes <= BATCH_BYTES
    };
    tasks.iter().take_while(fits).count().max(1)
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

/// How the tasks of one transaction end, by their ids.
#[derive(Default)]
struct Ends {
    done: Vec<i64>,
    /// Left to those who work alone.
    alone: Vec<i64>,
    /// Taken again in a moment.
    later: Vec<i64>,
}

/// Applies what these tasks are about.
async fn apply(
    tx: &mut PgConnection,
    ctx: &Context,
    tasks: &[Fresh],
    spans: &mut Vec<Span>,
    now: OffsetDateTime,
) -> Result<Ends, FlowError> {
    let keys: Vec<_> = tasks.iter().map(|task| (task.id, task.event_created)).collect();
    // Oldest first, so that a burst about one subject leaves no doubt that its order would have spared.
    let events = outbox::list_by_seqs(tx, &keys).await?;
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
    let OfTransfers { alone, later } = sort_transfers(tx, ctx, &transfers).await?;
    let later: BTreeSet<(Kind, String)> =
        later.into_iter().map(|subject| (Kind::StripeTransfer, subject)).collect();
    left.extend(alone.into_iter().map(|subject| (Kind::StripeTransfer, subject)));
    rings.ring(tx, ctx).await?;
    let mut ends = Ends::default();
    for task in tasks {
        let end = match Kind::parse(&task.kind) {
            Some(kind @ (Kind::Account | Kind::Topup | Kind::StripeTransfer)) => {
                let about = (kind, task.subject.clone());
                let soon = task.received_at.is_some_and(|at| now < at + OWN_BOOKING);
                match later.contains(&about) {
                    true if soon => &mut ends.later,
                    false if !left.contains(&about) => &mut ends.done,
                    _ => &mut ends.alone,
                }
            }
            _ => &mut ends.alone,
        };
        end.push(task.id);
    }
    Ok(ends)
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

/// What is to be done about events that tell of transfers at Stripe; nothing where they tell nothing new.
#[derive(Default)]
struct OfTransfers {
    /// Booked one by one, under their currency's lock.
    alone: Vec<String>,
    /// Under way: looked at once more in a moment.
    later: Vec<String>,
}

/// Sorts them. Most tell of a transfer that our own call made, and what its answer told: if that is not booked yet, it
/// is about to be.
async fn sort_transfers(
    tx: &mut PgConnection,
    ctx: &Context,
    about: &[About<'_>],
) -> Result<OfTransfers, StoreError> {
    let (mut sorted, mut others, mut ours) = (OfTransfers::default(), Vec::new(), Vec::new());
    for About { subject, events } in about {
        let read = |event: &&StoredEvent| transfer_evidence::read(event).ok().flatten();
        let seen: Option<Vec<wire::Transfer>> = events.iter().map(read).collect();
        let Some(seen) = seen.filter(|seen| seen.iter().all(|seen| seen.id.as_str() == *subject)) else {
            sorted.alone.push((*subject).to_owned());
            continue;
        };
        match seen.iter().find_map(transfer_evidence::our_id) {
            Some(id) => ours.push((*subject, id, seen)),
            None => others.push(*subject),
        }
    }
    sorted.alone.extend(transfers::list_known_at_stripe(tx, &others).await?);
    let ids: Vec<&str> = ours.iter().map(|(_, id, ..)| id.as_str()).collect();
    let held = transfers::list_by_ids(tx, &ids).await?;
    for (subject, id, seen) in ours {
        let held = held.get(id.as_str());
        let told = |held: &Transfer| seen.iter().all(|seen| transfer_evidence::is_booked(ctx, held, seen));
        match held {
            Some(held) if told(held) => {}
            Some(held) if held.status == Status::Releasing => sorted.later.push(subject.to_owned()),
            _ => sorted.alone.push(subject.to_owned()),
        }
    }
    Ok(sorted)
}

fn unnamed(what: &str) -> FlowError {
    FlowError::Unreadable(format!("the event names no {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_events_are_taken_few_at_a_time_and_one_at_least() {
        let fit = |sizes: &[Option<i32>]| {
            let task = |bytes: &Option<i32>| Fresh {
                id: 1,
                kind: "account".to_owned(),
                subject: "acct_1".to_owned(),
                event_created: OffsetDateTime::UNIX_EPOCH,
                received_at: None,
                bytes: *bytes,
            };
            how_many_fit(&sizes.iter().map(task).collect::<Vec<_>>())
        };
        let mib = |n: i32| Some(n * 1024 * 1024);
        assert_eq!(fit(&[mib(1), Some(1), mib(1)]), 2);
        assert_eq!(fit(&[mib(3), mib(2), mib(1)]), 1, "in their order");
        assert_eq!(fit(&[mib(5), mib(1)]), 1);
        assert_eq!(fit(&[None, Some(3_000), None]), 3);
    }
}
