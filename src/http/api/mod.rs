//! The calls of `/v1`, one file a noun. Each says how its noun is shown.

pub(super) mod accounts;
pub(super) mod adjustments;
pub(super) mod backfill;
pub(super) mod events;
pub(super) mod funds;
pub(super) mod keys;
pub(super) mod onboarding_links;
pub(super) mod platform;
pub(super) mod releases;
pub(super) mod stream;
pub(super) mod topups;
pub(super) mod transfers;

use axum::Json;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use utoipa::ToSchema;

use super::error::Problem;
use super::words::Note;
use crate::flows::order::Ordered;

/// Why something is ordered.
#[expect(dead_code, reason = "the schema of what several calls read field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct ReasonRequest {
    #[schema(value_type = Option<Note>)]
    reason: Option<String>,
}

/// A status and a body.
type Answer = (StatusCode, Json<Value>);

/// An answer as it is kept beside its Idempotency-Key.
fn body_of(answer: &impl Serialize) -> Value {
    // Our answers are structs of texts, numbers and lists: each of them has a form in JSON.
    serde_json::to_value(answer).unwrap_or_default()
}

/// What a caller is told about an order.
fn told(ordered: Ordered) -> Result<Answer, Problem> {
    match ordered {
        Ordered::Answer(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
            Ok((status, Json(answer.body)))
        }
        Ordered::KeyReused => Err(Problem::key_reused()),
    }
}
