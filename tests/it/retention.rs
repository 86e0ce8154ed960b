//! Old events go a week at a time, and what they led to can still be recomputed.

use std::time::{Duration as Wait, Instant};

use serde_json::json;
use time::Duration;

use crate::support::events::{about_account, about_topup, id_of};
use crate::support::world::{World, eventually};
use crate::transfers::reverse as reverse_by_hand;

/// Stops the service, lets two months pass, and starts it again.
async fn two_months_later(world: &mut World) {
    world.stop_service().await;
    world.clock.advance(Duration::days(60));
    world.start_service().await;
}

async fn keeping_for_35_days() -> World {
    World::with(|setting| setting.plan.retention = Wait::from_secs(35 * 24 * 60 * 60)).await
}

/// Waits until no weekly partition is left that ended 35 days ago or earlier.
async fn until_old_weeks_are_gone(world: &World) {
    let oldest_kept = world.clock.now() - Duration::days(42);
    let name =
        format!("outbox_{}{:02}{:02}", oldest_kept.year(), u8::from(oldest_kept.month()), oldest_kept.day());
    let gone = || async {
        let left = world
            .count(
                "select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
                 where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$' and c.relname < $1",
                &name,
            )
            .await;
        (left == 0).then_some(())
    };
    eventually(gone).await.expect("the old weeks go");
}

#[tokio::test]
async fn what_dropped_events_led_to_is_kept_and_new_ones_are_folded_on_top() {
    let mut world = keeping_for_35_days().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 5_000).await;
    let transfer = world.transfer(&account, 1_000, json!({})).await;
    let released = world.until_status(&transfer, "released").await;
    let old = about_account("account.updated.03_ready_transfers_only", "acct_old", world.second());
    world.tell(&old).await;
    world.until_settled(&old).await;
    world.until_events_done().await;

    two_months_later(&mut world).await;
    until_old_weeks_are_gone(&world).await;
    assert_eq!(world.api.get(&format!("/v1/events/{}", id_of(&old))).await.0, 404);
    assert_eq!(world.api.get("/v1/accounts/acct_old/readiness").await.1["ready"], json!(true));
    world.assert_books_hold().await;

    let unready =
        about_account("account.updated.05_transfers_revoked_after_ready", "acct_old", world.second());
    world.tell(&unready).await;
    world.until_settled(&unready).await;
    let at_stripe = released["stripe_transfer"].as_str().unwrap();
    reverse_by_hand(&world, at_stripe, 400).await;
    world.until_status(&transfer, "partially_reversed").await;
    assert_eq!(world.api.get("/v1/accounts/acct_old/readiness").await.1["ready"], json!(false));
    world.until_events_done().await;
    world.assert_books_hold().await;
    // What is held and does not follow is still found out.
    sqlx::query("update accounts set charges_enabled = not charges_enabled where account = $1")
        .bind(&account)
        .execute(world.pool())
        .await
        .unwrap();
    let rules =
        sluicegate::flows::rebuild::Rules { policy: world.plan.policy.clone(), rule: world.plan.rule };
    let report = sluicegate::flows::rebuild::check(world.pool(), &rules).await.unwrap();
    assert_eq!(report.told.iter().map(|told| &*told.subject).collect::<Vec<_>>(), [&*account]);
}

#[tokio::test]
async fn a_week_with_a_dead_letter_stays_until_that_is_settled() {
    let mut world = keeping_for_35_days().await;
    let dead = about_topup("topup.succeeded", "nonsense", world.second());
    world.tell(&dead).await;
    let failed = || async {
        let shown = world.event(&dead).await;
        world.clock.advance(Duration::seconds(5));
        (shown["status"] == json!("failed")).then_some(())
    };
    eventually(failed).await.expect("it is given up");
    two_months_later(&mut world).await;
    let recent = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    world.tell(&recent).await;
    world.until_settled(&recent).await;
    assert_eq!(world.event(&dead).await["status"], json!("failed"), "it is still there to be raised");
}

#[tokio::test]
async fn somebody_who_holds_the_outbox_in_use_delays_the_drop_and_no_delivery() {
    let mut world = keeping_for_35_days().await;
    let old = about_account("account.updated.03_ready_transfers_only", "acct_old", world.second());
    world.tell(&old).await;
    world.until_settled(&old).await;
    let mut report = world.pool().begin().await.unwrap();
    sqlx::query("select count(*) from outbox").execute(&mut *report).await.unwrap();
    two_months_later(&mut world).await;
    for n in 0..10 {
        let event =
            about_account("account.updated.03_ready_transfers_only", &format!("acct_{n}"), world.second());
        let began = Instant::now();
        world.tell(&event).await;
        assert!(began.elapsed() < Wait::from_secs(2), "delivery {n} waited for {:?}", began.elapsed());
    }
    assert_eq!(world.event(&old).await["status"], json!("processed"), "it is still there");
    report.rollback().await.unwrap();
    two_months_later(&mut world).await;
    until_old_weeks_are_gone(&world).await;
    world.assert_books_hold().await;
}
