//! Why a transfer stands where it stands, asked at every stage of its life.

use serde_json::{Value, json};
use sluicegate::domain::limits::Limits;
use sluicegate::domain::money::Currency;
use sluicegate::sandbox::{AccountChange, AccountSpec, Fault, FaultKind};
use time::Duration;

use crate::support::events::about_account;
use crate::support::reply::ask;
use crate::support::world::{World, eventually};

async fn explained(world: &World, id: &str) -> Value {
    let (status, body) = world.api.get(&format!("/v1/transfers/{id}/explanation")).await;
    assert_eq!(status, 200, "{body}");
    body
}

fn check<'a>(explanation: &'a Value, name: &str) -> &'a Value {
    let checks = explanation["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["check"] == json!(name))
        .unwrap_or_else(|| panic!("no {name}: {explanation}"))
}

/// The codes of the checks that do not hold, in their order.
fn failed(explanation: &Value) -> Vec<&str> {
    let checks = explanation["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["passed"] == json!(false))
        .map(|check| check["code"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn at_every_stage_the_explanation_says_what_the_transfer_waits_on() {
    let usd = Currency::parse("usd").unwrap();
    let limits = Limits { approval_above: [(usd, 500)].into(), ..Limits::default() };
    let world = World::with(|setting| setting.plan.limits = limits).await;
    let account = world.stripe.create_account(AccountSpec::default());
    world.tell(&about_account("account.updated.01_new_express", &account, world.second())).await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    // Each step takes one thing away, or puts one in the way.
    let agree = async |expected: &[&str]| {
        let path = format!("/v1/transfers/{id}");
        world.api.until(&path, |transfer| transfer["waiting_on"] == json!(expected)).await;
        let explanation = explained(&world, &id).await;
        assert_eq!(failed(&explanation), expected, "{explanation}");
        explanation
    };
    let first =
        agree(&["approval_required", "details_not_submitted", "charges_disabled", "transfers_inactive"])
            .await;
    assert_eq!(first["status"], json!("waiting"));
    assert!(first["summary"].as_str().unwrap().contains("onboarding is not finished"), "{first}");
    let details = check(&first, "details_submitted");
    let source = details["evidence"]["source"].as_str().unwrap();
    assert!(source.starts_with("evt_") || source == "api", "{details}");
    assert_eq!(details["unblocked_by"], json!("the account's holder finishes onboarding"));
    assert_eq!(check(&first, "funds")["passed"], json!(null), "not asked yet");
    assert_eq!(check(&first, "hold")["passed"], json!(true));
    world.stripe.change_account(&account, &AccountChange::ready()).unwrap();
    let approval = agree(&["approval_required"]).await;
    assert!(
        check(&approval, "approval")["evidence"]["what"]
            .as_str()
            .unwrap()
            .contains("10.00 USD is above the limit of 5.00 USD")
    );
    let (_, made) = world.api.post("/v1/keys", "k", &json!({"name": "n", "scope": "operate"})).await;
    let other = world.api.with_key(made["secret"].as_str().unwrap());
    assert_eq!(other.post(&format!("/v1/transfers/{id}/approve"), "a", &json!({})).await.0, 200);
    let short = agree(&["funds_insufficient"]).await;
    let approved = check(&short, "approval");
    assert_eq!((&approved["passed"], &approved["evidence"]["source"]), (&json!(true), &made["id"]));
    let funds = check(&short, "funds")["evidence"]["what"].as_str().unwrap();
    assert!(
        funds.starts_with("it needs 10.00 USD; 0.00 USD in the pool are free, and it is the first in line"),
        "{funds}"
    );
    assert_eq!(world.api.post(&format!("/v1/transfers/{id}/hold"), "h", &json!({})).await.0, 200);
    assert_eq!(check(&agree(&["on_hold"]).await, "hold")["evidence"]["source"], json!("admin"));
    assert_eq!(world.api.post("/v1/releases/pause", "p", &json!({"reason": "month end"})).await.0, 200);
    let paused = agree(&["releases_paused", "on_hold"]).await;
    assert_eq!(check(&paused, "releases")["evidence"]["what"], json!("all releases are paused: month end"));
    for (path, key) in [(format!("/v1/transfers/{id}/resume"), "u"), ("/v1/releases/resume".to_owned(), "r")]
    {
        assert_eq!(world.api.post(&path, key, &json!({})).await.0, 200);
    }
    agree(&["funds_insufficient"]).await;
    world.settled_topup("usd", 1_000).await;
    world.until_status(&id, "released").await;
    let over = explained(&world, &id).await;
    let stripe = check(&over, "stripe");
    let shown = world.api.get(&format!("/v1/transfers/{id}")).await.1;
    assert_eq!((failed(&over).len(), over["checks"].as_array().unwrap().len()), (0, 1), "{over}");
    assert!(
        stripe["evidence"]["what"].as_str().unwrap().contains(shown["stripe_transfer"].as_str().unwrap())
    );
}

#[tokio::test]
async fn the_place_in_line_and_what_stands_before_it_is_told() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.stripe.create_topup("usd", 700);
    world.api.until(&format!("/v1/topups/{topup}"), |shown| shown["status"] == json!("pending")).await;
    let mut line = Vec::new();
    for amount in [300, 400, 500] {
        line.push(world.transfer(&account, amount, json!({})).await);
    }
    let tied = world.transfer(&account, 700, json!({"topup": topup})).await;
    for id in &line {
        world.until_waiting_on(id, &["funds_insufficient"]).await;
    }
    world.until_waiting_on(&tied, &["topup_pending"]).await;
    let what = async |id: &str| {
        check(&explained(&world, id).await, "funds")["evidence"]["what"].as_str().unwrap().to_owned()
    };
    assert!(what(&line[0]).await.contains("it is the first in line"));
    assert!(what(&line[1]).await.contains("one transfer before it asks for 3.00 USD"));
    assert!(what(&line[2]).await.contains("2 transfers before it ask for 7.00 USD"));
    let explanation = explained(&world, &tied).await;
    let waits = check(&explanation, "topup");
    assert_eq!((&waits["passed"], &waits["code"]), (&json!(false), &json!("topup_pending")));
    assert!(waits["evidence"]["what"].as_str().unwrap().contains(&format!("{topup} is pending")));
    assert_eq!(world.api.get("/v1/transfers/xfer_1/explanation").await.0, 404);
    let odd = ask(world
        .api
        .http
        .get(world.api.url("/v1/transfers/xfer_1/explanation?x=1"))
        .bearer_auth(&world.api.key));
    assert_eq!(odd.await.pointers(), ["/query/x"]);
}

#[tokio::test]
async fn an_unknown_outcome_and_every_end_are_explained() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 3_000).await;
    let lost = Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/transfers").times(None);
    world.stripe.fault(lost);
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    let explanation = explained(&world, &id).await;
    assert_eq!(explanation["status"], json!("releasing"));
    let stripe = check(&explanation, "stripe");
    assert_eq!((&stripe["passed"], &stripe["code"]), (&json!(null), &json!("stripe_unavailable")));
    assert!(stripe["evidence"]["what"].as_str().unwrap().contains("without a definite answer"), "{stripe}");
    assert!(stripe["expected_at"].is_string() && stripe["unblocked_by"].is_string(), "{stripe}");
    assert_eq!(check(&explanation, "funds")["passed"], json!(true), "its money is reserved");
    world.stripe.clear_faults();
    world.clock.advance(Duration::minutes(11));
    world.until_status(&id, "released").await;
    let refuse = FaultKind::Refuse { status: 400, code: "of_tomorrow".into(), message: "No.".into() };
    world.stripe.fault(Fault::next(refuse).on("POST", "/v1/transfers"));
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "failed").await;
    let explanation = explained(&world, &id).await;
    let stripe = check(&explanation, "stripe");
    assert_eq!((&stripe["passed"], &stripe["code"]), (&json!(false), &json!("of_tomorrow")));
    let later = world.transfer(&account, 1, json!({"release_after": "2096-01-01T00:00:00Z"})).await;
    let scheduled = explained(&world, &later).await;
    assert_eq!(check(&scheduled, "schedule")["expected_at"], json!("2096-01-01T00:00:00Z"));
    assert_eq!(world.api.post(&format!("/v1/transfers/{later}/cancel"), "c", &json!({})).await.0, 200);
    let canceled = explained(&world, &later).await;
    assert_eq!(check(&canceled, "canceled")["evidence"]["source"], json!("canceled by admin"));
    let reversal = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&reversal, "released").await;
    let path = format!("/v1/transfers/{reversal}/reverse");
    assert_eq!(world.api.post(&path, "rev", &json!({"amount": 400})).await.0, 200);
    let back = eventually(|| async {
        let explanation = explained(&world, &reversal).await;
        (explanation["status"] == json!("partially_reversed")).then_some(explanation)
    });
    let back = back.await.expect("it comes back");
    assert!(
        check(&back, "reversals")["evidence"]["what"]
            .as_str()
            .unwrap()
            .contains("4.00 USD of 10.00 USD came back")
    );
}

#[tokio::test]
async fn an_explanation_changes_nothing() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.until_idle().await;
    let before = world.api.get(&format!("/v1/transfers/{id}")).await;
    let xid = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint where $1 = ''";
    let _ = world.count(xid, "").await;
    for _ in 0..3 {
        explained(&world, &id).await;
    }
    assert_eq!(world.api.get(&format!("/v1/transfers/{id}")).await, before);
}
