//! The codes that say why an account may not be paid or why a transfer has not gone out.
//!
//! Their order is the order in which they are shown, and the line between "not ready" and "ready, but no
//! money": a transfer with only codes from [`Reason::FundsInsufficient`] on stands in the funding line.

use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why something waits; `Ord` is the order of display.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every code, in order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The code as the API shows it.
            pub fn code(self) -> &'static str {
                match self {
                    $(Reason::$name => $code,)*
                }
            }

            /// Takes a code of the API.
            pub fn parse(code: &str) -> Option<Reason> {
                match code {
                    $($code => Some(Reason::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// An operator, or a refused configuration, stopped all releases.
    ReleasesPaused = "releases_paused",
    /// An operator holds this transfer.
    OnHold = "on_hold",
    /// It is larger than the limit above which another key must approve.
    ApprovalRequired = "approval_required",
    /// Its `release_after` has not come.
    Scheduled = "scheduled",
    /// The day's cap is used up.
    DailyCapReached = "daily_cap_reached",
    /// Neither an event nor a call has shown this account.
    AccountUnknown = "account_unknown",
    /// The account left the platform, or Stripe no longer lets us see it.
    AccountDeauthorized = "account_deauthorized",
    /// Stripe rejected, listed, reviews or paused the account.
    AccountBlocked = "account_blocked",
    /// Onboarding was not finished.
    DetailsNotSubmitted = "details_not_submitted",
    /// `charges_enabled` is false.
    ChargesDisabled = "charges_disabled",
    /// `payouts_enabled` is false.
    PayoutsDisabled = "payouts_disabled",
    /// The `transfers` capability is not active.
    TransfersInactive = "transfers_inactive",
    /// Requirements are past due.
    RequirementsPastDue = "requirements_past_due",
    /// The account's country and currency can't be paid from this platform.
    CorridorUnsupported = "corridor_unsupported",
    /// Neither an event nor a call has shown the top-up the transfer is tied to.
    TopupUnknown = "topup_unknown",
    /// The top-up has not succeeded yet.
    TopupPending = "topup_pending",
    /// The top-up succeeded; its money is not available yet.
    TopupNotSettled = "topup_not_settled",
    /// The top-up failed, was canceled or was reversed.
    TopupFailed = "topup_failed",
    /// Ready, but no settled money is left for it.
    FundsInsufficient = "funds_insufficient",
    /// Stripe refused for lack of funds; its balance does not cover the first in line yet.
    StripeBalanceInsufficient = "stripe_balance_insufficient",
    /// Stripe gave no definite answer; it is being asked again.
    StripeUnavailable = "stripe_unavailable",
}

impl Reason {
    /// The code in plain words, as the rest of a sentence that begins with "it waits:".
    pub fn words(self) -> &'static str {
        match self {
            Self::ReleasesPaused => "all releases are paused",
            Self::OnHold => "an operator holds it",
            Self::ApprovalRequired => "another key must approve it",
            Self::Scheduled => "its release date has not come",
            Self::DailyCapReached => "the day's cap is used up",
            Self::AccountUnknown => "Stripe has not told of the account yet",
            Self::AccountDeauthorized => "the account left the platform",
            Self::AccountBlocked => "Stripe blocks the account",
            Self::DetailsNotSubmitted => "onboarding is not finished",
            Self::ChargesDisabled => "Stripe has not enabled charges",
            Self::PayoutsDisabled => "Stripe has not enabled payouts",
            Self::TransfersInactive => "the account may not receive transfers yet",
            Self::RequirementsPastDue => "Stripe's requirements are past due",
            Self::CorridorUnsupported => "its country or currency can't be paid from here",
            Self::TopupUnknown => "Stripe has not told of the top-up yet",
            Self::TopupPending => "the bank has not paid the top-up yet",
            Self::TopupNotSettled => "the top-up's money is not available yet",
            Self::TopupFailed => "the top-up failed or was taken back",
            Self::FundsInsufficient => "no settled money is left for it",
            Self::StripeBalanceInsufficient => "Stripe's balance does not reach",
            Self::StripeUnavailable => "Stripe has given no definite answer yet",
        }
    }

    /// What ends it, as the rest of a sentence that begins with "it goes on when".
    pub fn way_out(self) -> &'static str {
        match self {
            Self::ReleasesPaused => "an operator resumes releases",
            Self::OnHold => "somebody resumes this transfer",
            Self::ApprovalRequired => "another API key than the one that asked for it approves it",
            Self::Scheduled => "its date comes",
            Self::DailyCapReached => {
                "the next UTC day begins, or something that was reserved today is given back"
            }
            Self::AccountUnknown => "Stripe shows the account, for which it is asked by itself",
            Self::AccountDeauthorized => "the account connects to the platform again",
            Self::AccountBlocked => "Stripe lifts the block; its support can say why it stands",
            Self::DetailsNotSubmitted => "the account's holder finishes onboarding",
            Self::ChargesDisabled => "Stripe enables charges, mostly once it has all it asks of the holder",
            Self::PayoutsDisabled => "Stripe enables payouts, mostly once it has all it asks of the holder",
            Self::TransfersInactive => {
                "Stripe activates the transfers capability, mostly once it has all it asks of the holder"
            }
            Self::RequirementsPastDue => "the account's holder gives Stripe what is past due",
            Self::CorridorUnsupported => {
                "its country and currency become payable from this platform; else it has to be canceled"
            }
            Self::TopupUnknown => "Stripe shows the top-up, for which it is asked by itself",
            Self::TopupPending => "the bank pays the top-up",
            Self::TopupNotSettled => "the top-up's money becomes available",
            Self::TopupFailed => "never: cancel it, and ask for one that is not tied to this top-up",
            Self::FundsInsufficient => "money is added and settles, or what stands before it is canceled",
            Self::StripeBalanceInsufficient => {
                "Stripe's balance covers the first in line, for which it is asked by itself"
            }
            Self::StripeUnavailable => "Stripe gives a definite answer, for which it is asked by itself",
        }
    }

    /// Whether it is the account's, and so one of the reasons why an account may not be paid.
    pub fn of_account(self) -> bool {
        (Reason::AccountUnknown..=Reason::CorridorUnsupported).contains(&self)
    }

    /// Whether a transfer with this code is not even in the line for money.
    pub fn before_funds(self) -> bool {
        self < Reason::FundsInsufficient
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// The codes of a list of reasons, as stored and shown.
pub fn codes(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(|reason| reason.code().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back_and_keep_their_order() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.code()), Some(*reason));
        }
        assert!(Reason::ALL.is_sorted());
        assert_eq!(Reason::ALL.len(), 21);
        assert!(Reason::PayoutsDisabled.of_account() && !Reason::TopupUnknown.of_account());
        assert!(!Reason::DailyCapReached.of_account() && Reason::CorridorUnsupported.of_account());
        assert!(Reason::TopupFailed.before_funds() && !Reason::FundsInsufficient.before_funds());
    }
}
