//! Webhooks: signed anew each time, at least once, to the right endpoint, in any order asked for.

use super::super::{Delivery, Retry};
use super::*;
use crate::stripe::signature::{SigningSecret, verify};

fn quick() -> Delivery {
    Delivery {
        retry: Retry { first: Duration::from_millis(5), ..Retry::default() },
        concurrency: 1,
        ..Delivery::default()
    }
}

fn to(receivers: &[Endpoint], deliver: Delivery) -> Config {
    Config { webhook_urls: receivers.to_vec(), deliver, ..slow() }
}

#[tokio::test]
async fn events_are_signed_over_their_bytes_and_go_out_twice_where_told() {
    let receiver = Receiver::start(0).await;
    let deliver = Delivery { duplicate_every: 2, ..quick() };
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], deliver)).await;
    bench.control.create_topup("usd", 1);
    bench.control.create_topup("usd", 2);
    assert!(bench.control.delivered(BOUND).await);
    let got = receiver.got.lock().unwrap().clone();
    for (signature, body) in &got {
        let now = crate::clock::Clock::system().now().unix_timestamp();
        let owner = verify(body, signature, &[SigningSecret::parse("whsec_a").unwrap()], now, 300).cloned();
        assert!(owner.is_ok());
    }
    let ids: Vec<_> = receiver.events().iter().map(|event| event["id"].clone()).collect();
    assert_eq!((ids.len(), &ids[1]), (3, &ids[2]));
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_delivery_is_repeated_until_it_is_taken_and_counts_as_pending_until_then() {
    let receiver = Receiver::start(3).await;
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], quick())).await;
    bench.control.hold_events(true);
    bench.control.create_topup("usd", 1);
    let pending = "/v1/events?delivery_success=false";
    assert_eq!(bench.get(pending).await.body["data"][0]["pending_webhooks"], 1);
    bench.control.release(&[]);
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(receiver.events().len(), 4);
    assert_eq!(bench.get(pending).await.body["data"].as_array().unwrap().len(), 0);
    let statuses: Vec<_> = bench.control.attempts().iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [Some(500), Some(500), Some(500), Some(200)]);
}

#[tokio::test]
async fn a_delivery_that_is_never_taken_is_given_up() {
    let receiver = Receiver::start(u32::MAX).await;
    let retry = Retry { first: Duration::ZERO, max: Duration::ZERO, attempts: 3 };
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], Delivery { retry, ..quick() })).await;
    bench.control.create_topup("usd", 1);
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(bench.control.attempts().len(), 3);
}

#[tokio::test]
async fn account_events_go_to_the_connect_endpoint_and_the_platforms_to_the_other() {
    let (platform, connect) = (Receiver::start(0).await, Receiver::start(0).await);
    let endpoints = [platform.endpoint("whsec_p", false), connect.endpoint("whsec_c", true)];
    let bench = Bench::with(to(&endpoints, quick())).await;
    let account = bench.control.create_ready_account();
    bench.control.create_topup("usd", 1);
    bench.control.deauthorize(&account).unwrap();
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(platform.types(), ["topup.created"]);
    assert_eq!(
        connect.types(),
        ["account.updated", "capability.updated", "account.application.deauthorized"]
    );
    assert!(connect.events().iter().all(|event| event["account"] == account.as_str()));
    assert!(platform.events()[0].get("account").is_none());
    let listed = |events: Reply| events.body["data"].as_array().unwrap().len();
    assert_eq!(listed(bench.get("/v1/events?limit=100").await), 1);
    assert_eq!(listed(bench.get("/v1/events?types[]=topup.created&types[]=x").await), 1);
    assert_eq!(bench.get("/v1/events?type=a&types[]=b").await.status, 400);
}

#[tokio::test]
async fn held_events_go_out_in_any_order_and_by_hand_at_any_time() {
    let receiver = Receiver::start(0).await;
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], quick())).await;
    bench.control.hold_events(true);
    let topup = bench.control.create_topup("usd", 1);
    bench.control.make_available(&topup).unwrap();
    let held = bench.control.held_events();
    let types: Vec<&str> = held.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(types, ["topup.created", "topup.succeeded", "balance.available"]);
    assert!(receiver.events().is_empty());
    assert_eq!(bench.control.release(&[held[1].0.clone(), held[0].0.clone()]), 2);
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(receiver.types(), ["topup.succeeded", "topup.created"]);
    assert_eq!(bench.control.deliver(&held[2].0).await.unwrap(), [Some(200)]);
    assert_eq!(bench.control.deliver(&held[1].0).await.unwrap(), [Some(200)]);
    assert!(bench.control.held_events().is_empty());
    assert_eq!(receiver.types()[2..], ["balance.available", "topup.succeeded"]);
}

#[tokio::test]
async fn a_lost_event_is_in_the_list_alone() {
    let receiver = Receiver::start(0).await;
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], quick())).await;
    bench.control.lose_events(1);
    bench.control.create_topup("usd", 1);
    bench.control.create_topup("usd", 2);
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(receiver.events().len(), 1);
    let list = bench.get("/v1/events").await.body;
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let one = bench.get(&format!("/v1/events/{}", list["data"][1]["id"].as_str().unwrap())).await.body;
    assert_eq!(one["data"]["object"]["amount"], 1);
}

#[tokio::test]
async fn reordering_throws_events_about_and_loses_none() {
    let receiver = Receiver::start(0).await;
    let deliver = Delivery { reorder: true, duplicate_every: 5, ..quick() };
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], deliver)).await;
    for amount in 0..20 {
        bench.control.create_topup("usd", amount);
    }
    assert!(bench.control.delivered(BOUND).await);
    let amounts: Vec<i64> =
        receiver.events().iter().map(|e| e["data"]["object"]["amount"].as_i64().unwrap()).collect();
    assert_eq!(amounts.len(), 24);
    assert!(!amounts.is_sorted());
    assert!((0..20).all(|amount| amounts.contains(&amount)));
}

#[tokio::test]
async fn endpoints_made_over_the_api_show_their_secret_once_and_get_what_they_asked_for() {
    let receiver = Receiver::start(0).await;
    let bench = Bench::with(to(&[], quick())).await;
    let form = format!("url={}&enabled_events[]=topup.created&metadata[m]=1", receiver.url);
    let made = bench.post("/v1/webhook_endpoints", "w1", &form).await;
    assert!(made.body["secret"].as_str().unwrap().starts_with("whsec_"));
    let topup = bench.control.create_topup("usd", 1);
    bench.control.settle_topup(&topup).unwrap();
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(receiver.types(), ["topup.created"]);
    let path = format!("/v1/webhook_endpoints/{}", made.id());
    let updated = bench.post(&path, "w2", "enabled_events[]=*&disabled=true").await.body;
    assert_eq!((updated["status"].as_str(), updated.get("secret")), (Some("disabled"), None));
    bench.control.create_topup("usd", 1);
    assert!(bench.control.delivered(BOUND).await);
    assert_eq!(receiver.events().len(), 1);
}

#[tokio::test]
async fn a_stopped_sandbox_ends_its_deliveries_and_its_port() {
    let receiver = Receiver::start(u32::MAX).await;
    let bench = Bench::with(to(&[receiver.endpoint("whsec_a", false)], quick())).await;
    bench.control.create_topup("usd", 1);
    let url = bench.sandbox.url();
    bench.sandbox.stop().await;
    assert!(bench.client.get(url).send().await.is_err());
}
