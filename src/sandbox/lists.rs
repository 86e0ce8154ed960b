//! Collections kept in creation order, and Stripe's list pages over them: newest first, cursors, `created`.
//!
//! Knows nothing about what the collections hold beyond an id and an instant.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::errors::Refusal;
use super::forms::{Params, invalid_integer};

/// The parameters every list takes.
pub(super) const LIST: [&str; 4] = ["limit", "starting_after", "ending_before", "created"];

/// Something a list can hold.
pub(super) trait Listed {
    /// Stripe's noun for it, as "No such …" says it.
    const NOUN: &'static str;
    fn id(&self) -> &str;
    /// Creation in sandbox time, microseconds since 1970.
    fn created_us(&self) -> i64;
}

/// Items in creation order with an index by id.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    items: Vec<T>,
    index: HashMap<String, usize>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { items: Vec::new(), index: HashMap::new() }
    }
}

impl<T: Listed> Shelf<T> {
    pub fn push(&mut self, item: T) {
        self.index.insert(item.id().to_owned(), self.items.len());
        self.items.push(item);
    }

    pub fn get(&self, id: &str) -> Option<&T> {
        self.items.get(*self.index.get(id)?)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.items.get_mut(*self.index.get(id)?)
    }

    /// The item, or Stripe's 404.
    pub fn named(&self, id: &str) -> Result<&T, Refusal> {
        self.get(id).ok_or_else(|| Refusal::missing(404, "id", T::NOUN, id))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }
}

/// One page: the items that pass `keep`, by the list parameters. `stale_before_us` hides what is younger.
pub(super) fn page<'a, T: Listed>(
    shelf: &'a Shelf<T>,
    params: &Params,
    stale_before_us: Option<i64>,
    keep: impl Fn(&T) -> bool,
) -> Result<(Vec<&'a T>, bool), Refusal> {
    let limit = limit(params)?;
    let created = Created::read(params)?;
    let after = cursor(shelf, params, "starting_after")?;
    let before = cursor(shelf, params, "ending_before")?;
    if after.is_some() && before.is_some() {
        let message = "You can only specify one of these parameters: ending_before, starting_after.";
        return Err(Refusal::call(400, None, message));
    }
    let visible = |item: &&T| {
        created.covers(item.created_us().div_euclid(1_000_000))
            && stale_before_us.is_none_or(|bound| item.created_us() <= bound)
            && keep(item)
    };
    let (mut found, newest_first): (Vec<&T>, bool) = match before {
        // `ending_before` reads upwards from the cursor: the next newer items, not the newest.
        Some(at) => {
            let newer = shelf.items.get(at + 1..).unwrap_or_default();
            (newer.iter().filter(visible).take(limit + 1).collect(), false)
        }
        None => {
            let older = shelf.items.get(..after.unwrap_or(shelf.len())).unwrap_or_default();
            (older.iter().rev().filter(visible).take(limit + 1).collect(), true)
        }
    };
    let has_more = found.len() > limit;
    found.truncate(limit);
    if !newest_first {
        found.reverse();
    }
    Ok((found, has_more))
}

/// The list object around a page's items.
pub(super) fn envelope(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({"object": "list", "data": data, "has_more": has_more, "url": url})
}

fn limit(params: &Params) -> Result<usize, Refusal> {
    let limit = params.integer("limit")?.unwrap_or(10);
    let code = Some("parameter_invalid_integer");
    match usize::try_from(limit) {
        Ok(limit @ 1..=100) => Ok(limit),
        Ok(101..) => Err(Refusal::invalid("limit", code, "This value must be less than or equal to 100.")),
        _ => Err(Refusal::invalid("limit", code, "This value must be greater than or equal to 1.")),
    }
}

fn cursor<T: Listed>(shelf: &Shelf<T>, params: &Params, name: &str) -> Result<Option<usize>, Refusal> {
    let Some(id) = params.text(name)? else { return Ok(None) };
    match shelf.index.get(&id) {
        Some(at) => Ok(Some(*at)),
        None => Err(Refusal::missing(400, name, T::NOUN, &id)),
    }
}

/// The `created` filter, whole seconds, both ends inclusive.
struct Created {
    from: i64,
    to: i64,
}

impl Created {
    fn read(params: &Params) -> Result<Self, Refusal> {
        let mut created = Self { from: i64::MIN, to: i64::MAX };
        let seconds = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            text.parse::<i64>().map_err(|_| invalid_integer("created", text))
        };
        match params.get("created") {
            None => {}
            Some(Value::Object(bounds)) => {
                for (name, value) in bounds {
                    let at = seconds(value)?;
                    match name.as_str() {
                        "gte" => created.from = at,
                        "gt" => created.from = at.saturating_add(1),
                        "lte" => created.to = at,
                        "lt" => created.to = at.saturating_sub(1),
                        other => {
                            return Err(Refusal::invalid(
                                &format!("created[{other}]"),
                                Some("parameter_unknown"),
                                format!("Received unknown parameter: created[{other}]"),
                            ));
                        }
                    }
                }
            }
            Some(exact) => {
                created.from = seconds(exact)?;
                created.to = created.from;
            }
        }
        Ok(created)
    }

    fn covers(&self, at: i64) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(String, i64);

    impl Listed for Item {
        const NOUN: &'static str = "item";
        fn id(&self) -> &str {
            &self.0
        }
        fn created_us(&self) -> i64 {
            self.1
        }
    }

    fn ids(query: &str) -> (String, bool) {
        let mut shelf = Shelf::default();
        for n in 0..5 {
            shelf.push(Item(n.to_string(), n * 1_000_000));
        }
        let (items, more) = page(&shelf, &Params::parse(query), None, |_| true).unwrap();
        (items.iter().map(|item| item.0.as_str()).collect(), more)
    }

    #[test]
    fn pages_are_newest_first_and_cursors_read_both_ways() {
        assert_eq!(ids(""), ("43210".into(), false));
        assert_eq!(ids("limit=2"), ("43".into(), true));
        assert_eq!(ids("limit=2&starting_after=3"), ("21".into(), true));
        assert_eq!(ids("limit=2&starting_after=1"), ("0".into(), false));
        assert_eq!(ids("limit=2&ending_before=1"), ("32".into(), true));
        assert_eq!(ids("limit=3&ending_before=1"), ("432".into(), false));
        assert_eq!(ids("created[gte]=1&created[lt]=3"), ("21".into(), false));
        assert_eq!(ids("created=2"), ("2".into(), false));
    }

    #[test]
    fn a_bad_page_is_refused() {
        let shelf: Shelf<Item> = Shelf::default();
        for bad in ["limit=0", "limit=101", "limit=x", "starting_after=9", "created[to]=1", "created=x"] {
            assert!(page(&shelf, &Params::parse(bad), None, |_| true).is_err(), "{bad}");
        }
    }
}
