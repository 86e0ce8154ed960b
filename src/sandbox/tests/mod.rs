//! The sandbox over real HTTP: what money depends on, one test a behaviour.
//!
//! No test waits for time to pass: clocks are advanced, and what runs in the background is awaited with a bound.

mod accounts;
mod delivery;
mod faults;
mod money;
mod shapes;
mod v2;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{AccountSpec, Config, Control, Endpoint, Sandbox, start};

const BOUND: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// A sandbox, its controls and a client; nothing settles unless the clock is advanced.
struct Bench {
    sandbox: Sandbox,
    control: Control,
    client: reqwest::Client,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn id(&self) -> &str {
        self.body["id"].as_str().unwrap()
    }

    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn slow() -> Config {
    Config { settle_after: 5 * DAY, available_after: DAY, ..Config::default() }
}

impl Bench {
    async fn with(config: Config) -> Self {
        let sandbox = start(config).await.unwrap();
        Self {
            control: sandbox.control(),
            sandbox,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// With a ready account and 1000 usd cents.
    async fn funded() -> (Self, String) {
        let bench = Self::with(slow()).await;
        bench.control.add_balance("usd", 1_000);
        let account = bench.control.create_ready_account();
        (bench, account)
    }

    async fn get(&self, path: &str) -> Reply {
        let call = self.client.get(format!("{}{path}", self.sandbox.url()));
        reply(call.bearer_auth("sk_test_1").header("stripe-version", super::API_VERSION)).await.unwrap()
    }

    async fn post(&self, path: &str, key: &str, form: &str) -> Reply {
        self.try_post(path, key, form).await.unwrap()
    }

    async fn try_post(&self, path: &str, key: &str, form: &str) -> Result<Reply, reqwest::Error> {
        let mut call = self
            .client
            .post(format!("{}{path}", self.sandbox.url()))
            .bearer_auth("sk_test_1")
            .header("stripe-version", super::API_VERSION)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        if !key.is_empty() {
            call = call.header("idempotency-key", key);
        }
        reply(call).await
    }

    async fn transfer(&self, key: &str, account: &str, amount: i64) -> Reply {
        self.post("/v1/transfers", key, &form(account, amount)).await
    }

    fn available(&self) -> i64 {
        self.control.books().currencies.get("usd").map_or(0, |usd| usd.available)
    }

    /// Every currency's available balance follows from what moved.
    fn assert_balanced(&self) {
        for (currency, p) in self.control.books().currencies {
            let sum = p.topped_up_available + p.added + p.reversed - p.transferred - p.topups_reversed;
            assert_eq!(p.available, sum, "{currency}");
        }
    }
}

fn form(account: &str, amount: i64) -> String {
    format!("amount={amount}&currency=usd&destination={account}&transfer_group=g1&metadata[item]=i1")
}

async fn reply(call: reqwest::RequestBuilder) -> Result<Reply, reqwest::Error> {
    let answer = call.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = serde_json::from_str(&answer.text().await?).unwrap_or_default();
    Ok(Reply { status, headers, body })
}

/// The signature header and the body of one delivery.
type Delivered = (String, Vec<u8>);

/// A webhook receiver that keeps what it got and answers the first `refusals` with 500.
#[derive(Clone)]
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Delivered>>>,
    refusals: Arc<Mutex<u32>>,
}

impl Receiver {
    async fn start(refusals: u32) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let receiver = Self { url, got: Arc::default(), refusals: Arc::new(Mutex::new(refusals)) };
        let app = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    fn endpoint(&self, secret: &str, connect: bool) -> Endpoint {
        Endpoint { url: self.url.clone(), secret: secret.to_owned(), connect }
    }

    fn events(&self) -> Vec<Value> {
        self.got.lock().unwrap().iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }

    fn types(&self) -> Vec<String> {
        self.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> StatusCode {
    let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
    receiver.got.lock().unwrap().push((signature, body.to_vec()));
    let mut refusals = receiver.refusals.lock().unwrap();
    if *refusals > 0 {
        *refusals -= 1;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    StatusCode::OK
}
