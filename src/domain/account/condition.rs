//! The conditions of readiness that a platform can choose from.

use super::Flags;
use crate::domain::reason::Reason;

/// One condition a platform may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `details_submitted` is true.
    DetailsSubmitted,
    /// `charges_enabled` is true.
    ChargesEnabled,
    /// `payouts_enabled` is true.
    PayoutsEnabled,
    /// The `transfers` capability is active.
    TransfersActive,
    /// Nothing is past due.
    NoPastDue,
}

impl Condition {
    /// Every condition, in the order of their reasons.
    pub const ALL: [Condition; 5] = [
        Condition::DetailsSubmitted,
        Condition::ChargesEnabled,
        Condition::PayoutsEnabled,
        Condition::TransfersActive,
        Condition::NoPastDue,
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Condition::DetailsSubmitted => "details_submitted",
            Condition::ChargesEnabled => "charges_enabled",
            Condition::PayoutsEnabled => "payouts_enabled",
            Condition::TransfersActive => "transfers_active",
            Condition::NoPastDue => "no_past_due",
        }
    }

    /// What an account that does not meet it waits for.
    pub fn reason(self) -> Reason {
        match self {
            Condition::DetailsSubmitted => Reason::DetailsNotSubmitted,
            Condition::ChargesEnabled => Reason::ChargesDisabled,
            Condition::PayoutsEnabled => Reason::PayoutsDisabled,
            Condition::TransfersActive => Reason::TransfersInactive,
            Condition::NoPastDue => Reason::RequirementsPastDue,
        }
    }

    /// What an account with these flags waits for, if it does not meet it.
    pub(super) fn missing(self, flags: &Flags) -> Option<Reason> {
        let active = flags.transfers_capability.as_deref() == Some("active");
        // A v2 account has no v1 flags: what stands for them is whether it may receive transfers.
        let holds = |flag: Option<bool>| flag.unwrap_or(active);
        let holds = match self {
            Condition::DetailsSubmitted => holds(flags.details_submitted),
            Condition::ChargesEnabled => holds(flags.charges_enabled),
            Condition::PayoutsEnabled => holds(flags.payouts_enabled),
            Condition::TransfersActive => active,
            Condition::NoPastDue => flags.requirements.past_due.is_empty(),
        };
        (!holds).then(|| self.reason())
    }
}
