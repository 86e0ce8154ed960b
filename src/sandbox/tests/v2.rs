//! v2 of the API: what it shows, to whom, and what is told of it.

use serde_json::json;

use super::{Bench, reply, slow};
use crate::sandbox::{V2Change, V2Spec};

#[tokio::test]
async fn an_account_of_v2_shows_what_was_asked_for_and_tells_of_its_changes_twice() {
    let bench = Bench::with(slow()).await;
    let id = bench.control.create_v2_account(&V2Spec::default());
    let path = format!("/v2/core/accounts/{id}");
    let bare = bench.get(&path).await.body;
    assert_eq!((&bare["configuration"], &bare["requirements"]), (&json!(null), &json!(null)));
    let change = V2Change { transfers: Some("active".to_owned()), ..V2Change::default() };
    bench.control.change_v2(&id, &change).unwrap();
    let asked = bench.get(&format!("{path}?include=configuration.recipient&include=requirements")).await.body;
    let balance = &asked["configuration"]["recipient"]["capabilities"]["stripe_balance"];
    assert_eq!(balance["stripe_transfers"]["status"], "active");
    assert!(asked["requirements"].is_object() && asked["future_requirements"].is_null());
    let v1 = bench.get(&format!("/v1/accounts/{id}")).await.body;
    assert!(v1["capabilities"].is_null() && v1["charges_enabled"].is_null(), "{v1}");
    let kinds: Vec<String> =
        bench.control.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds,
        [
            "v2.core.account.created",
            "account.updated",
            "v2.core.account[configuration.recipient].capability_status_updated",
            "account.updated"
        ]
    );
    let refused = bench.get(&format!("{path}?include=everything")).await;
    assert_eq!((refused.status, &refused.body["error"]["type"]), (400, &json!(null)));
    let ordinary = bench.control.create_ready_account();
    assert_eq!(bench.get(&format!("/v2/core/accounts/{ordinary}")).await.code(), "not_found");
}

#[tokio::test]
async fn a_thin_event_is_read_by_v2_with_its_data_and_not_by_v1() {
    let bench = Bench::with(slow()).await;
    let control = |path: &str, body: &str| {
        let url = format!("{}/_sandbox/{path}", bench.sandbox.url());
        let call = bench.client.post(url).body(body.to_owned());
        async move { reply(call).await.unwrap().body }
    };
    let account = control("accounts/v2", r#"{"transfers":"active","in_v1":true}"#).await;
    assert_eq!(account["capabilities"]["transfers"], "active");
    let id = account["id"].as_str().unwrap();
    let event = control(&format!("accounts/{id}/return_link"), "").await;
    let event = event["event"].as_str().unwrap();
    let pulled = bench.get(&format!("/v2/core/events/{event}")).await.body;
    assert_eq!((&pulled["data"]["account_id"], &pulled["related_object"]), (&json!(id), &json!(null)));
    assert_eq!(bench.get(&format!("/v1/events/{event}")).await.status, 404);
    let closed = control(&format!("accounts/{id}/v2"), r#"{"close":true}"#).await;
    assert_eq!(closed["capabilities"]["transfers"], "inactive");
    let thin =
        control("events/thin", r#"{"type":"v1.topup.succeeded","object":{"type":"topup","id":"tu_1"}}"#)
            .await;
    let pulled = bench.get(&format!("/v2/core/events/{}", thin["id"].as_str().unwrap())).await.body;
    assert_eq!(pulled["related_object"]["id"], "tu_1");
    let listed = bench.get("/v1/events").await.body;
    assert!(listed["data"].as_array().unwrap().iter().all(|event| event["object"] == "event"), "{listed}");
    let restricted = bench.client.get(format!("{}/v2/core/accounts/{id}", bench.sandbox.url()));
    let restricted = restricted.bearer_auth("rk_test_1").header("stripe-version", super::super::API_VERSION);
    assert_eq!(reply(restricted).await.unwrap().status, 403);
}
