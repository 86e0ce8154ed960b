//! A client of Stripe's API: every call pinned to one version, paced, bounded and measured.
//!
//! The calls by name are in `calls`, one HTTP exchange is in `transport`. A POST goes out once: whoever owns the attempt decides about another. A GET is tried up to three times. The
//! client knows no database and no decision; what it returns says what is certain and what is not.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::Instant;
use tracing::{Instrument as _, field};

use super::error::{Failure, FailureKind, StripeError, header, replayed};
use super::form;
use super::rate::Pace;
use super::transport::{Call, Reply, Transport};
use super::wire::{Item, List, Object};

pub use super::calls::TransferQuery;
pub use super::rate::{Lane, Turn};
pub use super::transport::BuildError;

/// Entries asked for on one page: the most that Stripe gives.
const PAGE: u32 = 100;
/// A longer `Retry-After` than this is left to the caller.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where data about a person is sent to, or the addresses of their doors.
const PERSONAL: [&str; 2] = ["/v1/accounts", "/v1/account_links"];

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Like `https://api.stripe.com`.
    pub base: String,
    /// `sk_…` or `rk_…`.
    pub secret_key: SecretString,
    /// Calls a second of all live replicas together; 0 is no bound.
    pub rate_per_s: u32,
    /// Bounds a whole call: waiting for a turn (half of it at most), every try, and the pauses between.
    pub timeout: Duration,
    /// Bounds making a connection.
    pub connect_timeout: Duration,
}

/// The two separate worlds at Stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Real money.
    Live,
    /// No money; sandboxes included.
    Test,
}

/// The mode an API key works in, read from its prefix; None where it is no secret or restricted key.
pub fn key_mode(key: &str) -> Option<Mode> {
    let rest = key.strip_prefix("sk_").or_else(|| key.strip_prefix("rk_"))?;
    if rest.strip_prefix("live_").is_some_and(|rest| !rest.is_empty()) {
        Some(Mode::Live)
    } else if rest.strip_prefix("test_").is_some_and(|rest| !rest.is_empty()) {
        Some(Mode::Test)
    } else {
        None
    }
}

/// A success: what was read, and the bytes it was read from.
#[derive(Clone)]
pub struct Answer<T> {
    /// What was read.
    pub object: T,
    /// The body as it came.
    pub raw: Bytes,
    /// Stripe's name for the call.
    pub request_id: Option<String>,
    /// When Stripe answered, by its own clock, to the second.
    pub answered_at: Option<OffsetDateTime>,
    /// Whether Stripe answered from what it had stored for the key.
    pub replayed: bool,
}

impl<T: fmt::Debug> fmt::Debug for Answer<T> {
    // Without the body: it may hold an onboarding link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("object", &self.object)
            .field("request_id", &self.request_id)
            .field("replayed", &self.replayed)
            .finish_non_exhaustive()
    }
}

/// Calls Stripe's API. Shared by reference or in an `Arc`; connections are pooled.
pub struct Client {
    transport: Transport,
    pace: Pace,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.transport.base()).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client; connects to nothing yet.
    pub fn new(config: ClientConfig) -> Result<Self, BuildError> {
        let live = key_mode(config.secret_key.expose_secret()) == Some(Mode::Live);
        let transport = Transport::new(&config.base, config.secret_key, config.connect_timeout, live)?;
        Ok(Self { transport, pace: Pace::new(config.rate_per_s), timeout: config.timeout })
    }

    /// Divides the rate by the number of live replicas.
    pub fn set_share(&self, live_replicas: u32) {
        self.pace.set_share(live_replicas);
    }

    /// Any POST with parameters as JSON, see [`form::encode`].
    pub async fn post_form<T: Object>(
        &self,
        path: &str,
        parameters: &Value,
        idempotency_key: &str,
    ) -> Result<Answer<T>, StripeError> {
        self.post(path, &form::encode(parameters), idempotency_key).await
    }

    /// Any POST, once, with the body as it is. It goes in the release lane: all POSTs move money or have someone
    /// waiting.
    pub async fn post<T: Object>(
        &self,
        path: &str,
        body: &str,
        idempotency_key: &str,
    ) -> Result<Answer<T>, StripeError> {
        let call = Call::Post { path, body, idempotency_key };
        let deadline = Instant::now() + self.timeout;
        self.attempt(Lane::Release, call, deadline, 1).await.map_err(StripeError::of_post)
    }

    /// The same in a turn that was taken before.
    pub(super) async fn post_in<T: Object>(
        &self,
        turn: Turn,
        path: &str,
        body: &str,
        idempotency_key: &str,
    ) -> Result<Answer<T>, StripeError> {
        let call = Call::Post { path, body, idempotency_key };
        let span = span_of(call, 1);
        self.exchange(call, turn.deadline).instrument(span).await.map_err(StripeError::of_post)
    }

    /// Waits for a turn to call, half of a call's time at most: one that comes late leaves too little time for the
    /// answer, and a call cut off in mid-answer is worse than one never made.
    pub async fn turn(&self, lane: Lane) -> Option<Turn> {
        let began = Instant::now();
        let deadline = began + self.timeout;
        self.turn_by(lane, deadline).await.then(|| Turn { deadline, waited: began.elapsed() })
    }

    async fn turn_by(&self, lane: Lane, deadline: Instant) -> bool {
        let patience = deadline.saturating_duration_since(Instant::now()) / 2;
        tokio::time::timeout(patience, self.pace.turn(lane)).await.is_ok()
    }

    /// Any GET. Tried again twice, quickly, unless Stripe says not to or wants a longer pause than two seconds.
    pub async fn get<T: Object>(
        &self,
        lane: Lane,
        path: &str,
        query: &Value,
    ) -> Result<Answer<T>, StripeError> {
        self.get_encoded(lane, path, &form::encode(query)).await
    }

    /// The same with the query as it goes out: v2 repeats a parameter's name, which v1's form does not.
    pub(super) async fn get_encoded<T: Object>(
        &self,
        lane: Lane,
        path: &str,
        query: &str,
    ) -> Result<Answer<T>, StripeError> {
        let call = Call::Get { path, query };
        let deadline = Instant::now() + self.timeout;
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(2)
            .with_jitter();
        let tries = AtomicU32::new(0);
        (|| self.attempt(lane, call, deadline, 1 + tries.fetch_add(1, Ordering::Relaxed)))
            .retry(backoff)
            .when(|failure| worth_another_try(failure))
            .adjust(|failure, pause| {
                let pause = pause?.max(failure.retry_after.unwrap_or_default());
                let in_time = deadline.saturating_duration_since(Instant::now()) > pause;
                (in_time && failure.retry_after.unwrap_or_default() <= LONGEST_PAUSE).then_some(pause)
            })
            .await
            .map_err(StripeError::of_get)
    }

    /// Every entry of a list, page after page, each page bounded like a call. A `query` that is no object is
    /// none; a list that goes on after `max_pages` is an error.
    pub async fn list_all<T: Object>(
        &self,
        lane: Lane,
        path: &str,
        query: &Value,
        max_pages: u32,
    ) -> Result<Vec<Item<T>>, StripeError> {
        let mut query = json!(query.as_object());
        query["limit"] = json!(PAGE);
        let mut items = Vec::new();
        for _ in 0..max_pages {
            let Answer { object: page, request_id, .. } = self.get::<List<T>>(lane, path, &query).await?;
            let more = page.has_more;
            items.extend(page.data);
            if !more {
                return Ok(items);
            }
            let Some(last_id) = page.last_id else {
                let mut failure =
                    Failure::local(FailureKind::NoAnswer, "a page says that more follow, but not after what");
                failure.request_id = request_id;
                return Err(StripeError::of_get(failure));
            };
            query["starting_after"] = json!(last_id);
        }
        let message = format!("{path} goes on after {max_pages} pages");
        Err(StripeError::of_get(Failure::local(FailureKind::NoAnswer, message)))
    }

    /// One try: a turn, the exchange, the reading.
    async fn attempt<T: Object>(
        &self,
        lane: Lane,
        call: Call<'_>,
        deadline: Instant,
        attempt: u32,
    ) -> Result<Answer<T>, Box<Failure>> {
        let span = span_of(call, attempt);
        async {
            if !self.turn_by(lane, deadline).await {
                count(call, FailureKind::NotSent.as_str(), None);
                return Err(Failure::local(FailureKind::NotSent, "no turn came within the rate limit"));
            }
            self.exchange(call, deadline).await
        }
        .instrument(span)
        .await
    }

    async fn exchange<T: Object>(
        &self,
        call: Call<'_>,
        deadline: Instant,
    ) -> Result<Answer<T>, Box<Failure>> {
        let began = Instant::now();
        let result = self.transport.exchange(call, deadline).await.and_then(read);
        self.note(call, began.elapsed(), &result);
        result
    }

    fn note<T>(&self, call: Call<'_>, elapsed: Duration, result: &Result<Answer<T>, Box<Failure>>) {
        let (outcome, status, request_id) = match result {
            Ok(answer) => ("ok", Some(200), answer.request_id.as_deref()),
            Err(failure) => (failure.kind.as_str(), failure.status, failure.request_id.as_deref()),
        };
        let span = tracing::Span::current();
        span.record("outcome", outcome);
        span.record("status", status.unwrap_or(0));
        span.record("request_id", request_id);
        span.record("elapsed_ms", u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        match result {
            Ok(_) => tracing::debug!("Stripe answered"),
            // Refused in words that may repeat what was sent.
            Err(failure) if PERSONAL.contains(&call.path()) => {
                tracing::debug!(
                    kind = outcome,
                    code = failure.code,
                    param = failure.param,
                    "Stripe call failed"
                );
            }
            Err(failure) => tracing::debug!(%failure, "Stripe call failed"),
        }
        count(call, outcome, status);
        let labels = [("method", call.method().to_owned()), ("endpoint", endpoint(call.path()))];
        metrics::histogram!("sluicegate_stripe_call_seconds", &labels).record(elapsed);
    }
}

fn span_of(call: Call<'_>, attempt: u32) -> tracing::Span {
    tracing::info_span!(
        "stripe_call",
        method = call.method(),
        endpoint = endpoint(call.path()),
        path = call.path(),
        attempt,
        status = field::Empty,
        request_id = field::Empty,
        outcome = field::Empty,
        elapsed_ms = field::Empty,
    )
}

/// Whether a GET may go again at once. Stripe's own word counts before ours.
fn worth_another_try(failure: &Failure) -> bool {
    failure.should_retry.unwrap_or(failure.kind.passes())
}

/// Reads a success. One that can't be read is no answer: it took effect, or not.
fn read<T: Object>(reply: Reply) -> Result<Answer<T>, Box<Failure>> {
    let object = std::str::from_utf8(&reply.body)
        .map_err(|_| "a success that is not text".to_owned())
        .and_then(|text| T::from_json(text).map_err(|error| error.to_string()));
    match object {
        Ok(object) => Ok(Answer {
            object,
            request_id: header(&reply.headers, "request-id").map(str::to_owned),
            answered_at: header(&reply.headers, "date").and_then(http_date),
            replayed: replayed(&reply.headers),
            raw: reply.body,
        }),
        Err(message) => {
            let mut failure = Failure::local(FailureKind::NoAnswer, message);
            failure.status = Some(reply.status);
            failure.take_headers(&reply.headers);
            Err(failure)
        }
    }
}

/// An HTTP date is an RFC 2822 one, in GMT.
fn http_date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

fn count(call: Call<'_>, outcome: &'static str, status: Option<u16>) {
    let labels = [
        ("method", call.method().to_owned()),
        ("endpoint", endpoint(call.path())),
        ("outcome", outcome.to_owned()),
        ("status", status.unwrap_or(0).to_string()),
    ];
    metrics::counter!("sluicegate_stripe_calls_total", &labels).increment(1);
}

/// The path with its ids left out, so that the metrics' labels stay few.
fn endpoint(path: &str) -> String {
    const WORDS: &str = "v1 v2 core account accounts account_links balance balance_transactions cancel events \
        reversals topups transfers webhook_endpoints";
    let known = |part: &&str| part.is_empty() || WORDS.split_ascii_whitespace().any(|word| word == *part);
    path.split('/').map(|part| if known(&part) { part } else { "{id}" }).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_mode() {
        for (key, mode) in [
            ("sk_live_1", Some(Mode::Live)),
            ("rk_live_1", Some(Mode::Live)),
            ("sk_test_1", Some(Mode::Test)),
            ("rk_test_1", Some(Mode::Test)),
            ("pk_test_1", None),
            ("sk_test_", None),
            ("sk_1", None),
            ("", None),
        ] {
            assert_eq!(key_mode(key), mode, "{key}");
        }
    }

    #[test]
    fn stripes_own_time_is_read_from_its_answers() {
        let at = http_date("Sun, 22 Nov 2026 10:00:07 GMT").unwrap();
        assert_eq!(at, time::macros::datetime!(2026-11-22 10:00:07 UTC));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn ids_are_no_labels() {
        assert_eq!(endpoint("/v1/topups/tu_1/cancel"), "/v1/topups/{id}/cancel");
        assert_eq!(endpoint("/v1/balance"), "/v1/balance");
        assert_eq!(endpoint("/v2/core/accounts/acct_1"), "/v2/core/accounts/{id}");
    }
}
