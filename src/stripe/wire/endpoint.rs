//! A webhook endpoint at Stripe. Whether it is one for connected accounts is not shown.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;

use super::{Fields, Object, Unreadable, readable};
use crate::domain::endpoint::{Endpoint, MARK, Scope};

/// Where Stripe sends events.
#[derive(Clone)]
pub struct WebhookEndpoint {
    /// `we_…`.
    pub id: String,
    /// Where to.
    pub url: String,
    /// `enabled` or `disabled`.
    pub status: String,
    /// The types it is sent; `*` stands for all but a few.
    pub enabled_events: Vec<String>,
    /// The version that its events are written in; null where it follows the account's default.
    pub api_version: Option<String>,
    /// Live or test mode.
    pub livemode: Option<bool>,
    /// The platform's own entries.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The Connect application it belongs to; only endpoints for connected accounts have one, and not all of them.
    pub application: Option<String>,
    /// What its events are signed with: in the answer to its creation, and never again.
    pub secret: Option<SecretString>,
}

impl WebhookEndpoint {
    /// The endpoint as decisions look at it.
    pub fn seen(&self) -> Endpoint {
        let mark = self.metadata.as_ref().and_then(|entries| entries.get(MARK));
        Endpoint {
            id: self.id.clone(),
            url: self.url.clone(),
            enabled: self.status == "enabled",
            types: self.enabled_events.clone(),
            api_version: self.api_version.clone(),
            readable: readable(self.api_version.as_deref()),
            livemode: self.livemode.unwrap_or_default(),
            mark: mark.and_then(|word| Scope::parse(word)),
            of_application: self.application.is_some(),
        }
    }
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookEndpoint")
            .field("id", &self.id)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Object for WebhookEndpoint {
    const NAME: &'static str = "webhook_endpoint";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: f.must("id")?,
            url: f.must("url")?,
            status: f.must("status")?,
            enabled_events: f.or_default("enabled_events")?,
            api_version: f.may("api_version"),
            livemode: f.may("livemode"),
            metadata: f.texts("metadata"),
            application: f.may("application"),
            secret: f.may::<String>("secret").map(SecretString::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_and_its_secret_never_shown() {
        let json = r#"{"id":"we_1","object":"webhook_endpoint","api_version":null,"application":null,
            "enabled_events":["*"],"livemode":false,"metadata":{"a":"b"},"status":"enabled",
            "url":"https://x.example/hook","secret":"whsec_hidden"}"#;
        let endpoint = WebhookEndpoint::from_json(json).unwrap();
        assert_eq!((endpoint.id.as_str(), endpoint.enabled_events.len()), ("we_1", 1));
        assert!(endpoint.secret.is_some() && !format!("{endpoint:?}").contains("hidden"));
        let seen = endpoint.seen();
        assert!(seen.enabled && !seen.readable && seen.mark.is_none());
        let marked = json.replace(r#"{"a":"b"}"#, r#"{"sluicegate_endpoint":"connect"}"#);
        assert_eq!(WebhookEndpoint::from_json(&marked).unwrap().seen().mark, Some(Scope::Connect));
        assert!(WebhookEndpoint::from_json(r#"{"id":"we_1"}"#).is_err());
    }
}
