//! Whatever order the evidence comes in, it ends in the truth; until then the less ready one holds.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sluicegate::sandbox::{Fault, FaultKind};
use time::Duration;

use super::{
    DEADLINE, NEW, NO_PAYOUTS, PENDING, READY, REJECTED, REVOKED, fetched, readiness, second, state,
    unheard_of,
};
use crate::support::events::{about_account, fresh_id, id_of};
use crate::support::world::{World, eventually};

/// Delivers snapshots in a random order, some of them again and some at once, and waits for rest.
async fn shuffle(world: &World, account: &str, told: &[(&str, i64)], luck: &mut fastrand::Rng) -> String {
    let mut events: Vec<Value> = told.iter().map(|(name, at)| about_account(name, account, *at)).collect();
    for _ in 0..luck.usize(0..5) {
        events.push(events[luck.usize(0..told.len())].clone());
    }
    luck.shuffle(&mut events);
    let order: Vec<&str> = events.iter().map(id_of).collect();
    let order = format!("{order:?} of {told:?}");
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let (at_once, later) = rest.split_at(luck.usize(1..=rest.len().min(3)));
        let answers = join_all(at_once.iter().map(|event| world.send(event))).await;
        assert!(answers.iter().all(|answer| answer.0 == 200), "{answers:?}");
        rest = later;
    }
    world.until_quiet_about(account).await;
    order
}

#[tokio::test]
async fn snapshots_in_any_order_with_any_duplicates_end_in_the_last_one_without_a_fetch() {
    let world = World::start().await;
    let seed = fastrand::u64(..);
    let mut luck = fastrand::Rng::with_seed(seed);
    let names = [NEW, PENDING, READY, REVOKED, NO_PAYOUTS, DEADLINE];
    for round in 0..24 {
        // What a fetch would show is none of them: only the events can lead to the last one.
        let account = unheard_of(&world, REJECTED);
        let base = world.second() - 50;
        let mut names = names;
        luck.shuffle(&mut names);
        let told: Vec<(&str, i64)> = names.into_iter().zip(base..).collect();
        let order = shuffle(&world, &account, &told, &mut luck).await;
        let shown = world.api.get(&readiness(&account)).await.1;
        let reference = unheard_of(&world, names[5]);
        let wanted = world.api.get(&format!("{}?refresh=true", readiness(&reference))).await.1;
        assert_eq!(state(&shown), state(&wanted), "seed {seed} round {round}: {order}");
        assert_eq!(shown["as_of"], json!(second(base + 5)), "seed {seed} round {round}: {order}");
        assert_eq!(fetched(&world, &account), 0, "seed {seed} round {round}: {order}");
    }
}

#[tokio::test]
async fn with_a_tie_among_them_any_order_ends_in_the_truth_by_a_fetch() {
    let world = World::start().await;
    let seed = fastrand::u64(..);
    let mut luck = fastrand::Rng::with_seed(seed);
    for round in 0..24 {
        let mut names = [NEW, PENDING, READY, REVOKED, NO_PAYOUTS, DEADLINE];
        luck.shuffle(&mut names);
        // The last two are of one second: only Stripe can tell which of them is true.
        let truth = names[if luck.bool() { 4 } else { 5 }];
        let account = unheard_of(&world, truth);
        let wanted_of = unheard_of(&world, truth);
        let base = world.second() - 40;
        let told: Vec<(&str, i64)> = names.into_iter().zip([0, 1, 2, 3, 4, 4].map(|s| base + s)).collect();
        let order = shuffle(&world, &account, &told, &mut luck).await;
        let shown = world.api.get(&readiness(&account)).await.1;
        let wanted = world.api.get(&format!("{}?refresh=true", readiness(&wanted_of))).await.1;
        assert_eq!(state(&shown), state(&wanted), "seed {seed} round {round}: {truth} from {order}");
        assert_eq!(shown["source"], json!("api"), "seed {seed} round {round}: {order}");
        assert!(fetched(&world, &account) >= 1, "seed {seed} round {round}: {order}");
    }
}

/// Waits until a fetch of the account has reached Stripe.
async fn until_asked(world: &World, account: &str, times: usize) {
    let asked = || async { (fetched(world, account) >= times).then_some(()) };
    assert!(eventually(asked).await.is_some(), "Stripe was not asked about {account} {times} times");
}

#[tokio::test]
async fn while_a_tie_is_looked_into_the_less_ready_one_holds() {
    let world = World::start().await;
    for (first, then) in [(READY, REVOKED), (REVOKED, READY)] {
        let account = unheard_of(&world, READY);
        let now = world.second();
        world.tell(&about_account(first, &account, now)).await;
        world.api.until(&readiness(&account), |_| true).await;
        world.stripe.fault(Fault::next(FaultKind::Delay { ms: 1_500 }).on("GET", "/v1/accounts/"));
        world.tell(&about_account(then, &account, now)).await;
        until_asked(&world, &account, 1).await;
        let meanwhile = world.api.get(&readiness(&account)).await.1;
        assert_eq!(
            meanwhile["reasons"],
            json!(["charges_disabled", "transfers_inactive"]),
            "{first} then {then}"
        );
        let calls = world.asked(&format!("/v1/accounts/{account}"));
        assert_eq!(calls[0].outcome.status, None, "Stripe has not answered yet");
        let shown = world.api.until(&readiness(&account), |shown| shown["ready"] == json!(true)).await;
        assert_eq!(shown["source"], json!("api"), "{first} then {then}");
    }
}

#[tokio::test]
async fn a_capability_event_is_believed_for_the_worse_and_looked_into() {
    let world = World::start().await;
    let (inactive, active) = ("capability.updated.transfers_inactive", "capability.updated.transfers_active");
    for truth in [READY, REVOKED] {
        let account = unheard_of(&world, truth);
        let now = world.second();
        world.tell(&about_account(READY, &account, now - 10)).await;
        world.until_ready(&account).await;
        world.stripe.fault(Fault::next(FaultKind::Delay { ms: 1_000 }).on("GET", "/v1/accounts/"));
        world.tell(&about_account(inactive, &account, now - 5)).await;
        until_asked(&world, &account, 1).await;
        let meanwhile = world.api.get(&readiness(&account)).await.1;
        assert_eq!(meanwhile["reasons"], json!(["transfers_inactive"]), "{truth}");
        let shown = world.api.until(&readiness(&account), |shown| shown["source"] == json!("api")).await;
        assert_eq!(shown["ready"], json!(truth == READY));
    }
    // Good news of one capability makes nobody ready: it says nothing about the rest.
    let account = unheard_of(&world, REVOKED);
    let now = world.second();
    world.tell(&about_account(REVOKED, &account, now - 10)).await;
    world.api.until(&readiness(&account), |_| true).await;
    world.stripe.fault(Fault::next(FaultKind::Delay { ms: 1_000 }).on("GET", "/v1/accounts/"));
    world.tell(&about_account(active, &account, now - 5)).await;
    until_asked(&world, &account, 1).await;
    assert_eq!(world.api.get(&readiness(&account)).await.1["transfers_capability"], json!("inactive"));
    world.until_quiet_about(&account).await;
    assert_eq!(world.api.get(&readiness(&account)).await.1["ready"], json!(false));
    // Of an account never heard of it leads to the whole.
    let account = unheard_of(&world, READY);
    world.tell(&about_account(active, &account, now)).await;
    let shown = world.api.until(&readiness(&account), |_| true).await;
    assert_eq!((&shown["ready"], &shown["source"]), (&json!(true), &json!("api")));
}

#[tokio::test]
async fn an_event_of_an_old_api_version_is_fetched_and_not_trusted() {
    let world = World::start().await;
    let mut unversioned = about_account(READY, "", 0);
    unversioned["api_version"] = json!(null);
    let mut future = about_account(READY, "", 0);
    future["api_version"] = json!("2027-09-30.fern");
    let mut shapeless = about_account(READY, "", 0);
    shapeless["data"]["object"]["capabilities"] = json!("active");
    let of_2018 = about_account("account.updated.20_api_2018-11-08", "", 0);
    for (what, like) in [("2018", of_2018), ("none", unversioned), ("2027", future), ("odd shape", shapeless)]
    {
        let account = unheard_of(&world, PENDING);
        let mut event = like;
        (event["id"], event["account"], event["created"]) =
            (json!(fresh_id()), json!(account), json!(world.second()));
        event["data"]["object"]["id"] = json!(account);
        world.tell(&event).await;
        let shown = world.api.until(&readiness(&account), |_| true).await;
        assert_eq!((&shown["source"], fetched(&world, &account)), (&json!("api"), 1), "{what}");
        assert_eq!(shown["reasons"], json!(["charges_disabled", "transfers_inactive"]), "{what}");
        assert_eq!(world.until_settled(&event).await["status"], json!("processed"), "{what}");
    }
}

#[tokio::test]
async fn against_a_fetch_a_straggler_is_dropped_a_recent_event_looked_into_and_a_newer_one_believed() {
    let world = World::start().await;
    let account = unheard_of(&world, READY);
    world.api.get(&format!("{}?refresh=true", readiness(&account))).await;
    let began = world.second();
    assert_eq!(fetched(&world, &account), 1);
    let straggler = about_account(REVOKED, &account, began - 305);
    world.tell(&straggler).await;
    world.until_settled(&straggler).await;
    world.until_quiet_about(&account).await;
    assert_eq!(world.api.get(&readiness(&account)).await.1["ready"], json!(true));
    assert_eq!(fetched(&world, &account), 1, "a straggler costs no call");
    for age in [290, 30, 1] {
        let before = fetched(&world, &account);
        let recent = about_account(REVOKED, &account, began - age);
        world.tell(&recent).await;
        world.until_settled(&recent).await;
        world.until_quiet_about(&account).await;
        assert_eq!(
            world.api.get(&readiness(&account)).await.1["ready"],
            json!(true),
            "{age} s: the fetch showed it"
        );
        assert!(fetched(&world, &account) > before, "{age} s: it may be news");
    }
    let before = fetched(&world, &account);
    world.clock.advance(Duration::seconds(2));
    let newer = about_account(REVOKED, &account, world.second());
    world.tell(&newer).await;
    world.until_settled(&newer).await;
    world.until_quiet_about(&account).await;
    let shown = world.api.get(&readiness(&account)).await.1;
    assert_eq!((&shown["ready"], &shown["source"]), (&json!(false), &json!(id_of(&newer))));
    assert_eq!(fetched(&world, &account), before, "what is newer than the fetch needs none");
}
