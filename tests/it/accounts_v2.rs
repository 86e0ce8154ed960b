//! Accounts of Stripe's v2: told of by thin events, read by v1 and v2, and held in the shape of all others.

mod told;

use serde_json::{Value, json};
use sluicegate::sandbox::{AccountChange, Fault, FaultKind, V2Change, V2Spec};
use time::Duration;

use crate::support::events::thin;
use crate::support::world::{PATIENCE, World, eventually};

/// What an account waits for of which v1 shows no flag, and v2 no active capability.
const NOTHING: [&str; 3] = ["details_not_submitted", "charges_disabled", "transfers_inactive"];

fn readiness(account: &str) -> String {
    format!("/v1/accounts/{account}/readiness")
}

fn v2(account: &str) -> String {
    format!("/v2/core/accounts/{account}")
}

/// A new account of v2 with this capability, of which v1 shows the flags, or none.
fn made(world: &World, transfers: &str, in_v1: bool) -> String {
    let spec = V2Spec { transfers: Some(transfers.to_owned()), in_v1, ..V2Spec::default() };
    world.stripe.create_v2_account(&spec)
}

fn becomes(world: &World, account: &str, transfers: &str) {
    let change = V2Change { transfers: Some(transfers.to_owned()), ..V2Change::default() };
    world.stripe.change_v2(account, &change).unwrap();
}

async fn until_capability(world: &World, account: &str, status: &str) -> Value {
    world.api.until(&readiness(account), |shown| shown["transfers_capability"] == json!(status)).await
}

/// Every event about an account was taken and led to something, or was ignored, and all that is held follows.
async fn assert_all_went_well(world: &World) {
    assert!(world.stripe.delivered(PATIENCE).await, "all that was told came");
    world.until_events_done().await;
    world.until_none_now().await;
    assert_eq!(world.rows("dead_letters").await, 0, "no event failed");
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_transfer_waits_on_an_account_of_v2_and_goes_out_once_it_may_receive() {
    let world = World::start().await;
    world.settled_topup("usd", 5_000).await;
    let account = made(&world, "pending", false);
    let transfer = world.transfer(&account, 700, json!({})).await;
    world.until_waiting_on(&transfer, &NOTHING).await;
    let shown = until_capability(&world, &account, "pending").await;
    let flags = ["details_submitted", "charges_enabled", "payouts_enabled"];
    assert!(flags.iter().all(|flag| shown[flag].is_null()), "{shown}");
    assert_eq!((&shown["source"], &shown["deauthorized"]), (&json!("api"), &json!(false)));
    becomes(&world, &account, "active");
    world.until_status(&transfer, "released").await;
    assert_eq!(world.times_at_stripe(&transfer), 1);
    let shown = until_capability(&world, &account, "active").await;
    assert_eq!((&shown["ready"], &shown["reasons"]), (&json!(true), &json!([])));
    let include = "include=configuration.recipient&include=requirements&include=future_requirements";
    let asked = world.asked(&v2(&account));
    assert!(!asked.is_empty() && asked.iter().all(|call| call.body == include), "{asked:?}");
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn each_status_of_the_capability_has_its_readiness_in_both_views() {
    let world = World::start().await;
    let blocked = ["account_blocked", "details_not_submitted", "charges_disabled", "transfers_inactive"];
    let bare: [(&str, &[&str]); 6] = [
        ("restricted", &NOTHING),
        ("active", &[]),
        ("unsupported", &blocked),
        ("pending", &NOTHING),
        ("rejected", &blocked),
        ("a_word_of_tomorrow", &NOTHING),
    ];
    let account = made(&world, "pending", false);
    for (status, reasons) in bare {
        becomes(&world, &account, status);
        let shown = until_capability(&world, &account, status).await;
        assert_eq!(shown["reasons"], json!(reasons), "{status}");
    }
    // Where v1 shows flags and capability too, it decides, but for what it has no word for.
    let (inactive, refused) = (
        ["charges_disabled", "transfers_inactive"],
        ["account_blocked", "charges_disabled", "transfers_inactive"],
    );
    let mirrored: [(&str, &str, &[&str]); 5] = [
        ("restricted", "inactive", &inactive),
        ("active", "active", &[]),
        ("rejected", "rejected", &refused),
        ("pending", "pending", &inactive),
        ("unsupported", "unsupported", &refused),
    ];
    let account = made(&world, "active", true);
    for (status, shown_as, reasons) in mirrored {
        becomes(&world, &account, status);
        let shown = until_capability(&world, &account, shown_as).await;
        let settled = |shown: &Value| shown["reasons"] == json!(reasons);
        world.api.until(&readiness(&account), settled).await;
        assert_eq!(shown["details_submitted"], json!(true), "{status}");
    }
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn what_v2_wants_is_shown_as_what_v1_wants() {
    let world = World::start().await;
    let account = made(&world, "restricted", false);
    let wanted = |name: &str, deadline: &str| json!({"description": name, "awaiting_action_from": "user", "minimum_deadline": {"status": deadline}});
    let requirements = json!({
        "entries": [wanted("external_account", "past_due"), wanted("identity.phone", "eventually_due")],
        "summary": {"minimum_deadline": {"status": "past_due", "time": "2026-12-01T00:00:00.000Z"}},
    });
    let change = V2Change { requirements: Some(requirements), ..V2Change::default() };
    world.stripe.change_v2(&account, &change).unwrap();
    let due = |shown: &Value| shown["requirements"]["past_due"] == json!(["external_account"]);
    let shown = world.api.until(&readiness(&account), due).await;
    let requirements = &shown["requirements"];
    assert_eq!(requirements["currently_due"], json!(["external_account"]));
    assert_eq!(requirements["eventually_due"], json!(["external_account", "identity.phone"]));
    assert_eq!(requirements["current_deadline"], json!("2026-12-01T00:00:00Z"));
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn the_two_events_of_one_change_end_in_the_same_in_either_order_and_repeated() {
    let world = World::start().await;
    for in_v1 in [false, true] {
        for reversed in [false, true] {
            let account = made(&world, "pending", in_v1);
            until_capability(&world, &account, "pending").await;
            world.until_quiet_about(&account).await;
            world.stripe.hold_events(true);
            becomes(&world, &account, "active");
            let mut told: Vec<(String, String)> = world.stripe.held_events();
            let kinds: Vec<&str> = told.iter().map(|(_, kind)| kind.as_str()).collect();
            assert_eq!(
                kinds,
                ["v2.core.account[configuration.recipient].capability_status_updated", "account.updated"]
            );
            if reversed {
                told.reverse();
            }
            for (id, _) in &told {
                assert_eq!(world.stripe.deliver(id).await.unwrap(), [Some(200)]);
                assert_eq!(world.stripe.deliver(id).await.unwrap(), [Some(200)]);
                world.until_ready(&account).await;
            }
            world.stripe.hold_events(false);
            world.until_quiet_about(&account).await;
            let shown = world.api.get(&readiness(&account)).await.1;
            assert_eq!(shown["reasons"], json!([]), "in v1: {in_v1}, reversed: {reversed}: {shown}");
            assert_eq!(shown["transfers_capability"], json!("active"));
        }
    }
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn a_v1_view_without_the_capability_never_makes_a_ready_account_of_v2_unready() {
    let world = World::start().await;
    let account = made(&world, "active", false);
    world.until_ready(&account).await;
    world.until_quiet_about(&account).await;
    // From now on v1 shows all its flags, and only the capability is missing there.
    let v1 = json!({"details_submitted": true, "charges_enabled": true, "payouts_enabled": true,
                    "capabilities": {}, "requirements": {}});
    let asked_before = world.asked(&v2(&account)).len();
    world
        .stripe
        .change_account(&account, &AccountChange { other: Some(v1), ..AccountChange::default() })
        .unwrap();
    world.api.until(&readiness(&account), |shown| shown["charges_enabled"] == json!(true)).await;
    world.until_quiet_about(&account).await;
    assert!(world.asked(&v2(&account)).len() > asked_before, "v2 was asked");
    let history = world.api.get(&format!("/v1/accounts/{account}")).await.1["history"].clone();
    let ready: Vec<bool> =
        history.as_array().unwrap().iter().filter_map(|change| change["ready"].as_bool()).collect();
    assert!(ready.iter().skip_while(|ready| !**ready).all(|ready| *ready), "{history}");
    assert_eq!(until_capability(&world, &account, "active").await["ready"], json!(true));
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn what_only_v1_told_is_asked_of_v2_once_the_account_is_known_to_be_one() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let account = made(&world, "active", false);
    let v1 = json!({"details_submitted": true, "charges_enabled": true, "payouts_enabled": true,
                    "capabilities": {}, "requirements": {}});
    world
        .stripe
        .change_account(&account, &AccountChange { other: Some(v1), ..AccountChange::default() })
        .unwrap();
    // Of its events the latest of v1 comes first, and then one of v2 that is older than it.
    let told = world.stripe.held_events();
    world.stripe.deliver(&told.last().unwrap().0).await.unwrap();
    let shown = world.api.until(&readiness(&account), |_| true).await;
    assert_eq!(shown["reasons"], json!(["transfers_inactive"]));
    let older = told.iter().find(|(_, kind)| kind == "v2.core.account.created").unwrap();
    world.clock.advance(Duration::minutes(10));
    world.stripe.deliver(&older.0).await.unwrap();
    world.until_ready(&account).await;
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn stripes_list_of_accounts_denies_nothing_that_it_leaves_out() {
    let every = std::time::Duration::from_secs(300);
    let world = World::with(|setting| setting.plan.reconcile_every = Some(every)).await;
    let walks = async |runs: i64| {
        let ended = || async {
            let found =
                world.count("select coalesce(max(runs), 0) from sweeps where name = $1", "accounts").await;
            (found >= runs).then_some(())
        };
        assert!(eventually(ended).await.is_some(), "the list was never read to its end, {runs} times");
    };
    let account = made(&world, "active", false);
    world.until_ready(&account).await;
    walks(1).await;
    world.until_quiet_about(&account).await;
    let asked = world.asked(&v2(&account)).len();
    world.clock.advance(Duration::minutes(6));
    walks(2).await;
    world.until_quiet_about(&account).await;
    assert_eq!(world.asked(&v2(&account)).len(), asked, "it differs in nothing");
    // Last confirmed long ago, it is asked for, and is not taken for less than it was meanwhile.
    world.clock.advance(Duration::hours(13));
    walks(3).await;
    world.until_quiet_about(&account).await;
    assert!(world.asked(&v2(&account)).len() > asked, "it was asked for");
    let history = world.api.get(&format!("/v1/accounts/{account}")).await.1["history"].clone();
    let last = history.as_array().unwrap().last().unwrap();
    assert_eq!(last["ready"], json!(true), "{history}");
    let ready = history.as_array().unwrap().iter().filter(|change| change["ready"] == json!(true));
    assert_eq!(ready.count(), 1, "and it never was anything else: {history}");
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn a_closed_account_is_blocked_for_good() {
    let world = World::start().await;
    for in_v1 in [false, true] {
        let account = made(&world, "active", in_v1);
        world.until_ready(&account).await;
        world.stripe.change_v2(&account, &V2Change { close: true, ..V2Change::default() }).unwrap();
        let blocked = |shown: &Value| shown["reasons"][0] == json!("account_blocked");
        world.api.until(&readiness(&account), blocked).await;
        world.until_quiet_about(&account).await;
        let (_, shown) = world.api.get(&format!("{}?refresh=true", readiness(&account))).await;
        assert!(blocked(&shown), "{shown}");
        assert_eq!(shown["deauthorized"], json!(false));
        let transfer = world.transfer(&account, 100, json!({})).await;
        let waits = |shown: &Value| {
            shown["waiting_on"].as_array().is_some_and(|on| on.contains(&json!("account_blocked")))
        };
        world.api.until(&format!("/v1/transfers/{transfer}"), waits).await;
    }
    // Told of by its closing alone, and read by a key that has no v2.
    world.stripe.fault(Fault::next(refusal(403)).on("GET", "/v2/core/").times(None));
    world.stripe.hold_events(true);
    let account = made(&world, "active", true);
    let event = thin(&world, "v2.core.account.closed", None, Some(("v2.core.account", &account)));
    world.tell(&event).await;
    let blocked = |shown: &Value| shown["reasons"] == json!(["account_blocked"]);
    world.api.until(&readiness(&account), |shown| blocked(shown) && shown["source"] == json!("api")).await;
    assert_all_went_well(&world).await;
}

fn refusal(status: u16) -> FaultKind {
    FaultKind::Refuse { status, code: "not_here".into(), message: "no v2 here".into() }
}

#[tokio::test]
async fn a_restricted_key_has_no_v2_and_v1_decides_alone() {
    const RESTRICTED: &str = "rk_test_world";
    let world = World::with(|setting| {
        setting.plan.stripe.secret_key = RESTRICTED.to_owned().into();
        setting.stripe.secret_key = Some(RESTRICTED.to_owned());
    })
    .await;
    world.settled_topup("usd", 5_000).await;
    let (mirrored, bare) = (made(&world, "pending", true), made(&world, "active", false));
    until_capability(&world, &mirrored, "pending").await;
    let transfer = world.transfer(&mirrored, 900, json!({})).await;
    becomes(&world, &mirrored, "active");
    world.until_status(&transfer, "released").await;
    let shown = world.api.until(&readiness(&bare), |_| true).await;
    assert_eq!((&shown["reasons"], &shown["deauthorized"]), (&json!(NOTHING), &json!(false)));
    let event = world.stripe.return_link(&bare).unwrap();
    world.api.until(&format!("/v1/events/{event}"), |event| event["status"] == json!("processed")).await;
    let refused: Vec<_> =
        world.stripe.calls().into_iter().filter(|call| call.path.starts_with("/v2/")).collect();
    assert!(refused.iter().any(|call| call.path.starts_with("/v2/core/events/")), "{refused:?}");
    assert!(refused.iter().all(|call| call.outcome.status == Some(403)), "{refused:?}");
    let next = world.transfer(&mirrored, 100, json!({})).await;
    world.until_status(&next, "released").await;
    assert_all_went_well(&world).await;
}

#[tokio::test]
async fn a_platform_without_v2_goes_by_v1_and_one_that_is_away_is_asked_again() {
    let world = World::start().await;
    for status in [400, 401, 403, 404] {
        world.stripe.fault(Fault::next(refusal(status)).on("GET", "/v2/core/").times(None));
        let account = made(&world, "active", true);
        world.until_ready(&account).await;
        world.until_quiet_about(&account).await;
        assert!(!world.asked(&v2(&account)).is_empty(), "{status}: v2 was asked");
        world.stripe.clear_faults();
    }
    world.stripe.fault(Fault::next(FaultKind::UnavailableBeforeCommit).on("GET", "/v2/core/").times(None));
    let account = made(&world, "active", false);
    let asked = || async { (world.asked(&v2(&account)).len() > 3).then_some(()) };
    assert!(eventually(asked).await.is_some(), "it is asked again");
    assert_eq!(world.api.get(&readiness(&account)).await.0, 404, "nothing is held of half an answer");
    world.stripe.clear_faults();
    let ready = || async {
        world.clock.advance(Duration::seconds(5));
        (world.api.get(&readiness(&account)).await.1["ready"] == json!(true)).then_some(())
    };
    assert!(eventually(ready).await.is_some(), "what was asked for came in the end");
    assert_all_went_well(&world).await;
}
