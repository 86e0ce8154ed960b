//! Form-encoded parameters with nested keys (`metadata[k]=v`, `expand[]=x`), and their validation.
//!
//! Every refusal here is a validation failure: it comes before execution and is not kept for a key.

use serde_json::{Map, Value};

use super::errors::Refusal;

/// The parameters of one call. Leaves are text, as on the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    tree: Map<String, Value>,
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Reads a query or a form body.
    pub fn parse(encoded: &str) -> Self {
        let mut params = Self::default();
        for part in encoded.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (decode(key), decode(value));
            insert(&mut params.tree, &key, value.clone());
            params.pairs.push((key, value));
        }
        params.pairs.sort();
        params
    }

    /// The same text for the same parameters in any order: what an idempotency key is held to.
    pub fn fingerprint(&self) -> String {
        self.pairs.iter().map(|(k, v)| format!("{}:{k}={}:{v}&", k.len(), v.len())).collect()
    }

    /// Refuses any top-level parameter not named here (`expand` always is).
    pub fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.tree.keys().find(|key| *key != "expand" && !known.contains(&key.as_str())) {
            Some(key) => Err(Refusal::invalid(
                key,
                Some("parameter_unknown"),
                format!("Received unknown parameter: {key}"),
            )),
            None => Ok(()),
        }
    }

    /// Every value of a name that is repeated, as v2 has it.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// The raw tree under one name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.tree.get(name)
    }

    /// All parameters, nested.
    pub fn tree(&self) -> &Map<String, Value> {
        &self.tree
    }

    /// A text parameter; empty text counts as absent, as Stripe reads it.
    pub fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.tree.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Refusal::invalid(name, None, format!("Invalid string: {name}"))),
        }
    }

    /// A text parameter that must be there.
    pub fn required(&self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| {
            Refusal::invalid(name, Some("parameter_missing"), format!("Missing required param: {name}."))
        })
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid_integer(name, &text))
    }

    /// An amount in minor units: positive and at most twelve digits, the widest limit Stripe documents.
    pub fn amount(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let code = Some("parameter_invalid_integer");
        match self.integer(name)? {
            Some(amount) if amount < 1 => {
                Err(Refusal::invalid(name, code, "This value must be greater than or equal to 1."))
            }
            Some(amount) if amount > 999_999_999_999 => Err(Refusal::invalid(
                name,
                Some("amount_too_large"),
                "Amount must be no more than 999999999999.",
            )),
            other => Ok(other),
        }
    }

    /// A supported currency, lower-cased.
    pub fn currency(&self, name: &str) -> Result<String, Refusal> {
        let currency = self.required(name)?.to_lowercase();
        if CURRENCIES.split_ascii_whitespace().any(|known| known == currency) {
            return Ok(currency);
        }
        let known = CURRENCIES.split_ascii_whitespace().collect::<Vec<_>>().join(", ");
        let message =
            format!("Invalid currency: {currency}. Stripe currently supports these currencies: {known}");
        Err(Refusal::invalid(name, None, message))
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(Refusal::invalid(name, None, format!("Invalid boolean: {other}"))),
        }
    }

    /// `metadata`, within Stripe's limits: 50 keys, 40 characters a key, 500 a value.
    pub fn metadata(&self) -> Result<Map<String, Value>, Refusal> {
        let map = match self.tree.get("metadata") {
            None => return Ok(Map::new()),
            Some(Value::String(text)) if text.is_empty() => return Ok(Map::new()),
            Some(Value::Object(map)) => map.clone(),
            Some(_) => return Err(Refusal::invalid("metadata", None, "Invalid object")),
        };
        let fits = |(key, value): (&String, &Value)| {
            key.chars().count() <= 40 && value.as_str().is_some_and(|text| text.chars().count() <= 500)
        };
        if map.len() > 50 || !map.iter().all(fits) {
            return Err(Refusal::invalid(
                "metadata",
                None,
                "Metadata takes up to 50 keys of up to 40 characters with text values of up to 500 characters.",
            ));
        }
        Ok(map)
    }

    /// A list of texts (`name[]=a&name[]=b`).
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        match self.tree.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                Ok(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Some(Value::Object(items)) if items.keys().all(|key| key.parse::<u32>().is_ok()) => {
                Ok(items.values().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Some(_) => Err(Refusal::invalid(name, None, "Invalid array")),
        }
    }
}

/// Lays new metadata over old: an empty value removes its key.
pub(super) fn merge_metadata(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (key, value) in new {
        if value.as_str() == Some("") {
            old.remove(&key);
        } else {
            old.insert(key, value);
        }
    }
}

pub(super) fn invalid_integer(name: &str, text: &str) -> Refusal {
    Refusal::invalid(name, Some("parameter_invalid_integer"), format!("Invalid integer: {text}"))
}

/// Every presentment and settlement currency of Stripe's list, kept apart from the service's own table so
/// that a slip there shows against this one.
const CURRENCIES: &str = "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd \
    bwp byn bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel ghs gip gmd gnf gtq \
    gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl \
    mga mkd mmk mnt mop mro mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron \
    rsd rub rwf sar sbd scr sek sgd shp sle sll sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs \
    vnd vuv wst xaf xcd xcg xof xpf yer zar zmw";

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = match tail {
            [high, low, ..] if *first == b'%' => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        match (first, hex) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', None) => bytes.push(b' '),
            (other, None) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Puts `a[b][c]` into the tree; `a[]` appends to a list. A name used both ways keeps its last meaning.
fn insert(tree: &mut Map<String, Value>, key: &str, value: String) {
    let Some((head, rest)) = key.split_once('[') else {
        tree.insert(key.to_owned(), Value::String(value));
        return;
    };
    let slot = tree.entry(head.to_owned()).or_insert(Value::Null);
    let segments: Vec<&str> = rest.trim_end_matches(']').split("][").collect();
    place(slot, &segments, value);
}

fn place(slot: &mut Value, segments: &[&str], value: String) {
    let Some((head, rest)) = segments.split_first() else {
        *slot = Value::String(value);
        return;
    };
    if head.is_empty() {
        if !slot.is_array() {
            *slot = Value::Array(Vec::new());
        }
        if let Value::Array(items) = slot {
            let mut item = Value::Null;
            place(&mut item, rest, value);
            items.push(item);
        }
        return;
    }
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(map) = slot {
        place(map.entry((*head).to_owned()).or_insert(Value::Null), rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_keys_lists_and_escapes_are_read() {
        let params =
            Params::parse("metadata%5Ba%20b%5D=x+y%21&c[t][requested]=true&types[]=a&types[]=b&e[0]=z");
        assert_eq!(params.metadata().unwrap()["a b"], "x y!");
        assert_eq!(params.tree()["c"]["t"]["requested"], "true");
        assert_eq!(params.texts("types").unwrap(), ["a", "b"]);
        assert_eq!(params.texts("e").unwrap(), ["z"]);
        assert_eq!(Params::parse("a=%zz%").text("a").unwrap().unwrap(), "%zz%");
    }

    #[test]
    fn the_fingerprint_ignores_order_and_sees_every_change() {
        let print = |text| Params::parse(text).fingerprint();
        assert_eq!(print("a=1&b=2"), print("b=2&a=1"));
        assert_ne!(print("a=1&b=2"), print("a=1&b=3"));
        assert_ne!(print("a=1%26b%3D2"), print("a=1&b=2"));
    }
}
