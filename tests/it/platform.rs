//! The platform's own account: its payout schedule, which can carry added money away, and the warning of it.

use serde_json::json;
use sluicegate::sandbox::{AccountChange, Fault, FaultKind};
use time::Duration;

use crate::support::events::renewed;
use crate::support::reply::ask;
use crate::support::world::{World, eventually};

const AUTOMATIC: &str = "sluicegate_platform_payouts_automatic 1";
const MANUAL: &str = "sluicegate_platform_payouts_automatic 0";

impl World {
    /// Sets the platform's own payout schedule, as somebody in the Dashboard.
    pub fn schedule_payouts(&self, interval: &str) {
        let settings = json!({"settings": {"payouts": {"schedule": {"interval": interval}}}});
        let change = AccountChange { other: Some(settings), ..AccountChange::default() };
        self.stripe.change_account(&self.stripe.platform(), &change).unwrap();
    }

    /// Waits until this world's metrics have this line.
    async fn until_measured(&self, line: &str) {
        let measured = || async {
            let answer = ask(self.api.http.get(self.api.url("/metrics"))).await;
            answer.body.as_str().unwrap().lines().any(|found| found == line).then_some(())
        };
        assert!(eventually(measured).await.is_some(), "{line} was never measured");
    }

    async fn held_interval(&self) -> Option<String> {
        sqlx::query_scalar("select payout_interval from platforms where not livemode")
            .fetch_optional(self.pool())
            .await
            .unwrap()
            .flatten()
    }

    async fn until_interval(&self, interval: &str) {
        let held = || async { (self.held_interval().await.as_deref() == Some(interval)).then_some(()) };
        assert!(eventually(held).await.is_some(), "held: {:?}", self.held_interval().await);
    }
}

#[tokio::test]
async fn the_platforms_schedule_is_read_at_the_start_and_again_when_stripe_tells_of_a_change() {
    let world = World::start().await;
    world.until_interval("manual").await;
    world.until_measured(MANUAL).await;
    let shown = world.api.get("/v1/platform").await.1;
    assert_eq!((&shown["account"], &shown["country"]), (&json!(world.stripe.platform()), &json!("US")));
    assert_eq!((&shown["payouts"]["automatic"], &shown["warnings"]), (&json!(false), &json!([])));
    world.schedule_payouts("daily");
    world.until_interval("daily").await;
    world.until_measured(AUTOMATIC).await;
    let shown = world.api.get("/v1/platform").await.1;
    assert_eq!(shown["payouts"]["interval"], json!("daily"));
    assert_eq!(shown["warnings"][0]["code"], json!("automatic_payouts"));
    assert!(shown["warnings"][0]["mend"].as_str().unwrap().contains("manual"), "{shown}");
    world.schedule_payouts("manual");
    world.until_interval("manual").await;
    world.until_measured(MANUAL).await;
    let (account, country): (String, String) =
        sqlx::query_as("select account, country from platforms").fetch_one(world.pool()).await.unwrap();
    assert_eq!((account, country.as_str()), (world.stripe.platform(), "US"));
    let readings = world.rows("outbox where subject_kind = 'platform' and kind = 'observation'").await;
    assert!(readings >= 3, "each reading is kept: {readings}");
}

#[tokio::test]
async fn a_change_that_no_event_tells_of_is_seen_within_the_hour() {
    let world = World::start().await;
    world.until_interval("manual").await;
    world.until_none_due().await;
    world.stripe.lose_events(1_000);
    world.schedule_payouts("weekly");
    world.clock.advance(Duration::minutes(61));
    world.until_interval("weekly").await;
    world.stripe.hold_events(true);
    world.schedule_payouts("manual");
    world.tell(&renewed("balance_settings.updated", world.second())).await;
    world.until_interval("manual").await;
}

#[tokio::test]
async fn an_automatic_payout_shows_a_schedule_that_the_key_may_not_read() {
    let world = World::with(|_| {}).await;
    world.until_none_due().await;
    // From now on the key has lost its permission, and what it read before is forgotten.
    let refuse =
        FaultKind::Refuse { status: 403, code: "more_permissions_required".into(), message: "no".into() };
    world.stripe.fault(Fault::next(refuse).on("GET", "/v1/account").times(None));
    for sql in ["delete from platforms", "delete from tasks where kind = 'platform'"] {
        sqlx::query(sql).execute(world.pool()).await.unwrap();
    }
    world.stripe.add_balance("usd", 1_000);
    assert_eq!(world.stripe.pay_out("usd"), 1_000);
    world.until_measured(AUTOMATIC).await;
    let refused = || async {
        let refusal: Option<String> =
            sqlx::query_scalar("select refusal from platforms").fetch_one(world.pool()).await.unwrap();
        (refusal.as_deref() == Some("no")).then_some(())
    };
    assert!(eventually(refused).await.is_some());
    assert_eq!(world.held_interval().await, None);
    // A payout that somebody ordered is no symptom, nor is one of a connected account.
    let before: Option<time::OffsetDateTime> =
        sqlx::query_scalar("select automatic_payout_at from platforms")
            .fetch_one(world.pool())
            .await
            .unwrap();
    let mut by_hand = renewed("payout.created.platform_automatic", world.second() + 60);
    by_hand["data"]["object"]["automatic"] = json!(false);
    world.tell(&by_hand).await;
    assert_eq!(world.until_settled(&by_hand).await["status"], json!("processed"));
    let mut theirs = renewed("payout.created.connected", world.second() + 60);
    theirs["data"]["object"]["automatic"] = json!(true);
    world.tell(&theirs).await;
    assert_eq!(world.event(&theirs).await["reason"], json!("connected_account"));
    let after: Option<time::OffsetDateTime> = sqlx::query_scalar("select automatic_payout_at from platforms")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(before, after);
}
