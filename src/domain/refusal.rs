//! What Stripe's answer to a transfer means for what happens next, in one table.
//!
//! Codes and statuses: <https://docs.stripe.com/error-codes>, <https://docs.stripe.com/error-low-level>,
//! <https://docs.stripe.com/rate-limits>. The set of codes is open, so an unknown one is the payee's or the
//! request's fault only with a status that blames the request; anything about the key, the platform or the
//! moment is not.

/// Stripe's own answer that no transfer was made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Stripe's `type`, like `invalid_request_error`.
    pub error_type: Option<String>,
    /// Stripe's `code`, where it gave one.
    pub code: Option<String>,
    /// The parameter Stripe complained of.
    pub param: Option<String>,
    /// Stripe's text.
    pub message: String,
    /// Stripe says with it that the same call is worth repeating.
    pub told_to_repeat: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// Not now, and nobody's fault: the same key again, later.
    SlowDown,
    /// It proves nothing about what the key has done: the same key, or a look-up.
    LookUp,
    /// The platform's balance does not reach: give the money back and stop the currency.
    WaitForFunds,
    /// The account can't receive it now: give the money back and ask Stripe about the account.
    WaitForAccount,
    /// Our key, permission or settings: stop all releases until somebody mends it.
    Configuration,
    /// It will never go through.
    Permanent,
}

/// Codes that decide alone, whatever the status: Stripe's documents and its practice differ on some statuses.
const BY_CODE: [(&str, Sorted); 18] = [
    ("rate_limit", Sorted::SlowDown),
    ("lock_timeout", Sorted::SlowDown),
    ("idempotency_key_in_use", Sorted::SlowDown),
    ("balance_insufficient", Sorted::WaitForFunds),
    ("insufficient_funds", Sorted::WaitForFunds),
    ("insufficient_capabilities_for_transfer", Sorted::WaitForAccount),
    ("account_invalid", Sorted::WaitForAccount),
    ("account_closed", Sorted::WaitForAccount),
    ("payouts_not_allowed", Sorted::WaitForAccount),
    ("transfer_source_balance_parameters_mismatch", Sorted::Configuration),
    ("api_key_expired", Sorted::Configuration),
    ("platform_api_key_expired", Sorted::Configuration),
    ("secret_key_required", Sorted::Configuration),
    ("platform_account_required", Sorted::Configuration),
    ("testmode_charges_only", Sorted::Configuration),
    ("more_permissions_required", Sorted::Configuration),
    ("tls_version_unsupported", Sorted::Configuration),
    ("transfers_not_allowed", Sorted::Permanent),
];

impl Refusal {
    /// Sorts the answer.
    pub fn sort(&self) -> Sorted {
        if self.error_type.as_deref() == Some("idempotency_error") && !matches!(self.status, 409 | 429) {
            return Sorted::LookUp;
        }
        let code = self.code.as_deref().unwrap_or_default();
        if let (400..=499, Some((_, sorted))) =
            (self.status, BY_CODE.iter().find(|(known, _)| *known == code))
        {
            return *sorted;
        }
        match self.status {
            409 | 429 => Sorted::SlowDown,
            401 | 403 => Sorted::Configuration,
            400..=499 if self.param.as_deref() == Some("source_type") => Sorted::Configuration,
            400..=499 if self.told_to_repeat => Sorted::SlowDown,
            400..=499 => Sorted::Permanent,
            _ => Sorted::LookUp,
        }
    }

    /// Whether Stripe keeps this answer for its idempotency key, so that it speaks of every send of the key:
    /// what it refuses at the door, before the request runs, says nothing about the sends before.
    pub fn is_stored(&self) -> bool {
        let of_our_body = self.param.as_deref() == Some("source_type")
            || self.code.as_deref() == Some("transfer_source_balance_parameters_mismatch");
        match self.sort() {
            Sorted::SlowDown | Sorted::LookUp => false,
            Sorted::Configuration => of_our_body && !matches!(self.status, 401 | 403),
            Sorted::WaitForFunds | Sorted::WaitForAccount | Sorted::Permanent => {
                !matches!(self.status, 401 | 403)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, error_type: &str, code: Option<&str>, param: Option<&str>) -> Refusal {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let error_type = Some(error_type.to_owned());
        let message = String::new();
        Refusal { status, error_type, code: owned(code), param: owned(param), message, told_to_repeat: false }
    }

    #[test]
    fn what_stripe_says_to_repeat_is_not_refused_for_good() {
        let invalid = "invalid_request_error";
        let told = |code| Refusal { told_to_repeat: true, ..refusal(400, invalid, Some(code), None) };
        assert_eq!(told("never_heard_of_it").sort(), Sorted::SlowDown);
        assert_eq!(
            told("balance_insufficient").sort(),
            Sorted::WaitForFunds,
            "what is known has its own way"
        );
        assert_eq!(told("transfers_not_allowed").sort(), Sorted::Permanent);
    }

    #[test]
    fn each_answer_has_its_place() {
        use Sorted::{Configuration, LookUp, Permanent, SlowDown, WaitForAccount, WaitForFunds};
        let invalid = "invalid_request_error";
        let rows = [
            // Slow down: never the payee's failure.
            (429, invalid, Some("rate_limit"), None, SlowDown, false),
            (429, invalid, Some("lock_timeout"), None, SlowDown, false),
            (400, invalid, Some("lock_timeout"), None, SlowDown, false),
            (400, invalid, Some("rate_limit"), None, SlowDown, false),
            (429, "api_error", None, None, SlowDown, false),
            (429, "idempotency_error", None, None, SlowDown, false),
            (409, "idempotency_error", Some("idempotency_key_in_use"), None, SlowDown, false),
            (400, invalid, Some("idempotency_key_in_use"), None, SlowDown, false),
            (409, invalid, None, None, SlowDown, false),
            // Proves nothing.
            (400, "idempotency_error", None, None, LookUp, false),
            (404, "idempotency_error", Some("balance_insufficient"), None, LookUp, false),
            (500, "api_error", None, None, LookUp, false),
            (500, "api_error", Some("balance_insufficient"), None, LookUp, false),
            (503, "api_error", None, None, LookUp, false),
            (302, invalid, None, None, LookUp, false),
            // Funds.
            (400, invalid, Some("balance_insufficient"), None, WaitForFunds, true),
            (402, invalid, Some("insufficient_funds"), None, WaitForFunds, true),
            // The account.
            (400, invalid, Some("insufficient_capabilities_for_transfer"), None, WaitForAccount, true),
            (403, invalid, Some("account_invalid"), None, WaitForAccount, false),
            (400, invalid, Some("account_closed"), None, WaitForAccount, true),
            (400, invalid, Some("payouts_not_allowed"), None, WaitForAccount, true),
            // Ours to mend.
            (401, invalid, None, None, Configuration, false),
            (401, invalid, Some("api_key_expired"), None, Configuration, false),
            (400, invalid, Some("api_key_expired"), None, Configuration, false),
            (400, invalid, Some("platform_api_key_expired"), None, Configuration, false),
            (400, invalid, Some("secret_key_required"), None, Configuration, false),
            (400, invalid, Some("platform_account_required"), None, Configuration, false),
            (400, invalid, Some("testmode_charges_only"), None, Configuration, false),
            (400, invalid, Some("tls_version_unsupported"), None, Configuration, false),
            (400, invalid, Some("livemode_mismatch"), None, Permanent, true),
            (403, invalid, None, None, Configuration, false),
            (400, invalid, Some("more_permissions_required"), None, Configuration, false),
            (400, invalid, Some("transfer_source_balance_parameters_mismatch"), None, Configuration, true),
            (400, invalid, Some("parameter_invalid_string"), Some("source_type"), Configuration, true),
            // For good.
            (400, invalid, Some("transfers_not_allowed"), None, Permanent, true),
            (400, invalid, Some("resource_missing"), Some("destination"), Permanent, true),
            (404, invalid, Some("resource_missing"), Some("destination"), Permanent, true),
            (403, invalid, Some("transfers_not_allowed"), None, Permanent, false),
            (400, invalid, Some("parameter_invalid_integer"), Some("amount"), Permanent, true),
            (402, "card_error", Some("card_declined"), None, Permanent, true),
            (400, invalid, Some("never_heard_of_it"), None, Permanent, true),
            (400, invalid, None, None, Permanent, true),
        ];
        for (status, error_type, code, param, sorted, stored) in rows {
            let refusal = refusal(status, error_type, code, param);
            assert_eq!((refusal.sort(), refusal.is_stored()), (sorted, stored), "{refusal:?}");
        }
    }

    #[test]
    fn a_code_decides_alone_where_the_status_would_say_otherwise() {
        // Each line of the table is seen: with a status that means something else without the code.
        for (code, sorted) in BY_CODE {
            let status =
                if matches!(sorted, Sorted::Configuration | Sorted::WaitForAccount) { 400 } else { 403 };
            let bare = refusal(status, "invalid_request_error", None, None).sort();
            let with_code = refusal(status, "invalid_request_error", Some(code), None).sort();
            assert_eq!(with_code, sorted, "{code}");
            assert_ne!(bare, with_code, "{code} changes nothing");
        }
    }
}
