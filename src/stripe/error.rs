//! What went wrong with a call, told by what it means for the money.
//!
//! An answer is Stripe's own only if it carries Stripe's JSON error body
//! (<https://docs.stripe.com/error-low-level>); whatever else a proxy or a broken connection gives says nothing
//! about whether the request took effect. No text here ever holds the API key.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::Deserialize;

/// A call without the answer that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How far the call came.
    pub kind: FailureKind,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Stripe's `error.type`, like `invalid_request_error`.
    pub error_type: Option<String>,
    /// Stripe's `error.code`, like `balance_insufficient`; an open set.
    pub code: Option<String>,
    /// The parameter at fault, like `destination`.
    pub param: Option<String>,
    /// In words, for operators.
    pub message: String,
    /// Stripe's name for the call.
    pub request_id: Option<String>,
    /// `Stripe-Should-Retry`, if sent.
    pub should_retry: Option<bool>,
    /// `Idempotent-Replayed`: the answer was stored for the key earlier, nothing ran now.
    pub replayed: bool,
    /// `Retry-After`, if sent in seconds.
    pub retry_after: Option<Duration>,
}

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Never reached Stripe: no turn within the rate limit, or no connection (name, TCP, TLS).
    NotSent,
    /// Sent, perhaps in part, and no answer of Stripe's came back whole: timeout, reset, 502, 503, 504, a body
    /// that is not Stripe's, a 2xx that can't be read.
    NoAnswer,
    /// 409: the same key is in use by a call under way, or the object is.
    Busy,
    /// 429, `lock_timeout` included: not executed.
    RateLimited,
    /// A 5xx of Stripe's own, which it stored for the key and will replay; the effect is not known.
    ServerError,
    /// `idempotency_error`: the key was used with other parameters before.
    KeyReuse,
    /// Any other 4xx of Stripe's own: definitely not done.
    Refused,
}

impl FailureKind {
    /// A stable word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::KeyReuse => "key_reuse",
            Self::Refused => "refused",
        }
    }

    /// Whether the cause may be gone a moment later.
    pub fn passes(self) -> bool {
        match self {
            Self::NotSent | Self::NoAnswer | Self::Busy | Self::RateLimited | Self::ServerError => true,
            Self::KeyReuse | Self::Refused => false,
        }
    }
}

/// A failed call, by what the caller may do next. Boxed, so that results stay small in every floor above.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StripeError {
    /// This call did nothing: it may be made again as it was.
    #[error("not done: {0}")]
    Retry(Box<Failure>),
    /// Stripe said no.
    #[error("refused: {0}")]
    Refused(Box<Failure>),
    /// Money may have moved: only a look-up, or the same call with the same key, can tell.
    #[error("outcome unknown: {0}")]
    Unknown(Box<Failure>),
}

impl StripeError {
    /// Sorts the failure of a reading call: whatever may pass is worth another try.
    pub fn of_get(failure: Box<Failure>) -> Self {
        if failure.kind.passes() { Self::Retry(failure) } else { Self::Refused(failure) }
    }

    /// Sorts the failure of a call that changes something.
    pub fn of_post(failure: Box<Failure>) -> Self {
        match failure.kind {
            FailureKind::NotSent | FailureKind::RateLimited => Self::Retry(failure),
            FailureKind::Refused => Self::Refused(failure),
            FailureKind::NoAnswer | FailureKind::Busy | FailureKind::ServerError | FailureKind::KeyReuse => {
                Self::Unknown(failure)
            }
        }
    }

    /// Whether a list can't be read on since the entry its last page ended with is gone.
    pub fn is_lost_place(&self) -> bool {
        matches!(self, Self::Refused(failure) if failure.code.as_deref() == Some("resource_missing"))
    }

    /// The particulars.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Retry(failure) | Self::Refused(failure) | Self::Unknown(failure) => failure,
        }
    }
}

/// Stripe's error body; `type` is in every one of them.
#[derive(Deserialize)]
struct Body {
    error: BodyError,
}

#[derive(Deserialize)]
struct BodyError {
    #[serde(rename = "type")]
    error_type: String,
    code: Option<serde_json::Value>,
    param: Option<serde_json::Value>,
    message: Option<serde_json::Value>,
}

impl Failure {
    /// A failure on this side of the wire.
    pub(super) fn local(kind: FailureKind, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            kind,
            status: None,
            error_type: None,
            code: None,
            param: None,
            message: message.into(),
            request_id: None,
            should_retry: None,
            replayed: false,
            retry_after: None,
        })
    }

    /// An answer that is no success, or a success that can't be used: `message` then says why.
    pub(super) fn of_answer(status: u16, headers: &HeaderMap, body: &[u8]) -> Box<Self> {
        let text = |value: Option<serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let mut failure =
            Self::local(FailureKind::NoAnswer, format!("HTTP {status} without Stripe's error body"));
        failure.status = Some(status);
        failure.take_headers(headers);
        if let Ok(Body { error }) = serde_json::from_slice::<Body>(body) {
            failure.code = text(error.code);
            failure.kind = kind(status, &error.error_type, failure.code.as_deref(), failure.replayed);
            failure.message = text(error.message).unwrap_or_else(|| format!("HTTP {status}"));
            failure.param = text(error.param);
            failure.error_type = Some(error.error_type);
        }
        failure
    }

    /// What the headers of any answer say.
    pub(super) fn take_headers(&mut self, headers: &HeaderMap) {
        self.request_id = header(headers, "request-id").map(str::to_owned);
        self.should_retry = header(headers, "stripe-should-retry").and_then(|text| text.parse().ok());
        self.replayed = replayed(headers);
        self.retry_after =
            header(headers, "retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    }

    /// How long Stripe asked to be left alone, an hour at most.
    pub fn patience(&self) -> Option<time::Duration> {
        let asked = time::Duration::try_from(self.retry_after?).unwrap_or(time::Duration::HOUR);
        Some(asked.min(time::Duration::HOUR))
    }

    /// Puts `…` where the text came to hold the secret: no answer should, but a proxy may echo headers.
    pub(super) fn without(mut self: Box<Self>, secret: &str) -> Box<Self> {
        let texts = [&mut self.error_type, &mut self.code, &mut self.param, &mut self.request_id];
        let texts = texts.into_iter().flatten().chain([&mut self.message]);
        for text in texts.filter(|text| text.contains(secret)) {
            *text = text.replace(secret, "…");
        }
        self
    }
}

/// Sorts an answer that carries Stripe's error body.
fn kind(status: u16, error_type: &str, code: Option<&str>, replayed: bool) -> FailureKind {
    match (status, code) {
        (409, _) | (400..=499, Some("idempotency_key_in_use")) => return FailureKind::Busy,
        (429, _) | (400..=499, Some("rate_limit" | "lock_timeout")) => return FailureKind::RateLimited,
        _ => {}
    }
    match status {
        400..=499 if error_type == "idempotency_error" => FailureKind::KeyReuse,
        400..=499 => FailureKind::Refused,
        // These come from the edge, even in Stripe's form, and need not have been stored: the same key again is
        // safe, another is not. A replay proves that it was stored.
        502..=504 if !replayed => FailureKind::NoAnswer,
        500..=599 => FailureKind::ServerError,
        _ => FailureKind::NoAnswer,
    }
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether Stripe answered from what it had stored for the idempotency key.
pub(super) fn replayed(headers: &HeaderMap) -> bool {
    header(headers, "idempotent-replayed") == Some("true")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.message, self.kind.as_str())?;
        if let Some(status) = self.status {
            write!(f, ", status {status}")?;
        }
        for (name, value) in [("code", &self.code), ("param", &self.param), ("request", &self.request_id)] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::domain::refusal::Sorted;

    #[derive(Deserialize)]
    struct Answer {
        status: u16,
        headers: BTreeMap<String, String>,
        body: serde_json::Value,
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        pairs.iter().map(|(n, v)| (name(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn stripe(kind: &str) -> String {
        format!(r#"{{"error":{{"type":"{kind}","message":"no"}}}}"#)
    }

    #[test]
    fn every_known_answer_is_sorted_by_what_it_means() {
        let expected = BTreeMap::from([
            ("400_balance_insufficient", FailureKind::Refused),
            ("400_insufficient_capabilities_for_transfer", FailureKind::Refused),
            ("400_transfers_not_allowed_region", FailureKind::Refused),
            ("400_resource_missing_destination", FailureKind::Refused),
            ("400_idempotency_params_differ", FailureKind::KeyReuse),
            ("400_idempotent_replay_of_balance_insufficient", FailureKind::Refused),
            ("400_amount_too_small", FailureKind::Refused),
            ("401_invalid_api_key", FailureKind::Refused),
            ("403_permission", FailureKind::Refused),
            ("409_idempotency_key_in_use", FailureKind::Busy),
            ("429_lock_timeout", FailureKind::RateLimited),
            ("429_rate_limit", FailureKind::RateLimited),
            ("500_indeterminate", FailureKind::ServerError),
            ("503_retryable", FailureKind::NoAnswer),
        ]);
        let text = include_str!("../../tests/fixtures/stripe/api/errors.json");
        let answers: BTreeMap<String, Answer> = serde_json::from_str(text).unwrap();
        assert_eq!(answers.len(), expected.len());
        for (name, answer) in answers {
            let pairs: Vec<_> = answer.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let failure =
                Failure::of_answer(answer.status, &headers(&pairs), answer.body.to_string().as_bytes());
            assert_eq!(Some(&failure.kind), expected.get(name.as_str()), "{name}");
            let error = &answer.body["error"];
            assert_eq!(failure.code.as_deref(), error["code"].as_str(), "{name}");
            assert_eq!(failure.param.as_deref(), error["param"].as_str(), "{name}");
            assert_eq!(Some(failure.message.as_str()), error["message"].as_str(), "{name}");
            assert_eq!(failure.request_id.as_ref(), answer.headers.get("request-id"), "{name}");
            assert_eq!(failure.replayed, answer.headers.contains_key("idempotent-replayed"), "{name}");
        }
    }

    #[test]
    fn only_an_answer_in_stripes_form_is_stripes() {
        use FailureKind::{Busy, KeyReuse, NoAnswer, RateLimited, Refused, ServerError};
        let html = "<html>Bad Gateway</html>".to_owned();
        let cases = [
            (502, html.clone(), NoAnswer),
            (500, html.clone(), NoAnswer),
            (403, html.clone(), NoAnswer),
            (429, html, NoAnswer),
            (404, r#"{"error":"not found"}"#.into(), NoAnswer),
            (404, r#"{"error":{"message":"not found"}}"#.into(), NoAnswer),
            (404, String::new(), NoAnswer),
            (302, stripe("invalid_request_error"), NoAnswer),
            (404, stripe("invalid_request_error"), Refused),
            (402, stripe("card_error"), Refused),
            (418, stripe("a_type_of_tomorrow"), Refused),
            (404, stripe("idempotency_error"), KeyReuse),
            (409, stripe("invalid_request_error"), Busy),
            (429, stripe("idempotency_error"), RateLimited),
            (502, stripe("api_error"), NoAnswer),
            (504, stripe("api_error"), NoAnswer),
            (500, stripe("api_error"), ServerError),
            (501, stripe("api_error"), ServerError),
        ];
        for (status, body, expected) in cases {
            let kind = Failure::of_answer(status, &HeaderMap::new(), body.as_bytes()).kind;
            assert_eq!(kind, expected, "{status} {body}");
        }
        let replay = headers(&[("idempotent-replayed", "true")]);
        assert_eq!(Failure::of_answer(503, &replay, stripe("api_error").as_bytes()).kind, ServerError);
    }

    #[test]
    fn what_is_refused_here_is_what_the_table_of_refusals_sorts() {
        let codes =
            [None, Some("rate_limit"), Some("lock_timeout"), Some("idempotency_key_in_use"), Some("x")];
        let types = ["invalid_request_error", "idempotency_error", "api_error", "card_error"];
        for status in 400..=599 {
            for (error_type, code) in types.iter().flat_map(|t| codes.iter().map(move |code| (*t, *code))) {
                let body = serde_json::json!({"error": {"type": error_type, "code": code, "message": "no"}});
                let failure = Failure::of_answer(status, &HeaderMap::new(), body.to_string().as_bytes());
                let sorted = crate::domain::refusal::Refusal {
                    status,
                    error_type: failure.error_type.clone(),
                    code: failure.code.clone(),
                    param: None,
                    message: String::new(),
                    told_to_repeat: false,
                };
                let definite = !matches!(sorted.sort(), Sorted::SlowDown | Sorted::LookUp);
                assert_eq!(failure.kind == FailureKind::Refused, definite, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_kind_means_one_thing_for_reading_and_another_for_money() {
        use FailureKind::{Busy, KeyReuse, NoAnswer, NotSent, RateLimited, Refused, ServerError};
        let word = |error: &StripeError| match error {
            StripeError::Retry(_) => "retry",
            StripeError::Refused(_) => "refused",
            StripeError::Unknown(_) => "unknown",
        };
        for (kind, get, post) in [
            (NotSent, "retry", "retry"),
            (NoAnswer, "retry", "unknown"),
            (Busy, "retry", "unknown"),
            (RateLimited, "retry", "retry"),
            (ServerError, "retry", "unknown"),
            (KeyReuse, "refused", "unknown"),
            (Refused, "refused", "refused"),
        ] {
            let failure = Failure::local(kind, "x");
            assert_eq!(word(&StripeError::of_get(failure.clone())), get, "{kind:?}");
            assert_eq!(word(&StripeError::of_post(failure)), post, "{kind:?}");
        }
    }

    #[test]
    fn headers_are_kept_and_secrets_are_not() {
        let sent =
            headers(&[("request-id", "req_1"), ("stripe-should-retry", "false"), ("retry-after", "7")]);
        let body =
            r#"{"error":{"type":"invalid_request_error","message":"key sk_test_abc is bad","code":"c"}}"#;
        let failure = Failure::of_answer(401, &sent, body.as_bytes()).without("sk_test_abc");
        assert_eq!(failure.should_retry, Some(false));
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        let shown = StripeError::of_post(failure).to_string();
        assert_eq!(shown, "refused: key … is bad (refused, status 401, code c, request req_1)");
        let odd =
            headers(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), ("stripe-should-retry", "maybe")]);
        let failure = Failure::of_answer(503, &odd, b"");
        assert_eq!((failure.retry_after, failure.should_retry), (None, None));
    }
}
