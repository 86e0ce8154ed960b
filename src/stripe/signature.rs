//! The `Stripe-Signature` header: verified over the raw bytes before anything is parsed, and made.
//!
//! The scheme is <https://docs.stripe.com/webhooks#verify-manually>: HMAC-SHA256, keyed with the whole secret
//! (`whsec_` included), over `t`, a dot and the body. Where Stripe's own libraries disagree about odd headers
//! the strict reading is taken, since Stripe sends none of them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What every endpoint secret starts with.
const SECRET_PREFIX: &str = "whsec_";
/// A v1 signature: 32 bytes as hexadecimal digits.
const SIGNATURE_LEN: usize = 32;

/// One endpoint's signing secret, with the name it is configured under.
#[derive(Clone)]
pub struct SigningSecret {
    /// The name before the `=`, kept with every event that this secret verified.
    pub label: Option<String>,
    secret: SecretString,
}

/// Why a text is not a signing secret. Never holds the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing but white space: with an empty key anyone could sign.
    #[error("is empty: set the endpoint's signing secret, `whsec_…`")]
    Empty,
    /// White space in or around it, often the line end of a file.
    #[error("has white space in or around it: remove it")]
    WhiteSpace,
    /// Something else than an endpoint secret, such as an API key.
    #[error("must start with `whsec_`, optionally after a label and `=`")]
    NotASecret,
    /// A label that can't be shown everywhere.
    #[error("has a label that is not 1 to 64 letters, digits, `_`, `-` or `.`")]
    Label,
}

/// Why a delivery is not taken as Stripe's. The `Display` text is safe to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is empty.
    #[error("the Stripe-Signature header is missing or empty")]
    Missing,
    /// Not exactly one `t` of plain decimal digits, or no `v1` at all.
    #[error("the Stripe-Signature header needs one t=<unix seconds> and at least one v1=<signature>")]
    Malformed,
    /// No `v1` fits the body under any secret.
    #[error("no v1 signature matches the body under any configured secret")]
    NoMatch,
    /// A true signature made before the window.
    #[error("the signature is older than the tolerance allows")]
    TooOld,
    /// A true signature made after the window: one of the two clocks is wrong.
    #[error("the signature's time is further ahead than the tolerance allows")]
    TooNew,
}

impl SigningSecret {
    /// Takes `whsec_…` or `label=whsec_…`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let (label, secret) = match text.split_once('=') {
            Some((label, secret)) if !text.starts_with(SECRET_PREFIX) => (Some(label), secret),
            _ => (None, text),
        };
        if secret.trim().is_empty() {
            return Err(SecretError::Empty);
        }
        if text.chars().any(char::is_whitespace) {
            return Err(SecretError::WhiteSpace);
        }
        let body = secret.strip_prefix(SECRET_PREFIX).ok_or(SecretError::NotASecret)?;
        if body.is_empty() {
            return Err(SecretError::Empty);
        }
        if !body.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::NotASecret);
        }
        if label.is_some_and(|label| !well_formed_label(label)) {
            return Err(SecretError::Label);
        }
        Ok(Self { label: label.map(str::to_owned), secret: SecretString::from(secret) })
    }

    /// Takes a comma-separated list. One bad entry refuses the whole: a secret that silently does not count
    /// would be noticed only when deliveries fail.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SecretError> {
        text.split(',').map(Self::parse).collect()
    }

    fn mac(&self, timestamp: &str, body: &[u8]) -> [u8; SIGNATURE_LEN] {
        // HMAC takes keys of any length, so the error can't come about; the zeros below would match nothing.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.expose_secret().as_bytes()) else {
            return [0; SIGNATURE_LEN];
        };
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningSecret").field("label", &self.label).finish_non_exhaustive()
    }
}

fn well_formed_label(label: &str) -> bool {
    (1..=64).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Verifies a delivery and says which secret matched.
///
/// `body` is what came over the wire, byte for byte. `now_unix_s` and `tolerance_s` are seconds; the window
/// reaches as far ahead as back, and its edges are inside. The age is judged only once a signature is found
/// true, so that `TooOld` and `TooNew` always speak about something the endpoint's owner signed.
pub fn verify<'a>(
    body: &[u8],
    header: &str,
    secrets: &'a [SigningSecret],
    now_unix_s: i64,
    tolerance_s: i64,
) -> Result<&'a SigningSecret, SignatureError> {
    if header.trim().is_empty() {
        return Err(SignatureError::Missing);
    }
    let (timestamp, signed_at_s) = timestamp(header)?;
    if signatures(header).next().is_none() {
        return Err(SignatureError::Malformed);
    }
    let matched = secrets
        .iter()
        .find(|secret| {
            let expected = secret.mac(timestamp, body);
            signatures(header).any(|given| matches(given, &expected))
        })
        .ok_or(SignatureError::NoMatch)?;
    let age_s = now_unix_s.saturating_sub(signed_at_s);
    if age_s > tolerance_s {
        Err(SignatureError::TooOld)
    } else if age_s < tolerance_s.saturating_neg() {
        Err(SignatureError::TooNew)
    } else {
        Ok(matched)
    }
}

/// The header value Stripe would send for this body at this time (unix seconds).
pub fn sign(body: &[u8], secret: &SigningSecret, timestamp: i64) -> String {
    let timestamp = timestamp.to_string();
    let signature = hex::encode(secret.mac(&timestamp, body));
    format!("t={timestamp},v1={signature}")
}

/// The elements as key and value. Space around them is optional white space in HTTP's sense and means nothing.
fn elements(header: &str) -> impl Iterator<Item = (&str, &str)> {
    const OWS: [char; 2] = [' ', '\t'];
    header
        .split(',')
        .map(|element| element.trim_matches(OWS))
        .map(|element| element.split_once('=').unwrap_or((element, "")))
}

/// The single `t`, as sent (it is what was signed) and as a number.
fn timestamp(header: &str) -> Result<(&str, i64), SignatureError> {
    let mut times = elements(header).filter(|(key, _)| *key == "t").map(|(_, value)| value);
    // Libraries differ on whether the first or the last of two counts, so two are none.
    let (Some(text), None) = (times.next(), times.next()) else { return Err(SignatureError::Malformed) };
    // `parse` alone would also take a sign.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SignatureError::Malformed);
    }
    let seconds = text.parse().map_err(|_| SignatureError::Malformed)?;
    Ok((text, seconds))
}

/// Every `v1`; other schemes never count, or an attacker could pick the weakest (Stripe's test mode sends `v0`).
fn signatures(header: &str) -> impl Iterator<Item = &str> {
    elements(header).filter(|(key, _)| *key == "v1").map(|(_, value)| value)
}

/// Whether the hexadecimal digits are the expected bytes, in a time that tells nothing about the bytes.
fn matches(given: &str, expected: &[u8; SIGNATURE_LEN]) -> bool {
    let mut bytes = [0; SIGNATURE_LEN];
    hex::decode_to_slice(given, &mut bytes).is_ok() && bool::from(bytes.ct_eq(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::wire::Envelope;

    const SECRET: &str = "whsec_vectorAcctEndpoint0000000000000001";

    #[derive(serde::Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        id: String,
        secrets: Vec<String>,
        now: i64,
        tolerance: i64,
        body_base64: String,
        header: String,
        expect: String,
    }

    /// Standard base 64, for the fixtures alone.
    fn base64(text: &str) -> Vec<u8> {
        let digit = |b: u8| match b {
            b'A'..=b'Z' => u32::from(b - b'A'),
            b'a'..=b'z' => u32::from(b - b'a') + 26,
            b'0'..=b'9' => u32::from(b - b'0') + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("not base 64: {other}"),
        };
        let digits: Vec<u32> = text.bytes().filter(|b| *b != b'=').map(digit).collect();
        let mut bytes = Vec::new();
        for chunk in digits.chunks(4) {
            let number = chunk.iter().fold(0, |n, d| (n << 6) | d) << (6 * (4 - chunk.len()));
            bytes.extend_from_slice(&number.to_be_bytes()[1..chunk.len()]);
        }
        bytes
    }

    #[test]
    fn every_vector_gets_its_verdict() {
        let text = include_str!("../../tests/fixtures/signature_vectors.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        assert!(vectors.vectors.len() >= 30);
        for v in vectors.vectors {
            let number: u32 = v.id[..2].parse().unwrap();
            let secrets: Result<Vec<_>, _> = v.secrets.iter().map(|s| SigningSecret::parse(s)).collect();
            let Ok(secrets) = secrets else {
                assert!((40..=42).contains(&number), "{}: the secret was refused", v.id);
                continue;
            };
            assert!(!(40..=42).contains(&number), "{}: the secret was taken", v.id);
            let body = base64(&v.body_base64);
            let verdict = verify(&body, &v.header, &secrets, v.now, v.tolerance);
            match v.expect.as_str() {
                "accept" => assert!(verdict.is_ok(), "{}: {verdict:?}", v.id),
                "reject" if number == 45 => {
                    // The bytes are signed truly; what they are not is text.
                    assert!(verdict.is_ok() && Envelope::parse(&body).is_err(), "{}", v.id);
                }
                "reject" => assert!(verdict.is_err(), "{}", v.id),
                _ => {}
            }
        }
    }

    #[test]
    fn a_refusal_is_named_for_its_cause() {
        let secrets = SigningSecret::parse_list(SECRET).unwrap();
        let good = sign(b"{}", &secrets[0], 1000);
        let (t, v1) = good.split_once(',').unwrap();
        let cases = [
            (String::new(), SignatureError::Missing),
            (" \t".into(), SignatureError::Missing),
            ("nonsense".into(), SignatureError::Malformed),
            (v1.to_owned(), SignatureError::Malformed),
            (t.to_owned(), SignatureError::Malformed),
            (format!("{t},{t},{v1}"), SignatureError::Malformed),
            (format!("t=+1000,{v1}"), SignatureError::Malformed),
            (format!("t=,{v1}"), SignatureError::Malformed),
            (format!("t=99999999999999999999,{v1}"), SignatureError::Malformed),
            (format!("t=01000,{v1}"), SignatureError::NoMatch),
            (format!("{t},v1"), SignatureError::NoMatch),
            (format!("{t},v1=,v1=zz"), SignatureError::NoMatch),
            (format!("{t},{v1}00"), SignatureError::NoMatch),
            (format!("{t},{}", &v1[..v1.len() - 2]), SignatureError::NoMatch),
            (sign(b"{}", &secrets[0], 699), SignatureError::TooOld),
            (sign(b"{}", &secrets[0], 1301), SignatureError::TooNew),
            (sign(b"{}", &secrets[0], i64::MAX), SignatureError::TooNew),
        ];
        for (header, expected) in cases {
            assert_eq!(verify(b"{}", &header, &secrets, 1000, 300).err(), Some(expected), "{header}");
        }
        for edge in [700, 1300] {
            assert!(verify(b"{}", &sign(b"{}", &secrets[0], edge), &secrets, 1000, 300).is_ok());
        }
        assert!(verify(b"{}", &format!(" {t} ,\t{v1},v1,=,v0=x"), &secrets, 1000, 300).is_ok());
        assert!(verify(b"{}", &good, &[], 1000, 300).is_err());
    }

    #[test]
    fn the_secret_that_matched_is_named() {
        let list = format!("platform={SECRET},connect=whsec_two,whsec_three");
        let secrets = SigningSecret::parse_list(&list).unwrap();
        for secret in &secrets {
            let header = sign(b"body", secret, 5);
            let matched = verify(b"body", &header, &secrets, 5, 0).unwrap();
            assert_eq!(matched.label, secret.label);
        }
        // While a secret is rolled, Stripe sends one v1 for each: the first configured one that fits is named.
        let both = format!("{},{}", sign(b"", &secrets[2], 5), &sign(b"", &secrets[1], 5)[4..]);
        assert_eq!(verify(b"", &both, &secrets, 5, 0).unwrap().label.as_deref(), Some("connect"));
    }

    #[test]
    fn a_secret_is_refused_rather_than_mended() {
        let cases = [
            ("", SecretError::Empty),
            ("   ", SecretError::Empty),
            ("whsec_", SecretError::Empty),
            ("a=", SecretError::Empty),
            ("a=whsec_", SecretError::Empty),
            ("whsec_a\n", SecretError::WhiteSpace),
            (" whsec_a", SecretError::WhiteSpace),
            ("a= whsec_a", SecretError::WhiteSpace),
            ("sk_test_1", SecretError::NotASecret),
            ("a=sk_test_1", SecretError::NotASecret),
            ("whsec_ä", SecretError::NotASecret),
            ("=whsec_a", SecretError::Label),
            ("ä=whsec_a", SecretError::Label),
        ];
        for (text, expected) in cases {
            assert_eq!(SigningSecret::parse(text).err(), Some(expected), "{text:?}");
        }
        assert!(SigningSecret::parse_list("whsec_a,").is_err());
        let secret = SigningSecret::parse("live=whsec_a=b").unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret { label: Some(\"live\"), .. }");
    }
}
