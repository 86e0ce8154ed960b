//! Events that were never delivered: Stripe's own list of them is walked through, page by page.
//!
//! A page's events are stored as deliveries are, in the transaction that moves the cursor past it. The list shows
//! the platform's events; those of connected accounts are made up for by the reconciliation of accounts.

use bytes::Bytes;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::order::{Answer, Begun, Claim, Ordered};
use super::{Context, FlowError, event_record};
use crate::domain::audit::Action;
use crate::domain::event::{HANDLED, Ourselves};
use crate::domain::ids::AccountId;
use crate::domain::task::{EVENTS, Kind};
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, NewEvent};
use crate::store::sweeps::{self, Page, Sweep};
use crate::store::{controls, platforms, tasks};
use crate::stripe::client::Lane;
use crate::stripe::wire::{List, ListedEvent};

/// Stripe lists events for this long.
const LISTED_FOR: Duration = Duration::days(30);
/// An event may be listed this long after it was created.
const LISTED_WITHIN: Duration = Duration::minutes(1);
/// How much of what was read before is read again.
const OVERLAP: Duration = Duration::minutes(10);
/// What was created this long before the first start may have met a service that was not there yet.
const BEFORE_FIRST_START: Duration = Duration::hours(1);

/// How far a walk has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since when events are searched.
    pub since: OffsetDateTime,
    /// Events read so far.
    pub seen: i64,
    /// Of those, how many were not known and are now stored.
    pub found: i64,
    /// The list has been read to its end.
    pub done: bool,
}

/// Reads one page; returns when there is something to do again.
pub async fn advance(ctx: &Context) -> Result<Option<OffsetDateTime>, FlowError> {
    let sweep = under_way(ctx).await?;
    let after = read_page(ctx, &sweep).await?;
    let now = ctx.clock.now();
    if after.finished_at.is_none() { Ok(Some(now)) } else { Ok(ctx.backfill_every.map(|every| now + every)) }
}

/// The walk that is under way, or a new one from where the last one ended.
async fn under_way(ctx: &Context) -> Result<Sweep, FlowError> {
    let now = ctx.clock.now().truncate_to_microsecond();
    let mut tx = db::begin(&ctx.pool).await?;
    let last = sweeps::find(&mut tx, ctx.livemode, EVENTS).await?;
    if let Some(sweep) = last.clone().filter(|sweep| sweep.finished_at.is_none()) {
        return Ok(sweep);
    }
    let since = match last.and_then(|sweep| sweep.complete_to) {
        Some(complete_to) => complete_to - OVERLAP,
        None => controls::get_first_started(&mut tx).await? - BEFORE_FIRST_START,
    };
    if since < now - LISTED_FOR {
        tracing::error!(%since, "events from before 30 days ago are no longer listed by Stripe: compare accounts and transfers by hand");
    }
    let begun = sweeps::begin(&mut tx, ctx.livemode, EVENTS, Some(since.max(now - LISTED_FOR)), now).await?;
    tx.commit().await?;
    Ok(begun)
}

async fn read_page(ctx: &Context, sweep: &Sweep) -> Result<Sweep, FlowError> {
    let since = sweep.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let query = json!({
        "created": {"gte": since.unix_timestamp()}, "types": HANDLED, "limit": 100,
        "starting_after": sweep.after,
    });
    let list = match ctx.stripe.get::<List<ListedEvent>>(Lane::Sweep, "/v1/events", &query).await {
        Ok(answer) => answer.object,
        // The event that the last page ended with is no longer listed: from the head again.
        Err(error) if sweep.after.is_some() && error.is_lost_place() => {
            let now = ctx.clock.now().truncate_to_microsecond();
            let mut conn = ctx.pool.acquire().await?;
            return Ok(sweeps::begin(&mut conn, ctx.livemode, EVENTS, sweep.since, now).await?);
        }
        Err(error) => return Err(error.into()),
    };
    let after = list.last_id.filter(|_| list.has_more);
    if list.has_more && after.is_none() {
        return Err(FlowError::Unreadable("a page says that more follow, but not after what".into()));
    }
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let platform = platforms::get(&mut tx, ctx.livemode).await?.account;
    let ourselves =
        Ourselves { livemode: ctx.livemode, platform: platform.and_then(|id| AccountId::parse(&id).ok()) };
    let mut batch: Vec<NewEvent> = Vec::with_capacity(list.data.len());
    for item in &list.data {
        let body = Bytes::copy_from_slice(item.raw.get().as_bytes());
        batch.push(event_record::read(&body, None, &ourselves, now).map_err(FlowError::Unreadable)?);
    }
    batch.sort_by(|one, other| one.event_id.cmp(&other.event_id));
    let found = outbox::insert_new(&mut tx, &batch).await?;
    let page = Page {
        after: after.as_deref(),
        seen: i64::try_from(batch.len()).unwrap_or(i64::MAX),
        found: i64::try_from(found.len()).unwrap_or(i64::MAX),
        complete_to: after.is_none().then(|| sweep.started_at - LISTED_WITHIN),
    };
    let recorded = sweeps::record_page(&mut tx, ctx.livemode, sweep, &page, now).await?;
    if !found.is_empty() {
        tasks::announce(&mut tx).await?;
        metrics::counter!("sluicegate_backfilled_events_total").increment(found.len() as u64);
        tracing::warn!(events = found.len(), "events that were never delivered were found in Stripe's list");
    }
    // Where somebody else was faster, what this page brought is stored all the same, once.
    let current = match recorded {
        Some(current) => Some(current),
        None => sweeps::find(&mut tx, ctx.livemode, EVENTS).await?,
    };
    tx.commit().await?;
    current.ok_or_else(|| FlowError::Unreadable("the walk through the events is gone".into()))
}

/// Begins a walk by order of a person or program, `since` the given moment or, without one, as far back as Stripe
/// lists.
pub async fn start(ctx: &Context, since: Option<OffsetDateTime>) -> Result<Progress, StoreError> {
    let now = ctx.clock.now().truncate_to_microsecond();
    let oldest = now - LISTED_FOR;
    let since = since.unwrap_or(oldest).max(oldest);
    let mut tx = db::begin(&ctx.pool).await?;
    // A walk under way may have had further to go.
    let under_way = sweeps::find(&mut tx, ctx.livemode, EVENTS).await?.filter(|s| s.finished_at.is_none());
    let since = under_way.and_then(|sweep| sweep.since).map_or(since, |further| further.min(since));
    sweeps::begin(&mut tx, ctx.livemode, EVENTS, Some(since), now).await?;
    tasks::ring(&mut tx, Kind::Backfill, ctx.livemode, &[EVENTS], now).await?;
    tx.commit().await?;
    Ok(Progress { since, seen: 0, found: 0, done: false })
}

/// Reads the next page of the walk that [`start`] began; a worker may do so as well.
pub async fn step(ctx: &Context, progress: &Progress) -> Result<Progress, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let sweep = sweeps::find(&mut conn, ctx.livemode, EVENTS).await?;
    drop(conn);
    let sweep = match sweep {
        Some(sweep) if sweep.finished_at.is_none() => read_page(ctx, &sweep).await?,
        Some(sweep) => sweep,
        None => return Err(FlowError::Unreadable("the walk through the events is gone".into())),
    };
    let done = sweep.finished_at.is_some();
    Ok(Progress { since: progress.since, seen: sweep.seen, found: sweep.found, done })
}

/// Puts an ordered walk on record and keeps its answer.
pub async fn end(
    ctx: &Context,
    claim: Claim,
    progress: &Progress,
    answer: Answer,
) -> Result<Ordered, StoreError> {
    let mut order = match claim.begin(ctx).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let details = json!({
        "since": progress.since.unix_timestamp(), "seen": progress.seen, "stored": progress.found,
        "complete": progress.done,
    });
    order.note(Action::BackfillOrdered, EVENTS, &details);
    let ordered = order.end(answer).await;
    claim.release().await;
    ordered
}
