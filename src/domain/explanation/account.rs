//! The account: known, connected, not blocked, every condition of readiness, and lately confirmed.

use time::Duration;

use super::{AccountFacts, Check, Condition, Evidence, Facts};
use crate::domain::account::{Flags, is_final};
use crate::domain::reason::Reason;

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let mut chain = vec![known(facts)];
    chain.extend(standing(facts));
    chain.extend(facts.policy.conditions().iter().map(|condition| one(facts, *condition)));
    chain.push(corridor(facts));
    chain.push(fresh(facts));
    chain.extend(refused_before(facts));
    chain
}

fn told(account: &AccountFacts, what: impl Into<String>) -> Evidence {
    Evidence::said(what).at(account.as_of).from(&account.source)
}

fn flags<'a>(facts: &'a Facts<'_>) -> Option<(&'a AccountFacts, &'a Flags)> {
    let account = facts.account.as_ref()?;
    Some((account, account.known.flags.as_ref()?))
}

fn known(facts: &Facts<'_>) -> Check {
    let evidence = match &facts.account {
        None => Evidence::said("neither an event nor a call has shown the account"),
        Some(account) if account.known.flags.is_none() => told(account, "only its id was heard of"),
        Some(account) => told(account, "Stripe has described the account"),
    };
    facts.decided("account_known", Reason::AccountUnknown, evidence)
}

/// Whether it is still connected, and whether Stripe itself stands in the way.
fn standing(facts: &Facts<'_>) -> [Check; 2] {
    let unknown = || Evidence::said("nothing is known of the account yet");
    let connected = match &facts.account {
        None => Check::open("account_connected", unknown()),
        Some(account) => {
            let evidence = match account.known.deauthorized_at.filter(|_| account.known.deauthorized()) {
                Some(at) => Evidence::said("it left the platform, or Stripe shows it no longer").at(at),
                None => told(account, "it is connected to the platform"),
            };
            facts.decided("account_connected", Reason::AccountDeauthorized, evidence)
        }
    };
    [connected, unblocked(facts).unwrap_or_else(|| Check::open("account_unblocked", unknown()))]
}

fn unblocked(facts: &Facts<'_>) -> Option<Check> {
    let account = facts.account.as_ref()?;
    let evidence = match (account.known.closed_at, &account.known.flags) {
        (Some(at), _) => Evidence::said("it was closed, for good").at(at),
        (None, None) => return None,
        (None, Some(flags)) => {
            let refused = flags.transfers_capability.as_deref().filter(|status| is_final(Some(status)));
            let what = match (&flags.requirements.disabled_reason, refused) {
                (_, Some(status)) => format!("the transfers capability is {status}, for good"),
                (Some(reason), None) => format!("disabled_reason is {reason}"),
                (None, None) => "Stripe names no reason that disables it".to_owned(),
            };
            told(account, what)
        }
    };
    Some(facts.decided("account_unblocked", Reason::AccountBlocked, evidence))
}

fn one(facts: &Facts<'_>, condition: Condition) -> Check {
    let (name, reason) = (condition.name(), condition.reason());
    let Some((account, flags)) = flags(facts) else {
        return Check::open(name, Evidence::said("nothing is known of the account yet"));
    };
    let capability = flags.transfers_capability.as_deref().unwrap_or("absent");
    let flag = |flag: Option<bool>| match flag {
        Some(flag) => format!("{name} is {flag}"),
        None => {
            format!("Stripe gives no {name}; the transfers capability, which stands for it, is {capability}")
        }
    };
    let due = &flags.requirements;
    let what = match condition {
        Condition::DetailsSubmitted => flag(flags.details_submitted),
        Condition::ChargesEnabled => flag(flags.charges_enabled),
        Condition::PayoutsEnabled => flag(flags.payouts_enabled),
        Condition::TransfersActive => format!("the transfers capability is {capability}"),
        Condition::NoPastDue if due.past_due.is_empty() => "nothing is past due".to_owned(),
        Condition::NoPastDue => format!("past due: {}", due.past_due.join(", ")),
    };
    let wanted = facts.reasons.contains(&reason) && !due.currently_due.is_empty();
    let what = if wanted { format!("{what}; Stripe wants: {}", due.currently_due.join(", ")) } else { what };
    facts.decided(name, reason, told(account, what))
}

/// Whether money of this currency can be sent to where it is.
fn corridor(facts: &Facts<'_>) -> Check {
    const NAME: &str = "corridor";
    let Some((account, flags)) = flags(facts) else {
        return Check::open(NAME, Evidence::said("nothing is known of the account yet"));
    };
    let country = flags.country.as_deref().unwrap_or("a country that Stripe does not tell");
    let what = format!("the account is in {country}, and is to be paid in {}", facts.code());
    facts.decided(NAME, Reason::CorridorUnsupported, told(account, what))
}

/// In the largest unit that tells it whole.
fn in_words(span: Duration) -> String {
    match span.whole_seconds() {
        s if s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// Whether what is known of it may still be trusted with money.
fn fresh(facts: &Facts<'_>) -> Check {
    const NAME: &str = "account_fresh";
    let Some(account) = &facts.account else {
        return Check::open(NAME, Evidence::said("nothing is known of the account yet"));
    };
    let old = account.as_of + facts.max_age < facts.now;
    let what = match (account.doubted, old) {
        (true, _) => "two pieces of evidence have no order: Stripe is being asked".to_owned(),
        (false, true) => format!("it was last confirmed more than {} ago", in_words(facts.max_age)),
        (false, false) => format!("it was confirmed within the last {}", in_words(facts.max_age)),
    };
    let evidence = told(account, what);
    if !(account.doubted || old) {
        return Check { passed: Some(true), ..Check::open(NAME, evidence) };
    }
    if !facts.reasons.contains(&Reason::StripeUnavailable) {
        // Asked only once nothing else stands in the way.
        return Check::open(NAME, evidence);
    }
    Check {
        passed: Some(false),
        code: Some(Reason::StripeUnavailable.code().to_owned()),
        unblocked_by: Some("Stripe shows the account, for which it is asked by itself".to_owned()),
        ..Check::open(NAME, evidence)
    }
}

/// Stripe refused it before for a cause on the account's side.
fn refused_before(facts: &Facts<'_>) -> Option<Check> {
    let (until, reason) = facts.hold_off.filter(|(until, _)| facts.now < *until)?;
    let what = format!("Stripe refused it ({}) though the account looked ready", reason.code());
    Some(Check {
        passed: Some(false),
        code: Some(reason.code().to_owned()),
        unblocked_by: Some("the pause after the refusal is over, or the account changes".to_owned()),
        expected_at: Some(until),
        ..Check::open("stripe_refusal", Evidence::said(what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_the_largest_unit_that_tells_it_whole() {
        let spans = [(86_400, "24 h"), (5_400, "90 min"), (90, "90 s"), (1, "1 s")];
        for (seconds, words) in spans {
            assert_eq!(in_words(Duration::seconds(seconds)), words);
        }
    }
}
