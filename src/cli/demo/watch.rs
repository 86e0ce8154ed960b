//! Watches the service through its own API and prints a line per change.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::domain::reason::Reason;

/// The service's API, as an internal service would call it.
pub struct Api {
    base: String,
    key: String,
    http: reqwest::Client,
    started: Instant,
}

/// What has been printed last about each thing.
#[derive(Default)]
pub struct Seen {
    last: BTreeMap<String, String>,
}

impl Api {
    /// An API at `base`, called with `key`.
    pub fn new(base: String, key: &str) -> Self {
        Self { base, key: key.to_owned(), http: reqwest::Client::new(), started: Instant::now() }
    }

    /// The same API, called with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { base: self.base.clone(), key: key.to_owned(), http: self.http.clone(), started: self.started }
    }

    /// Delivers an event as Stripe would.
    pub async fn deliver(&self, body: String, signature: &str) -> anyhow::Result<()> {
        let request = self.http.post(format!("{}/webhooks/stripe", self.base)).body(body);
        request.header("Stripe-Signature", signature).send().await?.error_for_status()?;
        Ok(())
    }

    /// A GET; `None` where there is nothing yet (404).
    pub async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let request = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.key);
        let answer = request.timeout(Duration::from_secs(10)).send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let status = answer.status();
        let body: Value = answer.json().await?;
        anyhow::ensure!(status.is_success(), "GET {path}: {status} {body}");
        Ok(Some(body))
    }

    /// A POST with an idempotency key.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.key);
        let answer = request.header("Idempotency-Key", key).json(body).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await.context("the answer is no JSON")?;
        anyhow::ensure!(status.is_success(), "POST {path}: {status} {answer}");
        Ok(answer)
    }

    /// Prints a line of the story.
    pub fn say(&self, who: &str, what: &str) {
        println!("{:>6.1}s  {who:<22}  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Prints it if it is news about `who`.
    pub fn say_if_new(&self, seen: &mut Seen, who: &str, what: String) {
        if seen.last.get(who) != Some(&what) {
            self.say(who, &what);
            seen.last.insert(who.to_owned(), what);
        }
    }
}

/// An account's readiness in a sentence.
pub fn account(readiness: Option<&Value>) -> String {
    match readiness {
        None => "not heard of yet".to_owned(),
        Some(readiness) if readiness["ready"] == json!(true) => "ready to be paid".to_owned(),
        Some(readiness) => format!("not ready: {}", reasons(&readiness["reasons"])),
    }
}

/// A top-up's state in a sentence.
pub fn topup(topup: Option<&Value>) -> String {
    match topup {
        None => "not heard of yet".to_owned(),
        Some(topup) if topup["settled"] == json!(true) => "settled: its money may be released".to_owned(),
        Some(topup) => format!("{}, not settled", topup["status"].as_str().unwrap_or("unknown")),
    }
}

/// A transfer's state in a sentence.
pub fn transfer(transfer: &Value) -> String {
    let status = transfer["status"].as_str().unwrap_or_default();
    match (status, transfer["stripe_transfer"].as_str()) {
        (_, Some(id)) => format!("{status} as {id}"),
        ("waiting", None) if reasons(&transfer["waiting_on"]).is_empty() => {
            "in the line for money".to_owned()
        }
        ("waiting", None) => format!("waits: {}", reasons(&transfer["waiting_on"])),
        (other, None) => other.to_owned(),
    }
}

/// The first reason in words, and all codes.
fn reasons(codes: &Value) -> String {
    let codes: Vec<&str> = codes.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(first) = codes.first() else { return String::new() };
    let words = Reason::parse(first).map_or("a reason this version does not know", Reason::words);
    format!("{words} [{}]", codes.join(", "))
}

/// Minor units of a two-decimal currency, for reading.
pub fn dollars(amount_minor: i64) -> String {
    let sign = if amount_minor < 0 { "-" } else { "" };
    format!("{sign}{}.{:02} usd", amount_minor.abs() / 100, amount_minor.abs() % 100)
}
