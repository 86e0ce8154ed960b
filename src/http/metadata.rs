//! The caller's pairs that go to Stripe with a transfer or a top-up.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};

use super::extract::{Fields, escaped};
use super::words;

/// Stripe takes fifty pairs, and one is ours.
pub(super) const MOST_PAIRS: usize = 49;
const LONGEST_NAME: usize = 40;
const LONGEST_VALUE: usize = 500;

/// What a caller may send. `ours` names the pair by which what is made at Stripe is known as ours.
pub(super) fn schema(ours: &str) -> RefOr<Schema> {
    let name = json!({
        "minLength": 1, "maxLength": LONGEST_NAME, "pattern": "^[^\\[\\]\\u0000-\\u001f\\u007f-\\u009f]*$",
        "not": {"const": ours},
    });
    words::schema(json!({
        "type": ["object", "null"], "maxProperties": MOST_PAIRS, "propertyNames": name,
        "additionalProperties": {"type": "string", "maxLength": LONGEST_VALUE, "pattern": words::PLAIN},
        "description": "Sent to Stripe.", "example": {"invoice": "2026-117"},
    }))
}

/// Takes `metadata`; every pair that is wrong is named.
pub(super) fn read(fields: &mut Fields, ours: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    match fields.take("metadata") {
        None => {}
        Some(Value::Object(map)) => {
            if map.len() > MOST_PAIRS {
                fields.wrong("/metadata", format!("must have {MOST_PAIRS} pairs at most"));
            }
            for (name, value) in map {
                match pair(&name, &value, ours) {
                    Ok(value) => {
                        pairs.insert(name, value);
                    }
                    Err(detail) => fields.wrong(format!("/metadata/{}", escaped(&name)), detail),
                }
            }
        }
        Some(_) => fields.wrong("/metadata", "must be an object of strings"),
    }
    pairs
}

fn pair(name: &str, value: &Value, ours: &str) -> Result<String, String> {
    if name == ours {
        return Err("is Sluicegate's own; leave it out".to_owned());
    }
    if !(1..=LONGEST_NAME).contains(&name.chars().count()) || name.contains(['[', ']']) {
        return Err(format!("must have a name of 1 to {LONGEST_NAME} characters without `[` and `]`"));
    }
    match value.as_str() {
        Some(text) if text.chars().count() <= LONGEST_VALUE => Ok(text.to_owned()),
        _ => Err(format!("must be a string of {LONGEST_VALUE} characters at most")),
    }
}
