//! The OpenAPI document: served beside the API, to anyone, and true.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::support::document::{Answer, Document};
use crate::support::reply::{ask, ask_elsewhere};
use crate::support::world::World;

#[tokio::test]
async fn the_document_is_served_beside_the_api_and_nowhere_else() {
    let apart = World::with(|setting| setting.plan.ops_listen = Some("127.0.0.1:0".parse().unwrap())).await;
    let reply = ask_elsewhere(apart.api.http.get(apart.api.url("/openapi.json"))).await;
    reply.must_be(404, "not_found", "the door to the outside");
    let world = World::start().await;
    let reply = ask(world.api.http.get(world.api.url("/openapi.json"))).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.body["openapi"], json!("3.1.0"));
    assert_eq!(reply.body, sluicegate::http::document());
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = sluicegate::http::document();
    let mut open = vec![&document];
    let mut references = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => open.extend(map.values()),
            Value::Array(values) => open.extend(values),
            Value::String(text) => {
                if let Some(pointer) = text.strip_prefix('#') {
                    references += 1;
                    assert!(document.pointer(pointer).is_some(), "{text}");
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    assert!(references > 20, "{references}");
}

/// What the checker of answers says of one that was doctored.
fn departs(change: impl FnOnce(&mut Value), status: u16, content_type: &'static str, body: &Value) -> String {
    let mut document = sluicegate::http::document();
    change(&mut document);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    headers.insert("x-request-id", HeaderValue::from_static("req_1"));
    let text = body.to_string();
    let answer =
        Answer { method: &Method::POST, path: "/v1/transfers", status, headers: &headers, text: &text };
    Document::of(document).check(&answer).err().unwrap_or_default()
}

#[tokio::test]
async fn an_answer_that_departs_from_the_document_fails_its_story() {
    let world = World::start().await;
    let body = json!({"destination": "acct_1", "amount": 1, "currency": "usd"});
    let (status, good) = world.api.post("/v1/transfers", "k", &body).await;
    let (json_type, problem_type) = ("application/json", "application/problem+json");
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("topup");
    let forbidden = json!({
        "type": "urn:x", "title": "t", "status": 403, "code": "forbidden", "detail": "d", "request_id": "r",
    });
    let same = |_: &mut Value| {};
    assert_eq!(departs(same, status, json_type, &good), "");
    assert_eq!(departs(same, 403, problem_type, &forbidden), "");
    let mut unexpected = forbidden.clone();
    unexpected["code"] = json!("event_unknown");
    let statusless = |document: &mut Value| {
        document["paths"]["/v1/transfers"]["post"]["responses"].as_object_mut().unwrap().remove("201");
    };
    let other_type = |document: &mut Value| {
        document["components"]["schemas"]["Transfer"]["properties"]["amount"] = json!({"type": "string"})
    };
    for (told, word) in [
        (departs(same, 418, json_type, &good), "status is not documented"),
        (departs(statusless, 201, json_type, &good), "status is not documented"),
        (departs(same, 201, "text/html", &good), "content type `text/html`"),
        (departs(same, 201, json_type, &without), "\"topup\" is a required property"),
        (departs(same, 201, json_type, &with("nope", json!(1))), "'nope' was unexpected"),
        (departs(same, 201, json_type, &with("amount", json!("1"))), "/amount"),
        (departs(same, 201, json_type, &with("status", json!("gone"))), "/status"),
        (departs(same, 201, json_type, &with("created_at", json!("yesterday"))), "/created_at"),
        (departs(other_type, 201, json_type, &good), "/amount"),
        (departs(same, 403, problem_type, &unexpected), "the code is none of"),
    ] {
        assert!(told.contains(word), "{told:?} does not say {word:?}");
    }
}
