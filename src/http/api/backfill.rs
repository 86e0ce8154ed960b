//! `/v1/backfill`: the search of Stripe's event list for events that were never delivered.

use std::time::Duration;

use axum::extract::State;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{instant as shown, told};
use crate::flows::backfill::{self, Progress};
use crate::flows::order::Answer;
use crate::http::auth::Operator;
use crate::http::error::Problem;
use crate::http::extract::{Fields, OptionalBody, instant};
use crate::http::idempotency::Key;
use crate::http::query::Params;
use crate::http::state::Shared;

/// A caller waits this long at most; the search goes on without them.
const PATIENCE: Duration = Duration::from_secs(20);

/// `POST /v1/backfill`
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
    if let Some(before) = backfill::answered_before(ctx, &actor, once).await? {
        return told(before);
    }
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
    let body = answer(&progress, problem.as_deref());
    let ordered = backfill::end(ctx, &actor, once, &progress, Answer { status: 200, body }).await?;
    state.wake.notify_one();
    told(ordered)
}

fn answer(progress: &Progress, problem: Option<&str>) -> Value {
    json!({
        "since": shown(progress.since),
        "found": progress.seen,
        "stored": progress.found,
        "complete": progress.done,
        "problem": problem,
    })
}
