//! Viewing funds: each top-up has a detailed view, with its history step by step.

use sluicegate::domain::topup::Rule;
use time::Duration;

use crate::support::world::{World, eventually};

impl World {
    /// A top-up's steps so far, in order, each change's with commas between.
    async fn steps(&self, topup: &str) -> Vec<String> {
        sqlx::query_scalar(
            "select array_to_string(steps, ',') from topup_changes where topup = $1 order by id",
        )
        .bind(topup)
        .fetch_all(self.pool())
        .await
        .unwrap()
    }

    async fn until_steps(&self, topup: &str, steps: &[&str]) {
        let there = || async { (self.steps(topup).await == steps).then_some(()) };
        assert!(eventually(there).await.is_some(), "{steps:?} expected, {:?} told", self.steps(topup).await);
    }
}

#[tokio::test]
async fn a_top_ups_history_tells_each_step_once_and_in_order() {
    let world = World::start().await;
    let id = world.stripe.create_topup("usd", 5_000);
    world.until_steps(&id, &["created"]).await;
    world.stripe.settle_topup(&id).unwrap();
    world.until_steps(&id, &["created", "succeeded"]).await;
    // Looked at again and again: nothing new is nothing told.
    world.clock.advance(Duration::hours(2));
    world.until_idle().await;
    world.until_steps(&id, &["created", "succeeded"]).await;
    world.stripe.make_available(&id).unwrap();
    world.until_steps(&id, &["created", "succeeded", "available,settled"]).await;
    world.stripe.reverse_topup(&id).unwrap();
    world.until_steps(&id, &["created", "succeeded", "available,settled", "reversed"]).await;
    let refused = sqlx::query("update topup_changes set settled = true").execute(world.pool()).await;
    assert!(refused.is_err(), "a history is not rewritten");
}

#[tokio::test]
async fn under_the_other_settlement_rule_money_settles_before_it_is_available() {
    let world = World::with(|setting| setting.plan.rule = Rule::TopupSucceeded).await;
    let id = world.stripe.create_topup("usd", 5_000);
    world.until_steps(&id, &["created"]).await;
    world.stripe.settle_topup(&id).unwrap();
    world.until_steps(&id, &["created", "succeeded,settled"]).await;
    world.stripe.make_available(&id).unwrap();
    world.until_steps(&id, &["created", "succeeded,settled", "available"]).await;
}

#[tokio::test]
async fn failed_and_canceled_top_ups_and_such_as_were_told_of_late_have_their_history_too() {
    let world = World::start().await;
    let failed = world.stripe.create_topup("usd", 5_000);
    world.until_steps(&failed, &["created"]).await;
    world.stripe.fail_topup(&failed, "insufficient_funds").unwrap();
    world.until_steps(&failed, &["created", "failed"]).await;
    world.stripe.lose_events(2);
    let late = world.stripe.create_topup("usd", 100);
    world.stripe.settle_topup(&late).unwrap();
    world.stripe.make_available(&late).unwrap();
    let account = world.ready_account().await;
    // Nobody told of it until a transfer named it.
    world.transfer(&account, 100, serde_json::json!({"topup": late})).await;
    world.until_steps(&late, &["created,succeeded,available,settled"]).await;
}
