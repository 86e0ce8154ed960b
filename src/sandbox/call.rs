//! One API call from admission to answer: key, version, idempotency, faults, execution, the log.
//!
//! An admitted call runs to its end whether or not the caller still listens, as Stripe's do.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::Shared;
use super::errors::{Answer, Refusal};
use super::faults::{Fault, FaultKind, unauthorized};
use super::forms::Params;
use super::idempotency::{Standing, differs, in_use};
use super::moments::{Moment, Stage};
use super::routes::{Request, dispatch};
use super::state::{Origin, World};

/// How many calls are remembered.
const CALLS_KEPT: usize = 100_000;

/// One call as it was logged, for assertions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Counts from 1 in the order of arrival; stays the same while older calls are forgotten.
    pub number: u64,
    /// Sandbox time of arrival, microseconds since 1970.
    pub at_us: i64,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query string of a GET, form body of a POST, as sent.
    pub body: String,
    /// The `Idempotency-Key` sent.
    pub idempotency_key: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The status answered; none where the connection was cut, or the call is still running.
    pub status: Option<u16>,
    /// Stripe's error code or type in the answer.
    pub error: Option<String>,
    /// True where a kept answer was replayed.
    pub replayed: bool,
    /// True where a POST itself took effect in this call.
    pub committed: bool,
    /// The fault it ran into.
    pub fault: Option<FaultKind>,
}

/// A call as it came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub method: Method,
    pub path: String,
    pub encoded: String,
    pub headers: HeaderMap,
}

/// How a call got past the door.
enum Admitted {
    /// Answered at the door.
    Refused(Refusal),
    /// A kept answer to give again.
    Replay(Answer, String),
    /// To be executed, under a key where it has one.
    Execute(Option<String>),
}

impl Incoming {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn key(&self) -> Option<&str> {
        self.header("idempotency-key").filter(|_| self.method == Method::POST)
    }
}

/// Runs one call; none where the connection is to be cut without an answer.
pub(super) async fn run(shared: Arc<Shared>, incoming: Incoming) -> Option<Answer> {
    let params = Params::parse(&incoming.encoded);
    let (number, request_id, admitted, fault) = shared.lock().admit(&incoming, &params);
    let date = http_date(shared.lock().now_s());
    tell(&shared, &incoming, Stage::Arrived);
    if let Some(FaultKind::Delay { ms }) = fault.as_ref().map(|fault| &fault.kind) {
        shared.pause(Duration::from_millis(*ms)).await;
    }
    let (answer, outcome) = {
        let mut world = shared.lock();
        world.tick();
        let (answer, mut outcome) = world.finish(&incoming, &params, &request_id, admitted, fault.as_ref());
        outcome.fault = fault.as_ref().map(|fault| fault.kind.clone());
        world.note(number, outcome.clone());
        (answer, outcome)
    };
    tracing::debug!(method = %incoming.method, path = incoming.path, status = outcome.status, "sandbox call");
    tell(&shared, &incoming, Stage::Committed);
    if let Some(FaultKind::DelayAnswer { ms }) = fault.map(|fault| fault.kind) {
        shared.pause(Duration::from_millis(ms)).await;
    }
    tell(&shared, &incoming, Stage::Answered);
    answer.map(|answer| {
        let version = incoming.header("stripe-version").unwrap_or_default();
        answer.with("date", date).with("request-id", request_id).with("stripe-version", version)
    })
}

/// The sandbox's time as HTTP writes it; empty, and then left to the server, beyond the year 9999.
fn http_date(unix_s: i64) -> String {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    OffsetDateTime::from_unix_timestamp(unix_s).ok().and_then(|at| at.format(form).ok()).unwrap_or_default()
}

/// Tells whoever listens how far a call has come.
fn tell(shared: &Shared, incoming: &Incoming, stage: Stage) {
    let authorization = incoming.header("authorization").unwrap_or_default();
    let api_key = authorization.split_once(' ').map_or("", |(_, key)| key.trim()).to_owned();
    let (method, path) = (incoming.method.to_string(), incoming.path.clone());
    // Nobody listens, mostly.
    let _ = shared.moments.send(Moment { stage, method, path, api_key });
}

impl World {
    fn admit(&mut self, incoming: &Incoming, params: &Params) -> (u64, String, Admitted, Option<Fault>) {
        let request_id = self.new_id("req_");
        let number = self.log(incoming);
        let admitted = self.door(incoming, params);
        let replay = matches!(admitted, Admitted::Replay(..));
        // A call refused at the door is the caller's own fault and uses up none of ours.
        let fault = match admitted {
            Admitted::Refused(_) => None,
            _ => self.faults.take(incoming.method.as_str(), &incoming.path, replay),
        };
        (number, request_id, admitted, fault)
    }

    fn door(&mut self, incoming: &Incoming, params: &Params) -> Admitted {
        let entitled = self
            .authenticate(incoming.header("authorization"))
            .and_then(|key| self.restrictions.check(&key, &incoming.method, &incoming.path));
        if let Err(refusal) = entitled {
            return Admitted::Refused(refusal);
        }
        if incoming.header("stripe-version").is_none_or(str::is_empty) {
            let message = "Missing Stripe-Version header: the sandbox serves pinned versions only.";
            return Admitted::Refused(Refusal::call(400, None, message));
        }
        let Some(key) = incoming.key() else { return Admitted::Execute(None) };
        if key.is_empty() || key.chars().count() > 255 {
            let message = "Idempotency keys must be between 1 and 255 characters.";
            return Admitted::Refused(Refusal::call(400, None, message));
        }
        let fingerprint = format!(
            "{} {} {} {}",
            incoming.method,
            incoming.path,
            incoming.header("stripe-account").unwrap_or_default(),
            params.fingerprint()
        );
        let now = self.now_us();
        self.keys.prune(now, self.settings.key_ttl_us);
        match self.keys.standing(key, &fingerprint) {
            Standing::InUse => Admitted::Refused(in_use(key)),
            Standing::Differs => Admitted::Refused(differs(key)),
            Standing::Answered(answer, request) => Admitted::Replay(answer, request),
            Standing::New => {
                self.keys.begin(key, fingerprint, now);
                Admitted::Execute(Some(key.to_owned()))
            }
        }
    }

    fn authenticate(&self, authorization: Option<&str>) -> Result<String, Refusal> {
        let key = match authorization.and_then(|value| value.split_once(' ')) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim().to_owned(),
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => basic_user(encoded.trim()),
            _ => String::new(),
        };
        if key.is_empty() {
            let message = "You did not provide an API key.";
            return Err(Refusal::call(401, None, message));
        }
        match &self.settings.secret_key {
            Some(expected) if *expected != key && !self.restrictions.knows(&key) => {
                Err(unauthorized("sk_test_********0000"))
            }
            _ => Ok(key),
        }
    }

    /// Executes, replays or refuses, keeps what Stripe would keep, and makes up what the fault asks for.
    fn finish(
        &mut self,
        incoming: &Incoming,
        params: &Params,
        request_id: &str,
        admitted: Admitted,
        fault: Option<&Fault>,
    ) -> (Option<Answer>, Outcome) {
        let kind = fault.map(|fault| &fault.kind);
        let key = match admitted {
            Admitted::Refused(refusal) => return answered(refusal.answer(), false, false),
            Admitted::Replay(answer, original) => {
                let made_up = fault.and_then(|fault| fault.answer(incoming.key()));
                let answer = answer.with("idempotent-replayed", "true").with("original-request", original);
                return match kind {
                    Some(FaultKind::DropBeforeCommit | FaultKind::DropAfterCommit) => cut(false),
                    _ => match made_up {
                        Some(answer) => answered(answer, false, false),
                        None => answered(answer, true, false),
                    },
                };
            }
            Admitted::Execute(key) => key,
        };
        let made_up = fault.and_then(|fault| fault.answer(incoming.key()));
        let keep = |world: &mut Self, answer: Option<&Answer>| match (&key, answer) {
            (Some(key), Some(answer)) => world.keys.keep(key, answer.clone(), request_id),
            (Some(key), None) => world.keys.release(key),
            (None, _) => {}
        };
        match (kind, made_up) {
            (Some(FaultKind::DropBeforeCommit), _) => {
                keep(self, None);
                cut(false)
            }
            (Some(FaultKind::Error500BeforeCommit | FaultKind::Refuse { .. }), Some(made_up)) => {
                keep(self, Some(&made_up));
                answered(made_up, false, false)
            }
            (
                Some(
                    FaultKind::Conflict
                    | FaultKind::RateLimited { .. }
                    | FaultKind::UnavailableBeforeCommit
                    | FaultKind::Unauthorized,
                ),
                Some(made_up),
            ) => {
                keep(self, None);
                answered(made_up, false, false)
            }
            (kind, made_up) => {
                let (answer, kept, committed) = self.execute(incoming, params, request_id, kind);
                let sticky = matches!(kind, Some(FaultKind::Error500AfterCommit)) && kept;
                let stored = made_up.as_ref().filter(|_| sticky).unwrap_or(&answer);
                keep(self, kept.then_some(stored));
                match (kind, made_up) {
                    (Some(FaultKind::DropAfterCommit), _) => cut(committed),
                    (_, Some(made_up)) => answered(made_up, false, committed),
                    _ => answered(answer, false, committed),
                }
            }
        }
    }

    /// The answer, whether it is kept for the key, and whether the operation took effect.
    fn execute(
        &mut self,
        incoming: &Incoming,
        params: &Params,
        request_id: &str,
        fault: Option<&FaultKind>,
    ) -> (Answer, bool, bool) {
        let stale_before_us = match fault {
            Some(FaultKind::StaleList { younger_than_ms }) => {
                let age_us = i64::try_from(younger_than_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
                Some(self.now_us().saturating_sub(age_us))
            }
            _ => None,
        };
        let request = Request {
            method: &incoming.method,
            path: &incoming.path,
            params,
            origin: Origin {
                request_id: Some(request_id.to_owned()),
                idempotency_key: incoming.key().map(str::to_owned),
            },
            stripe_account: incoming.header("stripe-account"),
            stale_before_us,
        };
        match dispatch(self, &request) {
            Ok(object) => (Answer::json(200, &object), true, incoming.method == Method::POST),
            Err(refusal) => (refusal.answer(), refusal.kept, false),
        }
    }

    fn log(&mut self, incoming: &Incoming) -> u64 {
        self.calls_seen += 1;
        if self.calls.len() >= CALLS_KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            number: self.calls_seen,
            at_us: self.now_us(),
            method: incoming.method.to_string(),
            path: incoming.path.clone(),
            body: incoming.encoded.clone(),
            idempotency_key: incoming.key().map(str::to_owned),
            outcome: Outcome { status: None, error: None, replayed: false, committed: false, fault: None },
        });
        self.calls_seen
    }

    fn note(&mut self, number: u64, outcome: Outcome) {
        if let Some(call) = self.calls.iter_mut().rev().find(|call| call.number == number) {
            call.outcome = outcome;
        }
    }
}

fn cut(committed: bool) -> (Option<Answer>, Outcome) {
    (None, Outcome { status: None, error: None, replayed: false, committed, fault: None })
}

fn answered(answer: Answer, replayed: bool, committed: bool) -> (Option<Answer>, Outcome) {
    let error = (answer.status >= 400)
        .then(|| serde_json::from_str::<serde_json::Value>(&answer.body).unwrap_or_default())
        .and_then(|body| {
            let error = &body["error"];
            error["code"].as_str().or(error["type"].as_str()).map(str::to_owned)
        });
    let outcome = Outcome { status: Some(answer.status), error, replayed, committed, fault: None };
    (Some(answer), outcome)
}

/// The user name of HTTP Basic: what stands before the colon in the base 64 text. Empty where it is not that.
fn basic_user(encoded: &str) -> String {
    let (mut bits, mut held, mut decoded) = (0u32, 0u32, Vec::new());
    for byte in encoded.bytes().filter(|byte| *byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return String::new(),
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push(((bits >> held) & 0xFF) as u8);
        }
    }
    let text = String::from_utf8_lossy(&decoded);
    text.split(':').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_authentication_carries_the_key_as_user_name() {
        assert_eq!(basic_user("c2tfdGVzdF8xOg=="), "sk_test_1");
        assert_eq!(basic_user("c2tfdGVzdF8xOnB3"), "sk_test_1");
        assert_eq!(basic_user("not base 64!"), "");
    }
}
