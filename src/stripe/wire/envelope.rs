//! The envelope around every event, snapshot or thin, read without copying what it holds.
//!
//! The field `object` decides which of the two it is: the type's prefix does not, since thin events exist about
//! v1 objects too (<https://docs.stripe.com/webhooks>, <https://docs.stripe.com/event-destinations>). Fields
//! that steer where money belongs (`id`, `type`, `account`, `context`) are refused when odd; all others then
//! read as absent.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::moment;
use crate::domain::ids::{AccountId, EventId, MAX_LEN};

/// How an event speaks of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With the object as it was at `created`.
    Snapshot,
    /// With the object's id at most.
    Thin,
}

/// What a thin event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedObject<'a> {
    /// Absent for a singleton, such as the balance.
    pub id: Option<Cow<'a, str>>,
    /// Like `v2.core.account` or `topup`.
    pub object_type: Cow<'a, str>,
}

/// A Stripe event's outer fields, borrowed from the body where they need no unescaping.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// Unique and the same in every delivery.
    pub id: EventId,
    /// Snapshot or thin.
    pub kind: Kind,
    /// Like `topup.succeeded`.
    pub event_type: Cow<'a, str>,
    /// The connected account it concerns; None where it concerns the platform itself.
    pub account: Option<AccountId>,
    /// The version that `data_object` is written in.
    pub api_version: Option<Cow<'a, str>>,
    /// When Stripe made the event: whole seconds (snapshot) or milliseconds (thin). None where it is missing,
    /// before 1970 or after 9999.
    pub created: Option<OffsetDateTime>,
    /// None where Stripe did not say: then it fits neither mode.
    pub livemode: Option<bool>,
    /// The API request that caused it.
    pub request_id: Option<Cow<'a, str>>,
    /// That request's `Idempotency-Key`.
    pub idempotency_key: Option<Cow<'a, str>>,
    /// What a thin event is about; some types have none.
    pub related_object: Option<RelatedObject<'a>>,
    /// A snapshot's `data.object`, unread.
    pub data_object: Option<&'a RawValue>,
}

/// Why a body is not a Stripe event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not UTF-8.
    #[error("the body is not UTF-8 text")]
    NotText,
    /// Not a JSON object, or one that names an outer field twice.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// An outer field that an event must have is missing, or one that steers is odd.
    #[error("`{0}` is missing, too long or not what a Stripe event has there")]
    Field(&'static str),
}

/// Every field unread, so that an odd one can't fail its neighbours. JSON's null is None.
#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    account: Option<&'a RawValue>,
    #[serde(borrow)]
    stripe_user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    livemode: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    related_object: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The inner fields of `data`, `request`, `reason` and `related_object` together.
#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    object_type: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    idempotency_key: Option<&'a RawValue>,
}

/// A plain `Cow` would always be copied.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Envelope<'a> {
    /// The id of the object that the event carries or names; a balance has none.
    pub fn object_id(&self) -> Option<Cow<'a, str>> {
        if let Some(related) = &self.related_object {
            return related.id.clone();
        }
        let inner: Inner<'a> = serde_json::from_str(self.data_object?.get()).ok()?;
        serde_json::from_str::<Text<'a>>(inner.id?.get()).ok().map(|text| text.0)
    }

    /// Reads the envelope of a verified body.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        // Checked as a whole first: the JSON reader does not look into what it skips.
        let text = std::str::from_utf8(body).map_err(|_| EnvelopeError::NotText)?;
        let outer: Outer<'a> = object(text).ok_or(EnvelopeError::NotAnObject)?;
        let id = outer.id.and_then(short_text).ok_or(EnvelopeError::Field("id"))?;
        let id = EventId::parse(&id).map_err(|_| EnvelopeError::Field("id"))?;
        let event_type = outer
            .event_type
            .and_then(short_text)
            .filter(|text| !text.is_empty() && !text.contains(char::is_control))
            .ok_or(EnvelopeError::Field("type"))?;
        let data_object =
            outer.data.and_then(inner).and_then(|data| data.object).filter(|o| is_object(o.get()));
        let kind = kind(&outer, data_object)?;
        let request = match kind {
            Kind::Snapshot => outer.request,
            Kind::Thin => outer.reason.and_then(inner).and_then(|reason| reason.request),
        };
        let (request_id, idempotency_key) = request.map_or((None, None), request_fields);
        Ok(Self {
            id,
            kind,
            event_type,
            account: account(&outer, kind)?,
            api_version: outer.api_version.and_then(short_text),
            created: outer.created.and_then(created),
            livemode: outer.livemode.and_then(|raw| serde_json::from_str(raw.get()).ok()),
            request_id,
            idempotency_key,
            related_object: outer.related_object.and_then(related_object),
            data_object: data_object.filter(|_| kind == Kind::Snapshot),
        })
    }
}

fn kind(outer: &Outer<'_>, data_object: Option<&RawValue>) -> Result<Kind, EnvelopeError> {
    let object = outer.object.map(|raw| short_text(raw).unwrap_or_default());
    match object.as_deref() {
        Some("event") => Ok(Kind::Snapshot),
        Some("v2.core.event") => Ok(Kind::Thin),
        // Some hand-made and very old snapshots do not name themselves.
        None if data_object.is_some() => Ok(Kind::Snapshot),
        _ => Err(EnvelopeError::Field("object")),
    }
}

/// An account that is there but can't be read is an error: taken as absent, a connected account's event would
/// pass for the platform's own, and its money for the platform's.
fn account(outer: &Outer<'_>, kind: Kind) -> Result<Option<AccountId>, EnvelopeError> {
    let parse = |raw: &RawValue, field| {
        let text = short_text(raw).ok_or(EnvelopeError::Field(field))?;
        AccountId::parse(&text).map_err(|_| EnvelopeError::Field(field))
    };
    match (kind, outer.account, outer.stripe_user_id, outer.context) {
        (Kind::Snapshot, Some(raw), _, _) => parse(raw, "account").map(Some),
        // How events of 2015 name the account that took its permission back.
        (Kind::Snapshot, None, Some(raw), _) => parse(raw, "stripe_user_id").map(Some),
        (Kind::Snapshot, None, None, _) | (Kind::Thin, _, _, None) => Ok(None),
        (Kind::Thin, _, _, Some(raw)) => {
            let text = short_text(raw).ok_or(EnvelopeError::Field("context"))?;
            // A context may be a path, such as organisation, then account: the last one is meant.
            let last = text.rsplit('/').next().unwrap_or_default();
            if !last.starts_with(AccountId::PREFIX) {
                return Ok(None);
            }
            AccountId::parse(last).map(Some).map_err(|_| EnvelopeError::Field("context"))
        }
    }
}

/// `request` is an object, before 2017-05-25 the id alone.
fn request_fields(raw: &RawValue) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match inner(raw) {
        Some(request) => (request.id.and_then(short_text), request.idempotency_key.and_then(short_text)),
        None => (short_text(raw), None),
    }
}

fn related_object(raw: &RawValue) -> Option<RelatedObject<'_>> {
    let related = inner(raw)?;
    let object_type = related.object_type.and_then(short_text)?;
    Some(RelatedObject { id: related.id.and_then(short_text), object_type })
}

/// Unix seconds or RFC 3339, in UTC, cut to the microseconds that the database keeps.
fn created(raw: &RawValue) -> Option<OffsetDateTime> {
    if let Ok(unix_s) = serde_json::from_str::<i64>(raw.get()) {
        return moment(unix_s);
    }
    let at = OffsetDateTime::parse(&short_text(raw)?, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    let whole_us = at.nanosecond() / 1_000 * 1_000;
    at.replace_nanosecond(whole_us).ok().filter(|at| at.unix_timestamp() >= 0)
}

/// A text of at most 255 bytes without NUL, which the database could not keep.
fn short_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let Text(text) = serde_json::from_str(raw.get()).ok()?;
    (text.len() <= MAX_LEN && !text.contains('\0')).then_some(text)
}

fn inner(raw: &RawValue) -> Option<Inner<'_>> {
    object(raw.get())
}

/// Reads a JSON object; serde alone would also fill a struct from an array, by position.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    is_object(text).then(|| serde_json::from_str(text).ok()).flatten()
}

fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
}
