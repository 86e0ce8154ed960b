//! What every delivery and every decision costs in CPU alone: `cargo bench`, under a minute.
#![expect(clippy::unwrap_used, reason = "a bench that cannot read its own input has failed")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use serde_json::json;
use sluicegate::domain::account::{Flags, Known, Policy, Requirements};
use sluicegate::domain::event::Ourselves;
use sluicegate::domain::funds::{Claim, Lot, Purse};
use sluicegate::domain::release::Attempt;
use sluicegate::flows::event_record;
use sluicegate::stripe::form;
use sluicegate::stripe::signature::{self, SigningSecret};
use sluicegate::stripe::wire::{Account, Envelope, Object, Topup};
use time::{Duration as Span, OffsetDateTime};

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-24 12:00 UTC);

/// A payload of the load, with its places filled.
fn body(text: &str) -> bytes::Bytes {
    let places = [
        ("{{EVENT}}", "evt_1SGc00000000000000000003"),
        ("{{ACCOUNT}}", "acct_1SGc000000000003"),
        ("{{OBJECT}}", "tu_1SGc00000000000000003"),
        ("{{CREATED}}", "1761732003"),
        ("{{CHARGES}}", "true"),
        ("{{PAYOUTS}}", "true"),
    ];
    let filled =
        places.iter().fold(text.trim_end().to_owned(), |text, (mark, value)| text.replace(mark, value));
    bytes::Bytes::from(filled)
}

fn verify(bench: &mut Criterion) {
    let body = body(include_str!("payloads/account.updated.json"));
    let secrets = SigningSecret::parse_list("platform=whsec_one,connect=whsec_two").unwrap();
    let now = NOW.unix_timestamp();
    let mut group = bench.benchmark_group("verify");
    group.throughput(Throughput::Bytes(body.len() as u64));
    for (name, secret) in [("by the first secret", &secrets[0]), ("by the second", &secrets[1])] {
        let header = signature::sign(&body, secret, now);
        group.bench_function(name, |b| {
            b.iter(|| signature::verify(black_box(&body), black_box(&header), &secrets, now, 300).unwrap());
        });
    }
}

fn parse(bench: &mut Criterion) {
    let account = body(include_str!("payloads/account.updated.json"));
    let topup = body(include_str!("payloads/topup.created.json"));
    let object = |body: &[u8]| Envelope::parse(body).unwrap().data_object.unwrap().get().to_owned();
    let (account_object, topup_object) = (object(&account), object(&topup));
    let ourselves = Ourselves::default();
    let mut group = bench.benchmark_group("parse");
    group.bench_function("envelope", |b| b.iter(|| Envelope::parse(black_box(&account)).unwrap()));
    group.bench_function("envelope, routed for the outbox", |b| {
        b.iter(|| event_record::read(black_box(&account), None, &ourselves, NOW).unwrap());
    });
    group.bench_function("account", |b| b.iter(|| Account::from_json(black_box(&account_object)).unwrap()));
    group.bench_function("top-up", |b| b.iter(|| Topup::from_json(black_box(&topup_object)).unwrap()));
}

fn decide(bench: &mut Criterion) {
    let known = Known {
        flags: Some(Flags {
            details_submitted: Some(true),
            charges_enabled: Some(false),
            payouts_enabled: Some(true),
            transfers_capability: Some("pending".to_owned()),
            requirements: Requirements {
                past_due: vec!["individual.id_number".to_owned()],
                disabled_reason: Some("requirements.past_due".to_owned()),
                ..Requirements::default()
            },
            country: Some("US".to_owned()),
            default_currency: Some("usd".to_owned()),
        }),
        deauthorized_at: None,
        confirmed_at: Some(NOW),
        closed_at: None,
    };
    let policy = Policy::default();
    let sent = Attempt {
        n: 1,
        sends: 3,
        first_sent_at: Some(NOW - Span::minutes(12)),
        quiet_since: Some(NOW - Span::minutes(11)),
        ended_at: Some(NOW - Span::minutes(11)),
        not_before: None,
        answered: true,
        look_up_due: false,
        made_another: false,
        empty_look_ups: 1,
        last_look_up_at: Some(NOW - Span::minutes(1)),
    };
    let mut group = bench.benchmark_group("decide");
    group.bench_function("why an account is not ready", |b| b.iter(|| black_box(&known).reasons(&policy)));
    group.bench_function("the next step of an attempt", |b| {
        b.iter(|| black_box(&sent).next_step(true, Span::minutes(10), NOW));
    });
    // Ten lots, each with tied transfers of its own, and money for nine tenths of the line.
    let names: Vec<String> = (0..10).map(|number| format!("tu_{number}")).collect();
    let lot = |name: &String| Lot { name: name.clone(), available_minor: 90_000, claimed_minor: 25_000 };
    let purse = Purse::new(names.iter().map(lot).collect());
    let line: Vec<Claim<'_>> = (0..1_000)
        .map(|place| Claim {
            amount_minor: 1_000,
            topup: (place % 4 == 0).then(|| names[place / 4 % names.len()].as_str()),
            blocks: true,
        })
        .collect();
    group.throughput(Throughput::Elements(line.len() as u64));
    group.bench_function("a line of a thousand transfers is funded", |b| {
        let serve = |mut purse: Purse| line.iter().filter_map(|claim| purse.take(*claim)).count();
        b.iter_batched(|| purse.clone(), serve, BatchSize::SmallInput);
    });
}

fn encode(bench: &mut Criterion) {
    let transfer = json!({
        "amount": 1000, "currency": "usd", "destination": "acct_1SGc000000000003",
        "description": "Answers, week 46", "transfer_group": "xfer_01JD0000000000000000000000",
        "metadata": {"order": "42", "sluicegate_transfer": "xfer_01JD0000000000000000000000"},
    });
    bench.bench_function("form of a transfer", |b| b.iter(|| form::encode(black_box(&transfer))));
}

fn main() {
    let mut bench = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    for group in [verify, parse, decide, encode] {
        group(&mut bench);
    }
    bench.final_summary();
}
