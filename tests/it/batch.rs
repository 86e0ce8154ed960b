//! Many transfers asked for at once: all of them or none, and each of them once.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use sluicegate::domain::limits::Limits;
use sluicegate::domain::money::Currency;

use crate::audit::{log, said};
use crate::support::reply::{Reply, ask};
use crate::support::world::World;

const PATH: &str = "/v1/transfers/batch";

fn one(destination: &str, amount: i64) -> Value {
    json!({"destination": destination, "amount": amount, "currency": "usd"})
}

fn ids(answer: &Value) -> Vec<String> {
    let made = answer["data"].as_array().unwrap();
    made.iter().map(|transfer| transfer["id"].as_str().unwrap().to_owned()).collect()
}

async fn send(world: &World, key: Option<&str>, body: &Value) -> Reply {
    let mut request = world.api.http.request(Method::POST, world.api.url(PATH)).bearer_auth(&world.api.key);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    ask(request.json(body)).await
}

#[tokio::test]
async fn a_batch_is_stored_whole_in_its_order_and_once() {
    let world = World::start().await;
    let body = json!({"transfers": [
        one("acct_1", 3),
        {"destination": "acct_2", "amount": 2, "currency": "eur", "metadata": {"line": "2"}, "priority": 7},
        {"destination": "acct_1", "amount": 1, "currency": "usd", "topup": "tu_1", "release_after": "2096-01-01T00:00:00Z"},
    ]});
    send(&world, None, &body).await.must_be(400, "idempotency_key_required", "without a key");
    let (status, made) = world.api.post(PATH, "pay day", &body).await;
    assert_eq!(status, 201, "{made}");
    let made_ids = ids(&made);
    let shown: Vec<_> = made["data"].as_array().unwrap().iter().map(|t| &t["amount"]).collect();
    assert_eq!(shown, [&json!(3), &json!(2), &json!(1)]);
    assert!(made_ids.is_sorted(), "{made_ids:?}");
    assert_eq!(made["data"][1]["metadata"], json!({"line": "2"}));
    assert_eq!(made["data"][0]["waiting_on"], json!(["account_unknown"]));
    assert_eq!(made["data"][2]["waiting_on"], json!(["scheduled", "account_unknown", "topup_unknown"]));
    for (id, transfer) in made_ids.iter().zip(made["data"].as_array().unwrap()) {
        let (_, got) = world.api.get(&format!("/v1/transfers/{id}")).await;
        assert_eq!(got["history"][0]["cause"], json!("requested"));
        assert_eq!(got["history"][0]["waiting_on"], transfer["waiting_on"]);
    }
    // Asked again it is answered alike, and concurrently too; another body under the key is refused.
    let again = futures_util::future::join_all((0..5).map(|_| world.api.post(PATH, "pay day", &body))).await;
    assert!(again.iter().all(|answer| *answer == (201, made.clone())), "{again:?}");
    let other = json!({"transfers": [one("acct_1", 4)]});
    assert_eq!(world.api.post(PATH, "pay day", &other).await.0, 409);
    assert_eq!(world.api.post("/v1/transfers", "pay day", &one("acct_1", 3)).await.0, 409);
    assert_eq!(world.rows("transfers").await, 3);
    let (_, listed) = world.api.get("/v1/transfers?idempotency_key=pay%20day").await;
    assert_eq!(ids(&listed), made_ids.iter().rev().cloned().collect::<Vec<_>>());
    let rows = log(&world).await;
    let requested: Vec<_> = made_ids.iter().map(|id| ("admin", "transfer.requested", id.as_str())).collect();
    assert_eq!(said(&rows), requested);
}

#[tokio::test]
async fn one_wrong_transfer_keeps_all_of_them_out() {
    let usd = Currency::parse("usd").unwrap();
    let limits = Limits { daily_cap: BTreeMap::from([(usd, 1_000)]), ..Limits::default() };
    let world = World::with(|setting| setting.plan.limits = limits).await;
    let topup = world.settled_topup("usd", 500).await;
    let tied =
        |currency: &str| json!({"destination": "acct_1", "amount": 1, "currency": currency, "topup": topup});
    let rows = [
        (json!({}), vec!["/transfers"]),
        (json!({"transfers": []}), vec!["/transfers"]),
        (json!({"transfers": [one("acct_1", 1)], "more": 1}), vec!["/more"]),
        (json!({"transfers": vec![one("acct_1", 1); 1_001]}), vec!["/transfers"]),
        (
            json!({"transfers": [one("acct_1", 1), one("nobody", 0)]}),
            vec!["/transfers/1/destination", "/transfers/1/amount"],
        ),
        (json!({"transfers": [one("acct_1", 1), tied("usd"), tied("eur")]}), vec!["/transfers/2/currency"]),
        (json!({"transfers": [one("acct_1", 1_000), one("acct_1", 1_001)]}), vec!["/transfers/1/amount"]),
    ];
    for (body, pointers) in rows {
        let reply = send(&world, Some("k"), &body).await;
        reply.must_be(422, "validation", "a wrong batch");
        assert_eq!(reply.pointers(), pointers);
    }
    assert_eq!((world.rows("transfers").await, world.rows("idempotency_keys").await), (0, 0));
    assert_eq!(send(&world, Some("k"), &json!({"transfers": [tied("usd")]})).await.status, 201);
}

#[tokio::test]
async fn the_money_reaches_those_of_a_batch_in_its_order() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let transfers = [400, 500, 200, 100].map(|amount| one(&account, amount));
    let (status, made) = world.api.post(PATH, "b", &json!({"transfers": transfers})).await;
    assert_eq!(status, 201, "{made}");
    let waiting: Vec<_> = made["data"].as_array().unwrap().iter().map(|t| t["waiting_on"].clone()).collect();
    let short = json!(["funds_insufficient"]);
    assert_eq!(waiting, [json!([]), json!([]), short.clone(), short]);
    let made = ids(&made);
    for id in &made[..2] {
        world.until_status(id, "released").await;
    }
    for id in &made[2..] {
        world.until_waiting_on(id, &["funds_insufficient"]).await;
    }
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_thousand_at_once_are_taken_within_a_few_statements() {
    let world = World::start().await;
    let transfers: Vec<Value> = (0..1_000).map(|i| one(&format!("acct_{}", i % 300), 100 + i)).collect();
    let started = std::time::Instant::now();
    let (status, made) = world.api.post(PATH, "all", &json!({"transfers": transfers})).await;
    let took = started.elapsed();
    assert_eq!((status, ids(&made).len(), world.rows("transfers").await), (201, 1_000, 1_000));
    // Unoptimised, on a machine that does other things: one statement each would take far longer.
    assert!(took.as_secs() < 5, "{took:?}");
}
