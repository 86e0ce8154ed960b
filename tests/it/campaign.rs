//! The long faults: a Stripe that lies for as long as it likes. Each transfer goes out once, or waits and says
//! for what.

use serde_json::{Value, json};
use sluicegate::sandbox::{Fault, FaultKind};
use time::Duration;

use crate::audit;
use crate::support::world::World;

async fn impatient() -> World {
    World::with(|setting| setting.plan.grace = std::time::Duration::from_secs(2)).await
}

fn on_create(world: &World, kind: FaultKind, times: Option<u32>) {
    world.stripe.fault(Fault::next(kind).on("POST", "/v1/transfers").times(times));
}

fn on_list(world: &World, kind: FaultKind) {
    world.stripe.fault(Fault::next(kind).on("GET", "/v1/transfers").times(None));
}

/// Ten ready accounts' transfers, `amount` each, with the money for all.
async fn ten_transfers(world: &World) -> Vec<String> {
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.transfer(&account, 1_000, json!({})).await);
    }
    ids
}

async fn assert_each_went_out_once(world: &World, ids: &[String]) {
    for id in ids {
        world.until_status(id, "released").await;
        assert_eq!(world.times_at_stripe(id), 1, "{id}");
    }
    world.assert_books_hold().await;
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["reserved"]), (&json!(1_000 * ids.len() as i64), &json!(0)));
}

#[tokio::test]
async fn a_stripe_that_commits_and_drops_every_second_connection_is_paid_through_once_each() {
    let world = World::start().await;
    // Neither the answer nor an event tells of every second one.
    world.stripe.lose_events(10_000);
    for nth in 0..200 {
        let every_second =
            Fault { skip: nth + 1, ..Fault::next(FaultKind::DropAfterCommit).on("POST", "/v1/transfers") };
        world.stripe.fault(every_second);
    }
    let account = world.stripe.create_ready_account();
    let topup = world.stripe.create_topup("usd", 10_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.stripe.make_available(&topup).unwrap();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.transfer(&account, 1_000, json!({"topup": topup})).await);
    }
    assert_each_went_out_once(&world, &ids).await;
}

#[tokio::test]
async fn a_500_that_stripe_keeps_for_every_key_pays_nothing_while_it_lasts_and_once_afterwards() {
    let world = impatient().await;
    on_create(&world, FaultKind::Error500BeforeCommit, None);
    let ids = ten_transfers(&world).await;
    // Each goes from key to key, and none can be said to have gone out.
    for id in &ids {
        let key = format!("{id}.2");
        world.until_called(|call| call.idempotency_key.as_deref() == Some(&key)).await;
        let shown = world.api.get(&format!("/v1/transfers/{id}")).await.1;
        assert_eq!(shown["status"], json!("releasing"));
        assert_eq!(shown["waiting_on"], json!(["stripe_unavailable"]));
        assert_eq!(world.times_at_stripe(id), 0);
    }
    world.stripe.clear_faults();
    assert_each_went_out_once(&world, &ids).await;
}

#[tokio::test]
async fn a_500_kept_after_the_commit_for_every_key_pays_each_once() {
    let world = impatient().await;
    on_create(&world, FaultKind::Error500AfterCommit, None);
    world.stripe.hold_events(true);
    let account = world.stripe.create_ready_account();
    let topup = world.stripe.create_topup("usd", 10_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.stripe.make_available(&topup).unwrap();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.transfer(&account, 1_000, json!({"topup": topup})).await);
    }
    assert_each_went_out_once(&world, &ids).await;
    for id in &ids {
        assert!(world.keys_sent(id).iter().all(|key| *key == format!("{id}.1")));
    }
}

/// While the list can't be trusted or had, nothing is sent anew; once it can, each is settled.
async fn without_its_list_for_a_minute(kind: FaultKind, commit: FaultKind, keys: usize) {
    let world = World::start().await;
    world.stripe.hold_events(true);
    on_create(&world, commit, Some(10));
    on_list(&world, kind);
    let account = world.stripe.create_ready_account();
    let topup = world.stripe.create_topup("usd", 10_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.stripe.make_available(&topup).unwrap();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.transfer(&account, 1_000, json!({"topup": topup})).await);
    }
    for id in &ids {
        world.until_waiting_on(id, &["stripe_unavailable"]).await;
    }
    // The grace is over: the look-ups begin, and find no list.
    world.clock.advance(Duration::seconds(601));
    world.until_called(|call| call.method == "GET" && call.path == "/v1/transfers").await;
    world.clock.advance(Duration::seconds(60));
    for id in &ids {
        assert_eq!(world.keys_sent(id).len(), 1, "nothing is sent while the list is away");
        let shown = world.api.get(&format!("/v1/transfers/{id}")).await.1;
        assert_eq!(shown["waiting_on"], json!(["stripe_unavailable"]));
    }
    world.stripe.clear_faults();
    for minute in 0..30 {
        let mut open = 0;
        for id in &ids {
            let shown = world.api.get(&format!("/v1/transfers/{id}")).await.1;
            open += usize::from(shown["status"] != json!("released"));
        }
        if open == 0 {
            break;
        }
        assert!(minute < 29, "{open} are still open");
        world.clock.advance(Duration::minutes(1));
        world.until_idle().await;
    }
    assert_each_went_out_once(&world, &ids).await;
    for id in &ids {
        let mut sent = world.keys_sent(id);
        sent.dedup();
        assert_eq!(sent.len(), keys, "{sent:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_down_for_a_minute_proves_nothing_and_what_was_made_is_found_afterwards() {
    without_its_list_for_a_minute(FaultKind::UnavailableBeforeCommit, FaultKind::Error500AfterCommit, 1)
        .await;
}

#[tokio::test]
async fn a_list_that_is_down_for_a_minute_delays_the_next_key_until_it_has_been_read_twice() {
    without_its_list_for_a_minute(FaultKind::UnavailableBeforeCommit, FaultKind::Error500BeforeCommit, 2)
        .await;
}

#[tokio::test]
async fn a_list_that_is_a_minute_behind_still_finds_what_was_made() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    on_create(&world, FaultKind::Error500AfterCommit, Some(1));
    on_list(&world, FaultKind::StaleList { younger_than_ms: 60_000 });
    let account = world.stripe.create_ready_account();
    let topup = world.stripe.create_topup("usd", 1_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.stripe.make_available(&topup).unwrap();
    let id = world.transfer(&account, 1_000, json!({"topup": topup})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    world.clock.advance(Duration::seconds(601));
    assert_each_went_out_once(&world, std::slice::from_ref(&id)).await;
    assert_eq!(world.keys_sent(&id), [format!("{id}.1")]);
}

#[tokio::test]
async fn an_answer_that_is_another_transfer_is_never_followed_by_a_second_one() {
    let world = impatient().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.stripe.hold_events(true);
    on_create(&world, FaultKind::Delay { ms: 700 }, Some(1));
    on_list(&world, FaultKind::StaleList { younger_than_ms: u64::MAX });
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "releasing").await;
    // What Stripe answers is not what the books then say was asked for.
    for sql in ["alter table transfers disable trigger all", "update transfers set amount = 999"] {
        sqlx::query(sql).execute(world.pool()).await.unwrap();
    }
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    assert_eq!(world.times_at_stripe(&id), 1);
    // Look-ups go on for days and find nothing; all the same nothing is sent.
    for _ in 0..4 {
        world.stripe.clear_calls();
        world.clock.advance(Duration::hours(13));
        world.until_called(|call| call.method == "GET" && call.path == "/v1/transfers").await;
        world.until_idle().await;
        assert_eq!(world.keys_sent(&id), Vec::<String>::new());
    }
    let shown = world.api.get(&format!("/v1/transfers/{id}")).await.1;
    assert_eq!(shown["status"], json!("releasing"));
    assert_eq!(world.funds("usd").await["reserved"], json!(1_000));
}

#[tokio::test]
async fn each_refusal_ends_as_the_table_says() {
    let world = World::start().await;
    world.settled_topup("usd", 100_000).await;
    let rows: [(u16, &str, &str, &[&str]); 12] = [
        (400, "insufficient_capabilities_for_transfer", "waiting", &["transfers_inactive"]),
        (403, "account_invalid", "waiting", &["transfers_inactive"]),
        (400, "account_closed", "waiting", &["transfers_inactive"]),
        (400, "payouts_not_allowed", "waiting", &["transfers_inactive"]),
        (400, "transfers_not_allowed", "failed", &[]),
        (404, "resource_missing", "failed", &[]),
        (400, "parameter_invalid_integer", "failed", &[]),
        (402, "card_declined", "failed", &[]),
        (400, "of_tomorrow", "failed", &[]),
        (403, "more_permissions_required", "waiting", &["releases_paused"]),
        (400, "transfer_source_balance_parameters_mismatch", "waiting", &["releases_paused"]),
        (400, "platform_api_key_expired", "waiting", &["releases_paused"]),
    ];
    for (status, code, ends, waiting_on) in rows {
        let account = world.ready_account().await;
        let refuse = FaultKind::Refuse { status, code: code.into(), message: format!("no: {code}") };
        on_create(&world, refuse, Some(1));
        let id = world.transfer(&account, 100, json!({})).await;
        let path = format!("/v1/transfers/{id}");
        // By its history: one that waits for its account goes on as soon as a fetch shows that nothing is wrong.
        let came_to = |line: &Value| line["status"] == json!(ends) && line["waiting_on"] == json!(waiting_on);
        let shown = world.api.until(&path, |t| t["history"].as_array().unwrap().iter().any(came_to)).await;
        let failure = (ends == "failed").then(|| json!({"code": code, "message": format!("no: {code}")}));
        assert_eq!(shown["failure"], json!(failure), "{code}");
        if waiting_on == ["transfers_inactive"] {
            world.until_status(&id, "released").await;
            assert_eq!(world.keys_sent(&id), [format!("{id}.1"), format!("{id}.2")], "{code}");
        }
        assert_eq!(world.funds("usd").await["reserved"], json!(0), "{code}: the money came back");
        let audited = audit::log(&world).await;
        let mut stops = audited.iter().filter(|row| row.entry.actor == "sluicegate");
        if waiting_on == ["releases_paused"] {
            let last = stops.next_back().expect("the stop is on record");
            assert_eq!(last.entry.action, "releases.paused");
            let details: Value = serde_json::from_str(&last.entry.details).unwrap();
            assert_eq!((&details["code"], &details["transfer"]), (&json!(code), &json!(id)));
            world.api.post(&format!("{path}/hold"), &id, &json!({})).await;
            assert_eq!(
                world.api.post("/v1/releases/resume", &format!("resume {id}"), &json!({})).await.0,
                200
            );
        }
    }
    world.assert_books_hold().await;
}
