//! Errors as callers see them: RFC 9457 problems.
//!
//! A problem has a stable `code`; its `detail` tells the mend. What happened inside goes to the log only.
//! The body is written by the outermost layer, which knows the request's id.

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::ProblemCode;
use crate::domain::limits::Beyond;
use crate::domain::task::Fault;
use crate::flows::FlowError;
use crate::flows::control_transfer::OrderError;
use crate::flows::operate::OperateError;
use crate::flows::request_transfer::RequestError;
use crate::store::views::StoreError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident $code:literal $title:literal,)*) => {
        /// Every code a problem can have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub(super) const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The HTTP status it comes with.
            pub(super) fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// The word for programs.
            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The words for people.
            pub(super) fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

codes! {
    SignatureInvalid = BAD_REQUEST "signature_invalid" "The signature does not hold",
    EventMalformed = BAD_REQUEST "event_malformed" "Not a Stripe event",
    JsonMalformed = BAD_REQUEST "json_malformed" "The body is not JSON",
    IdempotencyKeyRequired = BAD_REQUEST "idempotency_key_required" "An Idempotency-Key is required",
    IdempotencyKeyInvalid = BAD_REQUEST "idempotency_key_invalid" "The Idempotency-Key is not well formed",
    Unauthorized = UNAUTHORIZED "unauthorized" "No valid API key",
    Forbidden = FORBIDDEN "forbidden" "The API key's scope does not reach this far",
    ApprovalByCreator = FORBIDDEN "approval_by_creator" "A transfer needs an approval by another key",
    NotFound = NOT_FOUND "not_found" "No such path",
    AccountUnknown = NOT_FOUND "account_unknown" "Unknown account",
    TopupUnknown = NOT_FOUND "topup_unknown" "Unknown top-up",
    TransferUnknown = NOT_FOUND "transfer_unknown" "Unknown transfer",
    EventUnknown = NOT_FOUND "event_unknown" "Unknown event",
    KeyUnknown = NOT_FOUND "key_unknown" "Unknown API key",
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed" "This path does not take this method",
    IdempotencyKeyReused = CONFLICT "idempotency_key_reused" "The Idempotency-Key was used with another request",
    TransferState = CONFLICT "transfer_state" "The transfer's status does not allow it",
    TopupState = CONFLICT "topup_state" "The top-up's status does not allow it",
    EventState = CONFLICT "event_state" "The event's status does not allow it",
    StripeRefused = CONFLICT "stripe_refused" "Stripe refuses it",
    PublicUrlMissing = CONFLICT "public_url_missing" "The service does not know its public address",
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large" "The body is too large",
    BodyIncomplete = BAD_REQUEST "body_incomplete" "The body did not arrive whole",
    Validation = UNPROCESSABLE_ENTITY "validation" "The request has invalid fields",
    Internal = INTERNAL_SERVER_ERROR "internal" "Something went wrong here",
    Unavailable = SERVICE_UNAVAILABLE "unavailable" "Not available at the moment",
    StripeUnavailable = SERVICE_UNAVAILABLE "stripe_unavailable" "Stripe gave no definite answer",
    Timeout = SERVICE_UNAVAILABLE "timeout" "It took too long",
}

/// A body of a megabyte can be wrong in more places than anyone wants to read.
const MOST_ERRORS: usize = 100;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// JSON pointer into the body; `/query/NAME` for a parameter of the query string.
    #[schema(example = "/amount")]
    pub(super) pointer: String,
    /// The mend.
    #[schema(example = "must be positive")]
    pub(super) detail: String,
}

/// An error's body: an RFC 9457 problem.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Written<'a> {
    /// `urn:sluicegate:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:sluicegate:problem:transfer_unknown")]
    kind: String,
    /// The code in plain words.
    #[schema(example = "Unknown transfer")]
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    #[schema(value_type = ProblemCode)]
    code: &'static str,
    /// The mend.
    #[schema(example = "Check the id; GET /v1/transfers lists what there is.")]
    detail: &'a str,
    /// By this the operators find the request in the log; it is in the header X-Request-Id too.
    #[schema(example = "req_6f1c7d2b8a9e4c05b3d1f0a27c94e856")]
    request_id: &'a str,
    /// For `validation`: every field that is wrong, up to a hundred.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// An error as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
}

impl Problem {
    /// A problem with a detail that tells the mend.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new() }
    }

    /// Fields that are wrong; all of them, up to a hundred.
    pub(super) fn validation(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MOST_ERRORS);
        let detail = "Mend the fields named in `errors` and send the request again.";
        Self { errors, ..Self::new(Code::Validation, detail) }
    }

    /// One field that is wrong.
    pub(super) fn field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::validation(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// The wrong fields, as those of what stands at this pointer.
    pub(super) fn errors_within(self, pointer: &str) -> Vec<FieldError> {
        let within =
            |error: FieldError| FieldError { pointer: format!("{pointer}{}", error.pointer), ..error };
        self.errors.into_iter().map(within).collect()
    }

    /// Its code, its detail, and every field that is wrong.
    pub(super) fn parts(&self) -> (Code, &str, &[FieldError]) {
        (self.code, &self.detail, &self.errors)
    }

    /// A fault of ours: the text goes to the log.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "the request failed through a fault of ours");
        Self::new(Code::Internal, "Try again; if it persists, tell the operators the request_id.")
    }

    /// Something this depends on is away.
    pub(super) fn unavailable() -> Self {
        Self::new(Code::Unavailable, "Try again after the seconds in Retry-After.")
    }

    /// The key was used with another request.
    pub(super) fn key_reused() -> Self {
        let detail = "Send the same request as before with this key, or another one with a new key.";
        Self::new(Code::IdempotencyKeyReused, detail)
    }

    /// The answer, written out.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let status = self.code.status();
        let mut response = (status, Json(self.written(request_id))).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluicegate\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }

    fn written<'a>(&'a self, request_id: &'a str) -> Written<'a> {
        Written {
            kind: format!("urn:sluicegate:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes out the problem that a handler left in its response, keeping what the router says is allowed.
pub(super) fn written_out(response: Response, request_id: &str) -> Response {
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    let mut written = problem.render(request_id);
    if let Some(allow) = response.headers().get(ALLOW) {
        written.headers_mut().insert(ALLOW, allow.clone());
    }
    written
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(error) => {
                tracing::warn!(%error, "the database is away or busy");
                Self::unavailable()
            }
            StoreError::Refused(_) | StoreError::Unreadable(_) => Self::internal(&error),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::NotFound => Self::transfer_unknown(),
            OrderError::State(status) => {
                let detail = format!(
                    "The transfer is {}. A waiting one can be canceled; a waiting or releasing one held, resumed \
                     or approved; a failed one retried; a released one reversed.",
                    status.as_str(),
                );
                Self::new(Code::TransferState, detail)
            }
            OrderError::ApprovalByCreator => {
                let detail = "Approve it with another API key than the one that asked for it.";
                Self::new(Code::ApprovalByCreator, detail)
            }
            OrderError::TooMuch(0) => {
                let detail = "All of the transfer came back already, or is to come back by an earlier order.";
                Self::new(Code::TransferState, detail)
            }
            OrderError::TooMuch(left) => Self::field(
                "/amount",
                format!("must be 1 to {left}, what is left to come back, in minor units"),
            ),
            OrderError::Store(error) => error.into(),
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::BeyondCap(_, beyond) => Self::validation(vec![beyond_cap("/amount", beyond)]),
            RequestError::Store(error) => error.into(),
        }
    }
}

/// What is wrong with an amount that no day could take.
pub(super) fn beyond_cap(pointer: &str, Beyond { cap_minor, per_destination }: Beyond) -> FieldError {
    let of = if per_destination { " per destination" } else { "" };
    let detail = format!(
        "is alone beyond the daily cap{of} of {cap_minor} minor units: split it, or have the cap raised"
    );
    FieldError { pointer: pointer.into(), detail }
}

impl From<OperateError> for Problem {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::NotFound => Self::new(Code::NotFound, "Check the id."),
            OperateError::Ignored(reason) => {
                let detail = format!("The event is ignored ({reason}); there is nothing to apply.");
                Self::new(Code::EventState, detail)
            }
            OperateError::Randomness(_) => Self::internal(&error),
            OperateError::Store(error) => error.into(),
        }
    }
}

impl From<FlowError> for Problem {
    fn from(error: FlowError) -> Self {
        match error.fault() {
            Fault::Passing => Self::unavailable(),
            Fault::Own => Self::internal(&error),
        }
    }
}

impl Problem {
    /// A body beyond what is taken.
    pub(super) fn body_too_large(limit: usize) -> Self {
        Self::new(Code::BodyTooLarge, format!("Send at most {limit} bytes in one request."))
    }

    /// A body that broke off.
    pub(super) fn body_incomplete() -> Self {
        Self::new(Code::BodyIncomplete, "Send the request again, with its whole body.")
    }

    /// No event or call has shown this account.
    pub(super) fn account_unknown() -> Self {
        let detail = "Check the id; ?refresh=true on its readiness asks Stripe for it.";
        Self::new(Code::AccountUnknown, detail)
    }

    /// No event or call has shown this top-up.
    pub(super) fn topup_unknown() -> Self {
        Self::new(Code::TopupUnknown, "Check the id; a new top-up shows once Stripe's event has arrived.")
    }

    /// There is no such transfer.
    pub(super) fn transfer_unknown() -> Self {
        Self::new(Code::TransferUnknown, "Check the id; GET /v1/transfers lists what there is.")
    }

    /// There is no such event.
    pub(super) fn event_unknown() -> Self {
        Self::new(Code::EventUnknown, "Check the id; GET /v1/events lists what was received.")
    }

    /// There is no such key.
    pub(super) fn key_unknown() -> Self {
        Self::new(Code::KeyUnknown, "Check the id; GET /v1/keys lists the keys.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_tells_its_code_the_mend_the_request_and_every_field() {
        let problem = Problem::field("/amount", "must be positive");
        assert_eq!(
            json!(problem.written("req_1")),
            json!({
                "type": "urn:sluicegate:problem:validation", "title": "The request has invalid fields",
                "status": 422, "code": "validation", "request_id": "req_1",
                "detail": "Mend the fields named in `errors` and send the request again.",
                "errors": [{"pointer": "/amount", "detail": "must be positive"}],
            })
        );
        let response = problem.render("req_1");
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn what_happened_inside_stays_inside() {
        let problem = Problem::from(StoreError::Unreadable("transfer xfer_1: status".into()));
        assert!(!json!(problem.written("r")).to_string().contains("xfer_1"));
        assert_eq!(problem.render("r").status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn waiting_and_keys_are_told_in_headers() {
        assert_eq!(Problem::unavailable().render("r").headers()[RETRY_AFTER], "2");
        let unauthorized = Problem::new(Code::Unauthorized, "Send a key.").render("r");
        assert!(unauthorized.headers().contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn the_router_s_allow_header_survives_the_writing_out() {
        let mut response = Problem::new(Code::MethodNotAllowed, "x").into_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        let written = written_out(response, "r");
        assert_eq!(
            (written.status().as_u16(), written.headers()[ALLOW].as_bytes()),
            (405, b"GET".as_slice())
        );
    }
}
