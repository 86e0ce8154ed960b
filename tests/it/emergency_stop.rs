//! The emergency stop under load: whoever presses it waits for no one who came later.

use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate::store::controls;

use crate::support::postgres::database;
use crate::support::world::{World, eventually};

/// What a look at a transfer has for its patience here; a lock that is granted at all is granted at once.
const PATIENCE: &str = "set lock_timeout = '300ms'";

#[tokio::test]
async fn a_stop_waits_only_for_looks_that_had_begun_before_it() {
    let db = database().await;
    let now = time::OffsetDateTime::now_utc();
    controls::ensure_release_controls(&mut db.pool.acquire().await.unwrap(), false, now).await.unwrap();
    let mut before = db.pool.begin().await.unwrap();
    controls::hold_pause(&mut before, false).await.unwrap();
    let mut beside = db.pool.begin().await.unwrap();
    controls::hold_pause(&mut beside, false).await.expect("looks do not wait for each other");
    beside.commit().await.unwrap();

    let pool = db.pool.clone();
    let stop = tokio::spawn(async move {
        let mut tx = pool.begin().await.unwrap();
        controls::set_pause(&mut tx, false, Some(("story", "admin")), now).await.unwrap();
        tx.commit().await.unwrap();
    });
    let waits = || async {
        const SQL: &str = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(SQL).fetch_one(&db.pool).await.unwrap();
        (waiting > 0).then_some(())
    };
    eventually(waits).await.expect("the stop waits for the look that had begun");

    let mut after = db.pool.begin().await.unwrap();
    sqlx::query(PATIENCE).execute(&mut *after).await.unwrap();
    let refused = controls::hold_pause(&mut after, false).await;
    assert!(refused.is_err(), "a look that comes later goes behind the stop, or stops would wait for ever");
    after.rollback().await.unwrap();

    before.commit().await.unwrap();
    stop.await.unwrap();
    let mut after = db.pool.begin().await.unwrap();
    controls::hold_pause(&mut after, false).await.unwrap();
    assert!(controls::find_pause(&mut after, false).await.unwrap().unwrap().paused);
}

#[tokio::test]
async fn amid_a_thousand_looks_a_stop_is_answered_at_once() {
    let world = World::start().await;
    let account = world.ready_account().await;
    for batch in 0..10 {
        let row = |_| json!({"destination": account, "amount": 100, "currency": "usd"});
        let rows: Vec<_> = (0..100).map(row).collect();
        let (status, made) =
            world.api.post("/v1/transfers/batch", &format!("b{batch}"), &json!({"transfers": rows})).await;
        assert_eq!(status, 201, "{made}");
    }
    world.until_idle().await;
    // Each order has all of them looked at again.
    let mut longest = Duration::ZERO;
    for turn in 0..3 {
        for order in ["pause", "resume"] {
            let began = Instant::now();
            let (status, said) = world
                .api
                .post(
                    &format!("/v1/releases/{order}"),
                    &format!("{order}{turn}"),
                    &json!({"reason": "story"}),
                )
                .await;
            assert_eq!(status, 200, "{said}");
            longest = longest.max(began.elapsed());
        }
    }
    println!("the slowest of six orders took {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

#[tokio::test]
async fn what_waits_for_its_turn_to_call_stripe_is_stopped_as_well() {
    // A burst of one, then one every quarter of a second.
    let world = World::with(|setting| setting.plan.stripe.rate_per_s = 4).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    world.until_idle().await;
    let row = |_| json!({"destination": account, "amount": 100, "currency": "usd"});
    let rows: Vec<_> = (0..12).map(row).collect();
    let (status, made) = world.api.post("/v1/transfers/batch", "b", &json!({"transfers": rows})).await;
    assert_eq!(status, 201, "{made}");
    let ids: Vec<&str> = made["data"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap()).collect();
    let sent = || ids.iter().map(|id| world.keys_sent(id).len()).sum::<usize>();
    let waits = || async {
        let begun = world.count("select count(*) from attempts where sends > 0 and subject <> $1", "").await;
        (sent() > 0 && begun >= 8).then_some(())
    };
    eventually(waits).await.expect("several sends wait for their turns");

    let unsent = ids.iter().rev().find(|id| world.keys_sent(id).is_empty()).unwrap();
    let (status, held) = world.api.post(&format!("/v1/transfers/{unsent}/hold"), "h", &json!({})).await;
    assert_eq!(status, 200, "{held}");
    let (status, paused) = world.api.post("/v1/releases/pause", "p", &json!({"reason": "story"})).await;
    assert_eq!(status, 200, "{paused}");
    // What had its turn just before is on its way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = sent();
    assert!(before < ids.len(), "the stop came too late to tell anything");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sent(), before, "nothing goes out after the stop was answered");

    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    for id in ids.iter().filter(|id| *id != unsent) {
        world.until_status(id, "released").await;
        assert_eq!(world.times_at_stripe(id), 1);
    }
    assert!(world.keys_sent(unsent).is_empty(), "it was held before its turn came");
    world.until_waiting_on(unsent, &["on_hold"]).await;
    world.assert_books_hold().await;
}
