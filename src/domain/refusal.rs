//! What Stripe's refusal of a transfer means for what happens next.
//!
//! Codes and statuses: <https://docs.stripe.com/error-codes>, <https://docs.stripe.com/error-low-level>. The
//! set of codes is open, so an unknown one is the payee's or the request's fault only with status 400, 402
//! or 404; anything about the key or the platform is configuration.

/// A definite answer that nothing was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Stripe's `code`, where it gave one.
    pub code: Option<String>,
    /// The parameter Stripe complained of.
    pub param: Option<String>,
    /// Stripe's text.
    pub message: String,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// The platform's balance does not reach: give the money back and stop the currency.
    WaitForFunds,
    /// The account can't receive it now: give the money back and ask Stripe about the account.
    WaitForAccount,
    /// Our key, permission or settings: stop all releases until somebody mends it.
    Configuration,
    /// It will never go through.
    Permanent,
}

impl Refusal {
    /// Sorts the refusal.
    pub fn sort(&self) -> Sorted {
        match (self.status, self.code.as_deref()) {
            (_, Some("balance_insufficient" | "insufficient_funds")) => Sorted::WaitForFunds,
            (
                _,
                Some(
                    "insufficient_capabilities_for_transfer"
                    | "account_invalid"
                    | "account_closed"
                    | "payouts_not_allowed",
                ),
            ) => Sorted::WaitForAccount,
            (
                _,
                Some(
                    "transfer_source_balance_parameters_mismatch"
                    | "api_key_expired"
                    | "secret_key_required"
                    | "platform_api_key_expired"
                    | "testmode_charges_only"
                    | "platform_account_required",
                ),
            ) => Sorted::Configuration,
            (401 | 403, _) => Sorted::Configuration,
            _ if self.param.as_deref() == Some("source_type") => Sorted::Configuration,
            _ => Sorted::Permanent,
        }
    }

    /// Whether Stripe will replay this answer for its idempotency key: it does not keep what it refused
    /// before the request ran.
    pub fn is_stored(&self) -> bool {
        !matches!(self.status, 401 | 403)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_place() {
        let rows = [
            (400, Some("balance_insufficient"), None, Sorted::WaitForFunds),
            (400, Some("insufficient_capabilities_for_transfer"), None, Sorted::WaitForAccount),
            (403, Some("account_invalid"), None, Sorted::WaitForAccount),
            (400, Some("account_closed"), None, Sorted::WaitForAccount),
            (401, None, None, Sorted::Configuration),
            (401, Some("api_key_expired"), None, Sorted::Configuration),
            (403, None, None, Sorted::Configuration),
            (403, Some("more_permissions_required"), None, Sorted::Configuration),
            (400, Some("transfer_source_balance_parameters_mismatch"), None, Sorted::Configuration),
            (400, Some("parameter_invalid_string"), Some("source_type"), Sorted::Configuration),
            (400, Some("transfers_not_allowed"), None, Sorted::Permanent),
            (400, Some("resource_missing"), Some("destination"), Sorted::Permanent),
            (404, Some("resource_missing"), Some("destination"), Sorted::Permanent),
            (400, Some("parameter_invalid_integer"), Some("amount"), Sorted::Permanent),
            (402, Some("card_declined"), None, Sorted::Permanent),
            (400, Some("never_heard_of_it"), None, Sorted::Permanent),
            (400, None, None, Sorted::Permanent),
        ];
        for (status, code, param, sorted) in rows {
            let refusal = Refusal {
                status,
                code: code.map(str::to_owned),
                param: param.map(str::to_owned),
                message: String::new(),
            };
            assert_eq!(refusal.sort(), sorted, "{status} {code:?} {param:?}");
        }
    }
}
