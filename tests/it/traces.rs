//! Spans as a collector gets them: from a delivery to the release it led to, joined by ids, and a collector that is
//! away harms nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message as _;
use serde_json::json;
use sluicegate::trail;

use crate::support::events::about_account;
use crate::support::prometheus::Scrape;
use crate::support::reply::ask;
use crate::support::world::{ADMIN_KEY, CONNECT_SECRET, PLATFORM_SECRET, STRIPE_KEY, World, eventually};

const READY: &str = "account.updated.03_ready_transfers_only";

/// A span as it was sent.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    links: Vec<String>,
    attributes: BTreeMap<String, String>,
    /// What the lines say that were logged within it.
    lines: Vec<BTreeMap<String, String>>,
    service: String,
}

/// A collector of the test's own.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().route("/v1/traces", post(collect)).with_state(Arc::clone(&spans));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, spans }
    }

    /// Waits for a span like this.
    async fn until(&self, what: &str, fits: impl Fn(&Span) -> bool) -> Span {
        let look = || async { self.spans.lock().unwrap().iter().find(|span| fits(span)).cloned() };
        match eventually(look).await {
            Some(span) => span,
            None => panic!("no span is {what} among {:#?}", self.spans.lock().unwrap()),
        }
    }
}

async fn collect(State(spans): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) -> &'static str {
    let told = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in told.resource_spans {
        let of_resource = words(&resource.resource.unwrap().attributes);
        let service = of_resource["service.name"].clone();
        assert_eq!(of_resource.get("deployment.environment").map(String::as_str), Some("test"));
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.lock().unwrap().push(Span {
                name: span.name,
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                links: span.links.into_iter().map(|link| hex::encode(link.trace_id)).collect(),
                attributes: words(&span.attributes),
                lines: span.events.iter().map(|event| words(&event.attributes)).collect(),
                service: service.clone(),
            });
        }
    }
    // An empty answer is a whole ExportTraceServiceResponse.
    ""
}

fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::BoolValue(value) => value.to_string(),
        any_value::Value::IntValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| pair.value.as_ref().and_then(|value| value.value.as_ref()).map(text);
    attributes.iter().map(|pair| (pair.key.clone(), value(pair).unwrap_or_default())).collect()
}

#[tokio::test]
async fn a_release_is_followed_back_to_the_delivery_that_told_of_its_account() {
    let collector = Collector::start().await;
    let mut world = World::start().await;
    let served = world
        .serve(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
            ("OTEL_SERVICE_NAME", "payouts"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ])
        .await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 900).await;
    let first = world.transfer(&account, 400, json!({})).await;
    world.until_status(&first, "released").await;
    // The account was confirmed by a call for the first; an event that is newer than that tells of it last.
    let told = about_account(READY, &account, world.clock.now().unix_timestamp() + 5);
    let event = told["id"].as_str().unwrap().to_owned();
    assert_eq!(world.deliver(told.to_string().as_bytes(), CONNECT_SECRET).await.0, 200);
    let readiness = format!("/v1/accounts/{account}/readiness");
    world.api.until(&readiness, |readiness| readiness["source"] == json!(event)).await;
    let id = world.transfer(&account, 500, json!({})).await;
    let stripe_transfer = world.until_status(&id, "released").await["stripe_transfer"].clone();

    let release = collector
        .until("its release", |span| span.name == "release" && span.attributes["transfer"] == id)
        .await;
    assert_eq!(release.service, "payouts");
    assert_eq!(release.trace, trail::trace_id(&id), "whoever knows the transfer's id knows its trace");
    assert_eq!(release.attributes["key"], format!("{id}.1"));
    assert_eq!(json!(release.attributes["stripe_transfer"]), stripe_transfer);
    assert_eq!(release.attributes["destination"], account);

    let call =
        collector.until("its call", |span| span.name == "stripe_call" && span.parent == release.id).await;
    assert_eq!(call.trace, release.trace);
    assert_eq!(
        (call.attributes["method"].as_str(), call.attributes["endpoint"].as_str()),
        ("POST", "/v1/transfers")
    );
    assert_eq!((call.attributes["attempt"].as_str(), call.attributes["status"].as_str()), ("1", "200"));
    assert!(call.attributes["request_id"].starts_with("req_"), "{call:?}");

    let task = collector.until("its task", |span| span.id == release.parent).await;
    assert_eq!((task.name.as_str(), task.attributes["kind"].as_str()), ("task", "transfer"));
    assert_eq!((&task.attributes["subject"], &task.trace), (&id, &release.trace));

    assert_eq!(release.attributes["account_told_by"], event);
    assert_eq!(release.links, [trail::trace_id(&event)], "{release:?}");
    let of_event = |name: &'static str| {
        let event = event.clone();
        move |span: &Span| span.name == name && span.attributes.get("event") == Some(&event)
    };
    let delivery = collector.until("its account's delivery", of_event("delivery")).await;
    assert_eq!(delivery.trace, release.links[0], "the link leads to the delivery");
    assert_eq!(delivery.attributes["event_type"], "account.updated");
    assert_eq!(
        (&delivery.attributes["subject"], delivery.attributes["label"].as_str()),
        (&account, "connect")
    );
    assert_eq!(delivery.attributes["duplicate"], "false");
    let in_its_trace = |span: &Span| {
        ["apply", "task"].contains(&span.name.as_str()) && span.attributes["subject"] == account
    };
    let applied =
        collector.until("its work", |span| span.trace == delivery.trace && in_its_trace(span)).await;
    assert_eq!(applied.attributes["kind"], "account");

    served.stop().await;
    let spans = collector.spans.lock().unwrap();
    for span in spans.iter() {
        let told = format!("{:?} {:?}", span.attributes, span.lines);
        for secret in [STRIPE_KEY, PLATFORM_SECRET, CONNECT_SECRET, ADMIN_KEY, "postgres"] {
            assert!(!told.contains(secret), "{told}");
        }
        let path = span.attributes.get("path").map_or("", String::as_str);
        assert!(!["/metrics", "/healthz", "/readyz"].contains(&path), "probes are no story");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mut world = World::start().await;
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let served = world.serve(&environment).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 900).await;
    let id = world.transfer(&account, 900, json!({})).await;
    world.until_status(&id, "released").await;
    let lost = || async {
        let page = ask(world.api.http.get(world.api.url("/metrics"))).await.body;
        let scrape = Scrape::read(page.as_str().unwrap());
        scrape.find("sluicegate_trace_spans_total", &[("outcome", "failed")]).filter(|spans| *spans > 0.0)
    };
    assert!(eventually(lost).await.is_some(), "what is lost is counted");
    world.assert_books_hold().await;
    served.stop().await;
}
