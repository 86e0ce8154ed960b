//! What of the platform's own account endangers the money it adds to pay others.
//!
//! With an automatic payout schedule Stripe sends whatever is in the platform's balance to the platform's own bank,
//! money that was added to pay others included. Source: Stripe's guide to paying out money, "best practices".

use time::OffsetDateTime;

/// How the platform's own balance goes to its own bank, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payouts {
    /// Stripe's `settings.payouts.schedule.interval`; `None` where the key may not read it.
    pub interval: Option<String>,
    /// The latest payout to the platform's own bank that Stripe made by itself.
    pub automatic_at: Option<OffsetDateTime>,
}

/// Something an operator should mend at Stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable.
    pub code: &'static str,
    /// What is so, and why that is dangerous.
    pub message: String,
    /// What to do.
    pub mend: &'static str,
}

const MANUAL: &str = "manual";
const MEND: &str = "In Stripe's Dashboard, under Settings, Payouts, set the platform's own payout schedule to manual, and \
    pay your own earnings out by hand.";

impl Payouts {
    /// Whether Stripe pays the platform's balance out by itself; `None` where nothing tells.
    pub fn automatic(&self) -> Option<bool> {
        match &self.interval {
            Some(interval) => Some(interval != MANUAL),
            None => self.automatic_at.map(|_| true),
        }
    }

    /// What is dangerous about it.
    pub fn warnings(&self) -> Vec<Warning> {
        let message = match (self.automatic(), &self.interval) {
            (Some(false), _) => return Vec::new(),
            (Some(true), Some(interval)) => format!(
                "Stripe pays the platform's balance out to its own bank by itself ({interval}): money added for \
                 connected accounts can leave before it was transferred, and transfers then fail for lack of funds"
            ),
            (Some(true), None) => {
                "Stripe made a payout of the platform's balance to its own bank by itself: money \
                 added for connected accounts can leave before it was transferred"
                    .to_owned()
            }
            (None, _) => {
                return vec![Warning {
                    code: "payout_schedule_unknown",
                    message: "Stripe does not show the platform's own payout schedule to this key: an automatic one \
                         would send money added for connected accounts to the platform's bank"
                        .to_owned(),
                    mend: "Let the restricted key read the account (GET /v1/account), or make sure in the Dashboard \
                         that the platform's payout schedule is manual.",
                }];
            }
        };
        vec![Warning { code: "automatic_payouts", message, mend: MEND }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payouts(interval: Option<&str>, seen: bool) -> Payouts {
        let automatic_at = seen.then_some(OffsetDateTime::UNIX_EPOCH);
        Payouts { interval: interval.map(str::to_owned), automatic_at }
    }

    #[test]
    fn every_schedule_but_the_manual_one_is_warned_of() {
        let rows = [
            (payouts(Some("manual"), false), Some(false), None),
            // The schedule was changed after that payout.
            (payouts(Some("manual"), true), Some(false), None),
            (payouts(Some("daily"), false), Some(true), Some("automatic_payouts")),
            (payouts(Some("weekly"), false), Some(true), Some("automatic_payouts")),
            (payouts(Some("of_tomorrow"), false), Some(true), Some("automatic_payouts")),
            (payouts(None, true), Some(true), Some("automatic_payouts")),
            (payouts(None, false), None, Some("payout_schedule_unknown")),
        ];
        for (payouts, automatic, code) in rows {
            assert_eq!(payouts.automatic(), automatic, "{payouts:?}");
            let warnings = payouts.warnings();
            assert_eq!(warnings.first().map(|warning| warning.code), code, "{payouts:?}");
            assert!(warnings.len() <= 1 && warnings.iter().all(|warning| !warning.mend.is_empty()));
        }
        let named = payouts(Some("daily"), false).warnings();
        assert!(named[0].message.contains("daily") && named[0].mend.contains("manual"));
    }
}
