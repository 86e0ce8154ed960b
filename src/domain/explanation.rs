//! Why a transfer stands where it stands, in plain words: every check in its order, on what evidence it was
//! decided, and what will unblock it.
//!
//! Nothing is decided here. The reasons come from the decisions themselves (`transfer`, `account`, `funds`,
//! `release`), so that an explanation can't say anything else than what keeps the money.

use time::OffsetDateTime;

use super::account::{Condition, Known, Policy};
use super::limits::{Limits, Used};
use super::money::Currency;
use super::reason::Reason;
use super::release::{Attempt, Step};
use super::transfer::Status;

mod account;
mod controls;
mod money;
mod outcome;

/// One check of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub check: &'static str,
    /// Whether it holds; none where it was not asked, or can't be told yet.
    pub passed: Option<bool>,
    /// Why it does not: a reason's code, or Stripe's for a refusal.
    pub code: Option<String>,
    /// What was seen.
    pub evidence: Evidence,
    /// What has to happen, as the rest of a sentence that begins with "it goes on when".
    pub unblocked_by: Option<String>,
    /// When that should be, as far as it is known.
    pub expected_at: Option<OffsetDateTime>,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// In words.
    pub what: String,
    /// When it was so.
    pub at: Option<OffsetDateTime>,
    /// Who or what told: an event's id, `api`, a key's id, a variable of the configuration.
    pub source: Option<String>,
}

/// Who did something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// An API key's id, or `sluicegate`.
    pub by: String,
    /// When.
    pub at: OffsetDateTime,
}

/// What is known of the account it goes to.
#[derive(Clone, Debug)]
pub struct AccountFacts {
    /// What readiness is decided upon.
    pub known: Known,
    /// When that was true.
    pub as_of: OffsetDateTime,
    /// Where it comes from.
    pub source: String,
    /// Two pieces of evidence have no order: it is being fetched.
    pub doubted: bool,
}

/// What is known of the top-up it is tied to.
#[derive(Clone, Debug)]
pub struct TopupFacts {
    /// Its id.
    pub id: String,
    /// Stripe's word; none where nothing described it.
    pub status: Option<&'static str>,
    /// When its money should be there.
    pub expected_at: Option<OffsetDateTime>,
    /// When that was true, and where it comes from.
    pub told: Option<(OffsetDateTime, String)>,
}

/// The money it waits for, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoneyFacts {
    /// Settled and free for its source: its top-up, or the pool.
    pub free_minor: i64,
    /// What stands before it in the line and draws on the same money: how many, and how much.
    pub ahead: (i64, i64),
    /// Since when the currency stands still because Stripe refused for lack of funds.
    pub stopped_at: Option<OffsetDateTime>,
    /// What Stripe last said is available, and when.
    pub stripe_available: Option<(i64, OffsetDateTime)>,
}

/// Everything an explanation draws on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// When it is explained.
    pub now: OffsetDateTime,
    /// Where the transfer stands.
    pub status: Status,
    /// What keeps it, as decided now: what comes before money, and what the line last said.
    pub reasons: Vec<Reason>,
    /// It stands in the line for money.
    pub in_line: bool,
    /// In minor units.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// Which key asked for it, and when.
    pub asked: Act,
    /// All releases are stopped: by whom, and why.
    pub stop: Option<(Act, String)>,
    /// The database was restored: Stripe's transfers since then are matched first.
    pub catching_up_since: Option<OffsetDateTime>,
    /// It is held.
    pub held: Option<Act>,
    /// It was approved.
    pub approved: Option<Act>,
    /// Not before this.
    pub release_after: Option<OffsetDateTime>,
    /// What the operator allows.
    pub limits: &'a Limits,
    /// What was reserved today.
    pub used: Used,
    /// The account.
    pub account: Option<AccountFacts>,
    /// What must hold of it.
    pub policy: &'a Policy,
    /// How old what is known of it may be.
    pub max_age: time::Duration,
    /// Stripe refused it for a cause on the account's side: not tried again before this.
    pub hold_off: Option<(OffsetDateTime, Reason)>,
    /// The top-up it is tied to.
    pub topup: Option<TopupFacts>,
    /// The money.
    pub money: MoneyFacts,
    /// The use of its key, once its money is reserved, and what comes next.
    pub attempt: Option<(Attempt, Step)>,
    /// When it should go out.
    pub expected_release_at: Option<OffsetDateTime>,
    /// Its id at Stripe.
    pub stripe_transfer: Option<String>,
    /// What came back, in minor units.
    pub amount_reversed_minor: i64,
    /// Stripe's refusal: code and text.
    pub failure: Option<(String, String)>,
    /// The last line of its history: when, and what brought it there.
    pub last: Option<(OffsetDateTime, String)>,
}

/// The whole chain, in the order in which it is asked. Of a transfer that is over: what happened.
pub fn explain(facts: &Facts<'_>) -> Vec<Check> {
    match facts.status {
        Status::Waiting | Status::Releasing => {
            let mut chain = controls::checks(facts);
            chain.extend(account::checks(facts));
            chain.extend(money::checks(facts));
            chain.push(outcome::under_way(facts));
            chain
        }
        Status::Released
        | Status::PartiallyReversed
        | Status::Reversed
        | Status::Failed
        | Status::Canceled => outcome::checks(facts),
    }
}

/// The whole in a sentence or two.
pub fn summary(facts: &Facts<'_>) -> String {
    match facts.status {
        Status::Waiting if facts.reasons.is_empty() => {
            "It waits for nothing any more and is about to be looked at.".to_owned()
        }
        Status::Waiting => {
            let words: Vec<&str> = facts.reasons.iter().map(|reason| reason.words()).collect();
            format!("It waits: {}.", words.join("; "))
        }
        Status::Releasing => "Its money is reserved, and Stripe is being asked to send it.".to_owned(),
        Status::Released => "It went out.".to_owned(),
        Status::PartiallyReversed => "It went out, and part of it came back.".to_owned(),
        Status::Reversed => "It went out, and all of it came back.".to_owned(),
        Status::Failed => "Stripe refused it for good; nothing was sent.".to_owned(),
        Status::Canceled => "It was called off before it went out.".to_owned(),
    }
}

impl Facts<'_> {
    /// An amount as people write it, with its currency.
    fn money(&self, amount_minor: i64) -> String {
        format!("{} {}", self.currency.written(amount_minor), self.code())
    }

    /// The currency as people write it.
    fn code(&self) -> String {
        self.currency.as_str().to_uppercase()
    }

    /// A check that is decided by one reason.
    fn decided(&self, check: &'static str, reason: Reason, evidence: Evidence) -> Check {
        let stands_against = self.reasons.contains(&reason);
        Check {
            check,
            passed: Some(!stands_against),
            code: stands_against.then(|| reason.code().to_owned()),
            evidence,
            unblocked_by: stands_against.then(|| reason.way_out().to_owned()),
            expected_at: None,
        }
    }
}

impl Check {
    /// The same, and when it should be unblocked, if it is blocked.
    fn expected(self, at: Option<OffsetDateTime>) -> Self {
        Self { expected_at: at.filter(|_| self.passed == Some(false)), ..self }
    }

    /// A check that was not asked.
    fn open(check: &'static str, evidence: Evidence) -> Self {
        Self { check, passed: None, code: None, evidence, unblocked_by: None, expected_at: None }
    }
}

impl Evidence {
    fn said(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: None, source: None }
    }

    fn at(self, at: OffsetDateTime) -> Self {
        Self { at: Some(at), ..self }
    }

    fn from(self, source: &str) -> Self {
        Self { source: Some(source.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests;
