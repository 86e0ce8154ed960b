//! What keeps a transfer although its account is ready and its money is there: approvals, caps, and orders that
//! race with the release.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluicegate::cli::service::{self, Plan};
use sluicegate::domain::limits::Limits;
use sluicegate::domain::money::Currency;
use sluicegate::sandbox::{Fault, FaultKind};
use time::{Duration, Time};

use crate::audit::{log, said};
use crate::support::world::{Api, World};

/// What another replica on the same database is started with.
fn beside(world: &World) -> Plan {
    let worker = sluicegate::worker::driver::Settings::default();
    Plan { worker, listen: "127.0.0.1:0".parse().unwrap(), ..world.plan.clone() }
}

fn usd(minor: i64) -> BTreeMap<Currency, i64> {
    BTreeMap::from([(Currency::parse("usd").unwrap(), minor)])
}

async fn with_limits(limits: Limits) -> World {
    World::with(|setting| setting.plan.limits = limits).await
}

async fn key(world: &World, scope: &str) -> Api {
    let name = uuid::Uuid::new_v4().to_string();
    let (_, made) = world.api.post("/v1/keys", &name, &json!({"name": name, "scope": scope})).await;
    world.api.with_key(made["secret"].as_str().unwrap())
}

async fn order(api: &Api, id: &str, order: &str) -> (u16, Value) {
    let path = format!("/v1/transfers/{id}/{order}");
    api.post(&path, &uuid::Uuid::new_v4().to_string(), &json!({"reason": "story"})).await
}

#[tokio::test]
async fn a_large_transfer_goes_out_once_another_key_than_its_creators_approved_it() {
    let mut world = with_limits(Limits { approval_above: usd(1_000), ..Limits::default() }).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let small = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&small, "released").await;
    let large = world.transfer(&account, 1_001, json!({})).await;
    world.until_waiting_on(&large, &["approval_required"]).await;
    let (status, problem) = order(&world.api, &large, "approve").await;
    assert_eq!((status, &problem["code"]), (403, &json!("approval_by_creator")));
    let reader = key(&world, "read").await;
    assert_eq!(order(&reader, &large, "approve").await.0, 403);
    // It goes on waiting over a restart.
    world.stop_service().await;
    world.start_service().await;
    world.until_idle().await;
    world.until_waiting_on(&large, &["approval_required"]).await;
    let other = key(&world, "operate").await;
    assert_eq!(order(&other, &large, "approve").await.0, 200);
    world.until_status(&large, "released").await;
    assert_eq!(order(&other, &large, "approve").await.0, 409);
    let rows = log(&world).await;
    let approvals: Vec<_> = said(&rows).into_iter().filter(|row| row.1 == "transfer.approved").collect();
    assert_eq!(approvals.len(), 1, "the refused ones left none");
    assert_eq!(approvals[0].2, large);
    assert_ne!(approvals[0].0, "admin");
}

#[tokio::test]
async fn an_approval_that_is_taken_away_by_a_lower_limit_is_asked_for_before_the_send() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 500, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.stop_service().await;
    world.plan.limits = Limits { approval_above: usd(499), ..Limits::default() };
    world.start_service().await;
    world.until_waiting_on(&id, &["approval_required"]).await;
    world.settled_topup("usd", 500).await;
    world.until_idle().await;
    assert_eq!(world.times_at_stripe(&id), 0);
}

fn noon_to_midnight(world: &World) -> Duration {
    let now = world.clock.now();
    now.date().next_day().unwrap().with_time(Time::MIDNIGHT).assume_utc() - now
}

#[tokio::test]
async fn what_is_beyond_the_days_cap_waits_for_the_next_utc_day() {
    let world = with_limits(Limits { daily_cap: usd(1_000), ..Limits::default() }).await;
    let (account, other) = (world.ready_account().await, world.ready_account().await);
    world.settled_topup("usd", 10_000).await;
    let first = world.transfer(&account, 700, json!({})).await;
    world.until_status(&first, "released").await;
    let second = world.transfer(&other, 301, json!({})).await;
    world.until_waiting_on(&second, &["daily_cap_reached"]).await;
    // It is not ready: one that still has room goes by.
    let third = world.transfer(&account, 300, json!({})).await;
    world.until_status(&third, "released").await;
    world.clock.advance(noon_to_midnight(&world) - Duration::seconds(30));
    world.until_idle().await;
    world.until_waiting_on(&second, &["daily_cap_reached"]).await;
    world.clock.advance(Duration::seconds(31));
    world.until_status(&second, "released").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_destination_has_a_cap_of_its_own_and_gets_back_what_stripe_refused() {
    let world = with_limits(Limits { daily_cap_per_destination: usd(1_000), ..Limits::default() }).await;
    let (account, other) = (world.ready_account().await, world.ready_account().await);
    world.settled_topup("usd", 10_000).await;
    let refuse = FaultKind::Refuse { status: 400, code: "of_tomorrow".into(), message: "no".into() };
    world.stripe.fault(Fault::next(refuse).on("POST", "/v1/transfers"));
    let refused = world.transfer(&account, 900, json!({})).await;
    world.until_status(&refused, "failed").await;
    let first = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&first, "released").await;
    let capped = world.transfer(&account, 1, json!({})).await;
    world.until_waiting_on(&capped, &["daily_cap_reached"]).await;
    let elsewhere = world.transfer(&other, 1_000, json!({})).await;
    world.until_status(&elsewhere, "released").await;
}

#[tokio::test]
async fn one_that_waits_for_the_cap_goes_on_when_another_gives_its_place_back() {
    let world = with_limits(Limits { daily_cap: usd(1_000), ..Limits::default() }).await;
    let (account, other) = (world.ready_account().await, world.ready_account().await);
    world.settled_topup("usd", 10_000).await;
    // The first holds its place while Stripe takes its time to refuse it.
    world.stripe.hold_events(true);
    world.stripe.deauthorize(&account).unwrap();
    world.stripe.fault(Fault::next(FaultKind::Delay { ms: 1_500 }).on("POST", "/v1/transfers"));
    let first = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&first, "releasing").await;
    let second = world.transfer(&other, 400, json!({})).await;
    world.until_waiting_on(&second, &["daily_cap_reached"]).await;
    world.until_status(&second, "released").await;
    assert_eq!(world.times_at_stripe(&first), 0);
}

#[tokio::test]
async fn an_amount_that_no_day_could_take_is_refused_with_the_mend() {
    let world = with_limits(Limits {
        daily_cap: usd(1_000),
        daily_cap_per_destination: usd(500),
        ..Limits::default()
    })
    .await;
    for (amount, cap) in [(1_001, "1000"), (501, "500")] {
        let body = json!({"destination": "acct_1", "amount": amount, "currency": "usd"});
        let (status, problem) = world.api.post("/v1/transfers", "k", &body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("validation")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], json!("/amount"));
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(cap), "{problem}");
    }
    let body = json!({"destination": "acct_1", "amount": 501, "currency": "eur"});
    assert_eq!(world.api.post("/v1/transfers", "k", &body).await.0, 201, "no cap in this currency");
}

#[tokio::test]
async fn many_replicas_together_keep_to_one_cap() {
    let world = with_limits(Limits { daily_cap: usd(1_000), ..Limits::default() }).await;
    let more = [
        service::start(beside(&world), world.clock.clone()).await.unwrap(),
        service::start(beside(&world), world.clock.clone()).await.unwrap(),
    ];
    let account = world.ready_account().await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(world.transfer(&account, 100, json!({})).await);
    }
    world.settled_topup("usd", 10_000).await;
    let capped = || async {
        let page = world.api.get("/v1/transfers?waiting_on=daily_cap_reached&limit=100").await.1;
        page["data"].as_array().unwrap().len()
    };
    let waits = crate::support::world::eventually(|| async { (capped().await == 20).then_some(()) });
    assert!(waits.await.is_some(), "{} wait for the cap", capped().await);
    world.until_idle().await;
    let out: i64 = world.stripe.books().transfers.iter().map(|t| t.amount).sum();
    assert_eq!(out, 1_000);
    for id in &ids[..10] {
        assert_eq!(world.times_at_stripe(id), 1, "the first in line");
    }
    for service in more {
        service.stop().await;
    }
}

#[tokio::test]
async fn a_failed_transfer_that_is_tried_again_is_looked_up_first_and_uses_the_next_key() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let refuse = FaultKind::Refuse { status: 400, code: "of_tomorrow".into(), message: "no".into() };
    world.stripe.fault(Fault::next(refuse).on("POST", "/v1/transfers"));
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "failed").await;
    assert_eq!(order(&world.api, &id, "cancel").await.0, 409);
    world.stripe.clear_calls();
    assert_eq!(order(&world.api, &id, "retry").await.0, 200);
    let released = world.until_status(&id, "released").await;
    assert_eq!(released["failure"], Value::Null);
    let calls = world.stripe.calls();
    let about: Vec<&str> = calls.iter().filter(|c| c.path == "/v1/transfers").map(|c| &*c.method).collect();
    assert_eq!(about, ["GET", "POST"]);
    assert_eq!(world.keys_sent(&id), [format!("{id}.2")]);
    assert_eq!(order(&world.api, &id, "retry").await.0, 409);
    let rows = log(&world).await;
    assert!(said(&rows).contains(&("admin", "transfer.retried", &id)));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_transfer_that_failed_here_but_exists_at_stripe_is_booked_and_not_sent_again() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 2_000).await;
    world.stripe.hold_events(true);
    world.stripe.fault(Fault::next(FaultKind::Error500AfterCommit).on("POST", "/v1/transfers"));
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    // As if it had been taken for failed, by a hand in the database or an older version.
    let mend = "begin;
        update tasks set run_at = 'infinity' where kind = 'transfer';
        update transfers set status = 'failed', failure_code = 'x', waiting_on = '{}', counted_on = null; commit";
    sqlx::raw_sql(mend).execute(world.pool()).await.unwrap();
    world.stripe.clear_calls();
    assert_eq!(order(&world.api, &id, "retry").await.0, 200);
    // Its money is still reserved from the first time: what matters is that nothing is sent.
    world.until_status(&id, "released").await;
    assert_eq!(world.keys_sent(&id), Vec::<String>::new());
    assert_eq!(world.times_at_stripe(&id), 1);
}

#[tokio::test]
async fn an_order_against_a_release_either_wins_or_is_told_that_it_came_too_late() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 100_000).await;
    let (mut canceled, mut released) = (0, 0);
    for round in 0..40 {
        let id = world.transfer(&account, 100, json!({})).await;
        // Each round a little later.
        for _ in 0..round % 10 {
            world.api.get("/healthz").await;
        }
        let (status, answer) = order(&world.api, &id, "cancel").await;
        match status {
            200 => {
                assert_eq!(answer["status"], json!("canceled"));
                world.until_idle().await;
                assert_eq!(world.times_at_stripe(&id), 0, "canceled is canceled");
                canceled += 1;
            }
            409 => {
                assert_eq!(answer["code"], json!("transfer_state"));
                world.until_status(&id, "released").await;
                assert_eq!(world.times_at_stripe(&id), 1);
                released += 1;
            }
            other => panic!("{other}: {answer}"),
        }
    }
    assert!(canceled > 0 && released > 0, "{canceled} canceled, {released} released: no race was run");
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["reserved"]), (&json!(100 * released), &json!(0)));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn what_is_held_or_paused_before_a_repetition_is_not_sent_again() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 2_000).await;
    for how in ["hold", "pause"] {
        world.stripe.fault(Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/transfers").times(None));
        let id = world.transfer(&account, 1_000, json!({})).await;
        let first = format!("{id}.1");
        world.until_called(|call| call.idempotency_key.as_deref() == Some(&first)).await;
        if how == "hold" {
            assert_eq!(order(&world.api, &id, "hold").await.0, 200);
        } else {
            assert_eq!(world.api.post("/v1/releases/pause", &id, &json!({})).await.0, 200);
        }
        world.stripe.clear_faults();
        world.until_idle().await;
        let code = if how == "hold" { "on_hold" } else { "releases_paused" };
        world.until_waiting_on(&id, &[code, "stripe_unavailable"]).await;
        let sent = world.keys_sent(&id).len();
        // A repetition is due within seconds; none is made.
        world.clock.advance(Duration::seconds(300));
        world.until_idle().await;
        assert_eq!(world.keys_sent(&id).len(), sent);
        assert_eq!(world.times_at_stripe(&id), 0);
        if how == "hold" {
            assert_eq!(order(&world.api, &id, "resume").await.0, 200);
        } else {
            assert_eq!(world.api.post("/v1/releases/resume", "r", &json!({})).await.0, 200);
        }
        world.clock.advance(Duration::minutes(11));
        world.until_status(&id, "released").await;
    }
    world.assert_books_hold().await;
}
