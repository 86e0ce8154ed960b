//! The sandbox's world: everything it remembers, under one lock, and the passage of its time.
//!
//! Nothing here is async. What is due (a top-up settling, money becoming available) happens in
//! [`World::tick`], which runs before every call and every few milliseconds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::accounts::Account;
use super::balance::Ledger;
use super::call::Call;
use super::events::EventRecord;
use super::faults::Faults;
use super::idempotency::Keys;
use super::lists::Shelf;
use super::onboarding::Link;
use super::permissions::Restrictions;
use super::topups::Topup;
use super::transfers::Transfer;
use super::webhooks::{Deliveries, WebhookEndpoint};
use super::{API_VERSION, Config};
use crate::clock::Clock;

/// Where a change came from: an API call, or nowhere a caller could name.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub request_id: Option<String>,
    pub idempotency_key: Option<String>,
}

/// What of the configuration the world itself needs. Durations in microseconds.
#[derive(Debug)]
pub(super) struct Settings {
    pub base_url: String,
    pub settle_after_us: i64,
    pub available_after_us: i64,
    pub key_ttl_us: i64,
    pub source_type: String,
    pub secret_key: Option<String>,
    pub livemode: bool,
}

/// All state of one sandbox.
pub(super) struct World {
    pub settings: Settings,
    pub clock: Clock,
    /// How far [`World::advance`] has moved the sandbox's time ahead of `clock`.
    offset_us: i64,
    random: u64,
    pub platform: Account,
    pub accounts: Shelf<Account>,
    pub topups: Shelf<Topup>,
    pub transfers: Shelf<Transfer>,
    pub ledger: Ledger,
    pub events: Shelf<EventRecord>,
    pub endpoints: Shelf<WebhookEndpoint>,
    pub deliveries: Deliveries,
    pub keys: Keys,
    pub faults: Faults,
    pub restrictions: Restrictions,
    pub links: HashMap<String, Link>,
    pub calls: VecDeque<Call>,
    pub calls_seen: u64,
    /// Rings when a delivery may have become due.
    pub bell: Arc<Notify>,
}

impl World {
    pub fn new(config: &Config, base_url: String) -> Self {
        let settings = Settings {
            base_url,
            settle_after_us: micros(config.settle_after),
            available_after_us: micros(config.available_after),
            key_ttl_us: micros(config.key_ttl),
            source_type: config.source_type.clone(),
            secret_key: config.secret_key.clone(),
            livemode: config.livemode,
        };
        let mut world = Self {
            settings,
            clock: config.clock.clone(),
            offset_us: 0,
            random: config.seed,
            platform: Account::default(),
            accounts: Shelf::default(),
            topups: Shelf::default(),
            transfers: Shelf::default(),
            ledger: Ledger::default(),
            events: Shelf::default(),
            endpoints: Shelf::default(),
            deliveries: Deliveries::new(config.deliver.clone()),
            keys: Keys::default(),
            faults: Faults::default(),
            restrictions: Restrictions::default(),
            links: HashMap::new(),
            calls: VecDeque::new(),
            calls_seen: 0,
            bell: Arc::new(Notify::new()),
        };
        let id = world.new_id("acct_");
        world.platform = Account::platform(&id, &config.country, world.now_s());
        world
    }

    /// The sandbox's time, microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        unix_us(&self.clock).saturating_add(self.offset_us)
    }

    /// The sandbox's time in whole seconds, as Stripe writes it.
    pub fn now_s(&self) -> i64 {
        self.now_us().div_euclid(1_000_000)
    }

    /// Moves the sandbox's time forward and lets everything happen that became due.
    pub fn advance(&mut self, by: Duration) {
        self.offset_us = self.offset_us.saturating_add(micros(by));
        self.tick();
    }

    /// Lets everything happen that is due by now.
    pub fn tick(&mut self) {
        let now = self.now_us();
        self.settle_due_topups(now);
        if self.ledger.mature(now) {
            let balance = self.balance_json();
            self.emit(&Origin::default(), "balance.available", balance, None, None);
        }
        self.keys.prune(now, self.settings.key_ttl_us);
    }

    /// The next number of the seeded sequence (splitmix64).
    pub fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A new id in Stripe's looks: the prefix, `1S`, and 20 letters or digits.
    pub fn new_id(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut id = format!("{prefix}1S");
        for _ in 0..2 {
            let mut number = self.draw();
            for _ in 0..10 {
                id.push(char::from(ALPHABET[(number % 62) as usize]));
                number /= 62;
            }
        }
        id
    }

    /// The platform's balance object.
    pub fn balance_json(&self) -> Value {
        let source_type = &self.settings.source_type;
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for (currency, purse) in self.ledger.purses() {
            let entry = |amount: i64| json!({"amount": amount, "currency": currency, "source_types": {source_type: amount}});
            lists[0].push(entry(purse.available));
            lists[1].push(entry(purse.pending));
            lists[2].push(json!({"amount": 0, "currency": currency}));
        }
        let [available, pending, reserved] = lists;
        json!({"object": "balance", "available": available, "pending": pending,
               "connect_reserved": reserved, "livemode": self.settings.livemode})
    }

    /// Records an event and queues its deliveries.
    pub fn emit(
        &mut self,
        origin: &Origin,
        kind: &str,
        object: Value,
        previous: Option<Value>,
        account: Option<&str>,
    ) {
        let id = self.new_id("evt_");
        let mut data = json!({"object": object});
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let mut body = json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": self.now_s(), "data": data,
            "livemode": self.settings.livemode, "type": kind,
            "request": {"id": origin.request_id, "idempotency_key": origin.idempotency_key},
        });
        if let Some(account) = account {
            body["account"] = json!(account);
        }
        self.record_event(&id, kind, body, None, account);
    }

    /// Keeps an event, for the list and for each endpoint that wants it. `thin` is what only the API tells of it.
    pub(super) fn record_event(
        &mut self,
        id: &str,
        kind: &str,
        body: Value,
        thin: Option<Value>,
        account: Option<&str>,
    ) {
        let targets = if self.deliveries.loses_one() { Vec::new() } else { self.targets(kind, account) };
        self.events.push(EventRecord {
            id: id.to_owned(),
            kind: kind.to_owned(),
            account: account.map(str::to_owned),
            created_us: self.now_us(),
            body,
            thin,
            targets: targets.iter().map(|endpoint| (endpoint.clone(), false)).collect(),
        });
        let now = unix_us(&self.clock);
        for endpoint in targets {
            let luck = self.draw();
            self.deliveries.enqueue(id, &endpoint, now, luck);
        }
        self.bell.notify_one();
    }
}

/// A duration in microseconds; the longest ones mean "never".
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The clock's instant in microseconds since 1970.
pub(super) fn unix_us(clock: &Clock) -> i64 {
    i64::try_from(clock.now().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// What Stripe calls `previous_attributes`: the old values of what changed; arrays whole, new keys as null.
pub(super) fn previous_attributes(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return old.clone() };
    let mut changed = serde_json::Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) if before.is_object() && value.is_object() => {
                changed.insert(key.clone(), previous_attributes(before, value));
            }
            before => {
                changed.insert(key.clone(), before.cloned().unwrap_or(Value::Null));
            }
        }
    }
    for (key, value) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        changed.insert(key.clone(), value.clone());
    }
    Value::Object(changed)
}
