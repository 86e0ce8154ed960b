//! The money: the top-up it is tied to, its place in the line, and what Stripe itself holds.

use super::{Check, Evidence, Facts};
use crate::domain::reason::Reason;
use crate::domain::transfer::Status;

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let mut chain: Vec<Check> = topup(facts).into_iter().collect();
    chain.push(funds(facts));
    chain.push(stripe_balance(facts));
    chain
}

fn topup(facts: &Facts<'_>) -> Option<Check> {
    let topup = facts.topup.as_ref()?;
    let reason =
        facts.reasons.iter().copied().find(|r| (Reason::TopupUnknown..=Reason::TopupFailed).contains(r));
    let what = match (topup.status, reason) {
        (None, _) => format!("neither an event nor a call has shown {}", topup.id),
        (Some(status), None) => format!("{} is {status}, and its money has settled", topup.id),
        (Some(status), Some(Reason::TopupFailed)) => {
            format!("{} is {status}: no money for this transfer comes of it", topup.id)
        }
        (Some(status), Some(_)) => format!("{} is {status}, and its money has not settled", topup.id),
    };
    let mut evidence = Evidence::said(what);
    if let Some((at, source)) = &topup.told {
        evidence = evidence.at(*at).from(source);
    }
    let check = facts.decided("topup", reason.unwrap_or(Reason::TopupUnknown), evidence);
    Some(check.expected(topup.expected_at.filter(|_| reason != Some(Reason::TopupFailed))))
}

fn funds(facts: &Facts<'_>) -> Check {
    const NAME: &str = "funds";
    let (amount, money) = (facts.money(facts.amount_minor), &facts.money);
    if facts.status == Status::Releasing {
        let evidence = Evidence::said(format!("{amount} are reserved for it"));
        return Check { passed: Some(true), ..Check::open(NAME, evidence) };
    }
    let of = match &facts.topup {
        Some(topup) => format!("of {}", topup.id),
        None => "in the pool".to_owned(),
    };
    let (ahead, asked) = (money.ahead.0, facts.money(money.ahead.1));
    let free = format!("it needs {amount}; {} {of} are free", facts.money(money.free_minor));
    if !facts.in_line {
        let evidence = Evidence::said(format!("{free}; asked once nothing above stands in the way"));
        return Check::open(NAME, evidence);
    }
    let line = match ahead {
        0 => "it is the first in line".to_owned(),
        1 => format!("one transfer before it asks for {asked}"),
        _ => format!("{ahead} transfers before it ask for {asked}"),
    };
    let evidence = Evidence::said(format!("{free}, and {line}")).at(facts.now);
    facts.decided(NAME, Reason::FundsInsufficient, evidence).expected(facts.expected_release_at)
}

fn stripe_balance(facts: &Facts<'_>) -> Check {
    let told = facts.money.stripe_available;
    let balance = |text: &str| match told {
        Some((minor, at)) => Evidence::said(format!("{text}; its balance was {}", facts.money(minor))).at(at),
        None => Evidence::said(text),
    };
    let evidence = match facts.money.stopped_at {
        Some(_) => balance("Stripe refused for lack of funds, and the currency stands still"),
        None => balance("Stripe has not refused for lack of funds"),
    };
    facts.decided("stripe_balance", Reason::StripeBalanceInsufficient, evidence.from("api"))
}
