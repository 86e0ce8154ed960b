//! Thin events: about accounts of v2, about objects of v1, and about what nobody handles.

use serde_json::{Value, json};
use sluicegate::sandbox::{AccountChange, Fault, FaultKind, V2Change};

use super::{assert_all_went_well, made, readiness, until_capability, v2};
use crate::support::events::{id_of, thin};
use crate::support::world::{World, eventually};

#[tokio::test]
async fn a_return_from_an_account_link_leads_to_its_account() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let account = made(&world, "active", false);
    assert_eq!(world.api.get(&readiness(&account)).await.0, 404);
    let event = world.stripe.return_link(&account).unwrap();
    assert_eq!(world.stripe.deliver(&event).await.unwrap(), [Some(200)]);
    world.until_ready(&account).await;
    let calls = world.stripe.calls();
    let place = |path: &str| calls.iter().position(|call| call.path == path);
    let event_read = place(&format!("/v2/core/events/{event}"));
    assert!(event_read.is_some() && event_read < place(&v2(&account)), "the event first: {calls:?}");
    let shown = world.api.until(&format!("/v1/events/{event}"), |e| e["status"] == json!("processed")).await;
    assert_eq!(shown["type"], json!("v2.core.account_link.returned"));
    // One that Stripe does not show leads nowhere, and is nobody's fault.
    let unknown = thin(&world, "v2.core.account_link.returned", None, None);
    world.tell(&unknown).await;
    assert_eq!(world.until_settled(&unknown).await["status"], json!("processed"));
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn every_type_about_an_account_of_v2_leads_to_it_and_unknown_ones_are_kept() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let parts = [
        ".created",
        ".updated",
        "[requirements].updated",
        "[future_requirements].updated",
        "[configuration.recipient].updated",
        "[configuration.recipient].capability_status_updated",
        "[identity].updated",
        "[defaults].updated",
    ];
    for part in parts {
        let account = made(&world, "active", false);
        let event = format!("v2.core.account{part}");
        let id = world.stripe.tell_thinly(&event, Some(("v2.core.account", &account)), None);
        assert_eq!(world.stripe.deliver(&id).await.unwrap(), [Some(200)]);
        world.until_ready(&account).await;
    }
    let calls = world.stripe.calls().len();
    let unknown = [
        ("v2.core.account_person.updated", Some(("v2.core.account_person", "person_1"))),
        ("v2.core.event_destination.ping", Some(("event_destination", "ed_1"))),
        ("v2.money_management.transfer.updated", None),
        ("v9.llama.created", Some(("llama", "llama_1"))),
    ];
    for (kind, object) in unknown {
        let event = thin(&world, kind, None, object);
        world.tell(&event).await;
        let shown = world.event(&event).await;
        assert_eq!(
            (&shown["status"], &shown["reason"]),
            (&json!("ignored"), &json!("unhandled_type")),
            "{kind}"
        );
        assert_eq!(world.count("select count(*) from outbox where event_id = $1", id_of(&event)).await, 1);
    }
    assert_eq!(world.stripe.calls().len(), calls, "nothing was asked for them");
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn thin_events_about_objects_of_v1_lead_to_what_they_name() {
    let world = World::start().await;
    let deliver = async |kind: &str, object: Option<(&str, &str)>, account: Option<&str>| {
        let id = world.stripe.tell_thinly(kind, object, account);
        let answers = world.stripe.deliver(&id).await.unwrap();
        assert_eq!(answers, [Some(200)], "{kind}");
        let done = |event: &Value| event["status"] == json!("processed");
        world.api.until(&format!("/v1/events/{id}"), done).await;
    };
    world.stripe.hold_events(true);
    let account = world.stripe.create_ready_account();
    deliver("v1.account.updated", Some(("account", &account)), Some(&account)).await;
    world.until_ready(&account).await;
    let change = AccountChange { transfers: Some("inactive".to_owned()), ..AccountChange::default() };
    world.stripe.change_account(&account, &change).unwrap();
    deliver("v1.capability.updated", Some(("capability", "transfers")), Some(&account)).await;
    until_capability(&world, &account, "inactive").await;
    world.stripe.change_account(&account, &AccountChange::ready()).unwrap();
    deliver("v1.account.updated", Some(("account", &account)), None).await;
    world.until_ready(&account).await;
    let topup = world.stripe.create_topup("usd", 3_000);
    world.stripe.make_available(&topup).unwrap();
    deliver("v1.topup.succeeded", Some(("topup", &topup)), None).await;
    world.api.until(&format!("/v1/topups/{topup}"), |topup| topup["settled"] == json!(true)).await;
    let transfer = world.transfer(&account, 700, json!({})).await;
    let released = world.until_status(&transfer, "released").await;
    let at_stripe = released["stripe_transfer"].as_str().unwrap();
    deliver("v1.transfer.created", Some(("transfer", at_stripe)), None).await;
    let before = world.asked("/v1/balance").len();
    deliver("v1.balance.available", None, None).await;
    let read = || async { (world.asked("/v1/balance").len() > before).then_some(()) };
    assert!(eventually(read).await.is_some(), "the balance was read");
    deliver("v1.account.application.deauthorized", None, Some(&account)).await;
    world.api.until(&readiness(&account), |shown| shown["deauthorized"] == json!(true)).await;
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn what_was_told_before_v2_was_understood_is_made_up_for() {
    const MIGRATION: &str = include_str!("../../../migrations/0023_v2_accounts.sql");
    let mut world = World::start().await;
    let no_v2 = FaultKind::Refuse { status: 404, code: "not_here".into(), message: "no v2 here".into() };
    world.stripe.fault(Fault::next(no_v2).on("GET", "/v2/core/").times(None));
    let account = made(&world, "active", true);
    world.until_ready(&account).await;
    world.stripe.change_v2(&account, &V2Change { close: true, ..V2Change::default() }).unwrap();
    let blocked = |shown: &Value| shown["reasons"][0] == json!("account_blocked");
    world.api.until(&readiness(&account), blocked).await;
    assert_all_went_well(&world).await;
    world.stop_service().await;
    // As it was held by a version that knew of no closing and no v2.
    let before = "update accounts set v2 = false, closed_at = null";
    sqlx::raw_sql(before).execute(world.pool()).await.unwrap();
    let (_, again) = MIGRATION.split_once("-- What was told").unwrap();
    let again = sqlx::AssertSqlSafe(format!("--{again}"));
    sqlx::raw_sql(again).execute(world.pool()).await.unwrap();
    world.stripe.clear_faults();
    let asked = world.asked(&v2(&account)).len();
    world.start_service().await;
    let asked_again = || async { (world.asked(&v2(&account)).len() > asked).then_some(()) };
    assert!(eventually(asked_again).await.is_some(), "it is asked about once more");
    world.until_quiet_about(&account).await;
    assert!(blocked(&world.api.get(&readiness(&account)).await.1));
    assert_all_went_well(&world).await;
}
