//! Claims due tasks, folds those about one subject into one piece of work, bounds how many run at once, and
//! finishes, fails or buries each. Knows nothing of what the work is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::dispatch::{self, Work};
use super::wake::{POLL, Wake};
use crate::domain::task::{AfterFailure, Kind, after_failure};
use crate::flows::together::Together;
use crate::flows::{Context, FlowError};
use crate::store::db::StoreError;
use crate::store::tasks::{self, Claimed, End, Lease};
use crate::trail;

/// How the driver runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many pieces of work run at once.
    pub concurrency: usize,
    /// How long a claim holds; longer than the longest call to Stripe and the writing around it.
    pub lease: time::Duration,
    /// How much longer than the longest call: for the transactions around it. A negative one lets leases run out
    /// during calls, which costs work that is done twice, and no more than that.
    pub lease_margin: time::Duration,
    /// This process's number among those that hold leases.
    pub holder: i32,
    /// How long a shutdown waits for work under way.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 32,
            lease: time::Duration::seconds(90),
            lease_margin: time::Duration::seconds(20),
            drain: Duration::from_secs(40),
            holder: 1 + fastrand::i32(0..i32::MAX),
        }
    }
}

impl Settings {
    /// Whether a lease outlasts a call with everything around it.
    pub fn outlasts(&self, longest_call: Duration) -> bool {
        self.room(longest_call) <= self.lease
    }

    /// What must be left of a lease when work begins that may call Stripe.
    fn room(&self, longest_call: Duration) -> time::Duration {
        time::Duration::try_from(longest_call)
            .unwrap_or(time::Duration::MAX)
            .saturating_add(self.lease_margin)
    }
}

/// Rows claimed per free place: events about one subject are folded, so there are more rows than work.
const ROWS_PER_PLACE: usize = 8;

/// Runs until `stop`; then takes no more, waits for what is under way, and gives back what is left.
pub async fn run(ctx: Context, settings: Settings, wake: Wake, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(settings.concurrency));
    let under_way = TaskTracker::new();
    let ends = Arc::new(Together::default());
    while !stop.is_cancelled() {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        drop(place);
        let free = places.available_permits();
        let claimed = match claim(&ctx, &settings, free * ROWS_PER_PLACE).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "tasks could not be claimed; trying again");
                pause(POLL, &stop).await;
                continue;
            }
        };
        if claimed.is_empty() {
            let patience = until_next(&ctx).await;
            tokio::select! {
                () = wake.wait(patience) => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        for work in claimed {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            if stop.is_cancelled() {
                give_back(&ctx, &work).await;
                continue;
            }
            let (ctx, wake, ends) = (ctx.clone(), wake.clone(), Arc::clone(&ends));
            let room = settings.room(ctx.longest_call);
            under_way.spawn(async move {
                perform(&ctx, &work, room, &ends).instrument(span_of(&work)).await;
                drop(place);
                // What it rang for, or stored, may be due now.
                if work.may_store_events() { wake.ring() } else { wake.ring_due() }
            });
        }
    }
    under_way.close();
    if tokio::time::timeout(settings.drain, under_way.wait()).await.is_err() {
        tracing::warn!(
            left = under_way.len(),
            "work was still under way at the end; its leases will run out"
        );
    }
}

async fn pause(length: Duration, stop: &CancellationToken) {
    let _ = tokio::time::timeout(length, stop.cancelled()).await;
}

async fn until_next(ctx: &Context) -> Duration {
    let next = async {
        let mut conn = ctx.pool.acquire().await?;
        tasks::next_due(&mut conn, ctx.livemode).await
    };
    match next.await {
        Ok(Some(at)) => {
            Duration::try_from(at - ctx.clock.now()).unwrap_or(Duration::ZERO).max(Duration::from_millis(1))
        }
        Ok(None) | Err(_) => POLL,
    }
}

async fn claim(ctx: &Context, settings: &Settings, rows: usize) -> Result<Vec<Work>, StoreError> {
    let now = ctx.clock.now();
    let token = Uuid::new_v4();
    let limit = i64::try_from(rows).unwrap_or(i64::MAX);
    let mut conn = ctx.pool.acquire().await?;
    let until = now + settings.lease;
    let rows = tasks::claim_due(&mut conn, ctx.livemode, token, settings.holder, now, until, limit).await?;
    Ok(fold(rows, token, until))
}

/// Puts the rows about one subject together; events and the timer of a subject are separate work.
fn fold(rows: Vec<Claimed>, token: Uuid, leased_until: OffsetDateTime) -> Vec<Work> {
    let mut works: BTreeMap<(Kind, String, bool), Work> = BTreeMap::new();
    for row in rows {
        let Some(kind) = Kind::parse(&row.kind) else {
            tracing::error!(
                kind = row.kind,
                "a task of a kind this version does not know waits for one that does"
            );
            continue;
        };
        let event = row.event_id.zip(row.event_created);
        let work = works.entry((kind, row.subject.clone(), event.is_some())).or_insert_with(|| Work {
            kind,
            subject: row.subject,
            events: Vec::new(),
            lease: Lease { ids: Vec::new(), token },
            leased_until,
            attempts: 0,
        });
        work.lease.ids.push(row.id);
        work.events.extend(event);
        work.attempts = work.attempts.max(row.attempts);
    }
    works.into_values().collect()
}

/// In the trace of the event or the order that it is about; what a timer does about anything else has one of its own.
fn span_of(work: &Work) -> Span {
    let span = tracing::info_span!(
        "task",
        kind = work.kind.as_str(),
        subject = work.subject,
        events = work.events.len(),
        event = work.events.first().map(|(event, _)| event.as_str()),
        attempt = work.attempts + 1,
    );
    let mut events = work.events.iter().map(|(event, _)| event.as_str());
    match (events.next(), work.kind) {
        (Some(first), _) => trail::begin(&span, first),
        (None, Kind::Transfer | Kind::Reversal | Kind::TopupIntent) => trail::begin(&span, &work.subject),
        (None, _) => {}
    }
    trail::link(&span, events);
    span
}

async fn perform(ctx: &Context, work: &Work, room: time::Duration, ends: &Ends) {
    if work.leased_until < ctx.clock.now() + room {
        // It waited for a place so long that its lease might end during a call: claim it anew.
        give_back(ctx, work).await;
        return;
    }
    // A panic in a flow must not take the worker with it; it counts as the work's own fault.
    let caught = tokio::spawn({
        let (ctx, subject) = (
            ctx.clone(),
            Work {
                events: work.events.clone(),
                lease: work.lease.clone(),
                subject: work.subject.clone(),
                ..*work
            },
        );
        async move { dispatch::run(&ctx, &subject).await }.in_current_span()
    });
    let outcome = match caught.await {
        Ok(outcome) => outcome,
        Err(panic) => Err(FlowError::Unreadable(format!("the program failed on it: {panic}"))),
    };
    let recorded = match outcome {
        Ok(again_at) => finish_with_others(ctx, work, again_at, ends).await,
        Err(FlowError::LeaseLost) => {
            tracing::info!("the lease was lost; somebody else goes on");
            Ok(())
        }
        Err(error) => fail(ctx, work, &error).await,
    };
    if let Err(error) = recorded {
        // The lease runs out and the work is done again, which does no harm.
        tracing::warn!(%error, "the end of a task could not be recorded");
    }
}

/// Where pieces of work that end at the same moment meet: one commit for all of them.
type Ends = Together<End, bool>;

/// Together with what ends at the same moment, or alone where that does not do.
async fn finish_with_others(
    ctx: &Context,
    work: &Work,
    again_at: Option<OffsetDateTime>,
    ends: &Ends,
) -> Result<(), StoreError> {
    if let [id] = work.lease.ids[..] {
        let all = async |ends: &[End]| {
            let finished = async {
                let mut conn = ctx.pool.acquire().await?;
                tasks::finish_each(&mut conn, ends, ctx.clock.now()).await
            };
            finished.await.unwrap_or_else(|error: StoreError| {
                tracing::debug!(%error, "tasks could not be finished together; each is finished alone");
                vec![false; ends.len()]
            })
        };
        if ends.join(End { id, token: work.lease.token, again_at }, all).await == Some(true) {
            return Ok(());
        }
    }
    finish(ctx, work, again_at).await
}

async fn finish(ctx: &Context, work: &Work, again_at: Option<OffsetDateTime>) -> Result<(), StoreError> {
    let mut conn = ctx.pool.acquire().await?;
    if !tasks::finish(&mut conn, &work.lease, again_at, ctx.clock.now()).await? {
        tracing::info!("the lease had run out before the task was finished");
    }
    Ok(())
}

async fn fail(ctx: &Context, work: &Work, error: &FlowError) -> Result<(), StoreError> {
    let now = ctx.clock.now();
    let reason = error.to_string();
    let mut conn = ctx.pool.acquire().await?;
    match after_failure(error.fault(), work.attempts + 1, work.of_events(), fastrand::f64()) {
        AfterFailure::Retry(pause) => {
            tracing::warn!(%error, attempts = work.attempts + 1, pause_ms = pause.whole_milliseconds() as i64, "a task failed");
            let asked = error.patience().map(|patience| now + patience);
            tasks::fail(&mut conn, &work.lease, &reason, now + pause, asked).await
        }
        // One bad event among several of its subject: each is tried alone before any is given up.
        AfterFailure::DeadLetter if work.lease.ids.len() > 1 => bury_the_bad(ctx, work, now).await,
        AfterFailure::DeadLetter => {
            tracing::error!(%error, "an event can't be applied; it is kept as a dead letter");
            tasks::bury(&mut conn, &work.lease, &reason, now).await
        }
    }
}

async fn bury_the_bad(ctx: &Context, work: &Work, now: OffsetDateTime) -> Result<(), StoreError> {
    for (id, event) in work.lease.ids.iter().zip(&work.events) {
        let alone = Work {
            events: vec![event.clone()],
            lease: Lease { ids: vec![*id], token: work.lease.token },
            subject: work.subject.clone(),
            ..*work
        };
        match dispatch::run(ctx, &alone).await {
            Ok(_) => finish(ctx, &alone, None).await?,
            Err(error) => {
                let mut conn = ctx.pool.acquire().await?;
                match after_failure(error.fault(), alone.attempts + 1, true, fastrand::f64()) {
                    AfterFailure::Retry(pause) => {
                        let asked = error.patience().map(|patience| now + patience);
                        tasks::fail(&mut conn, &alone.lease, &error.to_string(), now + pause, asked).await?
                    }
                    AfterFailure::DeadLetter => {
                        tracing::error!(%error, event = event.0, "an event can't be applied; it is kept as a dead letter");
                        tasks::bury(&mut conn, &alone.lease, &error.to_string(), now).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

async fn give_back(ctx: &Context, work: &Work) {
    let given = async {
        let mut conn = ctx.pool.acquire().await?;
        tasks::give_back(&mut conn, &work.lease, ctx.clock.now()).await
    };
    if let Err(error) = given.await {
        tracing::warn!(%error, "a task could not be given back; its lease will run out");
    }
}
