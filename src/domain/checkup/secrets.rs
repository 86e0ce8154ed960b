//! Secrets by their form, and where the service can be reached. No finding shows any part of a secret.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Finding;

/// Stripe's keys have far more characters after their prefix.
const SHORTEST_KEY: usize = 16;
/// A shorter signing secret could be tried out.
const SHORTEST_SECRET: usize = 24;
/// Random text of 32 characters has more different ones.
const FEWEST_DIFFERENT: usize = 8;

/// Words that people leave where a secret should go.
const PLACEHOLDERS: [&str; 9] =
    ["xxxx", "placeholder", "changeme", "change_me", "replace", "example", "your_", "...", "…"];

fn is_placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

fn different(text: &str) -> usize {
    text.chars().collect::<BTreeSet<_>>().len()
}

/// The Stripe key. `stand_in`: the configured Stripe is one on this machine, whose keys need no form.
pub fn stripe_key(key: Option<&str>, stand_in: bool) -> Finding {
    const CHECK: &str = "stripe_key";
    const MEND: &str = "set STRIPE_SECRET_KEY to the key that Stripe's Dashboard shows: Developers, API keys";
    let Some(key) = key else { return Finding::fail(CHECK, "STRIPE_SECRET_KEY is not set", MEND) };
    let kind = if key.starts_with("rk_") { "a restricted key" } else { "a secret key" };
    let mode = if key.contains("_live_") { "live" } else { "test" };
    let rest = key.splitn(3, '_').nth(2).unwrap_or_default();
    if stand_in {
        return Finding::ok(CHECK, format!("{kind} of {mode} mode, for a stand-in on this machine"));
    }
    if is_placeholder(rest) {
        return Finding::fail(CHECK, "STRIPE_SECRET_KEY reads like a placeholder", MEND);
    }
    if rest.len() < SHORTEST_KEY {
        return Finding::fail(CHECK, "STRIPE_SECRET_KEY is shorter than any of Stripe's keys", MEND);
    }
    Finding::ok(CHECK, format!("{kind} of {mode} mode"))
}

/// What deliveries are signed with.
pub fn webhook_secrets(secrets: &[&str]) -> Finding {
    const CHECK: &str = "webhook_secrets";
    const MEND: &str = "`sluicegate setup-webhooks --url URL` makes the endpoints and prints their secrets";
    if secrets.is_empty() {
        return Finding::fail(CHECK, "STRIPE_WEBHOOK_SECRETS is not set: no delivery can be verified", MEND);
    }
    for (at, secret) in secrets.iter().enumerate() {
        let rest = secret.strip_prefix("whsec_").unwrap_or(secret);
        let entry = format!("entry {} of STRIPE_WEBHOOK_SECRETS", at + 1);
        if is_placeholder(rest) || different(rest) < 3 {
            return Finding::fail(CHECK, format!("{entry} reads like a placeholder"), MEND);
        }
        if rest.len() < SHORTEST_SECRET {
            let found = format!("{entry} is so short that it could be guessed");
            return Finding::fail(CHECK, found, "use the secret that Stripe gave the endpoint");
        }
        if secrets[..at].contains(secret) {
            let found = format!("{entry} stands in it twice: the second never counts");
            return Finding::warn(CHECK, found, "leave one, or write the other endpoint's secret");
        }
    }
    Finding::ok(CHECK, format!("{} well formed", secrets.len()))
}

/// The bootstrap key. `others` are the configured secrets it must differ from; `keys` how many keys there are
/// besides, where that is known.
pub fn admin_key(key: Option<&str>, others: &[&str], keys: Option<i64>) -> Finding {
    const CHECK: &str = "admin_key";
    const MEND: &str = "make one with `openssl rand -hex 32`";
    match (key, keys) {
        (None, Some(0)) => Finding::warn(
            CHECK,
            "SLUICEGATE_ADMIN_KEY is not set, and no key was made: nobody can call the API",
            "`sluicegate keys create --name NAME --scope admin` makes one",
        ),
        (None, _) => Finding::ok(CHECK, "not set; the keys that were made count"),
        (Some(key), _) if others.contains(&key) => {
            Finding::fail(CHECK, "SLUICEGATE_ADMIN_KEY is one of Stripe's secrets", MEND)
        }
        (Some(key), _) if is_placeholder(key) || different(key) < FEWEST_DIFFERENT => {
            Finding::fail(CHECK, "SLUICEGATE_ADMIN_KEY is easily guessed", MEND)
        }
        (Some(key), _) => Finding::ok(CHECK, format!("{} characters", key.len())),
    }
}

/// The base of onboarding links: its scheme and host.
pub fn public_url(url: Option<(&str, &str)>, live: bool) -> Finding {
    const CHECK: &str = "public_url";
    let Some((scheme, host)) = url else {
        return Finding::ok(CHECK, "not set; it is needed for onboarding links alone");
    };
    let shown = format!("{scheme}://{host}");
    if live && scheme != "https" {
        return Finding::fail(
            CHECK,
            format!("{shown} in live mode"),
            "Stripe takes https:// links alone there",
        );
    }
    if is_local(host) {
        let found = format!("{shown} leads nowhere from outside of this network");
        let mend = "write the name under which a browser reaches the service";
        return if live { Finding::fail(CHECK, found, mend) } else { Finding::warn(CHECK, found, mend) };
    }
    Finding::ok(CHECK, shown)
}

/// Whether a URL's host means a machine here, which nobody outside can reach.
pub fn is_local(host: &str) -> bool {
    let private = |address: IpAddr| match address {
        IpAddr::V4(four) => {
            four.is_loopback() || four.is_private() || four.is_unspecified() || four.is_link_local()
        }
        IpAddr::V6(six) => six.is_loopback() || six.is_unspecified(),
    };
    let bare = host.trim_matches(['[', ']']);
    bare == "localhost"
        || [".local", ".localhost", ".internal"].iter().any(|end| bare.ends_with(end))
        || bare.parse().is_ok_and(private)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Fail, Ok, Warn};
    use super::*;

    const GOOD: &str = "whsec_AbCdEfGhIjKlMnOpQrStUvWxYz012345";

    #[test]
    fn a_stripe_key_is_one_of_stripes_and_no_placeholder() {
        let rows: [(Option<&str>, bool, Verdict, &str); 6] = [
            (None, false, Fail, "not set"),
            (Some("sk_test_xxxxxxxxxxxxxxxxxxxxxxxx"), false, Fail, "placeholder"),
            (Some("sk_test_short"), false, Fail, "shorter"),
            (Some("sk_test_short"), true, Ok, "stand-in"),
            (Some("rk_live_51AbCdEfGhIjKlMnOp"), false, Ok, "a restricted key of live mode"),
            (Some("sk_test_51AbCdEfGhIjKlMnOp"), false, Ok, "a secret key of test mode"),
        ];
        for (key, stand_in, verdict, says) in rows {
            let finding = stripe_key(key, stand_in);
            assert!(finding.verdict == verdict && finding.found.contains(says), "{key:?}: {finding:?}");
        }
    }

    #[test]
    fn a_webhook_secret_is_long_and_stands_once() {
        let placeholder = "whsec_your_secret_goes_in_here_000";
        let rows: [(&[&str], Verdict, &str); 6] = [
            (&[], Fail, "not set"),
            (&[GOOD, placeholder], Fail, "entry 2"),
            (&["whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], Fail, "placeholder"),
            (&["whsec_abc123"], Fail, "guessed"),
            (&[GOOD, GOOD], Warn, "twice"),
            (&[GOOD, "whsec_ZyXwVuTsRqPoNmLkJiHgFeDcBa543210"], Ok, "2 well formed"),
        ];
        for (secrets, verdict, says) in rows {
            let finding = webhook_secrets(secrets);
            assert!(finding.verdict == verdict && finding.found.contains(says), "{finding:?}");
            assert!(secrets.iter().all(|secret| !finding.found.contains(secret)), "{finding:?}");
        }
    }

    #[test]
    fn an_admin_key_is_random_and_its_own() {
        let strong = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        let rows: [(Option<&str>, Option<i64>, Verdict); 7] = [
            (None, Some(0), Warn),
            (None, Some(2), Ok),
            (None, None, Ok),
            (Some(strong), Some(0), Ok),
            (Some("abababababababababababababababab"), None, Fail),
            (Some("changeme-changeme-changeme-12345"), None, Fail),
            (Some(GOOD), None, Fail),
        ];
        for (key, keys, verdict) in rows {
            assert_eq!(admin_key(key, &[GOOD], keys).verdict, verdict, "{key:?} {keys:?}");
        }
    }

    #[test]
    fn a_public_url_leads_somewhere_and_safely_in_live_mode() {
        let rows = [
            (None, true, Ok),
            (Some(("https", "pay.example.com")), true, Ok),
            (Some(("http", "pay.example.com")), true, Fail),
            (Some(("http", "pay.example.com")), false, Ok),
            (Some(("https", "localhost")), true, Fail),
            (Some(("http", "127.0.0.1")), false, Warn),
            (Some(("http", "[::1]")), false, Warn),
            (Some(("http", "10.1.2.3")), false, Warn),
        ];
        for (url, live, verdict) in rows {
            assert_eq!(public_url(url, live).verdict, verdict, "{url:?} {live}");
        }
    }
}
