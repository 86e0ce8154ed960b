//! What operators and the caller decided: the stop, a hold, an approval, a date, the day's caps.

use super::{Check, Evidence, Facts};
use crate::domain::limits::{day_of, next_day};
use crate::domain::reason::Reason;
use crate::domain::transfer::Status;

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    vec![releases(facts), hold(facts), approval(facts), schedule(facts), daily_cap(facts)]
}

fn releases(facts: &Facts<'_>) -> Check {
    let evidence = match (&facts.stop, facts.catching_up_since) {
        (Some((act, cause)), _) => {
            Evidence::said(format!("all releases are paused: {cause}")).at(act.at).from(&act.by)
        }
        (None, Some(since)) => {
            Evidence::said("the database was restored: Stripe's transfers are matched first").at(since)
        }
        (None, None) => Evidence::said("releases are not paused"),
    };
    let check = facts.decided("releases", Reason::ReleasesPaused, evidence);
    if facts.stop.is_none() && check.passed == Some(false) {
        let by_itself = "all of Stripe's transfers since the backup were matched, which needs nobody";
        return Check { unblocked_by: Some(by_itself.to_owned()), ..check };
    }
    check
}

fn hold(facts: &Facts<'_>) -> Check {
    let evidence = match &facts.held {
        Some(act) => Evidence::said("it is held").at(act.at).from(&act.by),
        None => Evidence::said("nobody holds it"),
    };
    facts.decided("hold", Reason::OnHold, evidence)
}

fn approval(facts: &Facts<'_>) -> Check {
    let above = facts.limits.approval_above.get(&facts.currency);
    let evidence = match (&facts.approved, above) {
        (Some(act), _) => Evidence::said("it was approved").at(act.at).from(&act.by),
        (None, None) => Evidence::said(format!("transfers in {} need no approval", facts.code())),
        (None, Some(above)) => Evidence::said(format!(
            "{} is {} the limit of {} above which another key must approve; asked for by {}",
            facts.money(facts.amount_minor),
            if facts.amount_minor > *above { "above" } else { "within" },
            facts.money(*above),
            facts.asked.by
        ))
        .from("SLUICEGATE_APPROVAL_ABOVE"),
    };
    facts.decided("approval", Reason::ApprovalRequired, evidence)
}

fn schedule(facts: &Facts<'_>) -> Check {
    let evidence = match facts.release_after {
        Some(at) => Evidence::said("it may go out from its date on").at(at).from(&facts.asked.by),
        None => Evidence::said("it has no date"),
    };
    facts.decided("schedule", Reason::Scheduled, evidence).expected(facts.release_after)
}

fn daily_cap(facts: &Facts<'_>) -> Check {
    let (limits, used, currency) = (facts.limits, facts.used, facts.currency);
    let mut said = Vec::new();
    let mut source = "SLUICEGATE_DAILY_CAP";
    if let Some(cap) = limits.daily_cap.get(&currency) {
        let (used, cap) = (facts.money(used.in_all_minor), facts.money(*cap));
        said.push(format!("{used} of {cap} are used today"));
    }
    if let Some(cap) = limits.daily_cap_per_destination.get(&currency) {
        let (used, cap) = (facts.money(used.for_destination_minor), facts.money(*cap));
        said.push(format!("{used} of {cap} are used today for this account"));
        if said.len() == 1 {
            source = "SLUICEGATE_DAILY_CAP_PER_DESTINATION";
        }
    }
    let evidence = match (facts.status, said.is_empty()) {
        (_, true) => Evidence::said(format!("{} has no cap", facts.code())),
        (Status::Releasing, false) => Evidence::said("it is counted towards the day of its reservation"),
        (_, false) => Evidence::said(format!(
            "{}: {}, and it needs {}",
            day_of(facts.now),
            said.join("; "),
            facts.money(facts.amount_minor)
        ))
        .from(source),
    };
    facts.decided("daily_cap", Reason::DailyCapReached, evidence).expected(Some(next_day(facts.now)))
}
