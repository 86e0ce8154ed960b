//! The whole service beside the stand-in for Stripe, over real HTTP and a real database.
//!
//! Nothing settles by itself: a story moves Stripe's world by hand and waits for what it expects.

use std::future::Future;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Value, json};
use sluicegate::cli::service::{self, Plan, Roles, Running};
use sluicegate::clock::Clock;
use sluicegate::domain::account::Policy;
use sluicegate::domain::limits::{Limits, ReleaseOrder};
use sluicegate::domain::topup::Rule;
use sluicegate::flows::rebuild::{self, Rules};
use sluicegate::sandbox::{self, Control, Sandbox};
use sluicegate::stripe::client::ClientConfig;
use sluicegate::stripe::signature::{self, SigningSecret};
use sluicegate::worker::driver;
use sqlx::PgPool;

use super::postgres::{TestDatabase, database};
use super::reply::ask;

/// The bootstrap key of every world.
pub const ADMIN_KEY: &str = "an-admin-key-of-32-characters-or-more";
/// The secret of the platform's webhook endpoint.
pub const PLATFORM_SECRET: &str = "whsec_platform_0000000000000000000000";
/// The secret of the connected accounts' webhook endpoint.
pub const CONNECT_SECRET: &str = "whsec_connect_00000000000000000000000";
/// The key that the stand-in takes.
pub const STRIPE_KEY: &str = "sk_test_world";
/// How long a story waits for what it expects.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A service, its Stripe and its database.
pub struct World {
    /// The database.
    pub db: TestDatabase,
    /// The stand-in.
    pub sandbox: Sandbox,
    /// What moves it.
    pub stripe: Control,
    /// The service's time; the stand-in shares it.
    pub clock: Clock,
    /// The service's API.
    pub api: Api,
    /// What the service was started with, to start it again.
    pub plan: Plan,
    service: Option<Running>,
}

/// What a story changes before its world starts.
pub struct Setting {
    /// How the service is started.
    pub plan: Plan,
    /// How the stand-in is started.
    pub stripe: sandbox::Config,
}

impl World {
    /// A world where nothing is out of the ordinary.
    pub async fn start() -> World {
        World::with(|_| {}).await
    }

    /// A world with a different setting.
    pub async fn with(change: impl FnOnce(&mut Setting)) -> World {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        }
        let db = database().await;
        let clock = Clock::adjustable();
        let mut setting = Setting {
            plan: plan(&db.url),
            stripe: sandbox::Config {
                settle_after: Duration::MAX,
                available_after: Duration::MAX,
                secret_key: Some(STRIPE_KEY.to_owned()),
                clock: clock.clone(),
                seed: uuid::Uuid::new_v4().as_u64_pair().0,
                ..sandbox::Config::default()
            },
        };
        change(&mut setting);
        let sandbox = sandbox::start(setting.stripe).await.unwrap();
        let mut plan = setting.plan;
        plan.stripe.base = sandbox.url();
        let service = service::start(plan.clone(), clock.clone()).await.unwrap();
        let stripe = sandbox.control();
        let api = Api { base: service.url(), key: ADMIN_KEY.to_owned(), http: reqwest::Client::new() };
        let world = World { db, sandbox, stripe, clock, api, plan, service: Some(service) };
        world.subscribe();
        world
    }

    fn subscribe(&self) {
        let url = self.api.url("/webhooks/stripe");
        self.stripe.add_endpoint(&url, PLATFORM_SECRET, false).unwrap();
        self.stripe.add_endpoint(&url, CONNECT_SECRET, true).unwrap();
    }

    /// Ends the service as a deployment would.
    pub async fn stop_service(&mut self) {
        if let Some(service) = self.service.take() {
            service.stop().await;
        }
    }

    /// Starts the service again on the same address and database.
    pub async fn start_service(&mut self) {
        self.plan.listen = self.api.base.trim_start_matches("http://").parse().unwrap();
        self.service = Some(service::start(self.plan.clone(), self.clock.clone()).await.unwrap());
    }

    /// Where the operations' side listens, if it is apart.
    pub fn ops_url(&self) -> String {
        let address = self.service.as_ref().and_then(|service| service.ops_address);
        format!("http://{}", address.expect("a side of its own"))
    }

    /// The database, for looking behind the API.
    pub fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    /// A connected account that Stripe and the service both take to be ready.
    pub async fn ready_account(&self) -> String {
        let id = self.stripe.create_ready_account();
        self.until_ready(&id).await;
        id
    }

    /// Waits until the service takes an account to be ready.
    pub async fn until_ready(&self, id: &str) {
        let path = format!("/v1/accounts/{id}/readiness");
        self.api.until(&path, |readiness| readiness["ready"] == json!(true)).await;
    }

    /// A top-up whose money has settled; returns its id.
    pub async fn settled_topup(&self, currency: &str, amount: i64) -> String {
        let id = self.stripe.create_topup(currency, amount);
        self.stripe.settle_topup(&id).unwrap();
        self.stripe.make_available(&id).unwrap();
        self.api.until(&format!("/v1/topups/{id}"), |topup| topup["settled"] == json!(true)).await;
        id
    }

    /// Asks for a transfer; returns its id.
    pub async fn transfer(&self, destination: &str, amount: i64, more: Value) -> String {
        let mut body = json!({"destination": destination, "amount": amount, "currency": "usd"});
        for (name, value) in more.as_object().cloned().unwrap_or_default() {
            body[name] = value;
        }
        let key = uuid::Uuid::new_v4().to_string();
        let (status, answer) = self.api.post("/v1/transfers", &key, &body).await;
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a transfer has this status.
    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.api.until(&format!("/v1/transfers/{id}"), |transfer| transfer["status"] == json!(status)).await
    }

    /// Waits until a transfer waits for exactly these reasons.
    pub async fn until_waiting_on(&self, id: &str, reasons: &[&str]) -> Value {
        self.api
            .until(&format!("/v1/transfers/{id}"), |transfer| transfer["waiting_on"] == json!(reasons))
            .await
    }

    /// One currency's funds.
    pub async fn funds(&self, currency: &str) -> Value {
        let funds = self.api.get("/v1/funds").await.1;
        let row = funds["data"].as_array().unwrap().iter().find(|row| row["currency"] == json!(currency));
        row.cloned().unwrap_or_default()
    }

    /// How many transfers at Stripe carry this id of ours.
    pub fn times_at_stripe(&self, id: &str) -> usize {
        let books = self.stripe.books();
        books.transfers.iter().filter(|t| t.metadata.get("sluicegate_transfer") == Some(&json!(id))).count()
    }

    /// The idempotency keys of the POSTs that tried to create a transfer, in order.
    pub fn keys_sent(&self, id: &str) -> Vec<String> {
        let calls = self.stripe.calls();
        let posts = calls.iter().filter(|call| call.method == "POST" && call.path == "/v1/transfers");
        let keys = posts.filter_map(|call| call.idempotency_key.clone());
        keys.filter(|key| key.starts_with(id)).collect()
    }

    /// Every claim of the contract about the books that must hold at any moment.
    pub async fn assert_books_hold(&self) {
        let sums: (i64, i64) = sqlx::query_as(
            "select coalesce(sum(amount), 0)::bigint,
                    (select count(*) from ledger_entries e
                     where (select sum(amount) from ledger_postings p where p.entry = e.id) <> 0)
             from ledger_postings",
        )
        .fetch_one(self.pool())
        .await
        .unwrap();
        assert_eq!(sums, (0, 0), "the ledger sums to zero, as a whole and entry by entry");
        let kept: i64 = sqlx::query_scalar(
            "select count(*) from ledger_accounts a
             where balance <> (select coalesce(sum(amount), 0) from ledger_postings p where p.account = a.id)",
        )
        .fetch_one(self.pool())
        .await
        .unwrap();
        assert_eq!(kept, 0, "every kept balance is the sum of its postings");
        for row in self.api.get("/v1/funds").await.1["data"].as_array().unwrap() {
            let minor = |name: &str| row[name].as_i64().unwrap();
            assert_eq!(minor("available"), minor("settled") - minor("reserved") - minor("released"), "{row}");
            assert_eq!(self.sum_from_zero(&row["currency"]).await, minor("settled"), "{row}");
        }
        let rules = Rules { policy: self.plan.policy.clone(), rule: self.plan.rule };
        let report = rebuild::check(self.pool(), &rules).await.unwrap();
        assert_eq!(report.told, [], "all that is held follows from what was kept");
    }

    async fn sum_from_zero(&self, currency: &Value) -> i64 {
        sqlx::query_scalar(
            "select coalesce(-sum(p.amount), 0)::bigint from ledger_postings p
             join ledger_accounts a on a.id = p.account where a.kind = 'money_in' and a.currency = $1",
        )
        .bind(currency.as_str())
        .fetch_one(self.pool())
        .await
        .unwrap()
    }

    /// Sends an event's body as Stripe would, signed now.
    pub async fn deliver(&self, body: &[u8], secret: &str) -> (u16, Value) {
        let secret = SigningSecret::parse(secret).unwrap();
        let header = signature::sign(body, &secret, self.clock.now().unix_timestamp());
        self.deliver_signed(body, &header).await
    }

    /// Sends a body with this signature header.
    pub async fn deliver_signed(&self, body: &[u8], header: &str) -> (u16, Value) {
        let request = self.api.http.post(self.api.url("/webhooks/stripe")).header("Stripe-Signature", header);
        read(request.body(body.to_vec())).await
    }
}

/// What a world's service is started with.
fn plan(database_url: &str) -> Plan {
    let secrets = format!("platform={PLATFORM_SECRET},connect={CONNECT_SECRET}");
    Plan {
        database_url: database_url.to_owned(),
        connections: 12,
        listen: "127.0.0.1:0".parse().unwrap(),
        ops_listen: None,
        public_url: None,
        admin_key: Some(SecretString::from(ADMIN_KEY.to_owned())),
        stripe: ClientConfig {
            base: String::new(),
            secret_key: SecretString::from(STRIPE_KEY.to_owned()),
            rate_per_s: 0,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        },
        livemode: false,
        webhook_secrets: SigningSecret::parse_list(&secrets).unwrap(),
        tolerance: Duration::from_secs(300),
        policy: Policy::default(),
        rule: Rule::default(),
        max_age: Duration::from_secs(24 * 60 * 60),
        grace: Duration::from_secs(600),
        source_type: None,
        funds_since: None,
        limits: Limits::default(),
        release_order: ReleaseOrder::default(),
        reconcile_every: None,
        backfill_every: None,
        retention: service::RETENTION,
        roles: Roles::ALL,
        serving: sluicegate::http::Serving::default(),
        worker: driver::Settings::default(),
    }
}

/// An API client with one key.
#[derive(Clone)]
pub struct Api {
    /// Where the service listens.
    pub base: String,
    /// The key it is called with.
    pub key: String,
    /// The connections.
    pub http: reqwest::Client,
}

impl Api {
    /// A path at this service.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The same service with another key.
    pub fn with_key(&self, key: &str) -> Api {
        Api { key: key.to_owned(), ..self.clone() }
    }

    /// GET: status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        read(self.http.get(self.url(path)).bearer_auth(&self.key)).await
    }

    /// POST with an idempotency key: status and body.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).bearer_auth(&self.key).header("Idempotency-Key", key);
        read(request.json(body)).await
    }

    /// POST of raw bytes: status and body.
    pub async fn post_raw(&self, path: &str, key: &str, body: &[u8]) -> (u16, Value) {
        let request = self.http.post(self.url(path)).bearer_auth(&self.key).header("Idempotency-Key", key);
        let request = request.header("Content-Type", "application/json");
        read(request.body(body.to_vec())).await
    }

    /// DELETE: status and body.
    pub async fn delete(&self, path: &str) -> (u16, Value) {
        read(self.http.delete(self.url(path)).bearer_auth(&self.key)).await
    }

    /// Waits until a GET answers 200 with a body that fits.
    pub async fn until(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let last = std::sync::Mutex::new((0, Value::Null));
        let wait = eventually(|| async {
            let answer = self.get(path).await;
            let fitting = (answer.0 == 200 && fits(&answer.1)).then(|| answer.1.clone());
            *last.lock().unwrap() = answer;
            fitting
        });
        match wait.await {
            Some(value) => value,
            None => panic!("{path} never became what was expected; at last {:?}", last.lock().unwrap()),
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let reply = ask(request).await;
    (reply.status, reply.body)
}

/// Asks again and again until there is an answer or patience ends.
pub async fn eventually<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = ask().await {
            return Some(value);
        }
        if started.elapsed() > PATIENCE {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
