//! From nobody to an account that may be paid: made, linked, sent out, come back, finished or not.

mod accounts;
mod links;
mod privacy;
mod refresh;
mod returning;

use reqwest::redirect::Policy;
use serde_json::{Value, json};
use sluicegate::sandbox::{AccountSpec, Call};

use crate::support::reply::{Reply, ask, ask_elsewhere};
use crate::support::world::{Api, World};

/// A person's browser, which tells where it is sent instead of going there.
pub struct Browser(reqwest::Client);

impl Browser {
    pub fn new() -> Self {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0";
        Self(
            reqwest::Client::builder().no_proxy().redirect(Policy::none()).user_agent(agent).build().unwrap(),
        )
    }

    pub async fn get(&self, url: &str) -> Reply {
        if url.contains("/_sandbox/") { self.see(url).await } else { ask(self.0.get(url)).await }
    }

    /// A page of Stripe's.
    async fn see(&self, url: &str) -> Reply {
        ask_elsewhere(self.0.get(url)).await
    }

    /// Where a page of Stripe's sends the person on a press of a button.
    pub async fn press(&self, link: &str, button: &str) -> String {
        let page = ask_elsewhere(self.0.post(format!("{link}/{button}"))).await;
        assert_eq!(page.status, 303, "{page:?}");
        page.header("location").to_owned()
    }
}

/// An Express account that has not begun, of which nothing was told.
fn new_account(world: &World) -> String {
    world.stripe.create_account(AccountSpec::default())
}

/// A link for an account.
pub async fn link(api: &Api, account: &str, body: Value) -> String {
    let path = format!("/v1/accounts/{account}/onboarding-links");
    let (status, made) = api.post(&path, &uuid::Uuid::new_v4().to_string(), &body).await;
    assert_eq!(status, 201, "{made}");
    made["url"].as_str().unwrap().to_owned()
}

/// The links that were asked of Stripe, oldest first.
pub fn links_made(world: &World) -> Vec<Call> {
    let calls = world.stripe.calls();
    calls.into_iter().filter(|call| call.method == "POST" && call.path == "/v1/account_links").collect()
}

/// A door's address as the last link was made with it.
pub fn door(world: &World, door: &str) -> String {
    let body = links_made(world).last().expect("a link was made").body.clone();
    let sent = url::form_urlencoded::parse(body.as_bytes());
    let wanted = format!("{door}_url");
    sent.into_iter().find(|(name, _)| *name == wanted).expect("a door").1.into_owned()
}

/// An account as the API shows it.
pub async fn shown(world: &World, account: &str) -> Value {
    let (status, shown) = world.api.get(&format!("/v1/accounts/{account}")).await;
    assert_eq!(status, 200, "{shown}");
    shown
}

/// The page's headers are those of one that nobody else may see, and that does nothing.
#[track_caller]
fn must_be_a_page(reply: &Reply, status: u16, words: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8", "{reply:?}");
    let text = reply.body.as_str().unwrap_or_default();
    assert!(text.contains(words) && !text.contains("<script"), "{text}");
    assert!(reply.header("content-security-policy").starts_with("default-src 'none'"), "{reply:?}");
    must_be_unseen(reply);
}

/// Neither caches nor the next page nor a search engine learns of it.
#[track_caller]
fn must_be_unseen(reply: &Reply) {
    assert_eq!(reply.header("cache-control"), "no-store", "{reply:?}");
    assert_eq!(reply.header("referrer-policy"), "no-referrer", "{reply:?}");
    assert_eq!(reply.header("x-robots-tag"), "noindex, nofollow", "{reply:?}");
}

/// Where a door sends the person.
#[track_caller]
fn sent_to(reply: &Reply) -> &str {
    assert_eq!(reply.status, 303, "{reply:?}");
    must_be_unseen(reply);
    reply.header("location")
}

fn no_body() -> Value {
    json!({})
}
