//! Transfers at Stripe that are not as ours were made: edited, copied, or another than was asked for.

use serde_json::{Value, json};
use sluicegate::sandbox::{Fault, FaultKind};

use crate::support::events::renewed;
use crate::support::world::World;

/// What somebody does to a transfer in Stripe's Dashboard.
async fn edit(world: &World, stripe_transfer: &str, pair: &str) {
    let url = format!("{}/v1/transfers/{stripe_transfer}", world.sandbox.url());
    let request = world.api.http.post(url).basic_auth("sk_test_world", Some(""));
    let request = request.header("Stripe-Version", "2026-10-28.endive");
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(request.body(pair.to_owned()).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn one_whose_metadata_was_taken_away_is_found_by_its_label_and_not_paid_again() {
    let world = World::with(|setting| setting.plan.grace = std::time::Duration::from_secs(2)).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.stripe.add_balance("usd", 1_000);
    world.stripe.lose_events(50);
    world.stripe.fault(Fault::next(FaultKind::Error500AfterCommit).on("POST", "/v1/transfers"));
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    let at_stripe = world.stripe.books().transfers[0].id.clone();
    edit(&world, &at_stripe, "metadata%5Bsluicegate_transfer%5D=").await;
    let shown = world.until_status(&id, "released").await;
    assert_eq!((&shown["stripe_transfer"], world.keys_sent(&id).len()), (&json!(at_stripe), 1));
    world.assert_books_hold().await;
}

/// What differs of a transfer at Stripe from the one that was asked for.
type Change = fn(&mut Value);

#[tokio::test]
async fn an_event_about_another_transfer_with_our_id_settles_nothing() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let other = world.ready_account().await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    let told = |change: Change, account: &str| {
        let mut event = renewed("transfer.created", world.second());
        let object = &mut event["data"]["object"];
        object["id"] = json!(format!("tr_{}", uuid::Uuid::new_v4().simple()));
        object["metadata"] = json!({"sluicegate_transfer": id});
        (object["amount"], object["currency"]) = (json!(1_000), json!("usd"));
        (object["destination"], object["livemode"]) = (json!(account), json!(false));
        object["amount_reversed"] = json!(0);
        change(object);
        event
    };
    let changes: [(Change, &str); 4] = [
        (|object| object["amount"] = json!(999), &account),
        (|object| object["currency"] = json!("eur"), &account),
        (|object| object["livemode"] = json!(true), &account),
        (|_| {}, &other),
    ];
    for (change, destination) in changes {
        let event = told(change, destination);
        world.tell(&event).await;
        assert_eq!(world.until_settled(&event).await["status"], json!("processed"), "{event}");
        let shown = world.api.get(&format!("/v1/transfers/{id}")).await.1;
        assert_eq!(
            (&shown["status"], &shown["stripe_transfer"]),
            (&json!("waiting"), &Value::Null),
            "{event}"
        );
    }
    // The one that is as it was asked for does; a second of its kind changes nothing.
    let true_one = told(|_| {}, &account);
    world.tell(&true_one).await;
    let released = world.until_status(&id, "released").await;
    assert_eq!(released["stripe_transfer"], true_one["data"]["object"]["id"]);
    let second = told(|object| object["amount_reversed"] = json!(1_000), &account);
    world.tell(&second).await;
    world.until_settled(&second).await;
    assert_eq!(world.api.get(&format!("/v1/transfers/{id}")).await.1["status"], json!("released"));
}
