//! Whether the process lives, whether it can work, and what it measures.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics::Label;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusals::{Anything, Internal, Refuses};
use super::state::{AppState, Shared};
use super::words::Instant;
use crate::store::views::{self, Gauges, Sweep};

/// Whoever probes does not wait as long as a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process lives
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "get_health",
    responses((status = 200, description = "It does.", body = Alive), Refuses<Anything>),
)]
pub(super) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// A process that lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether it can work: the database is reachable and migrated
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "get_readyz",
    responses(
        (status = 200, description = "It can.", body = Ready),
        (status = 503, description = "It can't.", body = Ready),
        Refuses<Internal>,
    ),
)]
pub(super) async fn ready(State(state): State<Shared>) -> impl IntoResponse {
    let asked = tokio::time::timeout(PATIENCE, views::health(&state.ctx.pool)).await;
    let health = asked.unwrap_or(views::Health { database: false, migrations: false });
    let ready = health.database && health.migrations;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |ok: bool| if ok { "ok" } else { "unavailable" };
    let migrations = match (health.database, health.migrations) {
        (_, true) => "ok",
        (true, false) => "missing",
        (false, false) => "unknown",
    };
    let details = if ready { details(&state).await } else { None };
    (status, Json(Ready { status: word(ready), database: word(health.database), migrations, details }))
}

/// Whether it can work, and how far it has caught up with Stripe.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    status: &'static str,
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    database: &'static str,
    /// `ok`, `missing` or `unknown`.
    #[schema(example = "ok")]
    migrations: &'static str,
    /// What does not keep it from working, but is good to know; null where the database does not answer.
    details: Option<Details>,
}

/// How far it has caught up with Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReadyDetails)]
struct Details {
    /// Every event that Stripe created up to then is here.
    events_complete_to: Option<Instant>,
    /// The walks through Stripe's lists.
    lists: Vec<Walk>,
    /// Set while Stripe's transfers are matched after a restore: nothing is released meanwhile.
    catching_up_since: Option<Instant>,
    /// How many were matched.
    transfers_matched: Option<i64>,
}

/// How far the walk through one of Stripe's lists has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListWalk)]
struct Walk {
    #[schema(example = "events")]
    list: String,
    /// Only what was created then or later is listed.
    since: Option<Instant>,
    started_at: Instant,
    finished_at: Option<Instant>,
    /// Entries read.
    read: i64,
    /// Of those, what was not known, or held differently.
    found: i64,
    /// Everything created up to then was read.
    complete_to: Option<Instant>,
    /// Whether it was read to its end at least once.
    imported: bool,
}

async fn details(state: &AppState) -> Option<Details> {
    let told = tokio::time::timeout(PATIENCE, views::progress(&state.ctx.pool, state.ctx.livemode)).await;
    let progress = told.ok()?.ok()?;
    Some(Details {
        events_complete_to: Instant::maybe(progress.events_complete_to()),
        lists: progress.sweeps.iter().map(Walk::of).collect(),
        catching_up_since: Instant::maybe(progress.catch_up.as_ref().map(|catch_up| catch_up.from)),
        transfers_matched: progress.catch_up.map(|catch_up| catch_up.seen),
    })
}

impl Walk {
    fn of(sweep: &Sweep) -> Self {
        Self {
            list: sweep.name.clone(),
            since: Instant::maybe(sweep.since),
            started_at: Instant::of(sweep.started_at),
            finished_at: Instant::maybe(sweep.finished_at),
            read: sweep.seen,
            found: sweep.found,
            complete_to: Instant::maybe(sweep.complete_to),
            imported: sweep.runs > 0,
        }
    }
}

/// Measurements for Prometheus
///
/// Without the database, what the process itself counts is still told.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "get_metrics",
    responses(
        (status = 200, description = "Prometheus text.", body = String, content_type = "text/plain"),
        Refuses<Anything>,
    ),
)]
pub(super) async fn metrics(State(state): State<Shared>) -> impl IntoResponse {
    let now = state.ctx.clock.now();
    let measured = views::gauges(&state.ctx.pool, state.ctx.livemode, now).await;
    let mut samples = pool_samples(&state);
    samples.push(("sluicegate_database_up", vec![], if measured.is_ok() { 1.0 } else { 0.0 }));
    match measured {
        Ok(gauges) => {
            let lag = gauges.oldest_due.map_or(0.0, |due| (now - due).as_seconds_f64());
            samples.push(("sluicegate_event_lag_seconds", vec![], lag));
            samples.extend(samples_of(&gauges));
            set(&samples);
        }
        Err(error) => {
            tracing::warn!(%error, "the database could not be measured");
            samples.iter().for_each(record);
        }
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (state.metrics)())
}

/// A gauge's name, its labels and its value.
type Sample = (&'static str, Vec<(&'static str, String)>, f64);

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 minor units are shown exactly")]
fn float(number: i64) -> f64 {
    number as f64
}

fn pool_samples(state: &AppState) -> Vec<Sample> {
    let idle = i64::try_from(state.ctx.pool.num_idle()).unwrap_or(i64::MAX);
    let busy = i64::from(state.ctx.pool.size()).saturating_sub(idle);
    let sample =
        |word: &str, count| ("sluicegate_pool_connections", vec![("state", word.to_owned())], float(count));
    vec![sample("idle", idle), sample("busy", busy)]
}

fn samples_of(gauges: &Gauges) -> Vec<Sample> {
    let mut samples = vec![("sluicegate_dead_letters", vec![], float(gauges.dead_letters))];
    if let Some(complete_to) = gauges.events_complete_to {
        samples.push((
            "sluicegate_events_complete_to_timestamp_seconds",
            vec![],
            float(complete_to.unix_timestamp()),
        ));
    }
    samples.push(("sluicegate_topups_unknown", vec![], float(gauges.unknown_topups)));
    if let Some(automatic) = gauges.payouts_automatic {
        samples.push(("sluicegate_platform_payouts_automatic", vec![], f64::from(u8::from(automatic))));
    }
    for tasks in &gauges.tasks {
        let labels = vec![("kind", tasks.kind.clone()), ("state", tasks.state.clone())];
        samples.push(("sluicegate_tasks", labels, float(tasks.count)));
    }
    for waiting in &gauges.waiting {
        let labels = vec![("reason", waiting.reason.clone()), ("currency", waiting.currency.clone())];
        samples.push(("sluicegate_transfers_waiting", labels.clone(), float(waiting.count)));
        samples.push(("sluicegate_transfers_waiting_minor_units", labels, float(waiting.amount)));
    }
    for funds in &gauges.funds {
        let states = [
            ("settled", Some(funds.settled)),
            ("reserved", Some(funds.reserved)),
            ("released", Some(funds.released)),
            ("available", Some(funds.available())),
            ("pending", Some(funds.pending)),
            ("stripe_available", funds.stripe_available),
            ("drift", funds.drift),
        ];
        for (word, amount) in states {
            let Some(amount) = amount else { continue };
            let labels = vec![("currency", funds.currency.clone()), ("state", word.to_owned())];
            samples.push(("sluicegate_funds_minor_units", labels, float(amount)));
        }
    }
    samples
}

fn record((name, labels, value): &Sample) {
    let labels: Vec<Label> = labels.iter().map(|(key, value)| Label::new(*key, value.clone())).collect();
    metrics::gauge!(*name, labels).set(*value);
}

/// Sets these gauges, and to zero those of the last time that are not among them: a recorder keeps what it
/// was told.
fn set(samples: &[Sample]) {
    type Series = (&'static str, Vec<(&'static str, String)>);
    static LAST: Mutex<Option<HashSet<Series>>> = Mutex::new(None);
    let now: HashSet<Series> = samples.iter().map(|(name, labels, _)| (*name, labels.clone())).collect();
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let gone = last.iter().flatten().filter(|series| !now.contains(*series));
    gone.for_each(|(name, labels)| record(&(name, labels.clone(), 0.0)));
    samples.iter().for_each(record);
    *last = Some(now);
}
