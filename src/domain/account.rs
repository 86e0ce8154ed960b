//! May this account be paid, and if not, why?
//!
//! The flags are Stripe's; the policy says which of them must hold. Some disabled reasons block whatever
//! the policy says, since Stripe lets money in that it will not let out again.

mod condition;
mod recipient;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

pub use self::condition::Condition;
pub use self::recipient::{Recipient, is_final};
use super::corridors::{Corridors, Country};
use super::money::Currency;
use super::reason::Reason;

/// A fetch that began this long after a deauthorization and succeeded shows that the account came back.
pub const REAUTHORIZED_AFTER: Duration = Duration::seconds(60);

/// What Stripe wants from the account holder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requirements {
    /// Needed by `current_deadline` to stay enabled.
    pub currently_due: Vec<String>,
    /// Missed: what depends on them is disabled.
    pub past_due: Vec<String>,
    /// Needed once some threshold is reached.
    pub eventually_due: Vec<String>,
    /// Submitted, being verified by Stripe.
    pub pending_verification: Vec<String>,
    /// Why the account is disabled, in Stripe's words.
    pub disabled_reason: Option<String>,
    /// When `currently_due` becomes `past_due`.
    #[serde(with = "time::serde::rfc3339::option")]
    pub current_deadline: Option<OffsetDateTime>,
}

/// What one event or fetch says about an account. `None` where Stripe's answer has no such flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// The onboarding form was submitted.
    pub details_submitted: Option<bool>,
    /// Stripe's proxy for "some payment capability is active".
    pub charges_enabled: Option<bool>,
    /// Money can go on to the holder's bank.
    pub payouts_enabled: Option<bool>,
    /// `active`, `pending`, `inactive`, of v2 also `restricted`, `unsupported`, `rejected`; open for more.
    pub transfers_capability: Option<String>,
    /// What is due, past due, pending.
    pub requirements: Requirements,
    /// Two-letter country.
    pub country: Option<String>,
    /// The account's own default currency.
    pub default_currency: Option<String>,
}

/// Which conditions must hold before an account is paid, and where accounts may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    conditions: Vec<Condition>,
    corridors: Arc<Corridors>,
    home: Option<Country>,
}

impl Default for Policy {
    fn default() -> Self {
        use Condition::{ChargesEnabled, DetailsSubmitted, TransfersActive};
        Self::of(vec![DetailsSubmitted, ChargesEnabled, TransfersActive])
    }
}

impl Policy {
    /// What must hold, in the order of the reasons.
    pub fn conditions(&self) -> Vec<Condition> {
        Condition::ALL.into_iter().filter(|condition| self.conditions.contains(condition)).collect()
    }

    /// Reads a comma-separated list of conditions; an unknown one is returned as the error.
    pub fn parse(list: &str) -> Result<Self, String> {
        let named = |name: &str| Condition::ALL.into_iter().find(|condition| condition.name() == name);
        let conditions = list
            .split(',')
            .map(str::trim)
            .map(|name| named(name).ok_or_else(|| name.to_owned()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(conditions))
    }

    fn of(conditions: Vec<Condition>) -> Self {
        Self { conditions, corridors: Arc::default(), home: None }
    }

    /// The same, with these corridors.
    pub fn with_corridors(self, corridors: Corridors) -> Self {
        Self { corridors: Arc::new(corridors), ..self }
    }

    /// The same of a platform in this country. Where that is not known, no border is in the way.
    pub fn at_home(&self, home: Option<Country>) -> Self {
        Self { home, ..self.clone() }
    }

    /// Whether accounts in this country, as Stripe writes it, can be paid at all.
    pub fn reaches(&self, country: &str) -> bool {
        self.leads_to(Some(country), None)
    }

    /// Whether an account in this country can be paid in this currency, or, with none, in any.
    fn leads_to(&self, country: Option<&str>, currency: Option<Currency>) -> bool {
        match (self.home, country.and_then(Country::parse)) {
            (Some(home), Some(to)) => match currency {
                Some(currency) => self.corridors.carry(home, to, currency),
                None => self.corridors.reach(home, to),
            },
            // What is not known is left to Stripe, which refuses for good what can't be paid.
            (None, _) | (_, None) => true,
        }
    }
}

/// What is known about an account when it is decided upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What it looked like last; `None` while nothing readable described it.
    pub flags: Option<Flags>,
    /// The latest sign that it left the platform or can't be seen.
    pub deauthorized_at: Option<OffsetDateTime>,
    /// The start of the latest fetch that succeeded.
    pub confirmed_at: Option<OffsetDateTime>,
    /// The earliest sign that it was closed, which is for good.
    pub closed_at: Option<OffsetDateTime>,
}

impl Known {
    /// It was closed then, or before.
    pub fn close(&mut self, at: OffsetDateTime) {
        self.closed_at = Some(self.closed_at.map_or(at, |known| known.min(at)));
    }

    /// Whether there is anything to say of it: it was described, or it is gone.
    pub fn says_something(&self) -> bool {
        self.flags.is_some() || self.closed_at.is_some() || self.deauthorized()
    }

    /// Whether the latest deauthorization still counts.
    pub fn deauthorized(&self) -> bool {
        match (self.deauthorized_at, self.confirmed_at) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(left), Some(confirmed)) => confirmed < left + REAUTHORIZED_AFTER,
        }
    }

    /// Every reason why the account may not be paid, in order; empty exactly when it may.
    pub fn reasons(&self, policy: &Policy) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.deauthorized() {
            reasons.push(Reason::AccountDeauthorized);
        }
        if self.closed_at.is_some() {
            reasons.push(Reason::AccountBlocked);
        }
        match &self.flags {
            None if reasons.is_empty() => reasons.push(Reason::AccountUnknown),
            None => {}
            Some(flags) => {
                let refused = is_final(flags.transfers_capability.as_deref());
                if refused || blocks(flags.requirements.disabled_reason.as_deref()) {
                    reasons.push(Reason::AccountBlocked);
                }
                reasons.extend(policy.conditions.iter().filter_map(|condition| condition.missing(flags)));
                if !policy.leads_to(flags.country.as_deref(), None) {
                    reasons.push(Reason::CorridorUnsupported);
                }
            }
        }
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    /// The same for a transfer in this currency.
    pub fn reasons_in(&self, policy: &Policy, currency: Currency) -> Vec<Reason> {
        let mut reasons = self.reasons(policy);
        let country = self.flags.as_ref().and_then(|flags| flags.country.as_deref());
        if !policy.leads_to(country, Some(currency)) {
            reasons.push(Reason::CorridorUnsupported);
            reasons.sort_unstable();
            reasons.dedup();
        }
        reasons
    }
}

/// Disabled reasons that mean Stripe itself stands between the account and its money.
pub(super) fn blocks(disabled_reason: Option<&str>) -> bool {
    match disabled_reason {
        None => false,
        Some("listed" | "under_review" | "platform_paused" | "other") => true,
        Some(reason) => reason.starts_with("rejected."),
    }
}

/// Of two descriptions without an order, the one that is further from ready; the same whichever comes first.
pub fn less_ready(one: Flags, other: Flags, policy: &Policy) -> Flags {
    let distance = |flags: &Flags| {
        let known = Known { flags: Some(flags.clone()), ..Known::default() };
        known.reasons(policy).len()
    };
    let (of_one, of_other) = (distance(&one), distance(&other));
    // The text breaks a tie, so that the order of arrival does not.
    let one_wins = (of_one, format!("{one:?}")) >= (of_other, format!("{other:?}"));
    if one_wins { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::corridors::Corridor;

    fn ready() -> Flags {
        Flags {
            details_submitted: Some(true),
            charges_enabled: Some(true),
            payouts_enabled: Some(true),
            transfers_capability: Some("active".into()),
            ..Flags::default()
        }
    }

    fn reasons_of(flags: Flags, policy: &str) -> Vec<Reason> {
        let known = Known { flags: Some(flags), deauthorized_at: None, confirmed_at: None, closed_at: None };
        known.reasons(&Policy::parse(policy).unwrap())
    }

    const ALL: &str = "details_submitted,charges_enabled,payouts_enabled,transfers_active,no_past_due";

    #[test]
    fn each_missing_condition_has_its_reason_and_only_under_a_policy_that_asks_for_it() {
        let past_due = Requirements { past_due: vec!["x".into()], ..Requirements::default() };
        let rows = [
            (
                Flags { details_submitted: Some(false), ..ready() },
                "details_submitted",
                Reason::DetailsNotSubmitted,
            ),
            (Flags { charges_enabled: Some(false), ..ready() }, "charges_enabled", Reason::ChargesDisabled),
            (Flags { payouts_enabled: Some(false), ..ready() }, "payouts_enabled", Reason::PayoutsDisabled),
            (
                Flags { transfers_capability: Some("pending".into()), ..ready() },
                "transfers_active",
                Reason::TransfersInactive,
            ),
            (Flags { transfers_capability: None, ..ready() }, "transfers_active", Reason::TransfersInactive),
            (Flags { requirements: past_due, ..ready() }, "no_past_due", Reason::RequirementsPastDue),
        ];
        for (flags, condition, reason) in rows {
            assert_eq!(reasons_of(flags.clone(), ALL), vec![reason]);
            assert_eq!(reasons_of(flags.clone(), condition), vec![reason]);
            for other in Condition::ALL.map(Condition::name).into_iter().filter(|name| *name != condition) {
                assert_eq!(reasons_of(flags.clone(), other), vec![], "{condition} under {other}");
            }
        }
        assert_eq!(reasons_of(ready(), ALL), vec![]);
    }

    #[test]
    fn some_disabled_reasons_block_under_every_policy() {
        let disabled = |reason: &str| Flags {
            requirements: Requirements { disabled_reason: Some(reason.into()), ..Requirements::default() },
            ..ready()
        };
        for reason in
            ["rejected.fraud", "rejected.new_kind", "listed", "under_review", "platform_paused", "other"]
        {
            assert_eq!(
                reasons_of(disabled(reason), "transfers_active"),
                vec![Reason::AccountBlocked],
                "{reason}"
            );
        }
        for reason in [
            "requirements.past_due",
            "requirements.pending_verification",
            "action_required.requested_capabilities",
        ] {
            assert_eq!(reasons_of(disabled(reason), "transfers_active"), vec![], "{reason}");
        }
    }

    #[test]
    fn an_absent_flag_counts_as_the_transfers_capability() {
        let v2 =
            |capability: &str| Flags { transfers_capability: Some(capability.into()), ..Flags::default() };
        assert_eq!(reasons_of(v2("active"), ALL), vec![]);
        assert_eq!(
            reasons_of(v2("restricted"), "details_submitted,charges_enabled,transfers_active"),
            vec![Reason::DetailsNotSubmitted, Reason::ChargesDisabled, Reason::TransfersInactive]
        );
    }

    #[test]
    fn a_deauthorization_ends_with_a_fetch_that_began_a_minute_later() {
        let left = OffsetDateTime::UNIX_EPOCH;
        let known = |confirmed_at| Known {
            flags: Some(ready()),
            deauthorized_at: Some(left),
            confirmed_at,
            closed_at: None,
        };
        assert!(known(None).deauthorized());
        assert!(known(Some(left + Duration::seconds(59))).deauthorized());
        assert!(!known(Some(left + Duration::seconds(60))).deauthorized());
        assert_eq!(known(None).reasons(&Policy::default()), vec![Reason::AccountDeauthorized]);
    }

    #[test]
    fn an_account_that_nothing_described_is_unknown() {
        let known = Known { flags: None, deauthorized_at: None, confirmed_at: None, closed_at: None };
        assert_eq!(known.reasons(&Policy::default()), vec![Reason::AccountUnknown]);
    }

    #[test]
    fn of_two_the_less_ready_is_held_whichever_came_first() {
        let policy = Policy::default();
        let not = Flags { charges_enabled: Some(false), ..ready() };
        assert_eq!(less_ready(not.clone(), ready(), &policy), not);
        assert_eq!(less_ready(ready(), not.clone(), &policy), not);
        let (a, b) = (
            Flags { country: Some("US".into()), ..ready() },
            Flags { country: Some("CA".into()), ..ready() },
        );
        assert_eq!(less_ready(a.clone(), b.clone(), &policy), less_ready(b, a, &policy));
    }

    #[test]
    fn a_border_is_in_the_way_only_where_both_sides_are_known() {
        let country = |code: &str| Country::parse(code);
        let at = |home: &str| Policy::default().at_home(country(home));
        let known = |code: Option<&str>| Known {
            flags: Some(Flags { country: code.map(str::to_owned), ..ready() }),
            deauthorized_at: None,
            confirmed_at: None,
            closed_at: None,
        };
        let unsupported = vec![Reason::CorridorUnsupported];
        assert_eq!(known(Some("JP")).reasons(&at("US")), unsupported);
        assert_eq!(known(Some("DE")).reasons(&at("US")), vec![]);
        assert_eq!(known(None).reasons(&at("US")), vec![]);
        assert_eq!(known(Some("jp")).reasons(&at("US")), vec![], "no country");
        assert_eq!(known(Some("JP")).reasons(&Policy::default()), vec![], "the platform's is not known");
        let (usd, cad) = (Currency::parse("usd").unwrap(), Currency::parse("cad").unwrap());
        let line = Corridor { from: vec![], to: vec![country("CA").unwrap()], currencies: vec![cad] };
        let local = at("US").with_corridors(Corridors::Table(vec![line]));
        let canadian = known(Some("CA"));
        assert_eq!(canadian.reasons(&local), vec![], "it may be paid, in some currency");
        assert_eq!(canadian.reasons_in(&local, cad), vec![]);
        assert_eq!(canadian.reasons_in(&local, usd), unsupported);
        assert_eq!(known(Some("US")).reasons_in(&local, cad), unsupported);
    }

    #[test]
    fn a_policy_names_the_condition_it_does_not_know() {
        assert_eq!(Policy::parse("transfers_active, nope"), Err("nope".into()));
        assert_eq!(Policy::parse(""), Err(String::new()));
        assert_eq!(
            Policy::parse("details_submitted,charges_enabled,transfers_active"),
            Ok(Policy::default())
        );
    }
}
