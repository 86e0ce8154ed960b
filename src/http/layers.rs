//! What every request passes through: its id, its span, a bound on its time, and how a failure is written.
//!
//! Neither a body nor a header but the request's id is logged.

use std::any::Any;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::error::{Code, Problem, written_out};
use super::serving::Client;
use super::state::Shared;

/// No request takes longer,
const LONGEST: Duration = Duration::from_secs(30);
/// but one that may wait for a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(90);
/// A longer request id is replaced.
const LONGEST_ID: usize = 128;

/// Where callers ask most, and may wait.
const READINESS: &str = "/v1/accounts/{acct}/readiness";

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer.
pub(super) async fn envelop(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let request_id = request_id(request.headers());
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let client =
        request.extensions().get::<Client>().map(|Client(address)| tracing::field::display(*address));
    let (method, caller) = (request.method(), tracing::field::Empty);
    let probes = matches!(path.as_str(), "/healthz" | "/readyz" | "/metrics");
    // What machines ask every few seconds is no story: it is not exported.
    let span = if probes {
        tracing::trace_span!("request", %method, path, request_id)
    } else {
        tracing::info_span!("request", %method, path, request_id, client, caller)
    };
    let waits = path == READINESS;
    // Deliveries and questions come by the thousand, and the outcomes of deliveries are counted.
    let quiet = probes || waits || path == "/webhooks/stripe";
    let longest = if waits { LONGEST_WAIT } else { LONGEST };
    answer(state, request, next, request_id, quiet, longest).instrument(span).await
}

async fn answer(
    state: Shared,
    request: Request,
    next: Next,
    request_id: String,
    quiet: bool,
    longest: Duration,
) -> Response {
    let started = state.ctx.clock.now();
    let response = match tokio::time::timeout(longest, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "It is not known whether it was done: repeat it with the same Idempotency-Key.";
            Problem::new(Code::Timeout, detail).into_response()
        }
    };
    let mut response = written_out(response, &request_id);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.entry(axum::http::header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    let ms = (state.ctx.clock.now() - started).whole_milliseconds().max(0);
    let status = response.status().as_u16();
    if quiet && status < 500 {
        tracing::debug!(status, ms, "answered");
    } else {
        tracing::info!(status, ms, "answered");
    }
    response
}

/// The caller's id for the request if it is a plain word, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=LONGEST_ID).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    let theirs = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    theirs.map_or_else(|| format!("req_{}", Uuid::new_v4().simple()), str::to_owned)
}

/// The answer to a request whose handler panicked.
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response<Body> {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::internal(&format!("panic: {text}")).into_response()
}

/// The answer where there is nothing.
pub(super) async fn not_found() -> Problem {
    Problem::new(Code::NotFound, "Check the path; every one of the API starts with /v1.")
}

/// The answer where there is something, for other methods.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed, "Use one of the methods in the Allow header.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        let of = |id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID.clone(), HeaderValue::from_bytes(id).unwrap());
            request_id(&headers)
        };
        assert_eq!(of(b"abc-1.2_3:4"), "abc-1.2_3:4");
        for odd in [b"".as_slice(), b"a b", b"a\"b", "ä".as_bytes(), &[b'x'; 129]] {
            assert!(of(odd).starts_with("req_"));
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
