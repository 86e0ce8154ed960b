//! What to do about an account next, in plain words: for people who came back without having finished.
//!
//! It follows from what Stripe says of the account alone. An account that may be paid can have a next step too:
//! something may fall due.

use time::OffsetDateTime;

use super::account::{Flags, Known, Policy, Requirements, blocks, is_final};
use super::reason::Reason;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// Every one.
            pub const ALL: &'static [Action] = &[$(Action::$name,)*];

            /// The word of the API.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

actions! {
    /// Nothing.
    Nothing = "none",
    /// Send the person through another onboarding link.
    OnboardingLink = "onboarding_link",
    /// Wait for Stripe.
    Wait = "wait",
    /// Have the `transfers` capability requested for the account.
    RequestTransfers = "request_transfers",
    /// Let the account go on, which the platform itself paused.
    ResumeAccount = "resume_account",
    /// Have the person connect again.
    Reconnect = "reconnect",
    /// Pay the person by other means: no transfer reaches their country.
    PayOtherwise = "pay_otherwise",
    /// Ask Stripe.
    ContactStripe = "contact_stripe",
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStep {
    /// What to do.
    pub action: Action,
    /// What it is about, in Stripe's names: what is to be given, or what is being verified.
    pub fields: Vec<String>,
    /// By when.
    pub deadline: Option<OffsetDateTime>,
    /// The same in words.
    pub detail: &'static str,
}

impl NextStep {
    fn just(action: Action, detail: &'static str) -> Self {
        Self { action, fields: Vec::new(), deadline: None, detail }
    }
}

/// What to do next about an account, under the policy that says when it may be paid.
pub fn next_step(known: &Known, policy: &Policy) -> NextStep {
    if known.deauthorized() {
        let detail = "The account left the platform, or Stripe does not show it to this key: the person has to \
                      connect again.";
        return NextStep::just(Action::Reconnect, detail);
    }
    if known.closed_at.is_some() {
        let detail = "The account was closed, which is for good: the person needs another one.";
        return NextStep::just(Action::Reconnect, detail);
    }
    let Some(flags) = &known.flags else {
        let detail = "Stripe has not described it yet; its readiness with ?refresh=true asks now.";
        return NextStep::just(Action::Wait, detail);
    };
    let reasons = known.reasons(policy);
    let (ready, due) = (reasons.is_empty(), &flags.requirements);
    refused(flags)
        .or_else(|| blocked(due))
        .or_else(|| reasons.contains(&Reason::CorridorUnsupported).then(out_of_reach))
        .or_else(|| owed(due, ready))
        .or_else(|| unfinished(flags.details_submitted))
        .or_else(|| ready.then(|| NextStep::just(Action::Nothing, "Nothing: it may be paid.")))
        .unwrap_or_else(|| out_of_hand(due, flags.transfers_capability.as_deref()))
}

/// Stripe will not let it receive transfers, whatever else is given.
fn refused(flags: &Flags) -> Option<NextStep> {
    let detail = "Stripe refuses it the transfers capability; another link changes nothing about that.";
    is_final(flags.transfers_capability.as_deref()).then(|| NextStep::just(Action::ContactStripe, detail))
}

/// Stripe stands between the account and its money, whatever else is given.
fn blocked(due: &Requirements) -> Option<NextStep> {
    let (action, detail) = match due.disabled_reason.as_deref().filter(|reason| blocks(Some(reason)))? {
        "under_review" => (Action::Wait, "Stripe is reviewing the account; it tells when it has finished."),
        "platform_paused" => (
            Action::ResumeAccount,
            "The platform itself paused the account: resume it in Stripe's Dashboard.",
        ),
        reason if reason.starts_with("rejected.") => {
            (Action::ContactStripe, "Stripe rejected the account; another link changes nothing about that.")
        }
        _ => {
            (Action::ContactStripe, "Stripe holds the account back; its Dashboard or its support tells why.")
        }
    };
    Some(NextStep::just(action, detail))
}

/// Nothing that the person gives brings the account within reach.
fn out_of_reach() -> NextStep {
    let detail = "Stripe carries no transfers from the platform's country to the account's: pay this person otherwise, \
                  or correct SLUICEGATE_CORRIDORS.";
    NextStep::just(Action::PayOtherwise, detail)
}

/// Something is to be given.
fn owed(due: &Requirements, ready: bool) -> Option<NextStep> {
    let mut fields = due.past_due.clone();
    fields.extend(due.currently_due.iter().filter(|field| !due.past_due.contains(field)).cloned());
    if fields.is_empty() {
        return None;
    }
    let detail = match (due.past_due.is_empty(), ready) {
        (false, false) => "Details are missing: send the person through an onboarding link.",
        (false, true) => {
            "It may be paid, but details are overdue: send the person through an onboarding link."
        }
        (true, false) => "Stripe still needs details: send the person through an onboarding link.",
        (true, true) => {
            "It may be paid until details fall due: send the person through an onboarding link in time."
        }
    };
    let deadline = due.current_deadline;
    Some(NextStep { action: Action::OnboardingLink, fields, deadline, detail })
}

/// The form was never submitted, though Stripe names nothing that is due.
fn unfinished(details_submitted: Option<bool>) -> Option<NextStep> {
    let detail = "The person has not finished onboarding: send them through another onboarding link.";
    (details_submitted == Some(false)).then(|| NextStep::just(Action::OnboardingLink, detail))
}

/// The person has given everything, and still it may not be paid.
fn out_of_hand(due: &Requirements, transfers: Option<&str>) -> NextStep {
    if !due.pending_verification.is_empty() {
        let detail = "Stripe is verifying what was given; it tells when it has finished.";
        let fields = due.pending_verification.clone();
        return NextStep { action: Action::Wait, fields, deadline: None, detail };
    }
    match transfers {
        None => {
            let detail = "The transfers capability was never requested for it: request it in Stripe's Dashboard or by \
                          Stripe's API.";
            NextStep::just(Action::RequestTransfers, detail)
        }
        Some("active" | "pending") => {
            NextStep::just(Action::Wait, "Everything was given; Stripe has not enabled the account yet.")
        }
        Some(_) => {
            let detail = "Everything was given, and Stripe does not let it receive transfers: its Dashboard or its \
                          support tells why.";
            NextStep::just(Action::ContactStripe, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::corridors::Country;
    use time::macros::datetime;

    fn ready() -> Flags {
        Flags {
            details_submitted: Some(true),
            charges_enabled: Some(true),
            payouts_enabled: Some(true),
            transfers_capability: Some("active".into()),
            ..Flags::default()
        }
    }

    fn known(flags: Flags) -> Known {
        Known { flags: Some(flags), deauthorized_at: None, confirmed_at: None, closed_at: None }
    }

    fn step(flags: Flags) -> NextStep {
        next_step(&known(flags), &Policy::default())
    }

    fn wanting(past_due: &[&str], currently_due: &[&str], pending: &[&str]) -> Requirements {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Requirements {
            past_due: list(past_due),
            currently_due: list(currently_due),
            pending_verification: list(pending),
            ..Requirements::default()
        }
    }

    fn disabled(reason: &str) -> Flags {
        let mut requirements = wanting(&["x"], &["x"], &[]);
        requirements.disabled_reason = Some(reason.into());
        Flags { requirements, charges_enabled: Some(false), ..ready() }
    }

    #[test]
    fn each_state_has_its_step() {
        let not = |capability: Option<&str>| Flags {
            charges_enabled: Some(false),
            transfers_capability: capability.map(str::to_owned),
            ..ready()
        };
        let rows = [
            (ready(), Action::Nothing),
            (disabled("under_review"), Action::Wait),
            (disabled("platform_paused"), Action::ResumeAccount),
            (disabled("listed"), Action::ContactStripe),
            (disabled("other"), Action::ContactStripe),
            (disabled("rejected.fraud"), Action::ContactStripe),
            (disabled("requirements.past_due"), Action::OnboardingLink),
            (Flags { details_submitted: Some(false), ..not(Some("inactive")) }, Action::OnboardingLink),
            (Flags { requirements: wanting(&[], &[], &["id"]), ..not(Some("pending")) }, Action::Wait),
            (not(Some("pending")), Action::Wait),
            (not(Some("active")), Action::Wait),
            (not(Some("inactive")), Action::ContactStripe),
            (not(None), Action::RequestTransfers),
            (
                Flags { requirements: wanting(&["x"], &[], &[]), ..not(Some("rejected")) },
                Action::ContactStripe,
            ),
            (Flags { details_submitted: None, ..not(Some("unsupported")) }, Action::ContactStripe),
            (Flags { requirements: wanting(&[], &[], &["id"]), ..ready() }, Action::Nothing),
        ];
        for (flags, action) in rows {
            assert_eq!(step(flags.clone()).action, action, "{flags:?}");
        }
    }

    #[test]
    fn an_account_beyond_the_borders_is_not_sent_through_onboarding() {
        let abroad = Flags {
            country: Some("BR".into()),
            details_submitted: Some(false),
            requirements: wanting(&["x"], &[], &[]),
            ..ready()
        };
        let from = |home: &str| Policy::default().at_home(Country::parse(home));
        assert_eq!(next_step(&known(abroad.clone()), &from("US")).action, Action::PayOtherwise);
        assert_eq!(next_step(&known(abroad), &from("BR")).action, Action::OnboardingLink);
    }

    #[test]
    fn what_is_missing_is_named_the_overdue_first_and_each_once() {
        let flags = Flags { requirements: wanting(&["b", "a"], &["a", "c", "b"], &[]), ..disabled("x") };
        assert_eq!(step(flags).fields, ["b", "a", "c"]);
        let pending =
            Flags { charges_enabled: Some(false), requirements: wanting(&[], &[], &["id"]), ..ready() };
        assert_eq!(step(pending).fields, ["id"]);
    }

    #[test]
    fn an_account_that_may_be_paid_is_warned_of_before_a_deadline() {
        let mut requirements = wanting(&[], &["individual.verification.document"], &[]);
        requirements.current_deadline = Some(datetime!(2026-12-01 00:00 UTC));
        let warned = step(Flags { requirements, ..ready() });
        assert_eq!(
            (warned.action, warned.deadline),
            (Action::OnboardingLink, Some(datetime!(2026-12-01 00:00 UTC)))
        );
        assert!(warned.detail.starts_with("It may be paid"), "{}", warned.detail);
    }

    #[test]
    fn one_that_left_or_was_never_described_says_so() {
        let left = Known { deauthorized_at: Some(OffsetDateTime::UNIX_EPOCH), ..known(ready()) };
        assert_eq!(next_step(&left, &Policy::default()).action, Action::Reconnect);
        let closed = Known { closed_at: Some(OffsetDateTime::UNIX_EPOCH), ..known(ready()) };
        assert_eq!(next_step(&closed, &Policy::default()).action, Action::Reconnect);
        let unheard = Known { flags: None, deauthorized_at: None, confirmed_at: None, closed_at: None };
        assert_eq!(next_step(&unheard, &Policy::default()).action, Action::Wait);
    }
}
