//! Events as `GET /v1/events` shows them: the platform's own, or with `Stripe-Account` an account's.
//!
//! What an event says is fixed when it is emitted; only `pending_webhooks` changes afterwards.

use serde_json::{Value, json};

use super::errors::Refusal;
use super::lists::{LIST, Listed, envelope, page};
use super::routes::Request;
use super::state::World;

/// An event and which endpoints have it.
#[derive(Debug)]
pub(super) struct EventRecord {
    pub id: String,
    pub kind: String,
    pub account: Option<String>,
    pub created_us: i64,
    pub body: Value,
    /// Of a thin event: the data that only `GET /v2/core/events/{id}` shows.
    pub thin: Option<Value>,
    /// Endpoint ids it belongs to, and whether each has answered 2xx.
    pub targets: Vec<(String, bool)>,
}

impl Listed for EventRecord {
    const NOUN: &'static str = "event";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

impl EventRecord {
    pub fn json(&self) -> Value {
        let mut body = self.body.clone();
        if self.thin.is_some() {
            return body;
        }
        body["pending_webhooks"] = json!(self.targets.iter().filter(|(_, delivered)| !delivered).count());
        body
    }
}

/// `GET /v1/events`.
pub(super) fn list(world: &World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&[&LIST[..], &["type", "types", "delivery_success"]].concat())?;
    let kind = params.text("type")?;
    let kinds = params.texts("types")?;
    if kind.is_some() && !kinds.is_empty() {
        let message = "You may pass either `type` or `types`, but not both.";
        return Err(Refusal::invalid("types", None, message));
    }
    if kinds.len() > 20 {
        return Err(Refusal::invalid("types", None, "You may pass up to 20 event types."));
    }
    let success = params.boolean("delivery_success")?;
    let (events, more) = page(&world.events, params, request.stale_before_us, |event| {
        event.thin.is_none()
            && event.account.as_deref() == request.stripe_account
            && kind.as_deref().is_none_or(|kind| matches(kind, &event.kind))
            && (kinds.is_empty() || kinds.iter().any(|kind| matches(kind, &event.kind)))
            && success.is_none_or(|success| event.targets.iter().all(|(_, delivered)| *delivered) == success)
    })?;
    Ok(envelope("/v1/events", events.iter().map(|event| event.json()).collect(), more))
}

/// `GET /v1/events/{id}`.
pub(super) fn retrieve(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    let event = world.events.named(id)?;
    if event.thin.is_some() || event.account.as_deref() != request.stripe_account {
        return Err(Refusal::missing(404, "id", "event", id));
    }
    Ok(event.json())
}

/// Stripe takes an exact type, or a group as `topup.*`.
fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => pattern == kind,
    }
}
