//! Restricted keys: what each may not do, and the refusal that says so.
//!
//! Stripe gives such a key none, read or write for each resource. Here a permission is `RESOURCE:read` or
//! `RESOURCE:write`, with the resource as the path has it (`transfers`, `account`).
//! No restricted key may call v2.

use std::collections::{HashMap, HashSet};

use axum::http::Method;

use super::errors::Refusal;

/// The restricted keys that are known, each with what it lacks.
#[derive(Debug, Default)]
pub(super) struct Restrictions(HashMap<String, HashSet<String>>);

impl Restrictions {
    /// Takes a key that lacks these permissions.
    pub fn add(&mut self, key: &str, lacks: &[&str]) {
        self.0.insert(key.to_owned(), lacks.iter().map(|lack| (*lack).to_owned()).collect());
    }

    /// Whether this is one of them.
    pub fn knows(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Refuses a call that the key lacks the permission for.
    pub fn check(&self, key: &str, method: &Method, path: &str) -> Result<(), Refusal> {
        if key.starts_with("rk_") && path.starts_with("/v2/") {
            return Err(Refusal::v2(403, "forbidden", "Restricted keys are not supported by this API."));
        }
        let needed = permission(method, path);
        match self.0.get(key) {
            Some(lacks) if lacks.contains(&needed) => {
                let shown: String = key.chars().take(8).collect();
                let message = format!(
                    "The provided key '{shown}************' does not have the required permissions for this \
                     endpoint. Having the '{needed}' permission would allow this request to continue."
                );
                Err(Refusal::call(403, None, message))
            }
            _ => Ok(()),
        }
    }
}

/// What a call needs. A reversal is the transfer's business, and a cancellation the top-up's.
fn permission(method: &Method, path: &str) -> String {
    let resource = path.trim_matches('/').split('/').nth(1).unwrap_or_default();
    format!("{resource}:{}", if *method == Method::GET { "read" } else { "write" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refused_what_it_lacks_and_nothing_else() {
        let mut restrictions = Restrictions::default();
        restrictions.add("rk_test_1", &["transfers:write"]);
        let of = |key, method, path| restrictions.check(key, &method, path).map_err(|refusal| refusal.status);
        assert_eq!(of("rk_test_1", Method::POST, "/v1/transfers/tr_1/reversals"), Err(403));
        assert_eq!(of("rk_test_1", Method::GET, "/v2/core/events/evt_1"), Err(403));
        assert_eq!(
            of("rk_test_2", Method::GET, "/v2/core/events/evt_1"),
            Err(403),
            "v2 takes secret keys alone"
        );
        assert_eq!(of("sk_test_1", Method::GET, "/v2/core/events/evt_1"), Ok(()));
        assert_eq!(of("rk_test_1", Method::GET, "/v1/transfers"), Ok(()));
        assert_eq!(of("sk_test_1", Method::POST, "/v1/transfers"), Ok(()));
        assert!(restrictions.knows("rk_test_1") && !restrictions.knows("sk_test_1"));
    }
}
