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
        // All that moves money is of v1, whose every error names its type: without one, the answer may be anybody's.
        let is_stripes = failure.status.is_none() || failure.error_type.is_some();
        match failure.kind {
            FailureKind::NotSent => Self::Retry(failure),
            FailureKind::RateLimited if is_stripes => Self::Retry(failure),
            FailureKind::Refused if is_stripes => Self::Refused(failure),
            _ => Self::Unknown(failure),
        }
    }

    /// Whether a list can't be read on since the entry its last page ended with is gone.
    pub fn is_lost_place(&self) -> bool {
        matches!(self, Self::Refused(failure) if failure.code.as_deref() == Some("resource_missing"))
    }

    /// Whether v2 of the API is not to be had: by a restricted key, in test mode, of this account. That is no word
    /// about the account, in whichever form it comes.
    pub fn is_without_v2(&self) -> bool {
        let failure = self.failure();
        let for_now = matches!(failure.kind, FailureKind::Busy | FailureKind::RateLimited)
            || matches!(failure.status, Some(408 | 409 | 425 | 429));
        matches!(self, Self::Refused(_)) || (matches!(failure.status, Some(400..=499)) && !for_now)
    }

    /// The particulars.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Retry(failure) | Self::Refused(failure) | Self::Unknown(failure) => failure,
        }
    }
}

/// Stripe's error body. `type` is in every one of v1; those of v2 may have a `code` alone.
#[derive(Deserialize)]
struct Body {
    error: BodyError,
}

#[derive(Deserialize)]
struct BodyError {
    #[serde(rename = "type")]
    error_type: Option<serde_json::Value>,
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

    /// Whether our key lacks a permission, like `more_permissions_required`: that says nothing about what was asked for.
    pub fn is_of_permissions(&self) -> bool {
        self.code.as_deref().is_some_and(|code| code.contains("permission"))
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
            let (error_type, code) = (text(error.error_type), text(error.code));
            if error_type.is_none() && code.is_none() {
                return failure;
            }
            failure.kind = kind(status, error_type.as_deref(), code.as_deref(), failure.replayed);
            failure.message = text(error.message).unwrap_or_else(|| format!("HTTP {status}"));
            failure.param = text(error.param);
            (failure.error_type, failure.code) = (error_type, code);
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
fn kind(status: u16, error_type: Option<&str>, code: Option<&str>, replayed: bool) -> FailureKind {
    match (status, code) {
        (409, _) | (400..=499, Some("idempotency_key_in_use")) => return FailureKind::Busy,
        (429, _) | (400..=499, Some("rate_limit" | "lock_timeout")) => return FailureKind::RateLimited,
        _ => {}
    }
    match status {
        400..=499 if error_type == Some("idempotency_error") => FailureKind::KeyReuse,
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
