//! Account links and the page they open: single use, short-lived, and back to the platform's own pages.
//!
//! The page stands for Stripe's hosted onboarding; finishing it makes the account ready.

use axum::http::Method;
use serde_json::{Value, json};

use super::accounts::open;
use super::errors::{Answer, Refusal};
use super::routes::Request;
use super::state::{Origin, World};

/// How long a link may be opened, in sandbox time: Stripe says "minutes".
const LINK_LIFE_US: i64 = 5 * 60 * 1_000_000;

/// An account link that was handed out.
#[derive(Debug, Clone)]
pub(super) struct Link {
    account: String,
    refresh_url: String,
    return_url: String,
    expires_us: i64,
    visited: bool,
    left: bool,
}

/// `POST /v1/account_links`.
pub(super) fn create(world: &mut World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&["account", "collect", "collection_options", "refresh_url", "return_url", "type"])?;
    let account = params.required("account")?;
    let kind = params.required("type")?;
    if !["account_onboarding", "account_update"].contains(&kind.as_str()) {
        return Err(Refusal::invalid("type", None, format!("Invalid type: {kind}")));
    }
    let refresh_url = web_address(world, request, "refresh_url")?;
    let return_url = web_address(world, request, "return_url")?;
    let Some(linked) = world.accounts.get_mut(&account).filter(|account| account.reachable()) else {
        return Err(Refusal::account_invalid(&account).kept());
    };
    if kind == "account_update" && linked.json["type"] == "express" {
        let message = "You cannot create `account_update` type Account Links for this account.";
        return Err(Refusal::invalid("type", None, message));
    }
    // From now on the person's data is the person's alone.
    linked.person.clear();
    let token = world.new_id("");
    let expires_us = world.now_us().saturating_add(LINK_LIFE_US);
    let url = format!("{}/_sandbox/onboarding/{token}", world.settings.base_url);
    let link = Link { account, refresh_url, return_url, expires_us, visited: false, left: false };
    world.links.insert(token, link);
    Ok(json!({"object": "account_link", "created": world.now_s(),
              "expires_at": expires_us.div_euclid(1_000_000), "url": url}))
}

/// Stripe takes plain HTTP in test mode only.
fn web_address(world: &World, request: &Request<'_>, name: &str) -> Result<String, Refusal> {
    let url = request.params.required(name)?;
    let secure = url.starts_with("https://");
    if secure || (url.starts_with("http://") && !world.settings.livemode) {
        return Ok(url);
    }
    let (code, message) = if url.starts_with("http://") {
        (None, "Livemode requests must always be redirected via HTTPS.")
    } else {
        (Some("url_invalid"), "Not a valid URL")
    };
    Err(Refusal::invalid(name, code, message))
}

/// The pages: `GET …/{token}`, then `POST …/{token}/finish` or `…/leave`.
pub(super) fn visit(world: &mut World, method: &Method, token: &str, step: Option<&str>) -> Answer {
    let now = world.now_us();
    let Some(link) = world.links.get_mut(token) else {
        return Answer::html(404, "<!doctype html><title>Not found</title><p>No such link.</p>");
    };
    if link.left || now > link.expires_us || (step.is_none() && link.visited) {
        return Answer::redirect(&link.refresh_url);
    }
    match (method.as_str(), step) {
        ("GET", None) => {
            link.visited = true;
            Answer::html(200, form(token, &link.account))
        }
        ("POST", Some("leave")) => {
            link.left = true;
            Answer::redirect(&link.return_url)
        }
        ("POST", Some("finish")) => {
            link.left = true;
            let link = link.clone();
            world.change_account(&link.account, &Origin::default(), open);
            Answer::redirect(&link.return_url)
        }
        _ => Answer::html(405, "<!doctype html><title>Method not allowed</title>"),
    }
}

/// Only ids of the sandbox's own making reach this page, so nothing needs escaping.
fn form(token: &str, account: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Sandbox onboarding</title><body style='font:16px system-ui;max-width:32rem;margin:4rem auto'>\
         <h1>Sandbox onboarding</h1><p>Account <code>{account}</code>. Nothing is entered and nothing verified: \
         this page stands for Stripe's hosted onboarding.</p>\
         <form method=post action='{token}/finish'><button>Finish</button></form>\
         <form method=post action='{token}/leave'><button>Leave unfinished</button></form>"
    )
}
