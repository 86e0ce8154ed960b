//! `setup-webhooks` makes and mends the two endpoints at Stripe, and changes nothing when repeated.

use serde_json::{Value, json};
use sluicegate::sandbox::{Fault, FaultKind};
use sluicegate::stripe::signature::SigningSecret;

use crate::support::program::Ended;
use crate::support::world::{STRIPE_KEY, World};

/// A call to Stripe beside the service.
async fn stripe(world: &World, method: &str, path: &str, form: &[(&str, &str)]) -> Value {
    let url = format!("{}{path}", world.sandbox.url());
    let mut request = world.api.http.request(method.parse().unwrap(), url).bearer_auth(STRIPE_KEY);
    request = request.header("Stripe-Version", "2026-10-28.endive");
    if method == "POST" {
        let pair = |(name, value): &(&str, &str)| format!("{name}={}", value.replace('+', "%2B"));
        request = request.body(form.iter().map(pair).collect::<Vec<_>>().join("&"));
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// The endpoints at Stripe with our mark.
async fn ours(world: &World) -> Vec<Value> {
    let all = stripe(world, "GET", "/v1/webhook_endpoints?limit=100", &[]).await;
    let all = all["data"].as_array().unwrap().iter();
    all.filter(|one| one["metadata"]["sluicegate_endpoint"].is_string()).cloned().collect()
}

async fn set_up(world: &World) -> Ended {
    world.run(&["setup-webhooks", "--url", &world.api.url("")]).await
}

fn done(told: &Value) -> Vec<&str> {
    told["data"].as_array().unwrap().iter().map(|one| one["done"].as_str().unwrap()).collect()
}

fn changes(world: &World) -> usize {
    let calls = world.stripe.calls();
    calls
        .iter()
        .filter(|call| call.method == "POST" && call.path.starts_with("/v1/webhook_endpoints"))
        .count()
}

#[tokio::test]
async fn both_endpoints_are_made_once_and_their_secrets_fit_the_service() {
    let mut world = World::start().await;
    let first = set_up(&world).await;
    let told = first.json();
    assert_eq!(done(&told), ["created", "created"]);
    let secrets = told["STRIPE_WEBHOOK_SECRETS"].as_str().unwrap().to_owned();
    assert!(secrets.starts_with("platform=whsec_") && secrets.contains(",connect=whsec_"), "{secrets}");
    assert_eq!(first.out.matches("whsec_").count(), 2, "printed once");
    assert!(!first.err.contains("whsec_") && first.err.contains("shown this once"), "{first:?}");
    assert!(first.err.contains("v2.core.account"), "{first:?}");
    assert!(first.err.contains("was made by hand"), "the world's own endpoints: {first:?}");
    for endpoint in ours(&world).await {
        assert_eq!(endpoint["api_version"], json!("2026-10-28.endive"));
        assert_eq!(endpoint["url"], json!(world.api.url("/webhooks/stripe")));
    }

    let (before, again) = (changes(&world), set_up(&world).await);
    assert_eq!((done(&again.json()), changes(&world)), (vec!["unchanged", "unchanged"], before));
    assert_eq!(again.json()["STRIPE_WEBHOOK_SECRETS"], Value::Null);
    assert!(again.err.contains("Signing secret"), "where a secret is found again: {again:?}");

    world.stop_service().await;
    world.plan.webhook_secrets = SigningSecret::parse_list(&secrets).unwrap();
    world.start_service().await;
    world.settled_topup("usd", 100).await;
    let account = world.ready_account().await;
    let (_, page) = world.api.get(&format!("/v1/events?account={account}")).await;
    assert_eq!(page["data"][0]["secret_label"], json!("connect"));
}

#[tokio::test]
async fn an_endpoint_of_ours_that_was_changed_is_mended_and_keeps_what_it_was_sent_besides() {
    let world = World::start().await;
    set_up(&world).await.json();
    let endpoints = ours(&world).await;
    let of = |scope: &str| {
        let one = endpoints.iter().find(|one| one["metadata"]["sluicegate_endpoint"] == *scope).unwrap();
        format!("/v1/webhook_endpoints/{}", one["id"].as_str().unwrap())
    };
    stripe(&world, "POST", &of("platform"), &[("disabled", "true")]).await;
    let narrowed = [("enabled_events[]", "account.updated"), ("enabled_events[]", "person.updated")];
    stripe(&world, "POST", &of("connect"), &narrowed).await;
    assert_eq!(done(&set_up(&world).await.json()), ["repaired", "repaired"]);
    for endpoint in ours(&world).await {
        assert_eq!(endpoint["status"], json!("enabled"));
        let types = endpoint["enabled_events"].as_array().unwrap();
        if endpoint["metadata"]["sluicegate_endpoint"] == json!("connect") {
            assert!(types.contains(&json!("person.updated")), "{types:?}");
            assert!(types.contains(&json!("capability.updated")), "{types:?}");
        }
    }
    assert_eq!(done(&set_up(&world).await.json()), ["unchanged", "unchanged"]);
}

#[tokio::test]
async fn an_endpoint_on_a_version_that_cannot_be_read_gets_a_successor() {
    let world = World::start().await;
    let url = world.api.url("/webhooks/stripe");
    let old = [
        ("url", url.as_str()),
        ("enabled_events[]", "*"),
        ("api_version", "2015-10-16"),
        ("metadata[sluicegate_endpoint]", "platform"),
    ];
    let old = stripe(&world, "POST", "/v1/webhook_endpoints", &old).await;
    let ended = set_up(&world).await;
    assert_eq!(done(&ended.json()), ["created", "created"]);
    let aside = ended.json()["aside"].clone();
    let about = aside.as_array().unwrap().iter().find(|one| one["id"] == old["id"]).unwrap();
    assert!(about["advice"].as_str().unwrap().contains("API version"), "{about}");
    assert_eq!(done(&set_up(&world).await.json()), ["unchanged", "unchanged"]);
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_neither_the_secret_nor_a_second_endpoint() {
    let world = World::start().await;
    world
        .stripe
        .fault(Fault::next(FaultKind::DropAfterCommit).on("POST", "/v1/webhook_endpoints").times(Some(2)));
    let told = set_up(&world).await.json();
    assert_eq!(told["STRIPE_WEBHOOK_SECRETS"].as_str().unwrap().matches("whsec_").count(), 2);
    assert_eq!(ours(&world).await.len(), 2);
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_with_its_mend() {
    let world = World::start().await;
    world.run(&["setup-webhooks"]).await.assert_refused(2, &["--url is needed"]);
    world.run(&["setup-webhooks", "--url", "pay.example"]).await.assert_refused(2, &["must be a whole URL"]);
    let mut live = world.program(&["setup-webhooks", "--url", "http://pay.example.com"]);
    live.env("STRIPE_SECRET_KEY", "sk_live_1");
    crate::support::program::ended(live).await.assert_refused(2, &["must be https:// with a live key"]);
    world.stripe.restrict_key("rk_test_1", &["webhook_endpoints:write"]);
    let mut restricted = world.program(&["setup-webhooks", "--url", "https://pay.example.com"]);
    restricted.env("STRIPE_SECRET_KEY", "rk_test_1");
    let refused = crate::support::program::ended(restricted).await;
    refused.assert_refused(1, &["required permissions", "write webhook endpoints"]);
    let table = world.run(&["setup-webhooks", "--url", "https://pay.example.com", "--output", "table"]).await;
    assert!(table.out.contains("STRIPE_WEBHOOK_SECRETS=platform=whsec_"), "{table:?}");
}
