//! A database restored from a backup has forgotten what was paid since: nothing is paid again.

use serde_json::{Value, json};
use sluicegate::flows::rebuild::{self, Rules};
use sluicegate::sandbox::{Fault, FaultKind};
use sluicegate::store::heartbeats;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgPool};
use time::{Duration, OffsetDateTime};

use crate::audit::{log, said};
use crate::stream::Stream;
use crate::support::world::{World, eventually};

/// A backup: the database as it is now, under another name.
async fn back_up(world: &mut World) -> String {
    world.stop_service().await;
    let name = format!("backup_{}", uuid::Uuid::new_v4().simple());
    let options: PgConnectOptions = world.db.url.parse().unwrap();
    let original = options.get_database().unwrap().to_owned();
    world.db.pool.close().await;
    let mut conn = options.clone().database("postgres").connect().await.unwrap();
    let sql = format!("create database {name} template {original}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    world.db.pool = PgPool::connect_with(options.clone()).await.unwrap();
    world.start_service().await;
    options.database(&name).to_url_lossy().to_string()
}

/// Brings the backup in the place of the database, `later` after the last heartbeat.
async fn restore(world: &mut World, backup: &str, later: Duration) {
    world.stop_service().await;
    world.clock.advance(later);
    world.plan.database_url = backup.to_owned();
    world.db.pool = PgPool::connect(backup).await.unwrap();
    world.stripe.clear_calls();
    world.start_service().await;
}

/// The transfers' calls at Stripe in order: `L` for a list, `P` for a creation.
fn calls(world: &World) -> String {
    let calls = world.stripe.calls();
    let ours = calls.iter().filter(|call| call.path == "/v1/transfers");
    ours.map(|call| if call.method == "GET" { 'L' } else { 'P' }).collect()
}

#[tokio::test]
async fn what_was_paid_after_the_backup_is_not_paid_again() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    let waited = world.transfer(&account, 1_000, json!({})).await;
    let canceled_later = world.transfer(&account, 2_000, json!({})).await;
    let backup = back_up(&mut world).await;
    // After the backup: those two go out, and one that the backup has never heard of.
    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    world.until_status(&waited, "released").await;
    world.until_status(&canceled_later, "released").await;
    let body = json!({"destination": account, "amount": 3_000, "currency": "usd", "description": "d",
        "metadata": {"order": "17"}});
    let (_, forgotten) = world.api.post("/v1/transfers", "order-17", &body).await;
    let forgotten = forgotten["id"].as_str().unwrap().to_owned();
    world.until_status(&forgotten, "released").await;

    restore(&mut world, &backup, Duration::hours(2)).await;
    // The backup was made while releases were paused.
    world.api.post("/v1/releases/resume", "r2", &json!({})).await;
    for id in [&waited, &canceled_later, &forgotten] {
        let shown = world.until_status(id, "released").await;
        assert!(shown["stripe_transfer"].as_str().is_some());
        assert_eq!(world.times_at_stripe(id), 1, "{id}");
    }
    world.until_idle().await;
    assert_eq!(calls(&world), "L", "one list, and nothing sent");
    let shown = world.api.get(&format!("/v1/transfers/{forgotten}")).await.1;
    assert_eq!((&shown["amount"], &shown["destination"]), (&json!(3_000), &json!(account)));
    assert_eq!((&shown["description"], &shown["metadata"]), (&json!("d"), &json!({"order": "17"})));
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["available"]), (&json!(6_000), &json!(4_000)));
    let rows = log(&world).await;
    assert!(said(&rows).contains(&("sluicegate", "transfer.adopted", forgotten.as_str())));
    // Its caller asks once more with the same key: it is the same transfer. With the key for another: no.
    let (status, again) = world.api.post("/v1/transfers", "order-17", &body).await;
    assert_eq!((status, again["id"].as_str()), (201, Some(forgotten.as_str())));
    let mut other = body.clone();
    other["amount"] = json!(3_001);
    assert_eq!(world.api.post("/v1/transfers", "order-17", &other).await.0, 409);
    assert_eq!(world.times_at_stripe(&forgotten), 1);
    world.assert_books_hold().await;
    // And money goes out as before.
    let next = world.transfer(&account, 4_000, json!({})).await;
    world.until_status(&next, "released").await;
    world.until_idle().await;
    // Who took it in, and as what, is compared as well.
    let mut tx = world.pool().begin().await.unwrap();
    sqlx::query("set local session_replication_role = replica").execute(&mut *tx).await.unwrap();
    sqlx::query("update transfers set created_by = 'admin', idempotency_key = 'order-17' where id = $1")
        .bind(&forgotten)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let rules = Rules { policy: world.plan.policy.clone(), rule: world.plan.rule };
    let report = rebuild::check(world.pool(), &rules).await.unwrap();
    let told: Vec<_> = report.told.iter().map(|told| (&*told.subject, &*told.field)).collect();
    assert_eq!(told, [(&*forgotten, "created_by"), (&*forgotten, "idempotency_key")]);
}

#[tokio::test]
async fn another_request_with_a_forgotten_key_is_told_so_before_it_was_repeated() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let backup = back_up(&mut world).await;
    let body = |amount: i64| json!({"destination": account, "amount": amount, "currency": "usd"});
    let (_, forgotten) = world.api.post("/v1/transfers", "k", &body(10)).await;
    world.until_status(forgotten["id"].as_str().unwrap(), "released").await;
    restore(&mut world, &backup, Duration::hours(1)).await;
    world.until_status(forgotten["id"].as_str().unwrap(), "released").await;
    let (status, problem) = world.api.post("/v1/transfers", "k", &body(11)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
}

#[tokio::test]
async fn a_batch_asked_for_again_finds_what_went_out_of_it_and_makes_the_rest() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let backup = back_up(&mut world).await;
    let one = |amount: i64| json!({"destination": account, "amount": amount, "currency": "usd"});
    let body = json!({"transfers": [one(4_000), one(9_000), one(4_000)]});
    let (status, made) = world.api.post("/v1/transfers/batch", "b", &body).await;
    let id = |at: usize| made["data"][at]["id"].as_str().unwrap().to_owned();
    assert_eq!(status, 201);
    world.until_status(&id(0), "released").await;
    world.until_waiting_on(&id(1), &["funds_insufficient"]).await;
    restore(&mut world, &backup, Duration::hours(2)).await;
    world.until_status(&id(0), "released").await;
    let mut other = body.clone();
    other["transfers"][0]["amount"] = json!(4_001);
    assert_eq!(world.api.post("/v1/transfers/batch", "b", &other).await.0, 409);
    let (status, again) = world.api.post("/v1/transfers/batch", "b", &body).await;
    assert_eq!((status, again["data"][0]["id"].as_str()), (201, Some(id(0).as_str())));
    let rest: Vec<&str> = (1..3).map(|at| again["data"][at]["id"].as_str().unwrap()).collect();
    assert!(
        rest.iter().all(|new| **new != id(1) && **new != id(2)),
        "the others had never gone out: {again}"
    );
    assert_eq!(again["data"][2]["amount"], json!(4_000));
    assert_eq!(world.rows("transfers").await, 3);
    assert_eq!(world.times_at_stripe(&id(0)), 1);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn nothing_is_released_before_the_whole_list_was_read() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 100_000).await;
    let backup = back_up(&mut world).await;
    // More than one page of Stripe's list.
    let mut forgotten = Vec::new();
    for _ in 0..120 {
        forgotten.push(world.transfer(&account, 100, json!({})).await);
    }
    for id in &forgotten {
        world.until_status(id, "released").await;
    }
    world.stripe.fault(Fault {
        skip: 1,
        ..Fault::next(FaultKind::UnavailableBeforeCommit).on("GET", "/v1/transfers").times(None)
    });
    restore(&mut world, &backup, Duration::minutes(16)).await;
    let new = world.transfer(&account, 500, json!({})).await;
    world.until_waiting_on(&new, &["releases_paused"]).await;
    world.until_called(|call| call.path == "/v1/transfers" && call.outcome.status == Some(503)).await;
    let shown: Value = reqwest::get(world.api.url("/readyz")).await.unwrap().json().await.unwrap();
    assert!(shown["details"]["catching_up_since"].as_str().is_some(), "{shown}");
    assert_eq!(world.api.get(&format!("/v1/transfers/{new}")).await.1["status"], json!("waiting"));
    // Even after another start in the middle of it, with a heartbeat that is fresh by now.
    world.stop_service().await;
    world.start_service().await;
    world.until_waiting_on(&new, &["releases_paused"]).await;
    assert_eq!(world.times_at_stripe(&new), 0);
    world.stripe.clear_faults();
    world.until_status(&new, "released").await;
    assert!(calls(&world).ends_with('P') && !calls(&world).trim_end_matches('P').contains('P'));
    for id in &forgotten {
        world.until_status(id, "released").await;
    }
    let out: i64 = world.stripe.books().transfers.iter().map(|t| t.amount).sum();
    assert_eq!(out, 120 * 100 + 500);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn who_listened_before_is_told_that_what_they_heard_was_undone() {
    let mut world = World::start().await;
    let before = world.ready_account().await;
    world.until_quiet_about(&before).await;
    let backup = back_up(&mut world).await;
    let mut stream = Stream::open(&world.api, None).await;
    let forgotten = world.ready_account().await;
    stream.until(|heard| heard.data["account"] == json!(forgotten)).await;
    let last_id = stream.last_id.clone();
    drop(stream);
    restore(&mut world, &backup, Duration::minutes(1)).await;
    let first = Stream::open(&world.api, Some(&last_id)).await.next().await;
    assert_eq!((first.name.as_str(), &first.data["reason"]), ("reset", &json!("undone")));
}

#[tokio::test]
async fn a_short_stop_needs_no_list() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.stop_service().await;
    world.clock.advance(Duration::minutes(14));
    world.stripe.clear_calls();
    world.start_service().await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "released").await;
    assert_eq!(calls(&world), "P");
}

#[tokio::test]
async fn a_request_repeated_before_the_list_was_read_is_the_transfer_that_stripe_already_has() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let backup = back_up(&mut world).await;
    let body = |amount: i64| json!({"destination": account, "amount": amount, "currency": "usd"});
    for key in ["order-1", "order-2"] {
        let (_, forgotten) = world.api.post("/v1/transfers", key, &body(700)).await;
        world.until_status(forgotten["id"].as_str().unwrap(), "released").await;
    }
    world
        .stripe
        .fault(Fault::next(FaultKind::UnavailableBeforeCommit).on("GET", "/v1/transfers").times(None));
    restore(&mut world, &backup, Duration::hours(1)).await;
    // Its callers do not wait for us. One asks for the same, the other for more.
    let (_, same) = world.api.post("/v1/transfers", "order-1", &body(700)).await;
    let (_, other) = world.api.post("/v1/transfers", "order-2", &body(701)).await;
    let (same, other) = (same["id"].as_str().unwrap(), other["id"].as_str().unwrap());
    world.until_waiting_on(same, &["releases_paused"]).await;
    world.stripe.clear_faults();
    let shown = world.until_status(same, "released").await;
    let at_stripe = shown["stripe_transfer"].as_str().unwrap().to_owned();
    // Whoever asked for something else with the key has to be asked what is meant.
    world.until_waiting_on(other, &["on_hold"]).await;
    world.until_idle().await;
    let out: i64 = world.stripe.books().transfers.iter().map(|t| t.amount).sum();
    assert_eq!(out, 1_400, "nothing was paid twice");
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["available"]), (&json!(1_400), &json!(8_600)));
    let history = world.api.get(&format!("/v1/transfers/{other}")).await.1["history"].to_string();
    assert!(history.contains("Idempotency-Key"), "{history}");
    // What comes back of it is booked where it went out.
    crate::transfers::reverse(&world, &at_stripe, 100).await;
    world.until_status(same, "partially_reversed").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_cursor_that_stripe_does_not_know_any_more_begins_the_list_anew() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 1_000, json!({"release_after": "2099-01-01T00:00:00Z"})).await;
    world.until_waiting_on(&id, &["scheduled"]).await;
    world.stop_service().await;
    sqlx::raw_sql(
        "update heartbeats set catch_up_from = at - interval '1 hour', catch_up_after = 'tr_gone', catch_up_seen = 100;
         insert into tasks (kind, subject, livemode, run_at) values ('catch_up', 'transfers', false, now() - interval '1 day')",
    )
    .execute(world.pool())
    .await
    .unwrap();
    world.start_service().await;
    let done =
        || async { (world.rows("heartbeats where catch_up_from is not null").await == 0).then_some(()) };
    assert!(eventually(done).await.is_some(), "releases wait for a list that can't be read");
}

/// One beat of a replica whose clock shows `now`; true where the database seems to be another than it was.
async fn beat(world: &World, now: OffsetDateTime, last: Option<OffsetDateTime>) -> bool {
    let overlap = Duration::HOUR.try_into().unwrap();
    let mut conn = world.pool().acquire().await.unwrap();
    heartbeats::beat(&mut conn, false, now, Duration::minutes(15), overlap, last).await.unwrap()
}

#[tokio::test]
async fn replicas_whose_clocks_differ_do_not_take_each_other_for_a_restored_database() {
    let mut world = World::start().await;
    world.stop_service().await;
    let now = world.clock.now() + Duration::SECOND;
    let ahead = now + Duration::seconds(40);
    assert!(!beat(&world, ahead, None).await);
    assert!(!beat(&world, now, None).await, "the clock of this one is behind");
    assert!(!beat(&world, ahead + Duration::MINUTE, Some(ahead)).await);
    assert!(!beat(&world, now + Duration::MINUTE, Some(now)).await);
    assert!(beat(&world, ahead + Duration::minutes(20), Some(ahead)).await, "nobody beat for so long");
}

#[tokio::test]
async fn a_heartbeat_from_the_future_says_nothing_about_when_the_service_last_ran() {
    let mut world = World::start().await;
    world.transfer("acct_1", 1, json!({})).await;
    world.stop_service().await;
    let now = world.clock.now();
    sqlx::query("update heartbeats set at = $1")
        .bind(now + Duration::DAY)
        .execute(world.pool())
        .await
        .unwrap();
    assert!(beat(&world, now, None).await, "a clock was wrong: the whole list is read");
    let (at, from): (OffsetDateTime, OffsetDateTime) =
        sqlx::query_as("select at, catch_up_from from heartbeats").fetch_one(world.pool()).await.unwrap();
    assert_eq!(at, now, "and the time is right from here on");
    assert!(from < now - Duration::minutes(59), "since before the first transfer");
}

#[tokio::test]
async fn a_top_up_that_was_ordered_after_the_backup_is_not_ordered_again() {
    let mut world = World::start().await;
    let body = json!({"amount": 5_000, "currency": "usd"});
    world.api.post("/v1/topups", "before", &body).await;
    let backup = back_up(&mut world).await;
    let (status, made) = world.api.post("/v1/topups", "after", &body).await;
    assert_eq!(status, 201, "{made}");
    // Days later Stripe has forgotten the key: only the database or the list can tell.
    restore(&mut world, &backup, Duration::days(3)).await;
    world.stripe.forget_keys();
    let repeated = crate::support::world::eventually(|| async {
        let (status, answer) = world.api.post("/v1/topups", "after", &body).await;
        // Until the catch-up is through, nobody can say.
        (status != 503).then_some((status, answer))
    });
    let (status, again) = repeated.await.expect("the catch-up never ended");
    assert_eq!((status, &again["id"]), (201, &made["id"]), "{again}");
    let other = json!({"amount": 6_000, "currency": "usd"});
    assert_eq!(world.api.post("/v1/topups", "after", &other).await.0, 409);
    let posts = world.stripe.calls();
    let posts = posts.iter().filter(|call| call.method == "POST" && call.path == "/v1/topups").count();
    assert_eq!(posts, 0, "the bank was asked for nothing since");
}
