//! `/v1/releases`: the emergency stop.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, ReasonRequest, body_of, told};
use crate::flows::operate::{self, Pause};
use crate::http::auth::Operator;
use crate::http::error::Problem;
use crate::http::extract::{Fields, OptionalBody, text};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::Params;
use crate::http::refusals::{AnyOrder, Refuses};
use crate::http::state::Shared;
use crate::http::words::Instant;

/// What is noted where nobody said why.
const NO_REASON: &str = "paused by an operator";

/// Stops all releases
#[utoipa::path(
    post, path = "/v1/releases/pause", tag = "releases", operation_id = "pause_releases",
    params(MayRepeat),
    request_body = Option<ReasonRequest>,
    responses((status = 200, description = "The emergency stop as it is now.", body = Stop), Refuses<AnyOrder>),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn pause(
    State(state): State<Shared>,
    caller: Operator,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let reason = fields.optional("reason", text(500));
    fields.finish(Some(()))?;
    let cause = reason.as_deref().unwrap_or(NO_REASON);
    set(&state, caller, once.as_ref(), Some(cause), reason.as_deref()).await
}

/// Lets releases go on
#[utoipa::path(
    post, path = "/v1/releases/resume", tag = "releases", operation_id = "resume_releases",
    params(MayRepeat),
    request_body = Option<ReasonRequest>,
    responses((status = 200, description = "The emergency stop as it is now.", body = Stop), Refuses<AnyOrder>),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn resume(
    State(state): State<Shared>,
    caller: Operator,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let reason = fields.optional("reason", text(500));
    fields.finish(Some(()))?;
    set(&state, caller, once.as_ref(), None, reason.as_deref()).await
}

async fn set(
    state: &Shared,
    Operator(actor): Operator,
    once: Option<&crate::flows::Once>,
    cause: Option<&str>,
    reason: Option<&str>,
) -> Result<Answer, Problem> {
    let shown = |pause: &Pause| {
        let by = pause.paused_by.clone();
        body_of(&Stop { paused: pause.paused, reason: pause.cause.clone(), by, at: Instant::of(pause.at) })
    };
    let ordered = operate::set_pause(&state.ctx, &actor, once, cause, reason, shown).await?;
    state.bell.ring_due();
    told(ordered)
}

/// The emergency stop.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EmergencyStop)]
struct Stop {
    /// Whether nothing is released.
    paused: bool,
    /// Why.
    reason: Option<String>,
    /// The key that ordered it, or `sluicegate` where Stripe refused what we are configured to do.
    #[schema(example = "admin")]
    by: Option<String>,
    /// Since when it is so.
    at: Instant,
}
