//! Every route of the sandbox on one page, and what a route is handed.
//!
//! Order of a call to the API: `call` admits it (key, version, idempotency, faults), then it comes here.

use axum::http::Method;
use serde_json::Value;

use super::errors::Refusal;
use super::forms::Params;
use super::state::{Origin, World};
use super::{accounts, events, onboarding, topups, transfers, v2, webhooks};

/// One API call as a route sees it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub params: &'a Params,
    pub origin: Origin,
    pub stripe_account: Option<&'a str>,
    /// A stale list hides what was created after this instant.
    pub stale_before_us: Option<i64>,
}

/// Runs the call.
pub(super) fn dispatch(world: &mut World, request: &Request<'_>) -> Result<Value, Refusal> {
    let expand = expansions(request.params)?;
    let segments: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let mut answer = match (request.method.as_str(), segments.as_slice()) {
        ("GET", ["v1", "account"]) => accounts::own(world, request),
        ("GET", ["v1", "accounts"]) => accounts::list(world, request),
        ("POST", ["v1", "accounts"]) => accounts::create(world, request),
        ("GET", ["v1", "accounts", id]) => accounts::retrieve(world, request, id),
        ("POST", ["v1", "accounts", id]) => accounts::update(world, request, id),
        ("POST", ["v1", "account_links"]) => onboarding::create(world, request),
        ("GET", ["v1", "topups"]) => topups::list(world, request),
        ("POST", ["v1", "topups"]) => topups::create(world, request),
        ("GET", ["v1", "topups", id]) => topups::retrieve(world, request, id),
        ("POST", ["v1", "topups", id, "cancel"]) => topups::cancel(world, request, id),
        ("GET", ["v1", "transfers"]) => transfers::list(world, request),
        ("POST", ["v1", "transfers"]) => transfers::create(world, request),
        ("GET", ["v1", "transfers", id]) => transfers::retrieve(world, request, id),
        ("POST", ["v1", "transfers", id]) => transfers::update(world, request, id),
        ("GET", ["v1", "transfers", id, "reversals"]) => transfers::list_reversals(world, request, id),
        ("POST", ["v1", "transfers", id, "reversals"]) => transfers::reverse(world, request, id),
        ("GET", ["v1", "balance"]) => request.params.only(&[]).map(|()| world.balance_json()),
        ("GET", ["v1", "balance_transactions", id]) => {
            request.params.only(&[])?;
            world.ledger.entries().named(id).map(super::balance::Entry::json)
        }
        ("GET", ["v1", "events"]) => events::list(world, request),
        ("GET", ["v1", "events", id]) => events::retrieve(world, request, id),
        ("GET", ["v1", "webhook_endpoints"]) => webhooks::list(world, request),
        ("POST", ["v1", "webhook_endpoints"]) => webhooks::create(world, request),
        ("POST", ["v1", "webhook_endpoints", id]) => webhooks::update(world, request, id),
        ("GET", ["v2", "core", "accounts", id]) => v2::account(world, request, id),
        ("GET", ["v2", "core", "events", id]) => v2::event(world, request, id),
        (method, _) => {
            let message = format!("Unrecognized request URL ({method}: {}).", request.path);
            Err(Refusal::call(404, None, message))
        }
    }?;
    for on_items in expand {
        match answer["data"].as_array_mut().filter(|_| on_items) {
            Some(items) => items.iter_mut().for_each(|item| expand_transaction(world, item)),
            None => expand_transaction(world, &mut answer),
        }
    }
    Ok(answer)
}

/// What `expand[]` asks for: the balance transaction of the object (false) or of a list's items (true).
fn expansions(params: &Params) -> Result<Vec<bool>, Refusal> {
    let mut found = Vec::new();
    for path in params.texts("expand")? {
        match path.as_str() {
            "balance_transaction" => found.push(false),
            "data.balance_transaction" => found.push(true),
            other => {
                let message = format!("This property cannot be expanded ({other}).");
                return Err(Refusal::invalid("expand", None, message));
            }
        }
    }
    Ok(found)
}

fn expand_transaction(world: &World, object: &mut Value) {
    let entry = object["balance_transaction"].as_str().and_then(|id| world.ledger.entries().get(id));
    if let Some(entry) = entry {
        object["balance_transaction"] = entry.json();
    }
}
