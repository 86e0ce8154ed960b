//! The words that requests and answers are made of, each with the schema that documents it.
//!
//! A word's schema admits exactly what its reader takes (`extract`, `domain::ids`, `domain::money`); the
//! tests hold both together. What Stripe sends and we only pass on is described no tighter than we check it.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{Object, Schema, SchemaType};
use utoipa::{PartialSchema, ToSchema};

use super::api::accounts::readiness::LONGEST_WAIT_S;
use super::error::Code;
use crate::domain::ids::{self, MAX_LEN};
use crate::domain::money;
use crate::domain::next_step::Action;
use crate::domain::onboarding::{Collect, Future, LinkKind};
use crate::domain::reason::Reason;
use crate::domain::{return_url, reversal, topup, transfer};
use crate::flows::operate::Scope;
use crate::store::views;

/// A schema as JSON Schema writes it.
pub(super) fn schema(keywords: Value) -> RefOr<Schema> {
    let keywords = match keywords {
        Value::Object(keywords) => keywords,
        _ => serde_json::Map::new(),
    };
    let mut any = Object::with_type(SchemaType::AnyValue);
    any.extensions = Some(keywords.into_iter().collect::<Extensions>());
    RefOr::T(Schema::Object(any))
}

macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident = $schema:expr;)*) => {
    $(
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(super) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let mut keywords: Value = $schema;
                keywords["description"] = concat!($($doc),*).trim().into();
                schema(keywords)
            }
        }

        impl ToSchema for $name {}
    )*

        /// Every word by its name. A parameter's type alone would not bring its schema into the document.
        pub(super) fn all() -> Vec<(String, RefOr<Schema>)> {
            vec![$((stringify!($name).to_owned(), $name::schema())),*]
        }
    };
}

words! {
    /// A connected account's id at Stripe.
    AccountId = id(ids::AccountId::PREFIX, "acct_1RVbKzKd3W9tqPfA");
    /// A top-up's id at Stripe.
    TopupId = id(ids::TopupId::PREFIX, "tu_1RVbKzLkdIwHu7ix");
    /// The id of an order for a top-up here.
    TopupIntentId = id(ids::TopupIntentId::PREFIX, "tpi_01JDQ6V0E4W8N5A8EMFD8PQEG");
    /// A top-up's id at Stripe, or the id of the order here that was to make one.
    TopupOrIntentId = id("(tu|tpi)_", "tu_1RVbKzLkdIwHu7ix");
    /// A transfer's id at Stripe.
    StripeTransferId = id(ids::StripeTransferId::PREFIX, "tr_1RVbKzLkdIwHu7ix");
    /// A transfer's id here.
    TransferId = id(ids::TransferId::PREFIX, "xfer_01JDQ6V0E4W8N5A8EMFD8PQEG");
    /// A reversal's id here.
    ReversalId = id(ids::ReversalId::PREFIX, "xrev_01JDQ6V0E4W8N5A8EMFD8PQEG");
    /// An adjustment's id here.
    AdjustmentId = id(ids::AdjustmentId::PREFIX, "adj_01JDQ6V0E4W8N5A8EMFD8PQEG");
    /// An API key's id here; not its secret.
    KeyId = id(ids::KeyId::PREFIX, "key_01JDQ6V0E4W8N5A8EMFD8PQEG");
    /// An event's id at Stripe.
    EventId = id(ids::EventId::PREFIX, "evt_1RVbKzLkdIwHu7ix");
    /// A currency Stripe pays in: lower-case ISO 4217.
    Currency = json!({"type": "string", "enum": money::codes().collect::<Vec<_>>(), "example": "usd"});
    /// A currency as Stripe told it: lower-case ISO 4217.
    CurrencyCode = json!({"type": "string", "pattern": "^[a-z]{3}$", "example": "usd"});
    /// What is to be paid, in minor units: cents, or whole yen.
    Amount = json!({
        "type": "integer", "format": "int64", "minimum": 1, "maximum": money::MAX_AMOUNT_MINOR, "example": 1000,
    });
    /// A code that says why an account may not be paid, or why a transfer waits.
    ReasonCode = one_of(Reason::ALL.iter().map(|reason| reason.code()));
    /// A transfer's status. It goes from `waiting` through `releasing` to `released`, and may come back.
    TransferStatus = one_of(transfer::Status::ALL.into_iter().map(transfer::Status::as_str));
    /// A top-up's status: Stripe's word, or `unknown` for one that is new.
    TopupStatus = one_of(topup::Status::ALL.into_iter().map(topup::Status::as_str));
    /// A step in the life of a top-up.
    TopupStepCode = one_of(topup::story::Step::ALL.iter().map(|step| step.code()).chain([topup::story::FOUND]));
    /// What the bank's statement shows of a top-up: ASCII, with a letter, without `< > \\ ' " *`.
    StatementDescriptor = json!({
        "type": "string", "minLength": 1, "maxLength": topup::intent::LONGEST_DESCRIPTOR, "pattern": DESCRIPTOR,
        "example": "PAYROLL 11/26",
    });
    /// A bank account's id or token at Stripe.
    BankToken = json!({
        "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 255, "example": "btok_us_verified",
    });
    /// Where a reversal stands.
    ReversalStatus = one_of(reversal::Status::ALL.into_iter().map(reversal::Status::as_str));
    /// What became of an event. `failed` is a dead letter: it is not tried again before somebody replays it.
    EventStatus = one_of(views::EventStatus::ALL.into_iter().map(views::EventStatus::as_str));
    /// How far an API key reaches; each scope includes those before it.
    KeyScope = one_of(Scope::ALL.into_iter().map(Scope::as_str));
    /// What to do about an account next.
    NextAction = one_of(Action::ALL.iter().map(|action| action.as_str()));
    /// What a person is to do behind an onboarding link; `account_update` is not for Express accounts.
    LinkType = one_of(LinkKind::ALL.iter().map(|kind| kind.as_str()));
    /// How much of what Stripe will ask for is asked for now.
    CollectedFields = one_of(Collect::ALL.iter().map(|collect| collect.as_str()));
    /// Whether requirements that come into force later are asked for as well.
    FutureRequirements = one_of(Future::ALL.iter().map(|future| future.as_str()));
    /// Where a browser is sent: an absolute `https://` URL without user or password; in test mode `http://` too.
    WebAddress = json!({
        "type": "string", "pattern": WEB_ADDRESS, "maxLength": return_url::LONGEST,
        "example": "https://app.example.com/settings/payouts",
    });
    /// What went wrong, as a word for programs.
    ProblemCode = one_of(Code::ALL.iter().map(|code| code.as_str()));
    /// What somebody calls something.
    Title = text(100);
    /// For what a caller may wait: that the account may be paid.
    Until = one_of(["ready"].into_iter());
    /// How long a caller waits, in seconds.
    WaitSeconds = json!({"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_S});
    /// Why something is ordered, for the audit log.
    Note = text(500);
    /// What an account's holder and the platform's people may read about it.
    Description = text(1_000);
    /// A text to search for.
    Group = text(255);
    /// A label, without white space at its ends.
    Label = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": TRIMMED,
        "x-rule": "no control characters, no white space at its ends",
    });
    /// An instant: RFC 3339 with any offset, of the years 1970 to 9998.
    Moment = json!({
        "type": "string", "format": "date-time", "pattern": "^(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-",
        "x-rule": "of the years 1970 to 9998",
        "example": "2026-11-22T10:00:00Z",
    });
}

/// What Postgres can hold and a log can show: no control characters.
pub(super) const PLAIN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// What Stripe takes on a bank's statement.
const DESCRIPTOR: &str =
    r"^[ !#$%&()+,\-./0-9:;=?@A-Z\[\]^_`a-z{|}~]*[A-Za-z][ !#$%&()+,\-./0-9:;=?@A-Z\[\]^_`a-z{|}~]*$";

/// The same, not beginning or ending with white space.
const TRIMMED: &str = "^[^\\s\\u0000-\\u001f\\u007f-\\u009f]([^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f])?$";

/// The same, and not white space alone.
pub(super) const SAYING: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// A web address as its writers write it: a host of plain names, a port, a path, a query, a fragment. The reader takes
/// what browsers take, which is more and has no pattern.
const WEB_ADDRESS: &str = "^https?://[a-w]([a-z0-9-]{0,60}[a-z0-9])?(\\.[a-w]([a-z0-9-]{0,60}[a-z0-9])?)*\
    (:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*)?(\\?[A-Za-z0-9._~!$&()*+,;=:@%/?-]*)?\
    (#[A-Za-z0-9._~!$&()*+,;=:@%/?-]*)?$";

/// The id of a kind: a prefix, then letters, digits, `_` and `-`.
fn id(prefix: &str, example: &str) -> Value {
    json!({
        "type": "string", "pattern": format!("^{prefix}[A-Za-z0-9_-]+$"), "maxLength": MAX_LEN, "example": example,
    })
}

/// A text of 1 to `longest` characters, as `extract::text` reads it.
pub(super) fn text(longest: usize) -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": longest, "pattern": PLAIN, "x-rule": "no control characters",
    })
}

/// One of these words.
pub(super) fn one_of(words: impl Iterator<Item = &'static str>) -> Value {
    json!({"type": "string", "enum": words.collect::<Vec<_>>()})
}

/// An instant as callers see it: RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant(OffsetDateTime);

impl Instant {
    /// This instant.
    pub(super) fn of(at: OffsetDateTime) -> Self {
        Self(at)
    }

    /// The same, to the whole second.
    pub(super) fn second(at: OffsetDateTime) -> Self {
        Self(at.truncate_to_second())
    }

    /// The same of one that may be absent.
    pub(super) fn maybe(at: Option<OffsetDateTime>) -> Option<Self> {
        at.map(Self)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Fails only outside the years 0 to 9999, which neither Stripe nor a caller can send.
        time::serde::rfc3339::serialize(&self.0, serializer)
    }
}

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        schema(json!({
            "type": "string", "format": "date-time", "description": "An instant: RFC 3339, UTC.",
            "example": "2026-11-22T10:00:00Z",
        }))
    }
}

impl ToSchema for Instant {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a word's schema admits a text.
    fn admits<T: PartialSchema>(text: &str) -> bool {
        let schema = serde_json::to_value(T::schema()).unwrap();
        jsonschema::validator_for(&schema).unwrap().is_valid(&json!(text))
    }

    #[test]
    fn an_id_is_documented_as_it_is_read() {
        let long = |length| format!("acct_{}", "x".repeat(length));
        let (fits, too_long) = (long(250), long(251));
        for text in [
            "",
            "acct_",
            "acct_1",
            "acct_ä",
            "acct_1\n",
            "acct_1 ",
            "tu_1",
            "ACCT_1",
            "acct_a-b_C",
            " acct_1",
            &fits,
            &too_long,
            "evt_1",
            "e",
            "\u{1}",
            "a/b",
        ] {
            assert_eq!(admits::<AccountId>(text), ids::AccountId::parse(text).is_ok(), "{text:?}");
            assert_eq!(admits::<TopupId>(text), ids::TopupId::parse(text).is_ok(), "{text:?}");
            assert_eq!(admits::<EventId>(text), ids::EventId::parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_currency_is_documented_as_it_is_read() {
        for text in ["usd", "USD", "us", "xxx", "", "kwd", "usd ", "isk"] {
            assert_eq!(admits::<Currency>(text), money::Currency::parse(text).is_ok(), "{text:?}");
        }
        assert!(money::codes().all(admits::<Currency>));
    }

    #[test]
    fn a_text_is_documented_as_it_is_read() {
        let (fits, too_long) = ("ü".repeat(500), "ü".repeat(501));
        for text in ["", "a", " ", "a\nb", "\u{7f}", "a\u{85}", "\u{9f}", "\u{a0}", "🙂", &fits, &too_long]
        {
            let read = super::super::extract::text(500)(text).is_ok() && !text.chars().any(char::is_control);
            assert_eq!(admits::<Note>(text), read, "{text:?}");
        }
    }

    #[test]
    fn a_moment_is_documented_as_it_is_read() {
        let schema = serde_json::to_value(Moment::schema()).unwrap();
        let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        for text in [
            "2026-11-22T10:00:00Z",
            "2026-11-22t10:00:00z",
            "2026-11-22T10:00:00.123456789+01:00",
            "2026-11-22T10:00:00-00:00",
            "1970-01-01T00:00:00+23:59",
            "9998-12-31T23:59:59-23:59",
            "2016-12-31T23:59:60Z",
            "2026-11-22",
            "2026-11-22 10:00:00Z",
            "2026-11-22T10:00:00",
            "2026-02-30T10:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:00:00+24:00",
            "1969-12-31T23:59:59Z",
            "9999-01-01T00:00:00Z",
            "+2026-11-22T10:00:00Z",
            "",
        ] {
            assert_eq!(
                schema.is_valid(&json!(text)),
                super::super::extract::instant(text).is_ok(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_documented_web_address_is_one_that_is_read() {
        let read = |text: &str| return_url::ReturnUrl::parse(text, false).is_ok();
        for text in [
            "https://a",
            "http://localhost:3000/done",
            "https://app.example.com/settings/payouts?tab=1&x=%20y#top",
            "https://a.b.c1:9999/..//%?=&#?",
            "https://a-b--c.de/(x);y=1,2",
        ] {
            assert!(admits::<WebAddress>(text) && read(text), "{text:?}");
        }
        for text in
            ["", "app", "/done", "https://", "ftp://a.example", "https://me@a.example", "javascript:1", "//a"]
        {
            assert!(!admits::<WebAddress>(text) && !read(text), "{text:?}");
        }
    }

    #[test]
    fn times_are_utc_and_cut_where_seconds_are_asked() {
        let at = time::macros::datetime!(2026-11-22 10:00:00.123456 UTC);
        assert_eq!(json!(Instant::of(at)), "2026-11-22T10:00:00.123456Z");
        assert_eq!(json!(Instant::second(at)), "2026-11-22T10:00:00Z");
        assert_eq!(json!(Instant::maybe(None)), Value::Null);
    }
}
