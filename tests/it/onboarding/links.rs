//! Steps 2 and 6 of the guide: an account link, for one visit; and HTTPS wherever money is real.

use serde_json::{Value, json};
use sluicegate::sandbox::{AccountSpec, Fault, FaultKind};

use super::{Browser, door, link, links_made, new_account, no_body};
use crate::audit::{log, said};
use crate::support::reply::{Reply, ask};
use crate::support::world::World;

async fn ask_for(world: &World, account: &str, body: &Value) -> Reply {
    let url = world.api.url(&format!("/v1/accounts/{account}/onboarding-links"));
    ask(world.api.http.post(url).bearer_auth(&world.api.key).json(body)).await
}

#[tokio::test]
async fn an_account_link_opens_once_and_is_made_anew_even_for_a_repeated_order() {
    let world = World::start().await;
    let account = new_account(&world);
    let path = format!("/v1/accounts/{account}/onboarding-links");
    let (status, first) = world.api.post(&path, "one-key", &no_body()).await;
    let (_, second) = world.api.post(&path, "one-key", &no_body()).await;
    assert_eq!(status, 201, "{first}");
    assert_ne!(first["url"], second["url"]);
    let expires_at = first["expires_at"].as_str().unwrap();
    let in_minutes = world.clock.now() + time::Duration::minutes(5);
    let expires_at =
        time::OffsetDateTime::parse(expires_at, &time::format_description::well_known::Rfc3339).unwrap();
    assert!((expires_at - in_minutes).abs() < time::Duration::minutes(1), "{expires_at}");
    assert_eq!(first.as_object().unwrap().len(), 2, "the address and its time, and nothing else: {first}");

    let browser = Browser::new();
    let url = first["url"].as_str().unwrap();
    assert_eq!(browser.get(url).await.status, 200);
    let again = browser.get(url).await;
    assert_eq!((again.status, again.header("location")), (303, door_of(&world, 0, "refresh").as_str()));
    let keys: Vec<_> = links_made(&world).into_iter().map(|call| call.idempotency_key).collect();
    assert_ne!(keys[0], keys[1], "a replay would give a link that is used up");
}

/// A door's address as the nth link was made with it.
fn door_of(world: &World, nth: usize, door: &str) -> String {
    let body = &links_made(world)[nth].body;
    let sent = url::form_urlencoded::parse(body.as_bytes());
    let wanted = format!("{door}_url");
    sent.into_iter().find(|(name, _)| *name == wanted).unwrap().1.into_owned()
}

#[tokio::test]
async fn a_link_is_asked_for_as_the_caller_wants_it_with_our_own_doors_to_come_back_by() {
    let world = World::with(|setting| {
        setting.plan.public_url = Some("https://pay.example.com/gate".to_owned());
    })
    .await;
    let account = new_account(&world);
    let body = json!({"return_url": "https://app.example.com/settings?tab=pay#x", "fields": "eventually_due",
                      "future_requirements": "include"});
    link(&world.api, &account, body).await;
    let call = links_made(&world).pop().unwrap();
    let sent: std::collections::BTreeMap<_, _> = url::form_urlencoded::parse(call.body.as_bytes()).collect();
    assert_eq!(sent["account"], account);
    assert_eq!(sent["type"], "account_onboarding");
    assert_eq!(sent["collection_options[fields]"], "eventually_due");
    assert_eq!(sent["collection_options[future_requirements]"], "include");
    for name in ["refresh", "return"] {
        let address = door(&world, name);
        let token = address.strip_prefix("https://pay.example.com/gate/onboarding/").unwrap();
        let token = token.strip_suffix(&format!("/{name}")).unwrap();
        assert!(!token.contains('/') && token.len() < 700, "{address}");
    }
    assert_ne!(door(&world, "refresh").rsplit('/').nth(1), door(&world, "return").rsplit('/').nth(1));
    let rows = log(&world).await;
    assert_eq!(said(&rows), [("admin", "onboarding_link.created", account.as_str())]);
    let details: Value = serde_json::from_str(&rows[0].entry.details).unwrap();
    assert_eq!(
        details,
        json!({"type": "account_onboarding", "returns_to": "https://app.example.com", "door": null})
    );
}

#[tokio::test]
async fn a_link_that_can_not_be_made_says_whose_fault_it_is() {
    let world = World::start().await;
    let express = new_account(&world);
    let reply = ask_for(&world, &express, &json!({"type": "account_update"})).await;
    reply.must_be(422, "validation", "Express accounts change their details at Stripe");
    assert_eq!(reply.pointers(), ["/type"], "{reply:?}");
    let custom = AccountSpec { kind: Some("custom".to_owned()), ..AccountSpec::default() };
    let custom = world.stripe.create_account(custom);
    assert_eq!(ask_for(&world, &custom, &json!({"type": "account_update"})).await.status, 201);

    ask_for(&world, "tu_1", &no_body()).await.must_be(404, "account_unknown", "no account's id");
    ask_for(&world, "acct_nobody", &no_body()).await.must_be(404, "account_unknown", "nobody's");
    for (body, pointer) in [
        (json!({"type": "x"}), "/type"),
        (json!({"return_url": "app"}), "/return_url"),
        (json!({"refresh_url": "https://a.example"}), "/refresh_url"),
    ] {
        let reply = ask_for(&world, &express, &body).await;
        reply.must_be(422, "validation", pointer);
        assert_eq!(reply.pointers(), [pointer], "{reply:?}");
    }
    world.stripe.fault(Fault::next(FaultKind::Unauthorized).on("POST", "/v1/account_links"));
    ask_for(&world, &express, &no_body()).await.must_be(409, "stripe_refused", "the key");
    world.stripe.fault(Fault::next(FaultKind::UnavailableBeforeCommit).on("POST", "/v1/account_links"));
    ask_for(&world, &express, &no_body()).await.must_be(503, "stripe_unavailable", "Stripe is away");
    let (_, key) = world.api.post("/v1/keys", "n", &json!({"name": "n", "scope": "read"})).await;
    let reader = world.api.with_key(key["secret"].as_str().unwrap());
    let (status, _) = reader.post(&format!("/v1/accounts/{express}/onboarding-links"), "k", &no_body()).await;
    assert_eq!(status, 403);
    assert_eq!(ask_for(&world, &express, &no_body()).await.status, 201, "nothing of that lasts");
}

#[tokio::test]
async fn an_account_that_stripe_no_longer_shows_is_looked_at_when_a_link_is_refused() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.stripe.deny(&account, true).unwrap();
    ask_for(&world, &account, &no_body()).await.must_be(404, "account_unknown", "denied");
    let path = format!("/v1/accounts/{account}/readiness");
    world.api.until(&path, |readiness| readiness["deauthorized"] == json!(true)).await;
}

#[tokio::test]
async fn live_mode_takes_https_alone_and_test_mode_takes_http() {
    let live = |public_url: Option<&str>| {
        let public_url = public_url.map(str::to_owned);
        World::with(|setting| {
            setting.plan.livemode = true;
            setting.stripe.livemode = true;
            setting.plan.public_url = public_url;
        })
    };
    let world = live(Some("https://pay.example.com")).await;
    let account = new_account(&world);
    let reply = ask_for(&world, &account, &json!({"return_url": "http://app.example.com/done"})).await;
    reply.must_be(422, "validation", "HTTP in live mode");
    assert_eq!(reply.pointers(), ["/return_url"], "{reply:?}");
    assert!(links_made(&world).is_empty());
    let secure = ask_for(&world, &account, &json!({"return_url": "https://app.example.com/done"})).await;
    assert_eq!(secure.status, 201, "{secure:?}");
    assert!(door(&world, "return").starts_with("https://pay.example.com/onboarding/"));

    let nowhere = live(None).await;
    let account = new_account(&nowhere);
    let reply = ask_for(&nowhere, &account, &no_body()).await;
    reply.must_be(409, "public_url_missing", "live mode does not guess");
    assert!(reply.body["detail"].as_str().unwrap().contains("SLUICEGATE_PUBLIC_URL"), "{reply:?}");

    let test = World::start().await;
    let account = new_account(&test);
    let plain = ask_for(&test, &account, &json!({"return_url": "http://localhost:3000/done"})).await;
    assert_eq!(plain.status, 201, "{plain:?}");
    assert!(door(&test, "return").starts_with(&format!("{}/onboarding/", test.api.base)));
}
