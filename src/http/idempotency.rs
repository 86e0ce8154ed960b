//! The caller's Idempotency-Key, and what a request is: its method, its path, and what its body means.
//!
//! Two bodies are the same when they differ in white space, in the order of keys, or in top-level nulls
//! alone; a field that is null is one that was left out.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};

use super::error::{Code, Problem};
use super::state::Shared;
use super::words;
use crate::flows::Once;

const LONGEST: usize = 255;

/// The key of a request, if it has one, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Key {
    key: Option<String>,
    method: Method,
    path: String,
}

/// The header as the document describes it, where it may be left out.
#[derive(Debug)]
pub(super) enum MayRepeat {}

/// The same, where it must be sent.
#[derive(Debug)]
pub(super) enum MustRepeat {}

impl IntoParams for MayRepeat {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "One for each order, the same when you repeat it: it is then answered as before, and not \
            done again. Kept for 24 hours.";
        vec![header(Required::False, description)]
    }
}

impl IntoParams for MustRepeat {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "One for each order, the same when you repeat it: it is then answered as before, and not \
            done again. Kept for ever, whichever API key it came with.";
        vec![header(Required::True, description)]
    }
}

fn header(required: Required, description: &str) -> Parameter {
    let parameter = ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header);
    // HTTP takes white space at the ends away; what is left must be printable ASCII.
    let schema = json!({
        "type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[!-~]([ -~]*[!-~])?$",
        "x-rule": "printable ASCII",
    });
    parameter.required(required).description(Some(description)).schema(Some(words::schema(schema))).build()
}

impl FromRequestParts<Shared> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let key = key_of(&parts.headers)?;
        Ok(Self { key, method: parts.method.clone(), path: parts.uri.path().to_owned() })
    }
}

impl Key {
    /// The key with the hash of the request, if there is one.
    pub(super) fn optional(self, body: &Map<String, Value>) -> Option<Once> {
        let request_hash = request_hash(&self.method, &self.path, body);
        self.key.map(|key| Once { key, request_hash })
    }

    /// The same, where one must be sent.
    pub(super) fn required(self, body: &Map<String, Value>) -> Result<Once, Problem> {
        let detail = "Send an Idempotency-Key header: one for each order, the same when you repeat it.";
        self.optional(body).ok_or_else(|| Problem::new(Code::IdempotencyKeyRequired, detail))
    }
}

/// A key that is no header's, for a request that says this.
pub(super) fn once(key: String, method: &Method, path: &str, said: &Map<String, Value>) -> Once {
    Once { key, request_hash: request_hash(method, path, said) }
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let printable = (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(|b| (b' '..=b'~').contains(b));
    match value.to_str() {
        Ok(key) if printable && values.next().is_none() => Ok(Some(key.to_owned())),
        _ => {
            let detail = format!("Send one Idempotency-Key of 1 to {LONGEST} printable ASCII characters.");
            Err(Problem::new(Code::IdempotencyKeyInvalid, detail))
        }
    }
}

fn request_hash(method: &Method, path: &str, body: &Map<String, Value>) -> Vec<u8> {
    let said = body.iter().filter(|(_, value)| !value.is_null());
    let mut text = format!("{method} {path}\n");
    write_object(said, &mut text);
    Sha256::digest(text.as_bytes()).to_vec()
}

fn write_object<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>, text: &mut String) {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    text.push('{');
    for (key, value) in entries {
        text.push_str(&Value::String(key.clone()).to_string());
        text.push(':');
        write(value, text);
        text.push(',');
    }
    text.push('}');
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => write_object(map.iter(), text),
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write(value, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn hash(path: &str, body: &str) -> Vec<u8> {
        request_hash(&Method::POST, path, &serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_request_is_what_it_means_not_how_it_is_written() {
        let same = hash("/v1/transfers", r#"{"amount":1,"metadata":{"a":"1","b":"2"},"topup":null}"#);
        assert_eq!(hash("/v1/transfers", r#"{ "metadata": {"b":"2","a":"1"}, "amount": 1 }"#), same);
        for (path, other) in [
            ("/v1/transfers", r#"{"amount":2,"metadata":{"a":"1","b":"2"}}"#),
            ("/v1/transfers", r#"{"amount":"1","metadata":{"a":"1","b":"2"}}"#),
            ("/v1/transfers", r#"{"amount":1,"metadata":{"a":"1\",\"b\":\"2"}}"#),
            ("/v1/keys", r#"{"amount":1,"metadata":{"a":"1","b":"2"}}"#),
        ] {
            assert_ne!(hash(path, other), same, "{path} {other}");
        }
    }

    #[test]
    fn a_key_is_short_printable_and_stands_once() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
            }
            key_of(&headers)
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[b"a b~"]).unwrap().as_deref(), Some("a b~"));
        assert!(of(&[&[b'x'; 255]]).is_ok());
        let schema = serde_json::to_value(MustRepeat::into_params(|| None)[0].schema.as_ref()).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let long = "x".repeat(256);
        for text in ["a", "a b~", "!", "", "a\tb", "ä", &long, &long[1..]] {
            assert_eq!(schema.is_valid(&json!(text)), of(&[text.as_bytes()]).is_ok(), "{text:?}");
        }
        for bad in
            [vec![b"".as_slice()], vec![&[b'x'; 256]], vec![b"a\tb"], vec!["ä".as_bytes()], vec![b"a", b"a"]]
        {
            assert!(of(&bad).is_err(), "{bad:?}");
        }
    }
}
