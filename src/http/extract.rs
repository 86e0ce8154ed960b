//! Bodies and paths, read strictly: what is not understood is refused, and every wrong field is named.

use std::fmt;

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::error::{Code, FieldError, Problem};
use super::state::Shared;

/// The largest body, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;

/// Reads a body whole, whether its length was announced or not.
pub(super) async fn read_body(request: Request, state: &Shared) -> Result<Bytes, Problem> {
    if announced_length(request.headers()).is_some_and(|length| length > MAX_BODY) {
        return Err(Problem::body_too_large(MAX_BODY));
    }
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::body_too_large(MAX_BODY)
        }
        _ => Problem::body_incomplete(),
    })
}

/// How large the body will be, if the request says so.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A JSON object in the body; whatever the content type says.
#[derive(Debug)]
pub(super) struct Body(pub(super) Map<String, Value>);

impl FromRequest<Shared> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, Problem> {
        parse_object(&read_body(request, state).await?).map(Self)
    }
}

/// The same, where no body at all stands for an empty object.
#[derive(Debug)]
pub(super) struct OptionalBody(pub(super) Map<String, Value>);

impl FromRequest<Shared> for OptionalBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, Problem> {
        let bytes = read_body(request, state).await?;
        if bytes.is_empty() { Ok(Self(Map::new())) } else { parse_object(&bytes).map(Self) }
    }
}

/// An object whose keys are unique at every depth and whose texts Postgres can hold.
fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let Unique(value) = serde_json::from_slice(bytes).map_err(|error| {
        let detail = format!("Send one JSON object: {error}.");
        Problem::new(Code::JsonMalformed, detail)
    })?;
    let mut errors = Vec::new();
    refuse_control_characters(&value, &mut String::new(), &mut errors);
    if !errors.is_empty() {
        return Err(Problem::validation(errors));
    }
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Problem::field("", "must be a JSON object")),
    }
}

fn refuse_control_characters(value: &Value, pointer: &mut String, errors: &mut Vec<FieldError>) {
    let length = pointer.len();
    match value {
        Value::String(text) => refuse_control_character(text, pointer, errors),
        Value::Array(values) => {
            for (i, value) in values.iter().enumerate() {
                pointer.push_str(&format!("/{i}"));
                refuse_control_characters(value, pointer, errors);
                pointer.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                pointer.push('/');
                pointer.push_str(&escaped(key));
                refuse_control_character(key, pointer, errors);
                refuse_control_characters(value, pointer, errors);
                pointer.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn refuse_control_character(text: &str, pointer: &str, errors: &mut Vec<FieldError>) {
    if text.chars().any(char::is_control) {
        let detail = "must not hold control characters".to_owned();
        errors.push(FieldError { pointer: pointer.to_owned(), detail });
    }
}

/// A key as a part of a JSON pointer (RFC 6901).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A JSON value in which no object names a key twice: of two, one reader takes the first and another the
/// last.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(whole(value).map_or_else(|| value.into(), Value::from))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Beyond this a double no longer tells one whole number from the next.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The whole number that a double is, if it is one. To JSON Schema `1000.0` is the integer 1000, and some
/// languages write it so; read as that here, it is also the same request under an Idempotency-Key.
fn whole(value: f64) -> Option<i64> {
    let exact = value.fract() == 0.0 && value.abs() < EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and far within 64 bits")]
    exact.then_some(value as i64)
}

/// The fields of an object, taken one by one; what is wrong is collected.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// The fields of this object.
    pub(super) fn of(map: Map<String, Value>) -> Self {
        Self { map, errors: Vec::new() }
    }

    /// Notes what is wrong at a pointer.
    pub(super) fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// Takes a field; null is as good as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text that `read` understands.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let Some(text) = value.as_str() else {
            self.wrong(format!("/{name}"), "must be a string");
            return None;
        };
        read(text).map_err(|detail| self.wrong(format!("/{name}"), detail)).ok()
    }

    /// The same, of a field that must be there.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.map.remove(name);
            self.wrong(format!("/{name}"), "is required");
            return None;
        }
        self.optional(name, read)
    }

    /// Takes a list of `least` to `most`, which must be there.
    pub(super) fn required_list(&mut self, name: &str, least: usize, most: usize) -> Option<Vec<Value>> {
        match self.take(name) {
            None => self.wrong(format!("/{name}"), "is required"),
            Some(Value::Array(values)) if (least..=most).contains(&values.len()) => return Some(values),
            Some(_) => self.wrong(format!("/{name}"), format!("must be a list of {least} to {most}")),
        }
        None
    }

    /// Takes a whole number that fits 64 bits.
    pub(super) fn optional_i64(&mut self, name: &str) -> Option<i64> {
        let value = self.take(name)?;
        let number = value.as_i64();
        if number.is_none() {
            self.wrong(format!("/{name}"), "must be a whole number within 64 bits");
        }
        number
    }

    /// The same, of a field that must be there.
    pub(super) fn required_i64(&mut self, name: &str) -> Option<i64> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.map.remove(name);
            self.wrong(format!("/{name}"), "is required");
            return None;
        }
        self.optional_i64(name)
    }

    /// Ends the reading: what was not taken is unknown. `whole` is what was read, if all of it was there.
    pub(super) fn finish<T>(mut self, whole: Option<T>) -> Result<T, Problem> {
        let unknown: Vec<String> = self.map.keys().map(|key| format!("/{}", escaped(key))).collect();
        for pointer in unknown {
            self.wrong(pointer, "is not a field of this request; leave it out");
        }
        match whole {
            Some(whole) if self.errors.is_empty() => Ok(whole),
            _ => Err(Problem::validation(self.errors)),
        }
    }
}

/// Refuses every field.
pub(super) fn no_fields(map: Map<String, Value>) -> Result<(), Problem> {
    Fields::of(map).finish(Some(()))
}

/// A text of so many characters.
pub(super) fn text(longest: usize) -> impl Fn(&str) -> Result<String, String> {
    move |text| {
        let fits = (1..=longest).contains(&text.chars().count());
        if fits { Ok(text.to_owned()) } else { Err(format!("must have 1 to {longest} characters")) }
    }
}

/// An instant, to the microsecond that Postgres keeps.
pub(super) fn instant(text: &str) -> Result<OffsetDateTime, String> {
    let wrong =
        || "must be an RFC 3339 time like 2026-11-22T10:00:00Z (in a query, write + as %2B)".to_owned();
    // The grammar has a T between date and time; the parser takes anything there.
    if !text.get(10..11).is_some_and(|between| between.eq_ignore_ascii_case("t")) {
        return Err(wrong());
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    if !(1970..=9998).contains(&at.year()) {
        return Err("must lie between the years 1970 and 9998".to_owned());
    }
    let at = at.checked_to_offset(UtcOffset::UTC).ok_or_else(wrong)?;
    Ok(at - Duration::nanoseconds(i64::from(at.nanosecond() % 1_000)))
}

/// The id in the path. One that is not even text is the id of nothing.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl FromRequestParts<Shared> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Problem> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        // An empty id parses as no kind of id, so each handler answers in its own words.
        Ok(Self(path.map(|Path(id)| id).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> (u16, String) {
        let problem = parse_object(body.as_bytes()).unwrap_err();
        (problem.render("r").status().as_u16(), format!("{problem:?}"))
    }

    #[test]
    fn a_body_is_one_object_with_unique_keys_and_clean_texts() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for malformed in
            ["", "{", "{}x", "{\"a\":1,\"a\":1}", "{\"b\":{\"a\":1,\"a\":2}}", "{\"a\":\"\\ud800\"}", &deep]
        {
            assert_eq!(refusal(malformed).0, 400, "{malformed}");
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
        for (wrong, pointer) in [
            ("[]", "\"\""),
            ("{\"a\":\"x\\u0000\"}", "\"/a\""),
            ("{\"a\":[1,\"\\n\"]}", "\"/a/1\""),
            ("{\"a/~\\u0007\":1}", "\"/a~1~0\\u{7}\""),
        ] {
            let (status, text) = refusal(wrong);
            assert_eq!(status, 422, "{wrong}");
            assert!(text.contains(&format!("pointer: {pointer}")), "{wrong}: {text}");
        }
        assert!(parse_object("{\"a\":[null,true,-1,1.5,\"ä\"]}".as_bytes()).is_ok());
    }

    #[test]
    fn every_wrong_field_is_named_and_none_is_passed_over() {
        let map =
            parse_object(br#"{"a":1,"n":1.5,"e":1e30,"big":9223372036854775808,"x/y":0,"ok":5.0}"#).unwrap();
        let mut fields = Fields::of(map);
        assert_eq!(fields.required("a", text(3)), None);
        assert_eq!(fields.required("gone", text(3)), None);
        assert_eq!(fields.optional("absent", text(3)), None);
        for name in ["n", "e", "big"] {
            assert_eq!(fields.optional_i64(name), None, "{name}");
        }
        assert_eq!(fields.required_i64("ok"), Some(5));
        let problem = fields.finish(Some(())).unwrap_err();
        let text = format!("{problem:?}");
        for pointer in ["/a", "/gone", "/n", "/e", "/big", "/x~1y"] {
            assert!(text.contains(&format!("pointer: \"{pointer}\"")), "{pointer}: {text}");
        }
        assert_eq!(text.matches("pointer:").count(), 6);
    }

    #[test]
    fn instants_are_utc_and_within_reason() {
        assert_eq!(
            instant("2026-11-22T11:00:00.1234567+01:00").unwrap().to_string(),
            "2026-11-22 10:00:00.123456 +00:00:00"
        );
        for bad in [
            "",
            "2026-11-22",
            "9999-12-31T23:59:59-23:59",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00+01:00",
        ] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }
}
