//! Idempotency keys as Stripe keeps them: the first answer of an execution that began, replayed until pruned.
//!
//! Knows nothing about what a call does; <https://docs.stripe.com/api/idempotent_requests>.

use std::collections::{HashMap, VecDeque};

use super::errors::{Answer, Refusal};

/// What a key stands for now.
#[derive(Debug)]
pub(super) enum Standing {
    /// Never used, or released or pruned since.
    New,
    /// A first call with it is still executing.
    InUse,
    /// Used for other parameters.
    Differs,
    /// Answered before with the same parameters: the answer and the request it was given to.
    Answered(Answer, String),
}

#[derive(Debug)]
struct Kept {
    fingerprint: String,
    first_us: i64,
    answer: Option<(Answer, String)>,
}

/// All keys in use or answered.
#[derive(Debug, Default)]
pub(super) struct Keys {
    kept: HashMap<String, Kept>,
    /// First uses, oldest first, so that pruning looks at no more than it removes.
    order: VecDeque<(i64, String)>,
}

impl Keys {
    /// Where a key stands for a call with this fingerprint.
    pub fn standing(&self, key: &str, fingerprint: &str) -> Standing {
        match self.kept.get(key) {
            None => Standing::New,
            Some(kept) if kept.fingerprint != fingerprint => Standing::Differs,
            Some(Kept { answer: Some((answer, request)), .. }) => {
                Standing::Answered(answer.clone(), request.clone())
            }
            Some(_) => Standing::InUse,
        }
    }

    /// Marks a key as executing.
    pub fn begin(&mut self, key: &str, fingerprint: String, now_us: i64) {
        self.order.push_back((now_us, key.to_owned()));
        self.kept.insert(key.to_owned(), Kept { fingerprint, first_us: now_us, answer: None });
    }

    /// Keeps the answer of the execution that began.
    pub fn keep(&mut self, key: &str, answer: Answer, request_id: &str) {
        if let Some(kept) = self.kept.get_mut(key) {
            kept.answer = Some((answer, request_id.to_owned()));
        }
    }

    /// Forgets a key whose call did not get to execution.
    pub fn release(&mut self, key: &str) {
        self.kept.remove(key);
    }

    /// Forgets answered keys older than the limit.
    pub fn prune(&mut self, now_us: i64, ttl_us: i64) {
        while let Some((first_us, key)) = self.order.front() {
            if now_us.saturating_sub(*first_us) < ttl_us {
                break;
            }
            match self.kept.get(key) {
                // Still executing: it is looked at again on the next round.
                Some(kept) if kept.first_us == *first_us && kept.answer.is_none() => break,
                Some(kept) if kept.first_us == *first_us => drop(self.kept.remove(key)),
                // Released since, and maybe in use again with a later first use.
                _ => {}
            }
            self.order.pop_front();
        }
    }

    /// Forgets every answered key at once.
    pub fn forget(&mut self) {
        self.kept.retain(|_, kept| kept.answer.is_none());
    }
}

/// 409 while the first call with the key still executes.
pub(super) fn in_use(key: &str) -> Refusal {
    let message = format!(
        "There is currently another in-progress request using this Idempotent Key (that probably means you \
         submitted twice, and the other request is still going through): {key}. Please try again later."
    );
    Refusal { kind: "idempotency_error", ..Refusal::call(409, Some("idempotency_key_in_use"), message) }
}

/// 400 where the key was first used with other parameters.
pub(super) fn differs(key: &str) -> Refusal {
    let message = format!(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try \
         using a key other than '{key}' if you meant to execute a different request."
    );
    Refusal { kind: "idempotency_error", ..Refusal::call(400, None, message) }
}
