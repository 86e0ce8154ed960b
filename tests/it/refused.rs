//! A key that is turned away, and what that leaves behind. The routes are those of the API's own document, so that a
//! new one can't be forgotten.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::audit::{log, said};
use crate::support::reply::{Reply, ask};
use crate::support::world::{Api, World};

/// A route behind a key, as it is documented.
struct Route {
    method: Method,
    template: String,
    scope: String,
}

impl Route {
    /// As the audit log names it.
    fn call(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    fn path(&self) -> String {
        let parts = self.template.split('/').map(|part| match part {
            "{acct}" => "acct_1",
            "{tu}" => "tu_1",
            "{evt}" => "evt_1",
            "{id}" if self.template.starts_with("/v1/keys") => "key_1",
            "{id}" => "xfer_1",
            plain => plain,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        assert!(!path.contains('{'), "{path}: say what stands here");
        path
    }
}

/// Every call that the service says it has.
async fn routes(world: &World) -> Vec<Route> {
    let document = ask(world.api.http.get(world.api.url("/openapi.json"))).await.body;
    let mut routes = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(scope) = operation["security"][0]["key"][0].as_str() else {
                assert!(!template.starts_with("/v1/"), "{method} {template} needs no key");
                continue;
            };
            let method = method.to_uppercase().parse().unwrap();
            routes.push(Route { method, template: template.clone(), scope: scope.to_owned() });
        }
    }
    routes
}

async fn key(world: &World, scope: &str) -> (String, Api) {
    let name = uuid::Uuid::new_v4().to_string();
    let (_, made) = world.api.post("/v1/keys", &name, &json!({"name": name, "scope": scope})).await;
    (made["id"].as_str().unwrap().to_owned(), world.api.with_key(made["secret"].as_str().unwrap()))
}

async fn call(api: &Api, route: &Route) -> Reply {
    ask(api.http.request(route.method.clone(), api.url(&route.path())).bearer_auth(&api.key)).await
}

/// The refusals on record: by whom, of what, and the rest.
async fn refusals(world: &World) -> Vec<(String, String, Value)> {
    let rows = log(world).await;
    let refused = rows.into_iter().map(|row| row.entry).filter(|entry| entry.action == "call.refused");
    refused.map(|e| (e.actor, e.subject, serde_json::from_str(&e.details).unwrap())).collect()
}

#[tokio::test]
async fn a_read_key_changes_nothing_and_each_try_is_on_record() {
    let world = World::start().await;
    let (id, reader) = key(&world, "read").await;
    let mut expected = BTreeSet::new();
    for route in routes(&world).await {
        let changes = route.method != Method::GET;
        let reply = call(&reader, &route).await;
        if route.scope == "read" {
            // A question that is too long for a URL.
            assert!(
                !changes || route.template == "/v1/accounts/readiness",
                "{} changes something",
                route.call()
            );
            assert_ne!(reply.status, 403, "{}: {reply:?}", route.call());
        } else {
            reply.must_be(403, "forbidden", &route.call());
            expected.insert(route.call());
        }
    }
    let refusals = refusals(&world).await;
    assert!(refusals.iter().all(|(actor, _, _)| *actor == id), "{refusals:?}");
    let on_record: BTreeSet<String> = refusals.iter().map(|(_, subject, _)| subject.clone()).collect();
    assert_eq!(on_record, expected);
    assert_eq!(refusals.len(), expected.len(), "one row each");
    let details = &refusals.iter().find(|(_, subject, _)| subject == "POST /v1/keys").unwrap().2;
    let said = json!({"cause": "scope", "client": "127.0.0.1", "has": "read", "needs": "admin", "not_recorded_before": 0});
    assert_eq!(details, &said);
    assert_eq!(world.rows("api_keys").await, 1);
}

#[tokio::test]
async fn a_key_that_was_taken_back_reaches_nothing_and_each_try_is_on_record() {
    let world = World::start().await;
    let (id, former) = key(&world, "admin").await;
    assert_eq!(former.get("/v1/funds").await.0, 200, "and the door remembers it");
    assert_eq!(world.api.delete(&format!("/v1/keys/{id}")).await.0, 200);
    let mut expected = BTreeSet::new();
    for route in routes(&world).await {
        call(&former, &route).await.must_be(401, "unauthorized", &route.call());
        expected.insert(route.call());
    }
    let refusals = refusals(&world).await;
    let on_record: BTreeSet<String> = refusals.iter().map(|(_, subject, _)| subject.clone()).collect();
    assert_eq!(on_record, expected);
    assert!(refusals.iter().all(|(actor, _, details)| *actor == id && details["cause"] == json!("revoked")));
}

#[tokio::test]
async fn a_flood_leaves_one_row_a_minute_and_a_stranger_none() {
    let world = World::start().await;
    let (_, reader) = key(&world, "read").await;
    let before = log(&world).await.len();
    let stranger = world.api.with_key("sgk_of_nobody");
    for _ in 0..5 {
        assert_eq!(stranger.post("/v1/releases/pause", "k", &json!({})).await.0, 401);
        assert_eq!(reader.post("/v1/releases/pause", "k", &json!({})).await.0, 403);
    }
    assert_eq!(log(&world).await.len(), before + 1);
    world.clock.advance(Duration::minutes(1));
    assert_eq!(reader.post("/v1/releases/pause", "k", &json!({})).await.0, 403);
    let counts: Vec<Value> = refusals(&world)
        .await
        .into_iter()
        .map(|(_, _, details)| details["not_recorded_before"].clone())
        .collect();
    assert_eq!(counts, [json!(0), json!(4)]);
    assert!(!said(&log(&world).await).iter().any(|row| row.1 == "releases.paused"));
}

#[tokio::test]
async fn a_key_taken_back_through_another_process_is_refused_here_within_a_second() {
    let world = World::start().await;
    let worker = sluicegate::worker::driver::Settings::default();
    let plan = sluicegate::cli::service::Plan {
        worker,
        listen: "127.0.0.1:0".parse().unwrap(),
        ..world.plan.clone()
    };
    let other = sluicegate::cli::service::start(plan, world.clock.clone()).await.unwrap();
    let (id, here) = key(&world, "read").await;
    let there = Api { base: other.url(), ..world.api.clone() };
    assert_eq!(here.get("/v1/funds").await.0, 200);
    assert_eq!(there.delete(&format!("/v1/keys/{id}")).await.0, 200);
    world.clock.advance(Duration::SECOND);
    assert_eq!(here.get("/v1/funds").await.0, 401);
    other.stop().await;
}
