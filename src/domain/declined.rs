//! Whose fault it is when Stripe declines to set something up for a caller, and so who can mend it.
//!
//! Transfers have a table of their own (`refusal`): there it decides about money.

use super::refusal::Refusal;

/// Who can mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller: this parameter of Stripe's is wrong.
    Parameter(String),
    /// Nobody here: Stripe does not show the account to this platform.
    Account,
    /// The operators: the service's key is refused or does not reach that far.
    Key,
    /// The operators: the platform is not set up at Stripe for what was asked.
    Platform,
}

/// Sorts a definite refusal.
pub fn sort(refusal: &Refusal) -> Fault {
    let code = refusal.code.as_deref().unwrap_or_default();
    match (refusal.status, code, refusal.param.as_deref()) {
        (_, "account_invalid", _) | (404, _, _) | (_, "resource_missing", Some("account")) => Fault::Account,
        (401 | 403, _, _) => Fault::Key,
        (_, _, Some(param)) if !param.is_empty() => Fault::Parameter(param.to_owned()),
        _ => Fault::Platform,
    }
}

/// A parameter as Stripe names it, `individual[address][line1]`, as a JSON pointer into what was sent.
pub fn pointer(param: &str) -> String {
    let parts = param.split(['[', ']']).filter(|part| !part.is_empty());
    parts.map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: Option<&str>, param: Option<&str>) -> Refusal {
        Refusal {
            status,
            error_type: Some("invalid_request_error".to_owned()),
            code: code.map(str::to_owned),
            param: param.map(str::to_owned),
            message: String::new(),
            told_to_repeat: false,
        }
    }

    #[test]
    fn each_refusal_finds_who_can_mend_it() {
        let of = |param: &str| Fault::Parameter(param.to_owned());
        let rows = [
            (refusal(400, Some("email_invalid"), Some("email")), of("email")),
            (refusal(400, Some("parameter_unknown"), Some("individual[x]")), of("individual[x]")),
            (refusal(402, None, Some("external_account")), of("external_account")),
            (refusal(400, None, None), Fault::Platform),
            (refusal(400, None, Some("")), Fault::Platform),
            (refusal(400, Some("resource_missing"), Some("account")), Fault::Account),
            (refusal(404, Some("resource_missing"), None), Fault::Account),
            (refusal(403, Some("account_invalid"), None), Fault::Account),
            (refusal(403, None, None), Fault::Key),
            (refusal(403, Some("more_permissions_required"), Some("type")), Fault::Key),
            (refusal(401, None, None), Fault::Key),
        ];
        for (refusal, fault) in rows {
            assert_eq!(sort(&refusal), fault, "{refusal:?}");
        }
    }

    #[test]
    fn a_parameter_points_into_the_body() {
        for (param, to) in [
            ("email", "/email"),
            ("individual[address][line1]", "/individual/address/line1"),
            ("documents[0][files][]", "/documents/0/files"),
            ("metadata[a/b~c]", "/metadata/a~1b~0c"),
            ("", ""),
        ] {
            assert_eq!(pointer(param), to);
        }
    }
}
