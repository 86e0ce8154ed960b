//! Money that comes back: by our order, by somebody's hand in Stripe's Dashboard, or taken by a bank.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluicegate::domain::limits::Limits;
use sluicegate::domain::money::Currency;
use sluicegate::sandbox::{AccountChange, Call, Fault, FaultKind};
use time::Duration;

use crate::audit::{log, said};
use crate::support::world::{Api, World};
use crate::transfers::reverse as reverse_by_hand;

/// A transfer of 800 that went out of 1,000.
async fn released(world: &World) -> (String, String) {
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 800, json!({})).await;
    let shown = world.until_status(&id, "released").await;
    (id, shown["stripe_transfer"].as_str().unwrap().to_owned())
}

pub async fn reverse(api: &Api, id: &str, body: Value) -> (u16, Value) {
    api.post(&format!("/v1/transfers/{id}/reverse"), &uuid::Uuid::new_v4().to_string(), &body).await
}

/// Waits until the newest reversal of a transfer stands so.
pub async fn until_reversal(world: &World, id: &str, status: &str) -> Value {
    let path = format!("/v1/transfers/{id}");
    let stands = |t: &Value| {
        t["reversals"].as_array().and_then(|all| all.last()).is_some_and(|r| r["status"] == *status)
    };
    world.api.until(&path, stands).await
}

/// The idempotency keys of the POSTs that tried to reverse, in order.
fn keys_sent(world: &World) -> Vec<String> {
    let calls = world.stripe.calls();
    calls.iter().filter(|call| is_reversal(call)).filter_map(|call| call.idempotency_key.clone()).collect()
}

fn is_reversal(call: &Call) -> bool {
    call.method == "POST" && call.path.ends_with("/reversals")
}

fn came_back(world: &World) -> i64 {
    world.stripe.books().transfers.iter().map(|transfer| transfer.amount_reversed).sum()
}

fn on_reverse(world: &World, kind: FaultKind, times: Option<u32>) {
    world.stripe.fault(Fault::next(kind).on("POST", "/v1/transfers/tr_").times(times));
}

async fn impatient() -> World {
    World::with(|setting| setting.plan.grace = std::time::Duration::from_secs(2)).await
}

#[tokio::test]
async fn a_part_comes_back_then_the_rest_each_to_its_lot_and_on_record() {
    let world = World::start().await;
    let (id, _) = released(&world).await;
    let (status, shown) = reverse(&world.api, &id, json!({"amount": 300, "reason": "returned goods"})).await;
    assert_eq!(
        (status, &shown["status"], &shown["reversals"][0]["amount"]),
        (200, &json!("released"), &json!(300))
    );
    let partly = until_reversal(&world, &id, "reversed").await;
    assert_eq!((&partly["status"], &partly["amount_reversed"]), (&json!("partially_reversed"), &json!(300)));
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["available"]), (&json!(500), &json!(500)));
    // Without an amount: all that is left.
    assert_eq!(reverse(&world.api, &id, json!({})).await.0, 200);
    let whole = world.until_status(&id, "reversed").await;
    assert_eq!((&whole["amount_reversed"], came_back(&world)), (&json!(800), 800));
    let first = shown["reversals"][0]["id"].as_str().unwrap();
    assert_eq!(keys_sent(&world)[0], format!("{first}.1"));
    let rows = log(&world).await;
    assert_eq!(
        said(&rows).iter().filter(|row| **row == ("admin", "reversal.requested", id.as_str())).count(),
        2
    );
    assert_eq!(reverse(&world.api, &id, json!({})).await.1["code"], json!("transfer_state"));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn what_can_not_come_back_is_refused_and_nothing_is_asked_of_stripe() {
    let world = World::start().await;
    let (id, _) = released(&world).await;
    for (body, pointer) in [
        (json!({"amount": 801}), "/amount"),
        (json!({"amount": 0}), "/amount"),
        (json!({"amount": "1"}), "/amount"),
        (json!({"amout": 1}), "/amout"),
    ] {
        let (status, problem) = reverse(&world.api, &id, body.clone()).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}");
    }
    let account = world.ready_account().await;
    let waiting = world.transfer(&account, 10_000, json!({})).await;
    assert_eq!(reverse(&world.api, &waiting, json!({})).await.1["code"], json!("transfer_state"));
    assert_eq!(reverse(&world.api, "xfer_none", json!({})).await.0, 404);
    assert_eq!((keys_sent(&world).len(), world.rows("reversals").await), (0, 0));
}

#[tokio::test]
async fn two_orders_never_ask_for_the_same_money_and_one_key_asks_once() {
    let world = World::start().await;
    let (id, _) = released(&world).await;
    on_reverse(&world, FaultKind::Delay { ms: 300 }, None);
    let path = format!("/v1/transfers/{id}/reverse");
    let body = json!({"amount": 500});
    let (one, two) =
        tokio::join!(world.api.post(&path, "rev-1", &body), world.api.post(&path, "rev-1", &body));
    assert_eq!((one.0, &one), (200, &two));
    let (status, problem) = reverse(&world.api, &id, json!({"amount": 301})).await;
    assert_eq!(status, 422, "300 is left: {problem}");
    assert_eq!(world.api.post(&path, "rev-1", &json!({"amount": 1})).await.0, 409);
    until_reversal(&world, &id, "reversed").await;
    assert_eq!((came_back(&world), world.rows("reversals").await), (500, 1));
}

#[tokio::test]
async fn the_database_lets_a_reversal_end_once_and_keeps_what_was_asked_for() {
    let world = World::start().await;
    let (id, _) = released(&world).await;
    reverse(&world.api, &id, json!({"amount": 300})).await;
    until_reversal(&world, &id, "reversed").await;
    let change = async |set: &str| {
        let sql = format!("update reversals set {set} where transfer = '{id}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(world.pool()).await.unwrap_err().to_string()
    };
    for status in ["pending", "failed"] {
        assert!(
            change(&format!("status = '{status}'")).await.contains("can not go from reversed"),
            "{status}"
        );
    }
    for set in
        ["amount = 1", "transfer = 'xfer_2'", "currency = 'eur'", "created_by = 'x'", "livemode = true"]
    {
        assert!(change(set).await.contains("keeps what was asked for"), "{set}");
    }
}

#[tokio::test]
async fn an_answer_lost_after_stripe_reversed_takes_back_once() {
    let world = impatient().await;
    let (id, _) = released(&world).await;
    world.stripe.lose_events(50);
    on_reverse(&world, FaultKind::DropAfterCommit, Some(2));
    reverse(&world.api, &id, json!({"amount": 300})).await;
    let shown = until_reversal(&world, &id, "reversed").await;
    assert_eq!((&shown["amount_reversed"], came_back(&world)), (&json!(300), 300));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_stored_500_after_the_reversal_is_settled_by_a_look_up_and_one_before_it_by_the_next_key() {
    let world = impatient().await;
    let (id, _) = released(&world).await;
    on_reverse(&world, FaultKind::Error500AfterCommit, Some(1));
    reverse(&world.api, &id, json!({"amount": 300})).await;
    until_reversal(&world, &id, "reversed").await;
    assert!(keys_sent(&world).iter().all(|key| key.ends_with(".1")), "{:?}", keys_sent(&world));
    on_reverse(&world, FaultKind::Error500BeforeCommit, Some(1));
    reverse(&world.api, &id, json!({"amount": 200})).await;
    until_reversal(&world, &id, "reversed").await;
    assert!(keys_sent(&world).last().unwrap().ends_with(".2"), "{:?}", keys_sent(&world));
    assert_eq!(came_back(&world), 500);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_account_that_has_too_little_is_asked_again_later_with_the_next_key() {
    let world = World::start().await;
    let (id, _) = released(&world).await;
    let refusal = FaultKind::Refuse {
        status: 400,
        code: "balance_insufficient".to_owned(),
        message: "Insufficient funds in the destination account".to_owned(),
    };
    on_reverse(&world, refusal, Some(1));
    reverse(&world.api, &id, json!({"amount": 300})).await;
    let waits = |t: &Value| t["reversals"][0]["waiting_on"] == json!(["stripe_balance_insufficient"]);
    let shown = world.api.until(&format!("/v1/transfers/{id}"), waits).await;
    assert_eq!(shown["reversals"][0]["failure"]["code"], json!("balance_insufficient"));
    world.until_idle().await;
    assert_eq!(keys_sent(&world).len(), 1, "not before a minute has passed");
    assert_eq!(world.funds("usd").await["available"], json!(200), "and no release is stopped by it");
    world.clock.advance(Duration::seconds(61));
    until_reversal(&world, &id, "reversed").await;
    assert!(keys_sent(&world)[1].ends_with(".2"));
}

#[tokio::test]
async fn what_stripe_refuses_for_good_fails_and_what_it_refuses_at_the_door_waits() {
    let world = impatient().await;
    let (id, at_stripe) = released(&world).await;
    on_reverse(&world, FaultKind::Unauthorized, Some(1));
    reverse(&world.api, &id, json!({"amount": 100})).await;
    let waits = |t: &Value| t["reversals"][0]["waiting_on"] == json!(["stripe_unavailable"]);
    let shown = world.api.until(&format!("/v1/transfers/{id}"), waits).await;
    let failure = &shown["reversals"][0]["failure"];
    assert!(failure["message"].as_str().is_some_and(|why| why.contains("Invalid API Key")), "{failure}");
    world.clock.advance(Duration::seconds(61));
    let reversed = until_reversal(&world, &id, "reversed").await;
    assert_eq!(reversed["reversals"][0]["failure"], json!(null), "it is over");
    // Somebody was faster in the Dashboard, and no event told: Stripe refuses, and the books catch up.
    world.stripe.lose_events(1);
    reverse_by_hand(&world, &at_stripe, 700).await;
    reverse(&world.api, &id, json!({"amount": 600})).await;
    let failed = until_reversal(&world, &id, "failed").await;
    assert!(
        failed["reversals"][1]["failure"]["message"].as_str().unwrap().contains("already fully reversed")
    );
    world.until_status(&id, "reversed").await;
    assert_eq!(world.funds("usd").await["available"], json!(1_000));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_large_reversal_waits_for_another_keys_approval() {
    let limit = BTreeMap::from([(Currency::parse("usd").unwrap(), 500)]);
    let world =
        World::with(|setting| setting.plan.limits = Limits { approval_above: limit, ..Limits::default() })
            .await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let (_, made) = world.api.post("/v1/keys", "k", &json!({"name": "two", "scope": "operate"})).await;
    let other = world.api.with_key(made["secret"].as_str().unwrap());
    let id = world.transfer(&account, 800, json!({})).await;
    let approve = format!("/v1/transfers/{id}/approve");
    other.post(&approve, "a", &json!({})).await;
    world.until_status(&id, "released").await;
    assert_eq!(other.post(&approve, "b", &json!({})).await.1["code"], json!("transfer_state"));
    let (_, shown) = reverse(&world.api, &id, json!({"amount": 501})).await;
    assert_eq!(shown["reversals"][0]["waiting_on"], json!(["approval_required"]));
    world.until_idle().await;
    assert_eq!(world.api.post(&approve, "c", &json!({})).await.1["code"], json!("approval_by_creator"));
    assert_eq!(keys_sent(&world).len(), 0);
    assert_eq!(other.post(&approve, "d", &json!({"reason": "seen"})).await.0, 200);
    until_reversal(&world, &id, "reversed").await;
    let rows = log(&world).await;
    assert!(said(&rows).iter().any(|row| row.1 == "reversal.approved" && row.2 == id));
}

#[tokio::test]
async fn a_reversal_that_the_database_was_made_to_forget_is_found_and_not_repeated() {
    let world = impatient().await;
    let (id, _) = released(&world).await;
    let path = format!("/v1/transfers/{id}/reverse");
    world.api.post(&path, "rev-9", &json!({"amount": 300})).await;
    until_reversal(&world, &id, "reversed").await;
    // As after a restore of a backup from before the order.
    for forget in [
        "delete from calls where subject like 'xrev%'",
        "delete from attempts where reversal is not null",
        "delete from reversals",
        "delete from idempotency_keys where key = 'rev-9'",
    ] {
        sqlx::query(forget).execute(world.pool()).await.unwrap();
    }
    world.api.post(&path, "rev-9", &json!({"amount": 300})).await;
    until_reversal(&world, &id, "reversed").await;
    assert_eq!((keys_sent(&world).len(), came_back(&world)), (1, 300));
}

#[tokio::test]
async fn pausing_releases_does_not_stop_what_comes_back_and_a_crash_repeats_nothing() {
    let mut world = impatient().await;
    let (id, _) = released(&world).await;
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    on_reverse(&world, FaultKind::DelayAnswer { ms: 1_500 }, Some(1));
    reverse(&world.api, &id, json!({"amount": 300})).await;
    world.until_called(is_reversal).await;
    world.stop_service().await;
    world.start_service().await;
    until_reversal(&world, &id, "reversed").await;
    assert_eq!(came_back(&world), 300);
}

#[tokio::test]
async fn a_hand_in_the_dashboard_before_our_answer_is_counted_once() {
    let world = World::start().await;
    let (id, at_stripe) = released(&world).await;
    on_reverse(&world, FaultKind::DelayAnswer { ms: 700 }, Some(1));
    reverse(&world.api, &id, json!({"amount": 300})).await;
    world.until_called(is_reversal).await;
    reverse_by_hand(&world, &at_stripe, 100).await;
    let shown = until_reversal(&world, &id, "reversed").await;
    assert_eq!((&shown["amount_reversed"], came_back(&world)), (&json!(400), 400));
    assert_eq!(world.funds("usd").await["released"], json!(400));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_top_up_that_the_bank_takes_back_after_its_money_went_out_stops_the_currency_until_money_comes_back()
 {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 800, json!({})).await;
    world.until_status(&id, "released").await;
    world.stripe.reverse_topup(&topup).unwrap();
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["status"] == json!("reversed")).await;
    let funds = world.funds("usd").await;
    assert_eq!((&funds["settled"], &funds["available"]), (&json!(0), &json!(-800)), "the exposure is shown");
    let next = world.transfer(&account, 100, json!({})).await;
    world.until_waiting_on(&next, &["funds_insufficient"]).await;
    // Taking the money back closes the hole, and only then does anything go out again.
    reverse(&world.api, &id, json!({"reason": "the top-up bounced"})).await;
    world.until_status(&id, "reversed").await;
    assert_eq!(world.funds("usd").await["available"], json!(0));
    world.settled_topup("usd", 100).await;
    world.until_status(&next, "released").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_account_that_falls_while_its_release_is_in_flight_gets_nothing_twice_and_nothing_after() {
    let world = impatient().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    // The call is cut before Stripe did anything, and the account falls before it can be repeated.
    world.stripe.fault(Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/transfers").times(Some(1)));
    world.stripe.hold_events(true);
    let id = world.transfer(&account, 400, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    let restricted = AccountChange { charges_enabled: Some(false), ..AccountChange::default() };
    world.stripe.change_account(&account, &restricted).unwrap();
    world.stripe.hold_events(false);
    world.stripe.release(&[]);
    world.until_waiting_on(&id, &["charges_disabled", "stripe_unavailable"]).await;
    world.until_idle().await;
    let sent = world.keys_sent(&id).len();
    world.clock.advance(Duration::hours(1));
    world.until_idle().await;
    assert_eq!((world.keys_sent(&id).len(), world.times_at_stripe(&id)), (sent, 0), "it only looks");
    assert_eq!(world.funds("usd").await["reserved"], json!(400));
    let ready = AccountChange { charges_enabled: Some(true), ..AccountChange::default() };
    world.stripe.change_account(&account, &ready).unwrap();
    world.until_status(&id, "released").await;
    assert_eq!(world.times_at_stripe(&id), 1);
    world.assert_books_hold().await;
}
