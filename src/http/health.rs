//! Whether the process lives, and whether it can work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusals::{Anything, Internal, Refuses};
use super::state::{AppState, Shared};
use super::words::Instant;
use crate::store::views::{self, Sweep};

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
