//! Stripe slow, lying, refusing or down: each transfer is sent once, or waits and says for what.

use serde_json::json;
use sluicegate::sandbox::{Fault, FaultKind};
use sluicegate::worker::driver;
use time::Duration;

use crate::support::world::{PATIENCE, World, eventually};

/// A world where one look-up is enough after two seconds.
async fn impatient() -> World {
    World::with(|setting| setting.plan.grace = std::time::Duration::from_secs(2)).await
}

async fn on_create(world: &World, kind: FaultKind, times: Option<u32>) {
    world.stripe.fault(Fault::next(kind).on("POST", "/v1/transfers").times(times));
}

#[tokio::test]
async fn an_answer_lost_after_stripe_committed_pays_once() {
    let world = World::start().await;
    let account = world.ready_account().await;
    // No event will tell: the repetition with the same key must find out.
    world.settled_topup("usd", 1_000).await;
    world.stripe.lose_events(50);
    on_create(&world, FaultKind::DropAfterCommit, Some(2)).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "released").await;
    assert_eq!(world.times_at_stripe(&id), 1);
    let keys = world.keys_sent(&id);
    assert!(keys.len() >= 2 && keys.iter().all(|key| *key == format!("{id}.1")), "{keys:?}");
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_event_alone() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    on_create(&world, FaultKind::DropAfterCommit, None).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "released").await;
    assert_eq!(world.times_at_stripe(&id), 1);
}

#[tokio::test]
async fn a_stored_500_after_the_commit_is_settled_by_a_look_up() {
    let world = impatient().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.stripe.lose_events(50);
    on_create(&world, FaultKind::Error500AfterCommit, Some(1)).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    world.until_status(&id, "released").await;
    assert_eq!(world.times_at_stripe(&id), 1);
    assert!(world.keys_sent(&id).iter().all(|key| *key == format!("{id}.1")));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_stored_500_before_the_commit_is_followed_by_the_next_key_after_two_look_ups() {
    let world = impatient().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    on_create(&world, FaultKind::Error500BeforeCommit, Some(1)).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "released").await;
    let keys = world.keys_sent(&id);
    assert_eq!(keys.last(), Some(&format!("{id}.2")), "{keys:?}");
    assert_eq!(world.times_at_stripe(&id), 1);
    let looks: i64 = sqlx::query_scalar("select count(*) from calls where kind = 'look_up' and n = 1")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(looks, 2);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_busy_key_and_a_rate_limit_are_repeated_with_the_same_key() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    on_create(&world, FaultKind::Conflict, Some(1)).await;
    on_create(&world, FaultKind::RateLimited { reason: None }, Some(1)).await;
    on_create(&world, FaultKind::UnavailableBeforeCommit, Some(1)).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "released").await;
    let keys = world.keys_sent(&id);
    assert_eq!(keys, vec![format!("{id}.1"); 4]);
}

#[tokio::test]
async fn a_refusal_for_lack_of_funds_gives_the_money_back_and_waits_for_stripes_balance() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_001).await;
    // Somebody spent the balance in the dashboard: the ledger can't know.
    world.stripe.add_balance("usd", -600);
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_balance_insufficient"]).await;
    let funds = world.funds("usd").await;
    assert_eq!((&funds["reserved"], &funds["available"]), (&json!(0), &json!(1_001)));
    let second = world.transfer(&account, 1, json!({})).await;
    world.until_waiting_on(&second, &["stripe_balance_insufficient"]).await;
    assert_eq!(world.keys_sent(&second).len(), 0, "the currency stands still");
    world.stripe.add_balance("usd", 600);
    world.clock.advance(Duration::seconds(16));
    world.until_status(&id, "released").await;
    assert_eq!(world.keys_sent(&id), [format!("{id}.1"), format!("{id}.2")]);
    assert_eq!(world.times_at_stripe(&id), 1);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_capability_that_is_gone_sends_the_account_back_to_waiting_and_the_next_key_follows() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.stripe.hold_events(true);
    let gone =
        sluicegate::sandbox::AccountChange { transfers: Some("inactive".into()), ..Default::default() };
    world.stripe.change_account(&account, &gone).unwrap();
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["transfers_inactive"]).await;
    assert_eq!(world.funds("usd").await["reserved"], json!(0));
    world.stripe.change_account(&account, &sluicegate::sandbox::AccountChange::ready()).unwrap();
    world.stripe.hold_events(false);
    world.stripe.release(&[]);
    world.clock.advance(Duration::minutes(1));
    world.until_status(&id, "released").await;
    assert_eq!(world.keys_sent(&id), [format!("{id}.1"), format!("{id}.2")]);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_refused_key_pauses_everything_and_fails_nothing() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    on_create(&world, FaultKind::Unauthorized, Some(1)).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["releases_paused"]).await;
    assert_eq!(world.funds("usd").await["reserved"], json!(0));
    let (status, _) = world.api.post("/v1/releases/resume", "mended", &json!({})).await;
    assert_eq!(status, 200);
    world.until_status(&id, "released").await;
    assert_eq!(world.keys_sent(&id), vec![format!("{id}.1"); 2], "the same key: nothing ran under it");
}

#[tokio::test]
async fn a_refusal_for_good_fails_with_stripes_words_and_gives_the_money_back() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let refuse = FaultKind::Refuse {
        status: 400,
        code: "transfers_not_allowed".into(),
        message: "Funds can't be sent to accounts located in BR".into(),
    };
    on_create(&world, refuse, Some(1)).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    let failed = world.until_status(&id, "failed").await;
    assert_eq!(failed["failure"]["code"], json!("transfers_not_allowed"));
    let funds = world.funds("usd").await;
    assert_eq!((&funds["reserved"], &funds["available"]), (&json!(0), &json!(1_000)));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_stop_pressed_while_the_outcome_is_unknown_keeps_the_reservation_and_only_looks() {
    let world = impatient().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    on_create(&world, FaultKind::DropBeforeCommit, None).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    world.api.post("/v1/releases/pause", "stop", &json!({})).await;
    world.until_waiting_on(&id, &["releases_paused", "stripe_unavailable"]).await;
    let sent = world.keys_sent(&id).len();
    world.stripe.clear_faults();
    let looks = || async {
        let looks: i64 = sqlx::query_scalar("select count(*) from calls where kind = 'look_up'")
            .fetch_one(world.pool())
            .await
            .unwrap();
        (looks >= 2).then_some(())
    };
    assert!(eventually(looks).await.is_some(), "no look-up within {PATIENCE:?}");
    assert_eq!(world.keys_sent(&id).len(), sent, "nothing is sent while paused");
    assert_eq!(world.funds("usd").await["reserved"], json!(1_000));
    world.api.post("/v1/releases/resume", "go", &json!({})).await;
    world.until_status(&id, "released").await;
    assert_eq!(world.times_at_stripe(&id), 1);
}

#[tokio::test]
async fn a_key_refused_on_a_repetition_says_nothing_about_the_send_before_it() {
    let world = impatient().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.stripe.lose_events(50);
    // The first call commits and its answer is lost; by the second the key has been rolled.
    on_create(&world, FaultKind::DropAfterCommit, Some(1)).await;
    world.stripe.fault(Fault::next(FaultKind::Unauthorized).on("POST", "/v1/transfers").times(Some(1)));
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["releases_paused", "stripe_unavailable"]).await;
    assert_eq!(world.funds("usd").await["reserved"], json!(1_000), "the money is not given to anybody else");
    let (status, _) = world.api.post(&format!("/v1/transfers/{id}/cancel"), "c", &json!({})).await;
    assert_eq!(status, 409, "nor is it called off");
    // Even while everything is paused, the look-up finds what exists.
    world.until_status(&id, "released").await;
    assert_eq!(world.times_at_stripe(&id), 1);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_key_that_was_used_with_other_parameters_is_never_followed_by_a_new_one_within_its_day() {
    let world = impatient().await;
    let (account, other) = (world.ready_account().await, world.ready_account().await);
    world.settled_topup("usd", 1_000).await;
    world.stripe.add_balance("usd", 1_000);
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    // Somebody (a copy of the database, say) has used our key for something else.
    let alien = format!("amount=7&currency=usd&destination={other}");
    let request = world
        .api
        .http
        .post(format!("{}/v1/transfers", world.sandbox.url()))
        .basic_auth("sk_test_world", Some(""));
    let request =
        request.header("Stripe-Version", "2026-10-28.endive").header("Idempotency-Key", format!("{id}.1"));
    let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(alien);
    assert_eq!(request.send().await.unwrap().status(), 200);
    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    let looked_three_times = || async {
        let looks: i64 =
            sqlx::query_scalar("select count(*) from calls where kind = 'look_up' and outcome = 'not_found'")
                .fetch_one(world.pool())
                .await
                .unwrap();
        (looks >= 3).then_some(())
    };
    assert!(eventually(looked_three_times).await.is_some(), "it goes on looking");
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    assert!(world.keys_sent(&id).iter().all(|key| *key == format!("{id}.1")), "{:?}", world.keys_sent(&id));
    assert_eq!((world.times_at_stripe(&id), &world.funds("usd").await["reserved"]), (0, &json!(1_000)));
}

#[tokio::test]
async fn after_a_refusal_for_lack_of_funds_nothing_of_that_currency_is_sent_even_if_it_was_reserved() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.stripe.fault(Fault::next(FaultKind::Delay { ms: 60 }).on("POST", "/v1/transfers").times(None));
    world.stripe.add_balance("usd", -19_000);
    let mut ids = Vec::new();
    for _ in 0..80 {
        ids.push(world.transfer(&account, 100, json!({})).await);
    }
    world.settled_topup("usd", 8_000).await;
    for id in &ids {
        world.until_waiting_on(id, &["stripe_balance_insufficient"]).await;
    }
    let sent: usize = ids.iter().map(|id| world.keys_sent(id).len()).sum();
    assert!(
        sent <= driver::Settings::default().concurrency,
        "only what was under way at the refusal was sent: {sent}"
    );
    assert_eq!(world.funds("usd").await["reserved"], json!(0));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn stripes_wish_to_be_left_alone_is_obeyed_by_a_send_whatever_rings() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let busy = Fault::next(FaultKind::RateLimited { reason: Some("global-rate".into()) });
    world.stripe.fault(Fault { retry_after: Some(120), ..busy.on("POST", "/v1/transfers") });
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    world.clock.advance(Duration::seconds(110));
    for order in ["hold", "resume"] {
        world.api.post(&format!("/v1/transfers/{id}/{order}"), order, &json!({})).await;
    }
    world.until_idle().await;
    assert_eq!(world.keys_sent(&id).len(), 1, "not before two minutes are over");
    world.clock.advance(Duration::seconds(15));
    world.until_status(&id, "released").await;
    assert_eq!(world.keys_sent(&id), vec![format!("{id}.1"); 2]);
}

#[tokio::test]
async fn what_stripe_says_to_repeat_is_not_failed_for_good() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let refuse = FaultKind::Refuse { status: 400, code: "of_tomorrow".into(), message: "not now".into() };
    let again = Fault::next(refuse).on("POST", "/v1/transfers");
    world.stripe.fault(Fault { should_retry: Some(true), ..again });
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    world.stripe.forget_keys();
    world.until_status(&id, "released").await;
    assert!(world.keys_sent(&id).iter().all(|key| *key == format!("{id}.1")));
}

#[tokio::test]
async fn a_source_type_that_was_mended_goes_out_with_the_next_key_since_its_body_is_another() {
    let mut world = World::with(|setting| setting.plan.source_type = Some("fpx".to_owned())).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["releases_paused"]).await;
    world.stop_service().await;
    world.plan.source_type = Some("card".to_owned());
    world.start_service().await;
    assert_eq!(world.api.post("/v1/releases/resume", "mended", &json!({})).await.0, 200);
    world.until_status(&id, "released").await;
    assert_eq!(world.keys_sent(&id), [format!("{id}.1"), format!("{id}.2")]);
    assert_eq!(world.times_at_stripe(&id), 1);
}
