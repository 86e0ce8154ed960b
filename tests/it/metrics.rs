//! What Prometheus is told: well formed, moving with the story, and all that the alerts, the dashboard and the
//! runbook speak of.

use std::collections::BTreeSet;

use serde_json::json;
use sluicegate::sandbox::{Fault, FaultKind};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::prometheus::Scrape;
use crate::support::reply::ask;
use crate::support::world::{PLATFORM_SECRET, World, eventually};

const ALERTS: &str = include_str!("../../ops/prometheus/alerts.yml");
const ALERT_TESTS: &str = include_str!("../../ops/prometheus/alerts.test.yml");
const DASHBOARD: &str = include_str!("../../ops/grafana/dashboard.json");
const RUNBOOK: &str = include_str!("../../docs/OPERATIONS.md");

impl World {
    async fn scrape(&self) -> Scrape {
        let reply = ask(self.api.http.get(self.api.url("/metrics"))).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        Scrape::read(reply.body.as_str().unwrap())
    }

    /// Scrapes until this is so.
    async fn until_scraped(&self, what: &str, fits: impl Fn(&Scrape) -> bool) -> Scrape {
        let look = || async {
            let scrape = self.scrape().await;
            fits(&scrape).then_some(scrape)
        };
        match eventually(look).await {
            Some(scrape) => scrape,
            None => panic!("never was {what}: {:#?}", self.scrape().await),
        }
    }
}

const USD: (&str, &str) = ("currency", "usd");
const SHORT: [(&str, &str); 2] = [("reason", "funds_insufficient"), USD];
const CREATED: [(&str, &str); 3] = [("method", "POST"), ("endpoint", "/v1/transfers"), ("outcome", "ok")];
const LOST: [(&str, &str); 3] = [("method", "POST"), ("endpoint", "/v1/transfers"), ("outcome", "no_answer")];

fn delivered(scrape: &Scrape, outcome: &str) -> f64 {
    scrape.value("sluicegate_intake_events_total", &[("outcome", outcome)])
}

/// Settled, reserved, released and available.
fn funds(scrape: &Scrape) -> [f64; 4] {
    ["settled", "reserved", "released", "available"]
        .map(|state| scrape.value("sluicegate_funds_minor_units", &[USD, ("state", state)]))
}

#[tokio::test]
async fn the_numbers_move_as_money_does_and_hold_all_that_rules_and_dashboard_name() {
    let mut world = World::start().await;
    let served = world.serve(&[]).await;
    let known = |scrape: &Scrape| {
        let listed = scrape.find("sluicegate_events_complete_to_timestamp_seconds", &[]);
        listed.is_some() && scrape.find("sluicegate_platform_payouts_automatic", &[]).is_some()
    };
    let start = world.until_scraped("told of the platform and its events", known).await;
    assert_eq!(start.value("sluicegate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert_eq!(
        (delivered(&start, "stored"), delivered(&start, "signature_invalid")),
        (0.0, 0.0),
        "from zero"
    );
    assert_eq!(start.find("sluicegate_transfers_waiting", &SHORT), None);
    assert!(start.value("process_resident_memory_bytes", &[]) > 1e6);

    let account = world.ready_account().await;
    world.settled_topup("usd", 700).await;
    let id = world.transfer(&account, 900, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    let waiting = world.scrape().await;
    assert_eq!(waiting.value("sluicegate_transfers_waiting", &SHORT), 1.0);
    assert_eq!(waiting.value("sluicegate_transfers_waiting_minor_units", &SHORT), 900.0);
    assert_eq!(waiting.value("sluicegate_transfers", &[("status", "waiting")]), 1.0);
    assert_eq!(funds(&waiting), [700.0, 0.0, 0.0, 700.0]);
    assert!(waiting.find("sluicegate_release_seconds_count", &[]).is_none(), "nothing went out");

    world.stripe.fault(Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/transfers").times(None));
    world.settled_topup("usd", 300).await;
    // The call is counted as it ends, what it left open once that is written down.
    let lost = |scrape: &Scrape| {
        scrape.find("sluicegate_stripe_calls_total", &LOST).is_some()
            && scrape.value("sluicegate_transfers_unknown", &[]) == 1.0
    };
    let unknown = world.until_scraped("without an answer", lost).await;
    let since = unknown.value("sluicegate_transfers_unknown_since_timestamp_seconds", &[]);
    let age = world.clock.now().unix_timestamp() as f64 - since;
    assert!((0.0..60.0).contains(&age), "{age}");
    assert_eq!(funds(&unknown), [1000.0, 900.0, 0.0, 100.0], "its money stays reserved");

    world.stripe.clear_faults();
    world.until_status(&id, "released").await;
    let out = world.scrape().await;
    assert_eq!(funds(&out), [1000.0, 0.0, 900.0, 100.0]);
    for (name, labels, value) in [
        ("sluicegate_transfers_unknown", vec![], 0.0),
        ("sluicegate_transfers_unknown_since_timestamp_seconds", vec![], 0.0),
        ("sluicegate_transfers", vec![("status", "waiting")], 0.0),
        ("sluicegate_release_seconds_count", vec![], 1.0),
        ("sluicegate_release_reserved_seconds_count", vec![], 1.0),
        ("sluicegate_released_minor_units_total", vec![USD], 900.0),
        ("sluicegate_stripe_calls_total", CREATED.to_vec(), 1.0),
    ] {
        assert_eq!(out.value(name, &labels), value, "{name} {labels:?}");
    }
    assert!(out.find("sluicegate_transfers_waiting", &SHORT).is_none(), "nothing is told that was true once");
    let took = |name: &str| out.value(&format!("sluicegate_release_{name}seconds_sum"), &[]);
    assert!(took("reserved_") <= took(""), "the money was reserved after the request");
    assert!(out.value("process_cpu_seconds_total", &[]) >= start.value("process_cpu_seconds_total", &[]));
    assert_all_that_is_named_exists(&out);
    world.assert_books_hold().await;
    served.stop().await;
}

#[tokio::test]
async fn deliveries_the_emergency_stop_and_a_database_that_is_away_are_told() {
    let mut world = World::start().await;
    let served = world.serve(&[]).await;
    world.ready_account().await;
    let event =
        br#"{"id":"evt_twice","object":"event","type":"person.created","created":1700000000,"livemode":false,
        "data":{"object":{"id":"person_1","object":"person"}}}"#;
    for duplicate in [false, true] {
        let answer = world.deliver(event, PLATFORM_SECRET).await;
        assert_eq!(answer, (200, json!({"received": true, "duplicate": duplicate})));
    }
    assert_eq!(world.deliver(event, "whsec_of_somebody_else_000000000000000").await.0, 400);
    assert_eq!(world.deliver(b"no event", PLATFORM_SECRET).await.0, 400);
    let scrape = world.scrape().await;
    assert!(delivered(&scrape, "stored") >= 2.0);
    assert_eq!(
        ["duplicate", "signature_invalid", "event_malformed"].map(|outcome| delivered(&scrape, outcome)),
        [1.0, 1.0, 1.0]
    );
    let all = scrape.sum("sluicegate_intake_events_total");
    assert_eq!(all, scrape.value("sluicegate_intake_seconds_count", &[]), "each is measured once");

    for (word, paused) in [("pause", 1.0), ("resume", 0.0)] {
        let body = json!({"reason": "a test"});
        assert_eq!(world.api.post(&format!("/v1/releases/{word}"), word, &body).await.0, 200);
        assert_eq!(world.scrape().await.value("sluicegate_releases_paused", &[]), paused);
    }

    let mut admin = world.close_database().await;
    let away = world.until_scraped("away", |scrape| scrape.value("sluicegate_database_up", &[]) == 0.0).await;
    assert!(away.sum("sluicegate_intake_events_total") >= all, "what the process counts is told");
    assert!(!away.0.contains_key("sluicegate_dead_letters"), "what only the database knows is not");
    open_database(&mut admin, &world.db.url, true).await;
    world.until_scraped("back", |scrape| scrape.value("sluicegate_database_up", &[]) == 1.0).await;
    served.stop().await;
}

fn name_of(url: &str) -> &str {
    url.split('?').next().unwrap().rsplit('/').next().unwrap()
}

async fn open_database(admin: &mut PgConnection, url: &str, open: bool) {
    let order = format!("alter database {} with allow_connections {open}", name_of(url));
    sqlx::raw_sql(AssertSqlSafe(order)).execute(admin).await.unwrap();
}

impl World {
    /// Ends every connection to this world's database and lets nobody in; who comes back may be let in again.
    async fn close_database(&self) -> PgConnection {
        let name = name_of(&self.db.url);
        let elsewhere = self.db.url.replace(&format!("/{name}"), "/postgres");
        let mut admin = PgConnection::connect(&elsewhere).await.unwrap();
        open_database(&mut admin, &self.db.url, false).await;
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        sqlx::query(end).bind(name).execute(&mut admin).await.unwrap();
        admin
    }
}

/// Every word of a text that begins like a metric's name; where it ends with an underscore, it stands for several.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !(letters(c) || c == ':'));
    let named = words.filter(|word| word.starts_with("sluicegate_") || word.starts_with("process_"));
    named.filter(|word| !word.ends_with('_')).map(str::to_owned).collect()
}

/// Names as families: a histogram is named by its parts.
fn families_in(text: &str, scrape: &Scrape) -> BTreeSet<String> {
    let family = |name: String| {
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|ending| name.strip_suffix(ending));
        let whole = parts.into_iter().find(|base| scrape.0.get(*base).is_some_and(|f| f.kind == "histogram"));
        whole.map_or(name.clone(), str::to_owned)
    };
    metrics_in(text).into_iter().map(family).collect()
}

fn assert_all_that_is_named_exists(scrape: &Scrape) {
    let (rules, shown) = (families_in(ALERTS, scrape), families_in(DASHBOARD, scrape));
    assert!(
        rules.len() > 20 && shown.len() > 30,
        "{} in rules, {} on the dashboard",
        rules.len(),
        shown.len()
    );
    let missing: Vec<_> = rules.union(&shown).filter(|name| !scrape.0.contains_key(*name)).collect();
    assert!(missing.is_empty(), "named, and not measured: {missing:?}");
    let ours =
        RUNBOOK.split("\n## ").filter(|part| part.starts_with("Signals\n") || part.starts_with("Alerts\n"));
    let told = families_in(&ours.collect::<String>(), scrape);
    let untold: Vec<_> =
        scrape.0.keys().filter(|name| name.starts_with("sluicegate_") && !told.contains(*name)).collect();
    assert!(untold.is_empty(), "measured, and not in docs/OPERATIONS.md: {untold:?}");
    // Counted only where spans are exported.
    let elsewhere = "sluicegate_trace_spans_total";
    let gone: Vec<_> = told
        .iter()
        .filter(|name| name.starts_with("sluicegate_") && *name != elsewhere && !scrape.0.contains_key(*name))
        .collect();
    assert!(gone.is_empty(), "in docs/OPERATIONS.md, and not measured: {gone:?}");
}

#[test]
fn every_alert_has_its_entry_in_the_runbook_and_its_test() {
    let of = |text: &str, before: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(before));
        lines.map(|name| name.trim().to_owned()).collect()
    };
    let alerts = of(ALERTS, "- alert: ");
    assert!(alerts.len() > 20, "{alerts:?}");
    let once: BTreeSet<&String> = alerts.iter().collect();
    assert_eq!(once.len(), alerts.len(), "a name for each");
    let entries = of(RUNBOOK, "### Sluicegate").into_iter().map(|rest| format!("Sluicegate{rest}"));
    assert_eq!(entries.collect::<Vec<_>>(), alerts, "in docs/OPERATIONS.md, in the order of the rules");
    for alert in &alerts {
        let entry = RUNBOOK.split(&format!("### {alert}\n")).nth(1).unwrap();
        let entry = entry.split("\n### ").next().unwrap();
        assert!(entry.contains("\nLook") && entry.to_lowercase().contains("mend: "), "{alert}: {entry}");
        let link = format!("runbook: docs/OPERATIONS.md#{}\n", alert.to_lowercase());
        assert!(ALERTS.contains(&link), "{alert} leads to no entry");
        let spoken = ALERT_TESTS.split(&format!("    name: {alert}\n")).nth(1).unwrap_or_default();
        assert!(
            spoken.split("\n  - interval").next().unwrap().contains("exp_labels"),
            "{alert} is never tried"
        );
    }
}
