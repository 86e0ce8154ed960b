//! `/v1/backfill`: the search of Stripe's event list for events that were never delivered.

use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{body_of, told};
use crate::domain::share::Share;
use crate::flows::backfill::{self, Progress};
use crate::flows::order::{Answer, Claimed, claim};
use crate::http::auth::Operator;
use crate::http::error::Problem;
use crate::http::extract::{Fields, OptionalBody, instant};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::Params;
use crate::http::refusals::{AnyOrder, Refuses};
use crate::http::state::Shared;
use crate::http::words::{self, Moment};

/// A caller waits this long at most; the search goes on without them.
const PATIENCE: Duration = Duration::from_secs(20);

/// Searches Stripe's event list for what was never delivered
///
/// It answers after 20 seconds at most; what is left to search goes on without the caller.
#[utoipa::path(
    post, path = "/v1/backfill", tag = "events", operation_id = "backfill_events",
    params(MayRepeat),
    request_body = Option<BackfillRequest>,
    responses((status = 200, description = "How far it came.", body = Backfill), Refuses<AnyOrder>),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Operator(actor): Operator,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<super::Answer, Problem> {
    params.finish()?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let since = fields.optional("since", instant);
    if since.is_some_and(|since| since > state.ctx.clock.now()) {
        fields.wrong("/since", "must not lie in the future");
    }
    let since = fields.finish(Some(since))?;
    let (ctx, once) = (&state.ctx, once.as_ref());
    let claim = match claim(ctx, &actor, once).await? {
        Claimed::Before(before) => return told(before),
        Claimed::Mine(claim) => claim,
    };
    let mut progress = backfill::start(ctx, since).await?;
    let until = Instant::now() + PATIENCE;
    let mut problem = None;
    while !progress.done && Instant::now() < until {
        match tokio::time::timeout_at(until, backfill::step(ctx, &progress)).await {
            Ok(Ok(further)) => progress = further,
            // The worker goes on with it, as often as it takes.
            Ok(Err(error)) => {
                problem = Some(error.to_string());
                break;
            }
            Err(_) => break,
        }
    }
    let body = body_of(&Backfill::of(&progress, problem));
    let ordered = backfill::end(ctx, claim, &progress, Answer { status: 200, body }).await?;
    state.bell.ring_stored(Share::ALL);
    state.bell.ring_due();
    told(ordered)
}

/// Where to begin.
#[expect(dead_code, reason = "the schema of what `create` reads field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct BackfillRequest {
    /// Not in the future; left out: 30 days ago, as far back as Stripe lists.
    #[schema(value_type = Option<Moment>)]
    since: Option<String>,
}

/// What the search has found so far.
#[derive(Debug, Serialize, ToSchema)]
struct Backfill {
    since: words::Instant,
    /// How many events were read.
    found: i64,
    /// How many of them were not known.
    stored: i64,
    /// Whether the list was read to its end.
    complete: bool,
    /// Why it is not; the search goes on by itself.
    problem: Option<String>,
}

impl Backfill {
    fn of(progress: &Progress, problem: Option<String>) -> Self {
        Self {
            since: words::Instant::of(progress.since),
            found: progress.seen,
            stored: progress.found,
            complete: progress.done,
            problem,
        }
    }
}
