//! The calls of `/v1`, one file a noun. Each says how its noun is shown.

pub(super) mod accounts;
pub(super) mod adjustments;
pub(super) mod backfill;
pub(super) mod events;
pub(super) mod funds;
pub(super) mod keys;
pub(super) mod releases;
pub(super) mod topups;
pub(super) mod transfers;

use axum::Json;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::Problem;
use crate::flows::order::Ordered;

/// A status and a body.
type Answer = (StatusCode, Json<Value>);

/// An instant as callers see it: RFC 3339, UTC.
fn instant(at: OffsetDateTime) -> Value {
    // Formatting fails only outside the years 0 to 9999, which neither Stripe nor a caller can send.
    at.format(&Rfc3339).map_or(Value::Null, Value::String)
}

/// The same of one that may be absent.
pub(super) fn maybe(at: Option<OffsetDateTime>) -> Value {
    at.map_or(Value::Null, instant)
}

/// The same, to the whole second.
fn second(at: OffsetDateTime) -> Value {
    instant(at.truncate_to_second())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_cut_where_seconds_are_asked() {
        let at = time::macros::datetime!(2026-11-22 10:00:00.123456 UTC);
        assert_eq!(instant(at), "2026-11-22T10:00:00.123456Z");
        assert_eq!(second(at), "2026-11-22T10:00:00Z");
        assert_eq!(maybe(None), Value::Null);
    }
}
