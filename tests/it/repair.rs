//! What Stripe never delivered is found in its lists, folded in once, and counted.

use std::time::Duration as Wait;

use serde_json::{Value, json};
use sluicegate::sandbox::{AccountChange, AccountSpec, Fault, FaultKind};
use time::Duration;

use crate::audit::{log, said};
use crate::support::reply::ask;
use crate::support::world::World;
use crate::transfers::reverse as reverse_by_hand;

/// A world that searches Stripe's events every ten minutes and compares lists every five.
async fn mending() -> World {
    World::with(|setting| {
        setting.plan.backfill_every = Some(Wait::from_secs(600));
        setting.plan.reconcile_every = Some(Wait::from_secs(300));
    })
    .await
}

/// How far the walks have come.
async fn details(world: &World) -> Value {
    world.api.get("/readyz").await.1["details"].clone()
}

fn list<'a>(details: &'a Value, name: &str) -> &'a Value {
    details["lists"].as_array().unwrap().iter().find(|list| list["list"] == *name).unwrap_or(&Value::Null)
}

/// Waits until the walk through a list has come to its end so often.
async fn until_runs(world: &World, name: &str, runs: i64) {
    let ended = || async {
        let found = world.count("select coalesce(max(runs), 0) from sweeps where name = $1", name).await;
        (found >= runs).then_some(())
    };
    assert!(crate::support::world::eventually(ended).await.is_some(), "{name} never ended its run {runs}");
}

async fn backfill(world: &World, key: &str, body: Value) -> (u16, Value) {
    world.api.post("/v1/backfill", key, &body).await
}

#[tokio::test]
async fn events_that_never_arrived_are_found_in_time_and_take_effect_once() {
    let world = mending().await;
    until_runs(&world, "events", 1).await;
    let before = details(&world).await["events_complete_to"].clone();
    world.stripe.lose_events(1_000);
    let account = world.stripe.create_ready_account();
    let topup = world.stripe.create_topup("usd", 1_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.stripe.make_available(&topup).unwrap();
    let id = world.transfer(&account, 700, json!({})).await;
    world.clock.advance(Duration::minutes(11));
    world.until_status(&id, "released").await;
    until_runs(&world, "events", 2).await;
    let after = details(&world).await["events_complete_to"].clone();
    assert!(after.as_str() > before.as_str(), "{before} {after}");
    let backfilled =
        world.count("select count(*) from outbox where source = 'api' and kind = $1", "snapshot").await;
    assert!(backfilled >= 2, "created and succeeded");
    // Delivered after all, they are known.
    world.stripe.lose_events(0);
    let (_, page) = world.api.get("/v1/events?type=topup.succeeded").await;
    let event = page["data"][0]["id"].as_str().unwrap();
    assert_eq!(page["data"][0]["source"], json!("api"));
    world.stripe.deliver(event).await.unwrap();
    assert_eq!(world.count("select count(*) from outbox where event_id = $1", event).await, 1);
    assert_eq!(world.funds("usd").await["settled"], json!(1_000));
    world.until_idle().await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_order_tells_what_was_found_and_stored_and_stands_on_record() {
    let world = World::start().await;
    world.stripe.lose_events(1_000);
    let topup = world.stripe.create_topup("usd", 500);
    world.stripe.settle_topup(&topup).unwrap();
    let since = "2026-01-01T00:00:00Z";
    let (status, told) = backfill(&world, "b", json!({"since": since})).await;
    assert_eq!((status, &told["stored"], &told["complete"]), (200, &told["found"], &json!(true)), "{told}");
    assert!(told["stored"].as_i64() >= Some(2), "{told}");
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["status"] == json!("succeeded")).await;
    let (_, again) = backfill(&world, "c", json!({})).await;
    assert_eq!((&again["stored"], &again["found"]), (&json!(0), &told["found"]), "nothing twice");
    assert_eq!(backfill(&world, "b", json!({"since": since})).await.1, told, "the same key, the same answer");
    let rows = log(&world).await;
    assert_eq!(said(&rows).iter().filter(|row| **row == ("admin", "backfill.ordered", "events")).count(), 2);
    for (body, pointer) in [
        (json!({"since": "2099-01-01T00:00:00Z"}), "/since"),
        (json!({"since": 1}), "/since"),
        (json!({"from": ""}), "/from"),
    ] {
        let (status, problem) = backfill(&world, "d", body.clone()).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}");
    }
}

#[tokio::test]
async fn a_search_that_is_cut_off_goes_on_from_its_cursor() {
    let mut world = World::with(|setting| setting.plan.backfill_every = Some(Wait::from_secs(600))).await;
    until_runs(&world, "events", 1).await;
    world.stripe.lose_events(1_000);
    for _ in 0..250 {
        world.stripe.create_topup("usd", 1);
    }
    // The first page comes, the second does not, again and again.
    let lost = Fault::next(FaultKind::DropBeforeCommit).on("GET", "/v1/events").times(None);
    world.stripe.fault(Fault { skip: 1, ..lost });
    world.clock.advance(Duration::minutes(11));
    let half = || async {
        let seen = world.count(
            "select coalesce(max(seen), 0) from sweeps where name = $1 and finished_at is null",
            "events",
        );
        (seen.await == 100).then_some(())
    };
    crate::support::world::eventually(half).await.expect("the first page was never kept");
    world.stop_service().await;
    world.stripe.clear_faults();
    world.stripe.clear_calls();
    world.start_service().await;
    until_runs(&world, "events", 2).await;
    let calls = world.stripe.calls();
    let first = calls.iter().find(|call| call.path == "/v1/events").unwrap();
    assert!(first.body.contains("starting_after"), "from where it was: {}", first.body);
    world.until_idle().await;
    assert_eq!(world.rows("topups").await, 250);
}

#[tokio::test]
async fn a_cursor_that_stripe_does_not_know_any_more_begins_the_walk_anew() {
    let mut world = mending().await;
    for name in ["accounts", "topups", "transfers", "events"] {
        until_runs(&world, name, 1).await;
    }
    world.stop_service().await;
    // An account left, events are no longer listed: what the walk was to go on from is gone.
    sqlx::raw_sql("update sweeps set finished_at = null, seen = 100, after = left(name, 2) || '_gone'")
        .execute(world.pool())
        .await
        .unwrap();
    world.clock.advance(Duration::minutes(11));
    world.start_service().await;
    let begun = || async { (world.rows("sweeps where after like '%\\_gone'").await == 0).then_some(()) };
    assert!(
        crate::support::world::eventually(begun).await.is_some(),
        "the cursors are still those that are gone"
    );
    world.clock.advance(Duration::minutes(6));
    for name in ["accounts", "topups", "transfers", "events"] {
        until_runs(&world, name, 2).await;
    }
}

#[tokio::test]
async fn on_a_platform_that_already_runs_all_is_taken_in_and_nothing_spent_long_ago_is_money() {
    let mut world = World::start().await;
    world.stop_service().await;
    // A life before Sluicegate: none of it was ever delivered here.
    world.stripe.lose_events(10_000);
    let accounts: Vec<String> = (0..130).map(|_| world.stripe.create_ready_account()).collect();
    let spent = world.stripe.create_topup("usd", 5_000);
    world.stripe.settle_topup(&spent).unwrap();
    world.stripe.make_available(&spent).unwrap();
    world.clock.advance(Duration::days(3));
    let coming = world.stripe.create_topup("usd", 800);
    let fresh = crate::support::postgres::database().await;
    world.db = fresh;
    world.plan.database_url.clone_from(&world.db.url);
    world.plan.reconcile_every = Some(Wait::from_secs(300));
    world.start_service().await;
    until_runs(&world, "accounts", 1).await;
    until_runs(&world, "topups", 1).await;
    world.until_idle().await;
    let told = details(&world).await;
    assert_eq!(
        (&list(&told, "accounts")["read"], &list(&told, "accounts")["imported"]),
        (&json!(130), &json!(true))
    );
    let (_, readiness) = world.api.get(&format!("/v1/accounts/{}/readiness", accounts[7])).await;
    assert_eq!(readiness["ready"], json!(true));
    world.api.until(&format!("/v1/topups/{spent}"), |t| t["settled"] == json!(true)).await;
    world.api.until(&format!("/v1/topups/{coming}"), |t| t["status"] == json!("pending")).await;
    let funds = world.funds("usd").await;
    assert_eq!((&funds["settled"], &funds["pending"]), (&json!(0), &json!(800)));
    let id = world.transfer(&accounts[0], 700, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.stripe.settle_topup(&coming).unwrap();
    world.stripe.make_available(&coming).unwrap();
    world.clock.advance(Duration::minutes(6));
    world.until_status(&id, "released").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn what_was_changed_while_no_event_told_is_found_by_comparing() {
    let world = mending().await;
    for name in ["accounts", "topups", "transfers"] {
        until_runs(&world, name, 1).await;
    }
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 800, json!({})).await;
    let released = world.until_status(&id, "released").await;
    world.until_idle().await;
    // Events are lost, and gone from Stripe's list as well.
    world.stripe.lose_events(1_000);
    world.stripe.fault(Fault::next(FaultKind::UnavailableBeforeCommit).on("GET", "/v1/events").times(None));
    reverse_by_hand(&world, released["stripe_transfer"].as_str().unwrap(), 300).await;
    let restricted = AccountChange { charges_enabled: Some(false), ..AccountChange::default() };
    world.stripe.change_account(&account, &restricted).unwrap();
    let unheard = world.stripe.create_account(AccountSpec::default());
    let topup = world.stripe.create_topup("eur", 70);
    world.clock.advance(Duration::minutes(6));
    world.until_status(&id, "partially_reversed").await;
    let readiness = format!("/v1/accounts/{account}/readiness");
    world.api.until(&readiness, |shown| shown["ready"] == json!(false)).await;
    world
        .api
        .until(&format!("/v1/accounts/{unheard}/readiness"), |shown| shown["ready"] == json!(false))
        .await;
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["status"] == json!("pending")).await;
    let metrics = ask(world.api.http.get(world.api.url("/metrics"))).await.body;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("sluicegate_reconcile_differences_total{kind=\"transfer\"}"), "{metrics}");
    assert!(metrics.contains("sluicegate_events_complete_to_timestamp_seconds"), "{metrics}");
    world.until_idle().await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_account_that_left_while_no_event_told_is_missed_in_the_list_and_asked_for() {
    let world = mending().await;
    until_runs(&world, "accounts", 1).await;
    let (gone, stays) = (world.ready_account().await, world.ready_account().await);
    world.until_idle().await;
    // By then it is so long ago that a look at it is due again.
    world.clock.advance(Duration::hours(2));
    until_runs(&world, "accounts", 2).await;
    world.until_idle().await;
    world.stripe.lose_events(1_000);
    world.stripe.deauthorize(&gone).unwrap();
    world.stripe.clear_calls();
    world.clock.advance(Duration::minutes(66));
    let readiness = format!("/v1/accounts/{gone}/readiness");
    let shown = world.api.until(&readiness, |shown| shown["deauthorized"] == json!(true)).await;
    assert_eq!((&shown["ready"], world.asked(&format!("/v1/accounts/{gone}")).len()), (&json!(false), 1));
    assert_eq!(world.api.get(&format!("/v1/accounts/{stays}/readiness")).await.1["ready"], json!(true));
    assert_eq!(world.asked(&format!("/v1/accounts/{stays}")).len(), 0, "it was on the list");
    world.until_idle().await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn the_end_of_what_is_complete_moves_only_when_a_search_ended() {
    let world = World::with(|setting| setting.plan.backfill_every = Some(Wait::from_secs(600))).await;
    until_runs(&world, "events", 1).await;
    let before = details(&world).await;
    world.stripe.fault(Fault::next(FaultKind::UnavailableBeforeCommit).on("GET", "/v1/events").times(None));
    world.clock.advance(Duration::hours(1));
    world.until_called(|call| call.path == "/v1/events" && !call.body.is_empty()).await;
    tokio::time::sleep(Wait::from_millis(300)).await;
    assert_eq!(details(&world).await["events_complete_to"], before["events_complete_to"]);
    world.stripe.clear_faults();
    world.clock.advance(Duration::minutes(10));
    until_runs(&world, "events", 2).await;
    assert!(details(&world).await["events_complete_to"].as_str() > before["events_complete_to"].as_str());
}

/// Runs the program on a world's database and its Stripe.
async fn run(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(arguments).env_clear().env("DATABASE_URL", &world.db.url);
    command.env("STRIPE_SECRET_KEY", "sk_test_world").env("STRIPE_API_BASE", world.sandbox.url());
    let ended = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap(), text(&ended.stdout), text(&ended.stderr))
}

#[tokio::test]
async fn the_shell_searches_and_replays_and_is_on_record() {
    let world = World::start().await;
    world.stripe.lose_events(1_000);
    let topup = world.stripe.create_topup("usd", 500);
    let (code, told, errors) = run(&world, &["backfill", "--output", "json"]).await;
    let told: Value = serde_json::from_str(&told).unwrap_or_default();
    assert_eq!((code, &told["stored"], &told["complete"]), (0, &json!(1), &json!(true)), "{errors}");
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["status"] == json!("pending")).await;
    world.until_idle().await;
    let (_, page) = world.api.get("/v1/events?type=topup.created").await;
    let event = page["data"][0]["id"].as_str().unwrap();
    let (code, _, errors) = run(&world, &["replay", event]).await;
    assert_eq!(code, 0, "{errors}");
    let (code, _, errors) = run(&world, &["replay", "evt_none"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("evt_none: Unknown event"), "{errors}");
    let (code, _, errors) = run(&world, &["backfill", "--since", "yesterday"]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("RFC 3339"), "{errors}");
    world.stripe.fault(Fault::next(FaultKind::Unauthorized).on("GET", "/v1/events"));
    let (code, _, errors) = run(&world, &["backfill"]).await;
    assert_eq!((code, errors.matches("Invalid API Key").count()), (1, 1), "said once: {errors}");
    assert!(errors.contains("`sluicegate doctor` tells the mend"), "{errors}");
    let rows = log(&world).await;
    for ordered in [("backfill.ordered", "events"), ("event.replayed", event)] {
        let by_a_person =
            |row: &&(&str, &str, &str)| row.0.starts_with("shell:") && (row.1, row.2) == ordered;
        assert!(said(&rows).iter().any(|row| by_a_person(&row)), "{ordered:?}");
    }
}
