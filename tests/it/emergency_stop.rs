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
