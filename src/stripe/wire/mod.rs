//! Readers of Stripe's JSON: tolerant of what may change, strict about what money hangs on.
//!
//! Stripe adds fields and enum values without notice (<https://docs.stripe.com/upgrades>), so neither fails a
//! reading, statuses are plain text, and an optional field of another type reads as absent. A missing or
//! wrong-typed id, amount, currency or status is an error that names it: such an object is never guessed at.

mod endpoint;
mod envelope;
mod objects;
mod own;
#[cfg(test)]
mod tests;
mod v2;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use time::macros::{date, format_description};
use time::{Date, OffsetDateTime};

pub use endpoint::WebhookEndpoint;
pub use envelope::{Envelope, EnvelopeError, Kind, RelatedObject};
pub use objects::{
    Account, AccountLink, Balance, BalanceEntry, BalanceTransaction, Capability, Event, ListedEvent,
    Requirements, Topup, Transfer, TransferReversal,
};
pub use own::{OwnAccount, Payout};
pub use v2::{V2Account, V2Entry, V2Event, V2Requirements};

/// An object that can't be read: nothing may be concluded from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unreadable {object}: {}", if .field.is_empty() { "not a JSON object" } else { .field })]
pub struct Unreadable {
    /// Stripe's name of the object, like `topup`.
    pub object: &'static str,
    /// The field that is missing or of another type; empty where the whole is no JSON object.
    pub field: &'static str,
}

/// Something of Stripe's that can be read from JSON text.
pub trait Object: Sized {
    /// Stripe's name of it, used in errors.
    const NAME: &'static str;

    /// Takes what is needed from the fields.
    fn read(fields: &Fields<'_>) -> Result<Self, Unreadable>;

    /// Reads the object from JSON text.
    fn from_json(json: &str) -> Result<Self, Unreadable> {
        Self::read(&Fields::of::<Self>(json)?)
    }
}

/// The fields of one JSON object, not yet read any deeper. Of two fields of one name the last counts.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'static str,
    json: &'a str,
    by_name: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    fn of<T: Object>(json: &'a str) -> Result<Self, Unreadable> {
        let by_name = serde_json::from_str(json).map_err(|_| Unreadable { object: T::NAME, field: "" })?;
        Ok(Self { object: T::NAME, json, by_name })
    }

    fn error(&self, field: &'static str) -> Unreadable {
        Unreadable { object: self.object, field }
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.by_name.get(name).map(|raw| raw.get())
    }

    /// A field that must be there with the right type.
    fn must<T: Deserialize<'a>>(&self, name: &'static str) -> Result<T, Unreadable> {
        self.may(name).ok_or_else(|| self.error(name))
    }

    /// A field that counts as its default where it is missing or null, but must otherwise have the right type.
    fn or_default<T: Deserialize<'a> + Default>(&self, name: &'static str) -> Result<T, Unreadable> {
        match self.raw(name) {
            None | Some("null") => Ok(T::default()),
            Some(_) => self.must(name),
        }
    }

    /// A field that may be missing, null or, in some version, of another type: all read as absent.
    fn may<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        // Null is common, and costs an error with a message where it is read as something else.
        self.raw(name).filter(|raw| *raw != "null").and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// An id that must be there and have its form.
    fn id<T, E>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, Unreadable> {
        let text: String = self.must(name)?;
        parse(&text).map_err(|_| self.error(name))
    }

    /// A nested object, absent where it can't be read.
    fn object<T: Object>(&self, name: &str) -> Option<T> {
        self.raw(name).and_then(|raw| T::from_json(raw).ok())
    }

    /// The id in a field that holds either an id or, expanded, the object itself.
    fn reference(&self, name: &str) -> Option<String> {
        self.object::<Expandable<Value>>(name).map(|reference| reference.id().to_owned())
    }

    /// A map of texts, such as `metadata`. Entries of another type are left out.
    fn texts(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let all: BTreeMap<String, serde_json::Value> = self.may(name)?;
        let text = |(key, value)| match value {
            serde_json::Value::String(text) => Some((key, text)),
            _ => None,
        };
        Some(all.into_iter().filter_map(text).collect())
    }
}

/// Any JSON object, as it is: for answers of which only a field or two matter.
pub type Value = serde_json::Value;

impl Object for Value {
    const NAME: &'static str = "object";

    fn read(fields: &Fields<'_>) -> Result<Self, Unreadable> {
        serde_json::from_str(fields.json).map_err(|_| fields.error(""))
    }
}

/// A field that Stripe fills with an id, or with the object when asked to expand it.
#[derive(Debug, Clone, PartialEq)]
pub enum Expandable<T> {
    /// The id alone, or an expanded object of which nothing but the id can be read.
    Id(String),
    /// The expanded object and its id.
    Object(String, Box<T>),
}

impl<T> Expandable<T> {
    /// The id, which is there either way.
    pub fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object(id, _) => id,
        }
    }

    /// The object, if it was expanded and could be read.
    pub fn object(&self) -> Option<&T> {
        match self {
            Self::Id(_) => None,
            Self::Object(_, object) => Some(object),
        }
    }
}

impl<T: Object> Object for Expandable<T> {
    const NAME: &'static str = T::NAME;

    fn read(fields: &Fields<'_>) -> Result<Self, Unreadable> {
        let id: String = fields.must("id")?;
        Ok(match T::from_json(fields.json) {
            Ok(object) => Self::Object(id, Box::new(object)),
            Err(_) => Self::Id(id),
        })
    }

    fn from_json(json: &str) -> Result<Self, Unreadable> {
        match serde_json::from_str(json) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => Self::read(&Fields::of::<Self>(json)?),
        }
    }
}

/// One entry of a list: what was read, and the JSON it was read from.
#[derive(Debug, Clone)]
pub struct Item<T> {
    /// What was read.
    pub object: T,
    /// The entry as Stripe wrote it.
    pub raw: Box<RawValue>,
}

/// A page of a list. One unreadable entry makes the whole page unreadable: a page may serve as proof that
/// something does not exist.
#[derive(Debug, Clone)]
pub struct List<T> {
    /// The entries, newest first.
    pub data: Vec<Item<T>>,
    /// Whether a page follows.
    pub has_more: bool,
    /// The last entry's id, which `starting_after` wants for the next page.
    pub last_id: Option<String>,
}

impl<T: Object> Object for List<T> {
    const NAME: &'static str = "list";

    fn read(fields: &Fields<'_>) -> Result<Self, Unreadable> {
        let entries: Vec<Box<RawValue>> = fields.must("data")?;
        let last_id = entries.last().and_then(|raw| Fields::of::<T>(raw.get()).ok()?.may("id"));
        let data = entries
            .into_iter()
            .map(|raw| Ok(Item { object: T::from_json(raw.get())?, raw }))
            .collect::<Result<_, Unreadable>>()?;
        Ok(Self { data, has_more: fields.must("has_more")?, last_id })
    }
}

/// Whether an object written for this API version has the shape that the readers here know.
///
/// Versions from 2019-02-19 on do (before it, `requirements` was `verification`), up to the pinned one; a later
/// date does if it carries the pinned release train, which promises no breaking change. Anything else,
/// null included, is to be fetched in the pinned version instead.
pub fn readable(api_version: Option<&str>) -> bool {
    let read = |version: &str| {
        let (day, train) = version.split_once('.').map_or((version, None), |(day, train)| (day, Some(train)));
        let day = Date::parse(day, format_description!("[year]-[month]-[day]")).ok()?;
        Some((day, train.map(str::to_owned)))
    };
    let (Some((day, train)), Some((pinned, pinned_train))) =
        (api_version.and_then(read), read(super::API_VERSION))
    else {
        return false;
    };
    day >= date!(2019 - 02 - 19) && (day <= pinned || train == pinned_train)
}

/// A moment from unix seconds; None where it is before 1970 or after the year 9999.
fn moment(unix_s: i64) -> Option<OffsetDateTime> {
    (unix_s >= 0).then(|| OffsetDateTime::from_unix_timestamp(unix_s).ok()).flatten()
}
