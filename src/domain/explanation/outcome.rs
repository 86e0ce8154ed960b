//! Stripe: what was sent, what came of it, what comes next; and of a transfer that is over, how it ended.

use super::{Check, Evidence, Facts};
use crate::domain::reason::Reason;
use crate::domain::release::Step;
use crate::domain::transfer::Status;

const NAME: &str = "stripe";

/// Of a transfer that waits or is under way.
pub(super) fn under_way(facts: &Facts<'_>) -> Check {
    let Some((attempt, step)) = facts.attempt.as_ref().filter(|_| facts.status == Status::Releasing) else {
        return Check::open(NAME, Evidence::said("nothing is sent before its money is reserved"));
    };
    let (what, at) = match (attempt.sends, attempt.quiet_since.or(attempt.first_sent_at)) {
        (0, _) => ("its request is written down and not sent yet".to_owned(), None),
        _ if attempt.made_another => {
            ("Stripe shows another transfer under its key than was asked for".to_owned(), attempt.ended_at)
        }
        (1, at) => (format!("sent once with key {}, without a definite answer", attempt.n), at),
        (sends, at) => (format!("sent {sends} times with key {}, without a definite answer", attempt.n), at),
    };
    let (next, expected_at) = match step {
        _ if attempt.made_another => ("a person compares it with Stripe's Dashboard; nothing is sent", None),
        Step::Send if attempt.sends == 0 => ("it is sent, which is due now", Some(facts.now)),
        Step::Send => ("the same request is repeated with the same key, which is due now", Some(facts.now)),
        Step::LookUp => ("Stripe's transfers are listed to find it, which is due now", Some(facts.now)),
        Step::NextKey => ("it is sent with the next key: nothing was made with this one", Some(facts.now)),
        Step::Withdraw => {
            ("its money is given back: something above stands against sending it", Some(facts.now))
        }
        Step::Wait(at) => ("Stripe is asked again, by repeating the request or by a look-up", Some(*at)),
    };
    let unknown = attempt.sends > 0;
    Check {
        code: unknown.then(|| Reason::StripeUnavailable.code().to_owned()),
        unblocked_by: Some(next.to_owned()),
        expected_at,
        ..Check::open(NAME, Evidence { at, ..Evidence::said(what) })
    }
}

/// Of a transfer that is over.
pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    match facts.status {
        Status::Failed => vec![failed(facts)],
        Status::Canceled => vec![canceled(facts)],
        Status::Waiting
        | Status::Releasing
        | Status::Released
        | Status::PartiallyReversed
        | Status::Reversed => {
            let mut chain = vec![went_out(facts)];
            chain.extend((facts.amount_reversed_minor > 0).then(|| came_back(facts)));
            chain
        }
    }
}

fn last(facts: &Facts<'_>, what: String) -> Evidence {
    match &facts.last {
        Some((at, cause)) => Evidence::said(what).at(*at).from(cause),
        None => Evidence::said(what),
    }
}

fn went_out(facts: &Facts<'_>) -> Check {
    let id = facts.stripe_transfer.as_deref().unwrap_or_default();
    let what = format!("Stripe made {id} of {}", facts.money(facts.amount_minor));
    let evidence = if facts.amount_reversed_minor > 0 { Evidence::said(what) } else { last(facts, what) };
    Check { passed: Some(true), ..Check::open(NAME, evidence) }
}

fn came_back(facts: &Facts<'_>) -> Check {
    let (back, of) = (facts.money(facts.amount_reversed_minor), facts.money(facts.amount_minor));
    let what = format!("{back} of {of} came back");
    Check::open("reversals", last(facts, what))
}

fn failed(facts: &Facts<'_>) -> Check {
    let (code, text) = facts.failure.clone().unwrap_or_default();
    Check {
        passed: Some(false),
        code: Some(code),
        unblocked_by: Some("its cause is mended and somebody retries it".to_owned()),
        ..Check::open(NAME, last(facts, format!("Stripe refused it: {text}")))
    }
}

fn canceled(facts: &Facts<'_>) -> Check {
    Check {
        passed: Some(false),
        unblocked_by: Some("never: ask for a new transfer".to_owned()),
        ..Check::open("canceled", last(facts, "it was called off before it went out".to_owned()))
    }
}
