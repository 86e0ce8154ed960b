//! Query strings and pages: every parameter is known, stands once, and is well formed.
//!
//! A cursor is opaque: the list it belongs to and the sort key of the last line, in hexadecimal, with four
//! bytes of their SHA-256 in front. It protects nobody from anything; it tells a mangled cursor from a
//! good one.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::{IntoParams, ToSchema};

use super::error::{FieldError, Problem};
use super::state::Shared;
use super::words;

const LONGEST_PAGE: i64 = 100;
const USUAL_PAGE: i64 = 20;

/// The parameters of a query string, taken one by one; what is wrong is collected.
#[derive(Debug)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl FromRequestParts<Shared> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = pairs.map_err(|_| Problem::field("/query", "must be `name=value&…`"))?;
        Ok(Self::of(pairs))
    }
}

/// The parameters of every list, as [`Params::page`] takes them.
#[derive(Debug)]
pub(super) enum Paging {}

impl IntoParams for Paging {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let query = |name: &str, description: &str, schema| {
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
            parameter.description(Some(description)).schema(Some(words::schema(schema))).build()
        };
        vec![
            query(
                "limit",
                "How many lines to show at most.",
                json!({"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": USUAL_PAGE}),
            ),
            query(
                "after",
                "The `next` of an earlier page of this list, unchanged.",
                json!({"type": "string", "pattern": "^([0-9a-f]{2}){5,}$", "maxLength": 1000}),
            ),
        ]
    }
}

/// Part of a list, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    /// For the next page hand it in as `after`; null on the last page.
    pub(super) next: Option<String>,
}

/// Part of a list.
#[derive(Debug)]
pub(super) struct Page {
    list: &'static str,
    limit: usize,
    /// The sort key of the last line the caller has seen.
    pub(super) after: Option<String>,
}

impl Params {
    /// These parameters.
    pub(super) fn of(pairs: Vec<(String, String)>) -> Self {
        Self { pairs, errors: Vec::new() }
    }

    /// Notes what is wrong with a parameter.
    pub(super) fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("/query/{name}"), detail: detail.into() });
    }

    /// Takes a parameter that `read` understands.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut values = Vec::new();
        self.pairs.retain(|(key, value)| {
            let taken = key == name;
            if taken {
                values.push(value.clone());
            }
            !taken
        });
        match values.as_slice() {
            [] => None,
            [value] if value.chars().any(char::is_control) => {
                self.wrong(name, "must not hold control characters");
                None
            }
            [value] => read(value).map_err(|detail| self.wrong(name, detail)).ok(),
            _ => {
                self.wrong(name, "must stand once");
                None
            }
        }
    }

    /// Whether a parameter stands in the query and was not taken yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    /// Whether something was found wrong with a parameter.
    pub(super) fn is_wrong(&self, name: &str) -> bool {
        self.errors.iter().any(|error| error.pointer == format!("/query/{name}"))
    }

    /// Takes `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.optional(name, |text| text.parse().map_err(|_| "must be `true` or `false`".to_owned()))
    }

    /// Takes `limit` and `after`. `is_key` says whether a cursor's sort key can be one of this list.
    pub(super) fn page(&mut self, list: &'static str, is_key: impl Fn(&str) -> bool) -> Page {
        let limit = self.optional("limit", |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let limit = text.parse::<i64>().ok().filter(|n| digits && (1..=LONGEST_PAGE).contains(n));
            limit.ok_or_else(|| format!("must be a whole number from 1 to {LONGEST_PAGE}"))
        });
        let after = self.optional("after", |text| {
            let key = key_of(list, text).filter(|key| is_key(key));
            key.ok_or_else(|| "must be the `next` of an earlier page of this list, unchanged".to_owned())
        });
        let limit = usize::try_from(limit.unwrap_or(USUAL_PAGE)).unwrap_or(1);
        Page { list, limit, after }
    }

    /// Ends the reading: what was not taken is unknown.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            self.wrong(&super::extract::escaped(&name), "is not a parameter of this call; leave it out");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::validation(self.errors)) }
    }
}

impl Page {
    /// How many lines to read: one more than is shown, to know whether there are more.
    pub(super) fn to_read(&self) -> i64 {
        i64::try_from(self.limit).unwrap_or(LONGEST_PAGE) + 1
    }

    /// The page of these lines; `key` is a line's sort key, and `render` may leave a line out.
    pub(super) fn of<T, V>(
        &self,
        mut lines: Vec<T>,
        key: impl Fn(&T) -> String,
        render: impl Fn(&T) -> Option<V>,
    ) -> List<V> {
        let more = lines.len() > self.limit;
        lines.truncate(self.limit);
        let next = lines.last().filter(|_| more).map(|line| cursor(self.list, &key(line)));
        List { data: lines.iter().filter_map(render).collect(), next }
    }
}

fn cursor(list: &str, key: &str) -> String {
    let text = format!("{list} {key}");
    format!("{}{}", hex::encode(checksum(&text)), hex::encode(text))
}

fn key_of(list: &str, cursor: &str) -> Option<String> {
    let bytes = hex::decode(cursor).ok()?;
    let (sum, text) = bytes.split_at_checked(4)?;
    let text = std::str::from_utf8(text).ok()?;
    let key = text.strip_prefix(list)?.strip_prefix(' ')?;
    (sum == checksum(text)).then(|| key.to_owned())
}

fn checksum(text: &str) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/x?{query}").parse().unwrap();
        Params { pairs: Query::try_from_uri(&uri).unwrap().0, errors: Vec::new() }
    }

    #[test]
    fn a_cursor_is_read_back_only_whole_and_for_its_own_list() {
        let made = cursor("transfers", "xfer_1");
        assert_eq!(key_of("transfers", &made).as_deref(), Some("xfer_1"));
        assert_eq!(key_of("events", &made), None);
        assert_eq!(key_of("transfers", &made[..made.len() - 2]), None);
        for (i, _) in made.char_indices() {
            let mut mangled = made.clone();
            let other = if &made[i..=i] == "0" { "1" } else { "0" };
            mangled.replace_range(i..=i, other);
            assert_eq!(key_of("transfers", &mangled), None, "{i}");
        }
        for odd in ["", "zz", "00", "xfer_1"] {
            assert_eq!(key_of("transfers", odd), None);
        }
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let rows = [
            ("limit=0", "/query/limit"),
            ("limit=101", "/query/limit"),
            ("limit=%2B5", "/query/limit"),
            ("limit=5&limit=5", "/query/limit"),
            ("limit=", "/query/limit"),
            ("after=abc", "/query/after"),
            ("ready=yes", "/query/ready"),
            ("nope=1", "/query/nope"),
            ("ready=%00", "/query/ready"),
        ];
        for (query, pointer) in rows {
            let mut params = params(query);
            params.page("x", |_| true);
            params.flag("ready");
            let problem = params.finish().unwrap_err();
            assert!(
                format!("{problem:?}").contains(&format!("pointer: \"{pointer}\"")),
                "{query}: {problem:?}"
            );
        }
        let mut good = params("limit=7&ready=false");
        assert_eq!((good.page("x", |_| true).limit, good.flag("ready")), (7, Some(false)));
        assert!(good.finish().is_ok());
    }

    #[test]
    fn a_page_points_to_the_next_only_where_there_is_one() {
        let page = Page { list: "x", limit: 2, after: None };
        let render =
            |lines: Vec<i32>| json!(page.of(lines, ToString::to_string, |n| (*n != 2).then_some(*n)));
        assert_eq!(render(vec![1, 3]), json!({"data": [1, 3], "next": null}));
        assert_eq!(render(vec![1, 2, 3]), json!({"data": [1], "next": cursor("x", "2")}));
    }
}
