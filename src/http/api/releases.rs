//! `/v1/releases`: the emergency stop.

use axum::extract::State;
use serde_json::json;

use super::{Answer, instant, told};
use crate::flows::operate;
use crate::http::auth::Operator;
use crate::http::error::Problem;
use crate::http::extract::{Fields, OptionalBody, text};
use crate::http::idempotency::Key;
use crate::http::query::Params;
use crate::http::state::Shared;

/// What is noted where nobody said why.
const NO_REASON: &str = "paused by an operator";

/// `POST /v1/releases/pause`
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

/// `POST /v1/releases/resume`
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
    let ordered = operate::set_pause(
        &state.ctx,
        &actor,
        once,
        cause,
        reason,
        |pause| json!({"paused": pause.paused, "reason": pause.cause, "by": pause.paused_by, "at": instant(pause.at)}),
    );
    let ordered = ordered.await?;
    state.wake.notify_one();
    told(ordered)
}
