//! The secrets: what form they must have, and nothing that could show them.
//!
//! No error here repeats any part of what it was given, since errors are printed and logged.

use secrecy::{ExposeSecret, SecretString};

use super::values::Read;

/// Which of Stripe's two worlds a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No money moves.
    Test,
    /// Real money.
    Live,
}

/// Stripe's API key, of a form that was checked.
#[derive(Clone, Debug)]
pub struct StripeKey {
    secret: SecretString,
    mode: Mode,
}

impl StripeKey {
    /// Test or live, as the key itself says.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The key, for the `Authorization` header and nothing else.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The key in its wrapper.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }
}

/// One secret that Stripe may have signed a webhook with.
#[derive(Clone, Debug)]
pub struct WebhookSecret {
    /// The operator's name for it, kept with each event it verified.
    pub label: Option<String>,
    /// The whole of it, `whsec_` included: that is the key of the signature.
    pub secret: SecretString,
}

/// `sk_test_…`, `sk_live_…`, `rk_test_…` or `rk_live_…`.
pub(super) fn stripe_key(text: &str) -> Read<StripeKey> {
    let of = |mode, prefixes: [&str; 2]| {
        let rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))?;
        let whole = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        whole.then(|| StripeKey { secret: text.into(), mode })
    };
    if text.trim() != text {
        return Err("has white space around it: take it away".to_owned());
    }
    if text.starts_with("pk_") {
        return Err("is a publishable key: write the secret (`sk_…`) or a restricted (`rk_…`) one".to_owned());
    }
    of(Mode::Test, ["sk_test_", "rk_test_"]).or_else(|| of(Mode::Live, ["sk_live_", "rk_live_"])).ok_or_else(|| {
        "is not a Stripe key: write `sk_test_…`, `sk_live_…`, `rk_test_…` or `rk_live_…` as the Dashboard shows it"
            .to_owned()
    })
}

/// Comma-separated `whsec_…`, each with an optional `label=` before it.
pub(super) fn webhook_secrets(text: &str) -> Read<Vec<WebhookSecret>> {
    text.split(',').enumerate().map(|(at, entry)| webhook_secret(at + 1, entry)).collect()
}

fn webhook_secret(at: usize, entry: &str) -> Read<WebhookSecret> {
    // A secret may itself hold `=`, so only what stands before a `whsec_` can be a label.
    let (label, secret) = match entry.split_once('=') {
        Some((label, secret)) if !entry.starts_with("whsec_") => (Some(label), secret),
        _ => (None, entry),
    };
    let refused = |mend: &str| Err(format!("entry {at}: {mend}"));
    if entry.trim().is_empty() {
        return refused("is empty: write a secret or take the comma away");
    }
    if entry.trim() != entry || secret.trim() != secret {
        return refused("has white space around it: take it away");
    }
    if label.is_some_and(|label| !is_label(label)) {
        return refused("a label is 1 to 64 of letters, digits, `_`, `-`, `.`, like `connect=whsec_…`");
    }
    let key = secret.strip_prefix("whsec_");
    if !key.is_some_and(|key| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return refused("is no webhook secret: write the endpoint's `whsec_…`, or `label=whsec_…`");
    }
    Ok(WebhookSecret { label: label.map(str::to_owned), secret: secret.into() })
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&label.len()) && label.bytes().all(allowed)
}

/// A key that fits an `Authorization` header and can't be guessed.
pub(super) fn admin_key(text: &str) -> Read<SecretString> {
    if text.chars().count() < 32 {
        return Err("must have 32 characters or more: make one with `openssl rand -hex 32`".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "must be visible ASCII without white space: make one with `openssl rand -hex 32`".to_owned()
        );
    }
    Ok(text.into())
}

/// Where Postgres is; it may carry a password.
pub(super) fn database_url(text: &str) -> Read<SecretString> {
    let url = reqwest::Url::parse(text).ok();
    match url.filter(|url| matches!(url.scheme(), "postgres" | "postgresql")) {
        Some(_) => Ok(text.into()),
        None => {
            Err("write `postgres://USER:PASSWORD@HOST:5432/NAME`, other characters than letters and digits \
                     in user and password percent-encoded"
                .to_owned())
        }
    }
}

/// Whether the address of Postgres has a password in it.
pub(super) fn holds_password(url: &SecretString) -> bool {
    reqwest::Url::parse(url.expose_secret()).is_ok_and(|url| url.password().is_some())
}
