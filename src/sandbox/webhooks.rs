//! Webhook endpoints, and the queue of deliveries to them: at least once, with bounded retry.
//!
//! Pure bookkeeping; the calls themselves are made in `pump`. Instants are the configured clock's
//! microseconds, not the sandbox's own time, so that moving the sandbox's time fires no retries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value, json};

use super::Delivery;
use super::errors::Refusal;
use super::forms::merge_metadata;
use super::lists::{LIST, Listed, envelope, page};
use super::routes::Request;
use super::state::{World, micros, unix_us};
use crate::stripe::signature::SigningSecret;

/// How far reordering may throw a delivery back, microseconds.
const REORDER_WINDOW_US: u64 = 100_000;
/// How many attempts are remembered for inspection.
const ATTEMPTS_KEPT: usize = 50_000;

/// A webhook endpoint. `connect` is not part of Stripe's object; it decides which events belong here.
#[derive(Debug, Clone)]
pub(super) struct WebhookEndpoint {
    id: String,
    created_us: i64,
    pub url: String,
    pub secret: SigningSecret,
    pub connect: bool,
    pub enabled: bool,
    enabled_events: Vec<String>,
    description: Option<String>,
    api_version: Option<String>,
    metadata: Map<String, Value>,
}

impl Listed for WebhookEndpoint {
    const NOUN: &'static str = "webhook endpoint";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

impl WebhookEndpoint {
    fn json(&self, livemode: bool) -> Value {
        json!({
            "id": self.id, "object": "webhook_endpoint", "api_version": self.api_version, "application": null,
            "created": self.created_us.div_euclid(1_000_000), "description": self.description,
            "enabled_events": self.enabled_events, "livemode": livemode, "metadata": self.metadata,
            "status": if self.enabled { "enabled" } else { "disabled" }, "url": self.url,
        })
    }

    fn wants(&self, kind: &str) -> bool {
        self.enabled && self.enabled_events.iter().any(|wanted| wanted == "*" || wanted == kind)
    }
}

/// `GET /v1/webhook_endpoints`.
pub(super) fn list(world: &World, request: &Request<'_>) -> Result<Value, Refusal> {
    request.params.only(&LIST[..3])?;
    let (endpoints, more) = page(&world.endpoints, request.params, request.stale_before_us, |_| true)?;
    let data = endpoints.iter().map(|endpoint| endpoint.json(world.settings.livemode)).collect();
    Ok(envelope("/v1/webhook_endpoints", data, more))
}

/// `POST /v1/webhook_endpoints`: the only answer that shows the secret.
pub(super) fn create(world: &mut World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&["url", "enabled_events", "connect", "description", "metadata", "api_version"])?;
    let url = address(&params.required("url")?, world.settings.livemode)?;
    let enabled_events = params.texts("enabled_events")?;
    if enabled_events.is_empty() {
        let message = "Missing required param: enabled_events.";
        return Err(Refusal::invalid("enabled_events", Some("parameter_missing"), message));
    }
    let (connect, metadata) = (params.boolean("connect")?.unwrap_or_default(), params.metadata()?);
    let (description, api_version) = (params.text("description")?, params.text("api_version")?);
    if let Some(version) = api_version.as_deref().filter(|version| !is_version(version)) {
        return Err(Refusal::invalid("api_version", None, format!("Invalid Stripe API version: {version}")));
    }
    // As long as Stripe's.
    let secret = format!("{}{}", world.new_id("whsec_"), &world.new_id("")[..10]);
    // A secret of the sandbox's own making is well formed; were it not, nothing is made.
    let Ok(signing) = SigningSecret::parse(&secret) else {
        return Err(Refusal::executed(500, None, "No signing secret could be made."));
    };
    let id = world.add_endpoint(&url, signing, connect);
    let livemode = world.settings.livemode;
    let Some(endpoint) = world.endpoints.get_mut(&id) else { return Ok(Value::Null) };
    endpoint.enabled_events = enabled_events;
    endpoint.metadata = metadata;
    endpoint.description = description;
    endpoint.api_version = api_version;
    let mut object = endpoint.json(livemode);
    object["secret"] = json!(secret);
    Ok(object)
}

/// `POST /v1/webhook_endpoints/{id}`.
pub(super) fn update(world: &mut World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&["url", "enabled_events", "disabled", "description", "metadata"])?;
    let livemode = world.settings.livemode;
    let url = params.text("url")?.map(|url| address(&url, livemode)).transpose()?;
    let (enabled_events, metadata) = (params.texts("enabled_events")?, params.metadata()?);
    let (disabled, description) = (params.boolean("disabled")?, params.text("description")?);
    world.endpoints.named(id)?;
    let Some(endpoint) = world.endpoints.get_mut(id) else { return Ok(Value::Null) };
    if let Some(url) = url {
        endpoint.url = url;
    }
    if !enabled_events.is_empty() {
        endpoint.enabled_events = enabled_events;
    }
    if let Some(disabled) = disabled {
        endpoint.enabled = !disabled;
    }
    if description.is_some() {
        endpoint.description = description;
    }
    merge_metadata(&mut endpoint.metadata, metadata);
    Ok(endpoint.json(livemode))
}

/// A day, and since 2024 the name of a release train.
fn is_version(text: &str) -> bool {
    let (day, train) = text.split_once('.').unwrap_or((text, "x"));
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = day.split('-').collect();
    matches!(parts.as_slice(), [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
        && !train.is_empty()
}

fn address(url: &str, livemode: bool) -> Result<String, Refusal> {
    if url.starts_with("https://") || (url.starts_with("http://") && !livemode) {
        return Ok(url.to_owned());
    }
    Err(Refusal::invalid("url", Some("url_invalid"), "Invalid URL: must begin with https:// in live mode"))
}

/// One queued delivery of one event to one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Job {
    seq: u64,
    pub event: String,
    pub endpoint: String,
    attempts: u32,
    due_us: i64,
    /// Kept back by hand until released.
    held: bool,
}

/// One attempt that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Attempt {
    /// The event's id.
    pub event: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The endpoint's URL.
    pub url: String,
    /// The status answered; none where no answer came.
    pub status: Option<u16>,
    /// When it had ended, in Unix microseconds.
    pub ended_us: i64,
}

/// The queue of deliveries.
#[derive(Debug)]
pub(super) struct Deliveries {
    pub settings: Delivery,
    jobs: BTreeMap<u64, Job>,
    /// What is neither held nor running, by when it is due.
    ready: BTreeSet<(i64, u64)>,
    next_seq: u64,
    queued: u64,
    pub holding: bool,
    losing: u32,
    pub attempts: VecDeque<Attempt>,
}

impl Deliveries {
    pub fn new(settings: Delivery) -> Self {
        Self {
            settings,
            jobs: BTreeMap::new(),
            ready: BTreeSet::new(),
            next_seq: 0,
            queued: 0,
            holding: false,
            losing: 0,
            attempts: VecDeque::new(),
        }
    }

    /// The next events reach no endpoint at all, now or later.
    pub fn lose(&mut self, count: u32) {
        self.losing = count;
    }

    /// Whether the event about to be emitted is one of those.
    pub fn loses_one(&mut self) -> bool {
        let loses = self.losing > 0;
        self.losing = self.losing.saturating_sub(1);
        loses
    }

    /// Queues an event for an endpoint, twice where its turn to be duplicated has come.
    pub fn enqueue(&mut self, event: &str, endpoint: &str, now_us: i64, luck: u64) {
        self.queued += 1;
        let every = u64::from(self.settings.duplicate_every);
        let copies = if every > 0 && self.queued.is_multiple_of(every) { 2 } else { 1 };
        for copy in 0..copies {
            let jitter = if self.settings.reorder { (luck >> (copy * 20)) % REORDER_WINDOW_US } else { 0 };
            let due_us = now_us
                .saturating_add(micros(self.settings.delay))
                .saturating_add(i64::try_from(jitter).unwrap_or_default());
            self.next_seq += 1;
            let job = Job {
                seq: self.next_seq,
                event: event.to_owned(),
                endpoint: endpoint.to_owned(),
                attempts: 0,
                due_us,
                held: self.holding,
            };
            self.queue(job);
        }
    }

    fn queue(&mut self, job: Job) {
        if !job.held {
            self.ready.insert((job.due_us, job.seq));
        }
        self.jobs.insert(job.seq, job);
    }

    /// The next delivery to make, no longer queued as ready; or how long until one is due, none where none
    /// waits.
    pub fn take_due(&mut self, now_us: i64) -> Result<Job, Option<i64>> {
        let Some(&(due_us, seq)) = self.ready.first() else { return Err(None) };
        if due_us > now_us {
            return Err(Some(due_us - now_us));
        }
        self.ready.pop_first();
        self.jobs.get(&seq).cloned().ok_or(Some(0))
    }

    /// Records how a delivery went: done, or again after a while, or given up.
    pub fn finish(&mut self, job: &Job, delivered: bool, now_us: i64) {
        let Some(mut again) = self.jobs.remove(&job.seq) else { return };
        again.attempts += 1;
        let retry = &self.settings.retry;
        if delivered || again.attempts >= retry.attempts {
            return;
        }
        let wait_us = micros(retry.first.saturating_mul(1 << job.attempts.min(16)).min(retry.max));
        again.due_us = now_us.saturating_add(wait_us);
        self.queue(again);
    }

    /// Drops a delivery whose endpoint is gone or disabled.
    pub fn drop_job(&mut self, job: &Job) {
        self.jobs.remove(&job.seq);
    }

    pub fn remember(&mut self, attempt: Attempt) {
        if self.attempts.len() >= ATTEMPTS_KEPT {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }

    /// Ids of events held back, oldest first, each once.
    pub fn held(&self) -> Vec<String> {
        let held = self.jobs.values().filter(|job| job.held);
        let mut ids: Vec<String> = held.map(|job| job.event.clone()).collect();
        ids.dedup();
        ids
    }

    /// Lets held events go in the order given; all of them, oldest first, where none is named.
    pub fn release(&mut self, events: &[String], now_us: i64) -> usize {
        let order = if events.is_empty() { self.held() } else { events.to_vec() };
        let mut released = 0;
        for event in order {
            let held = |job: &&Job| job.held && job.event == event;
            let seqs: Vec<u64> = self.jobs.values().filter(held).map(|job| job.seq).collect();
            for seq in seqs {
                let Some(mut job) = self.jobs.remove(&seq) else { continue };
                self.next_seq += 1;
                job.seq = self.next_seq;
                job.due_us = now_us;
                job.held = false;
                self.queue(job);
                released += 1;
            }
        }
        released
    }

    /// Forgets held deliveries of an event that was delivered by hand.
    pub fn settle_held(&mut self, event: &str, endpoint: &str) {
        self.jobs.retain(|_, job| !(job.held && job.event == event && job.endpoint == endpoint));
    }

    /// True where nothing but held deliveries is left.
    pub fn is_quiet(&self) -> bool {
        self.jobs.values().all(|job| job.held)
    }
}

impl World {
    /// Adds an endpoint for every event of its kind, with Stripe's `*`.
    pub fn add_endpoint(&mut self, url: &str, secret: SigningSecret, connect: bool) -> String {
        let endpoint = WebhookEndpoint {
            id: self.new_id("we_"),
            created_us: self.now_us(),
            url: url.to_owned(),
            secret,
            connect,
            enabled: true,
            enabled_events: vec!["*".to_owned()],
            description: None,
            api_version: None,
            metadata: Map::new(),
        };
        let id = endpoint.id.clone();
        self.endpoints.push(endpoint);
        id
    }

    /// The endpoints an event belongs to: by kind, but a single endpoint gets both kinds.
    pub fn targets(&self, kind: &str, account: Option<&str>) -> Vec<String> {
        let only_one = self.endpoints.len() == 1;
        let belongs = |endpoint: &&WebhookEndpoint| {
            endpoint.wants(kind) && (only_one || endpoint.connect == account.is_some())
        };
        self.endpoints.iter().filter(belongs).map(|endpoint| endpoint.id.clone()).collect()
    }

    /// Records an attempt and what follows from it.
    pub fn attempted(&mut self, job: Option<&Job>, event: &str, endpoint: &str, status: Option<u16>) {
        let delivered = status.is_some_and(|status| (200..300).contains(&status));
        let url = self.endpoints.get(endpoint).map(|endpoint| endpoint.url.clone()).unwrap_or_default();
        let mut kind = String::new();
        if let Some(record) = self.events.get_mut(event) {
            kind.clone_from(&record.kind);
            for (_, done) in record.targets.iter_mut().filter(|(id, _)| id == endpoint) {
                *done |= delivered;
            }
        }
        let now = unix_us(&self.clock);
        self.deliveries.remember(Attempt { event: event.to_owned(), kind, url, status, ended_us: now });
        match job {
            Some(job) => self.deliveries.finish(job, delivered, now),
            None if delivered => self.deliveries.settle_held(event, endpoint),
            None => {}
        }
    }
}
