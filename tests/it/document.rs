//! The OpenAPI document: served beside the API, to anyone, and true.

use serde_json::{Value, json};

use crate::support::reply::ask;
use crate::support::world::World;

#[tokio::test]
async fn the_document_is_served_beside_the_api_and_nowhere_else() {
    let apart = World::with(|setting| setting.plan.ops_listen = Some("127.0.0.1:0".parse().unwrap())).await;
    let reply = ask(apart.api.http.get(apart.api.url("/openapi.json"))).await;
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
