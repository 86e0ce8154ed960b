//! The two webhook endpoints are made or mended at Stripe. Repeated, nothing changes.
//!
//! A secret is in the answer to an endpoint's creation and never again, so a creation whose answer was lost is
//! repeated at once under the same key: Stripe then answers as it did.

use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::endpoint::{Aside, Endpoint, MARK, Scope, Step, aside, step};
use crate::stripe::API_VERSION;
use crate::stripe::client::{Answer, Client, Lane};
use crate::stripe::error::StripeError;

/// How often a change is sent that gets no answer.
const SENDS: u32 = 3;

/// What was done about one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Made.
    Created,
    /// Mended.
    Repaired,
    /// Nothing: it was right.
    Unchanged,
}

impl Done {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Repaired => "repaired",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One of the two endpoints, as it is now.
#[derive(Debug)]
pub struct Subscribed {
    /// Whose events it is sent.
    pub scope: Scope,
    /// `we_…`.
    pub id: String,
    /// What was done about it.
    pub done: Done,
    /// Its secret, if it was made just now.
    pub secret: Option<SecretString>,
}

/// Both endpoints, and the others that seem to have to do with us.
#[derive(Debug)]
pub struct Subscriptions {
    /// The two.
    pub endpoints: Vec<Subscribed>,
    /// What is left for a person.
    pub aside: Vec<Aside>,
}

/// Has Stripe send every needed event to this URL.
pub async fn subscribe(stripe: &Client, url: &str) -> Result<Subscriptions, StripeError> {
    let listed = stripe.list_webhook_endpoints(Lane::Release).await?;
    let existing: Vec<Endpoint> = listed.iter().map(|item| item.object.seen()).collect();
    let mut endpoints = Vec::new();
    for scope in Scope::ALL {
        endpoints.push(match step(scope, url, &existing) {
            Step::Keep { id } => Subscribed { scope, id, done: Done::Unchanged, secret: None },
            Step::Repair { id, types } => {
                let change = json!({"disabled": false, "enabled_events": types});
                until_answered(async |key| stripe.update_webhook_endpoint(&id, &change, key).await).await?;
                Subscribed { scope, id, done: Done::Repaired, secret: None }
            }
            Step::Make => {
                let wanted = wanted(scope, url);
                let made =
                    until_answered(async |key| stripe.create_webhook_endpoint(&wanted, key).await).await?;
                Subscribed { scope, id: made.object.id, done: Done::Created, secret: made.object.secret }
            }
        });
    }
    let used: Vec<String> = endpoints.iter().map(|one| one.id.clone()).collect();
    Ok(Subscriptions { aside: aside(url, &existing, &used), endpoints })
}

fn wanted(scope: Scope, url: &str) -> Value {
    json!({
        "url": url,
        "connect": scope == Scope::Connect,
        "enabled_events": scope.needed(),
        "api_version": API_VERSION,
        "description": format!("Sluicegate: events of {}", scope.described()),
        "metadata": {MARK: scope.as_str()},
    })
}

/// Sends a change, and again under the same key where no answer came.
async fn until_answered<T>(
    send: impl AsyncFn(&str) -> Result<Answer<T>, StripeError>,
) -> Result<Answer<T>, StripeError> {
    let key = format!("endpoint-{}", Uuid::new_v4().simple());
    let mut sends = 1;
    loop {
        match send(&key).await {
            Err(StripeError::Retry(_) | StripeError::Unknown(_)) if sends < SENDS => sends += 1,
            other => return other,
        }
    }
}
