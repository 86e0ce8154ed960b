//! Objects of v2 of the API: an account as far as it receives transfers, and a thin event with its data.
//!
//! Whatever was not asked for with `include` is null there. Times are RFC 3339 texts.

use super::{Fields, Object, Unreadable, Value};
use crate::domain::ids::{AccountId, EventId};

/// An account of v2, reduced to what readiness rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct V2Account {
    /// `acct_…`.
    pub id: AccountId,
    /// It was closed, for good.
    pub closed: Option<bool>,
    /// Status of the recipient's `stripe_balance.stripe_transfers`: `active`, `pending`, `restricted`, `unsupported`,
    /// `rejected`; an open set. None where it was never requested.
    pub recipient_transfers: Option<String>,
    /// What Stripe still wants to know.
    pub requirements: Option<V2Requirements>,
}

impl Object for V2Account {
    const NAME: &'static str = "v2.core.account";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        let configuration: Value = f.may("configuration").unwrap_or_default();
        let transfers = &configuration["recipient"]["capabilities"]["stripe_balance"]["stripe_transfers"];
        Ok(Self {
            id: f.id("id", AccountId::parse)?,
            closed: f.may("closed"),
            recipient_transfers: transfers["status"].as_str().map(str::to_owned),
            requirements: f.object("requirements"),
        })
    }
}

/// An account's open requirements, as v2 lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V2Requirements {
    /// One for each thing that is wanted.
    pub entries: Vec<V2Entry>,
    /// When the first of them is due, RFC 3339.
    pub due_by: Option<String>,
}

impl Object for V2Requirements {
    const NAME: &'static str = "v2 requirements";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        let entries: Vec<Value> = f.may("entries").unwrap_or_default();
        let summary: Value = f.may("summary").unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let entry = |entry: &Value| {
            Some(V2Entry {
                description: text(&entry["description"])?,
                deadline: text(&entry["minimum_deadline"]["status"]),
                awaited_from: text(&entry["awaiting_action_from"]),
            })
        };
        Ok(Self {
            entries: entries.iter().filter_map(entry).collect(),
            due_by: text(&summary["minimum_deadline"]["time"]),
        })
    }
}

/// One thing that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V2Entry {
    /// Like `external_account`.
    pub description: String,
    /// `currently_due`, `eventually_due`, `past_due`; an open set.
    pub deadline: Option<String>,
    /// `user` or `stripe`.
    pub awaited_from: Option<String>,
}

/// A thin event as it is read from the API: its delivery has no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V2Event {
    /// `evt_…`.
    pub id: EventId,
    /// Like `v2.core.account_link.returned`.
    pub event_type: String,
    /// The account that its data names, as an account link's do.
    pub account: Option<AccountId>,
}

impl Object for V2Event {
    const NAME: &'static str = "v2.core.event";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        let data: Value = f.may("data").unwrap_or_default();
        Ok(Self {
            id: f.id("id", EventId::parse)?,
            event_type: f.must("type")?,
            account: data["account_id"].as_str().and_then(|id| AccountId::parse(id).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> String {
        let path = format!("{}/tests/fixtures/stripe/api/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_account_shows_only_what_was_asked_for() {
        let whole = V2Account::from_json(&fixture("v2_account_include_recipient_requirements")).unwrap();
        assert_eq!(whole.recipient_transfers.as_deref(), Some("restricted"));
        assert_eq!(whole.closed, Some(false));
        let wanted = whole.requirements.unwrap();
        assert_eq!((wanted.entries.len(), wanted.due_by), (1, None));
        assert_eq!(wanted.entries[0].description, "external_account");
        assert_eq!(wanted.entries[0].deadline.as_deref(), Some("past_due"));
        let bare = V2Account::from_json(&fixture("v2_account_without_include")).unwrap();
        assert_eq!((bare.recipient_transfers, bare.requirements), (None, None));
    }

    #[test]
    fn an_event_names_the_account_of_its_link() {
        let link = r#"{"id":"evt_1","object":"v2.core.event","type":"v2.core.account_link.returned",
            "data":{"account_id":"acct_1","configurations":["recipient"],"use_case":"account_onboarding"}}"#;
        assert_eq!(V2Event::from_json(link).unwrap().account, AccountId::parse("acct_1").ok());
        let other = V2Event::from_json(&fixture("v2_event_pulled_recipient_capability")).unwrap();
        assert_eq!(other.account, None, "its data names a capability");
    }
}
