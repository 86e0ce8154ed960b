//! Faults that the next calls run into: lost answers, stored 500s, conflicts, limits, gateways, delays.
//!
//! A fault says what goes wrong and for which calls; how a call suffers it is in `call`.

use serde::{Deserialize, Serialize};

use super::errors::{Answer, Refusal};

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// The connection closes and nothing was executed.
    DropBeforeCommit,
    /// The call executes and is kept for its key, then the connection closes without an answer.
    DropAfterCommit,
    /// 500, kept for the key, nothing executed.
    Error500BeforeCommit,
    /// The call executes, but 500 is what is answered and kept for the key.
    Error500AfterCommit,
    /// 409 `idempotency_key_in_use`, nothing executed, not kept.
    Conflict,
    /// 429, nothing executed, not kept; with a reason `rate_limit`, without one `lock_timeout`.
    RateLimited {
        /// The value of `Stripe-Rate-Limited-Reason`, for example `global-rate`.
        #[serde(default)]
        reason: Option<String>,
    },
    /// A gateway's 503 page without a Stripe body, nothing executed, not kept.
    UnavailableBeforeCommit,
    /// The call executes and is kept for its key, but a gateway's 503 page is answered.
    UnavailableAfterCommit,
    /// The call waits, its key in use, and executes then, whether or not the caller still listens.
    Delay {
        /// Milliseconds of real time.
        ms: u64,
    },
    /// The call executes at once and its answer waits.
    DelayAnswer {
        /// Milliseconds of real time.
        ms: u64,
    },
    /// A list hides what is younger than this.
    StaleList {
        /// Milliseconds of sandbox time; the largest number empties every list.
        younger_than_ms: u64,
    },
    /// 401, not kept.
    Unauthorized,
    /// A definite refusal, kept for the key, nothing executed.
    Refuse {
        /// HTTP status, 400 to 404.
        status: u16,
        /// Stripe's error code.
        code: String,
        /// The message.
        #[serde(default)]
        message: String,
    },
}

/// A fault and the calls it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// How many calls it hits; none: until cleared. JSON default 1 (`null` for none).
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// How many matching calls pass before it starts.
    #[serde(default)]
    pub skip: u32,
    /// The method it is for; none: any.
    #[serde(default)]
    pub method: Option<String>,
    /// What the path starts with; none: any.
    #[serde(default)]
    pub path: Option<String>,
    /// Sent as `Stripe-Should-Retry` with an answer that the fault makes; none: Stripe's own habit.
    #[serde(default)]
    pub should_retry: Option<bool>,
    /// Seconds, sent as `Retry-After` with an answer that the fault makes.
    #[serde(default)]
    pub retry_after: Option<u32>,
}

fn once() -> Option<u32> {
    Some(1)
}

impl Fault {
    /// A fault for the next call, whichever it is.
    pub fn next(kind: FaultKind) -> Self {
        Self { kind, times: once(), skip: 0, method: None, path: None, should_retry: None, retry_after: None }
    }

    /// The same fault, for this method and path prefix only.
    pub fn on(mut self, method: &str, path: &str) -> Self {
        self.method = Some(method.to_owned());
        self.path = Some(path.to_owned());
        self
    }

    /// The same fault, hitting this many calls; none: until cleared.
    pub fn times(mut self, times: Option<u32>) -> Self {
        self.times = times;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.times != Some(0)
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_deref().is_none_or(|prefix| path.starts_with(prefix))
    }

    /// True where the fault replaces what an execution would have answered and kept.
    fn rewrites_the_kept(&self) -> bool {
        matches!(
            self.kind,
            FaultKind::Error500BeforeCommit | FaultKind::Error500AfterCommit | FaultKind::Refuse { .. }
        )
    }

    /// The answer the fault makes up, where it makes one up.
    pub(super) fn answer(&self, key: Option<&str>) -> Option<Answer> {
        let mut should_retry = self.should_retry;
        let answer = match &self.kind {
            FaultKind::Error500BeforeCommit | FaultKind::Error500AfterCommit => {
                should_retry = should_retry.or(Some(false));
                let message = "Sorry! There was an error while talking to one of our backends. Support has been \
                    notified.";
                Refusal { kind: "api_error", ..Refusal::call(500, None, message) }.answer()
            }
            FaultKind::Conflict => {
                should_retry = should_retry.or(Some(true));
                super::idempotency::in_use(key.unwrap_or_default()).answer()
            }
            FaultKind::RateLimited { reason: Some(reason) } => {
                let message = "Request rate limit exceeded. You can learn more about rate limits here \
                    https://stripe.com/docs/rate-limits.";
                let refusal = Refusal::call(429, Some("rate_limit"), message);
                refusal.answer().with("stripe-rate-limited-reason", reason.clone())
            }
            FaultKind::RateLimited { reason: None } => {
                should_retry = should_retry.or(Some(true));
                let message = "This object can't be accessed right now because another API request or Stripe \
                    process is currently accessing it. If you see this error intermittently, retry the request.";
                Refusal::call(429, Some("lock_timeout"), message).answer()
            }
            FaultKind::UnavailableBeforeCommit | FaultKind::UnavailableAfterCommit => {
                Answer::html(503, "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>")
            }
            FaultKind::Unauthorized => unauthorized("sk_test_********0000").answer(),
            FaultKind::Refuse { status, code, message } => {
                Refusal::executed(*status, Some(code), message.clone()).answer()
            }
            FaultKind::DropBeforeCommit
            | FaultKind::DropAfterCommit
            | FaultKind::Delay { .. }
            | FaultKind::DelayAnswer { .. }
            | FaultKind::StaleList { .. } => return None,
        };
        let answer = match should_retry {
            Some(retry) => answer.with("stripe-should-retry", retry.to_string()),
            None => answer,
        };
        Some(match self.retry_after {
            Some(seconds) => answer.with("retry-after", seconds.to_string()),
            None => answer,
        })
    }
}

/// 401 for a key the sandbox does not take.
pub(super) fn unauthorized(shown: &str) -> Refusal {
    Refusal::call(401, None, format!("Invalid API Key provided: {shown}"))
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    waiting: Vec<Fault>,
}

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// What has not been used up.
    pub fn waiting(&self) -> &[Fault] {
        &self.waiting
    }

    /// The fault this call runs into, counted down. A call that is only replayed can't be given another
    /// kept answer: such faults wait for the next one that executes.
    pub fn take(&mut self, method: &str, path: &str, replay: bool) -> Option<Fault> {
        let mut hit = None;
        for (at, fault) in self.waiting.iter_mut().enumerate() {
            if !fault.matches(method, path) || (replay && fault.rewrites_the_kept()) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            hit = Some(at);
            break;
        }
        let at = hit?;
        let fault = self.waiting.get_mut(at)?;
        let taken = fault.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.waiting.remove(at);
            }
        }
        Some(taken)
    }
}
