//! Stripe's form encoding: nested values as `metadata[key]=value` and `items[0][price]=value`.
//!
//! The same value always gives the same bytes, so that a body can be frozen beside its idempotency key and sent
//! again unchanged. Knows no parameter by name.

use std::fmt::Write as _;

use serde_json::Value;

/// Encodes a JSON object as a form body or query. Nulls, empty lists and empty maps leave no trace; an empty
/// text stays, since that is how Stripe is told to unset a parameter. Keys keep the map's order. Anything but an
/// object gives an empty text.
pub fn encode(value: &Value) -> String {
    let mut form = String::new();
    if let Value::Object(map) = value {
        for (key, value) in map {
            append(&mut form, &escaped(key), value);
        }
    }
    form
}

fn append(form: &mut String, name: &str, value: &Value) {
    let text = match value {
        Value::Null => return,
        Value::Object(map) => {
            for (key, value) in map {
                append(form, &format!("{name}[{}]", escaped(key)), value);
            }
            return;
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                append(form, &format!("{name}[{index}]"), value);
            }
            return;
        }
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => escaped(&number.to_string()),
        Value::String(text) => escaped(text),
    };
    if !form.is_empty() {
        form.push('&');
    }
    form.push_str(name);
    form.push('=');
    form.push_str(&text);
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a text can't fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_form_is_written_as_stripe_reads_it() {
        let value = json!({
            "amount": 1000, "currency": "usd", "description": "Grüße & 50% = +1", "empty": "", "none": null,
            "flag": true, "items": [{"price": "p"}, {"price": "q"}], "expand": ["a", "b"], "nothing": [], "no": {},
            "metadata": {"a b": "[x]", "sluicegate_transfer": "xfer_1"},
        });
        assert_eq!(
            encode(&value),
            "amount=1000&currency=usd&description=Gr%C3%BC%C3%9Fe%20%26%2050%25%20%3D%20%2B1&empty=\
             &expand[0]=a&expand[1]=b&flag=true&items[0][price]=p&items[1][price]=q\
             &metadata[a%20b]=%5Bx%5D&metadata[sluicegate_transfer]=xfer_1"
        );
        assert_eq!(encode(&json!("x")), "");
    }

    fn unescaped(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            if *first == b'%' {
                bytes.push(hex::decode(&tail[..2]).unwrap()[0]);
                rest = &tail[2..];
            } else {
                bytes.push(*first);
                rest = tail;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Every leaf with the keys that lead to it.
    fn leaves(value: &Value, path: &[String], found: &mut Vec<(Vec<String>, String)>) {
        let deeper = |key: String| [path, &[key]].concat();
        match value {
            Value::Null => {}
            Value::Object(map) => map.iter().for_each(|(k, v)| leaves(v, &deeper(k.clone()), found)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, v)| leaves(v, &deeper(i.to_string()), found));
            }
            Value::String(text) => found.push((path.to_vec(), text.clone())),
            other => found.push((path.to_vec(), other.to_string())),
        }
    }

    fn parsed(form: &str) -> Vec<(Vec<String>, String)> {
        let pairs = form.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                let path = name.split('[').map(|key| unescaped(key.strip_suffix(']').unwrap_or(key)));
                (path.collect(), unescaped(value))
            })
            .collect()
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let tree = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map(any::<String>(), tree, 0..5)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(value in values()) {
            let form = encode(&value);
            prop_assert!(form.bytes().all(|b| b.is_ascii_graphic()));
            let mut expected = Vec::new();
            leaves(&value, &[], &mut expected);
            prop_assert_eq!(parsed(&form), expected);
        }
    }
}
