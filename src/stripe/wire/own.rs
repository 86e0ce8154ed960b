//! The platform's own account and its payouts, each reduced to what bears on paying others.

use super::{Fields, Object, Unreadable};
use crate::domain::ids::AccountId;

/// The answer of `GET /v1/account`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAccount {
    /// `acct_…`.
    pub id: AccountId,
    /// Two letters, upper case.
    pub country: Option<String>,
    /// Lower-case ISO code.
    pub default_currency: Option<String>,
    /// `settings.payouts.schedule.interval`: `manual`, `daily`, `weekly`, `monthly`; an open set. A key of few
    /// permissions is not shown it.
    pub payout_interval: Option<String>,
}

impl Object for OwnAccount {
    const NAME: &'static str = "account";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        let settings: Option<serde_json::Value> = f.may("settings");
        let interval = settings.and_then(|s| s.pointer("/payouts/schedule/interval").cloned());
        Ok(Self {
            id: f.id("id", AccountId::parse)?,
            country: f.may("country"),
            default_currency: f.may("default_currency"),
            payout_interval: interval.and_then(|interval| interval.as_str().map(str::to_owned)),
        })
    }
}

/// A payout from a balance to a bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Made by Stripe on a schedule, and not by anybody's order.
    pub automatic: Option<bool>,
}

impl Object for Payout {
    const NAME: &'static str = "payout";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self { automatic: f.may("automatic") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payout_schedule_is_found_where_stripe_puts_it_and_may_be_missing() {
        let read = |json: &str| OwnAccount::from_json(json).map(|own| own.payout_interval);
        let whole =
            r#"{"id":"acct_1","country":"US","settings":{"payouts":{"schedule":{"interval":"daily"}}}}"#;
        assert_eq!(read(whole), Ok(Some("daily".to_owned())));
        for bare in [
            r#"{"id":"acct_1"}"#,
            r#"{"id":"acct_1","settings":null}"#,
            r#"{"id":"acct_1","settings":{"payouts":{"schedule":{"interval":7}}}}"#,
        ] {
            assert_eq!(read(bare), Ok(None), "{bare}");
        }
        assert!(read(r#"{"id":"ca_1"}"#).is_err());
    }
}
