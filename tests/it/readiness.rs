//! May this account be paid: told by events in any order, by fetches, and never more hopefully than known.

mod asked;
mod order;

use std::time::Instant;

use serde_json::{Value, json};
use sluicegate::domain::account::Policy;
use sluicegate::sandbox::{AccountChange, AccountSpec, Fault, FaultKind};
use time::{Duration, OffsetDateTime};

use crate::support::events::{about_account, fresh_id, id_of, thin};
use crate::support::reply::ask;
use crate::support::world::World;

const NEW: &str = "account.updated.01_new_express";
const PENDING: &str = "account.updated.02_submitted_pending";
const READY: &str = "account.updated.03_ready_transfers_only";
const NO_PAYOUTS: &str = "account.updated.04_payouts_blocked_transfers_active";
const REVOKED: &str = "account.updated.05_transfers_revoked_after_ready";
const DEADLINE: &str = "account.updated.06_deadline_set_still_active";
const REJECTED: &str = "account.updated.07_rejected";

fn readiness(account: &str) -> String {
    format!("/v1/accounts/{account}/readiness")
}

fn fetched(world: &World, account: &str) -> usize {
    world.asked(&format!("/v1/accounts/{account}")).len()
}

/// An account at Stripe that looks as this recorded event says, and of which nothing was told.
fn unheard_of(world: &World, name: &str) -> String {
    world.stripe.hold_events(true);
    let mut object = about_account(name, "", 0)["data"]["object"].clone();
    object.as_object_mut().unwrap().remove("id");
    let change = AccountChange { other: Some(object), ..AccountChange::default() };
    world.stripe.create_account(AccountSpec { change, ..AccountSpec::default() })
}

/// What readiness rests on, without what tells when and by what it became known.
fn state(readiness: &Value) -> Value {
    let mut state = readiness.clone();
    let fields = state.as_object_mut().unwrap();
    fields.remove("as_of");
    fields.remove("source");
    fields.remove("account");
    state
}

fn second(unix_s: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(unix_s).unwrap();
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[tokio::test]
async fn readiness_has_exactly_the_promised_shape() {
    let world = World::start().await;
    let account = unheard_of(&world, READY);
    let created = world.second() - 30;
    let event = about_account(REVOKED, &account, created);
    world.tell(&event).await;
    let shown = world.api.until(&readiness(&account), |_| true).await;
    assert_eq!(
        shown,
        json!({
            "account": account, "livemode": false, "ready": false,
            "reasons": ["charges_disabled", "transfers_inactive"],
            "details_submitted": true, "charges_enabled": false, "payouts_enabled": true,
            "transfers_capability": "inactive", "deauthorized": false,
            "requirements": {
                "currently_due": ["individual.verification.document"],
                "past_due": ["individual.verification.document"],
                "eventually_due": ["individual.verification.document"],
                "pending_verification": [], "disabled_reason": "requirements.past_due", "current_deadline": null,
            },
            "as_of": second(created), "source": id_of(&event),
        })
    );
    let event = about_account(DEADLINE, &account, created + 1);
    world.tell(&event).await;
    let shown = world.api.until(&readiness(&account), |shown| shown["source"] == json!(id_of(&event))).await;
    assert_eq!(
        (&shown["ready"], &shown["reasons"]),
        (&json!(true), &json!([])),
        "a deadline ahead stops nothing"
    );
    assert_eq!(shown["requirements"]["current_deadline"], json!(second(1_764_410_400)));
    assert_eq!(fetched(&world, &account), 0, "events with an order need no fetch");
}

#[tokio::test]
async fn each_policy_asks_for_its_own_conditions_and_blocked_accounts_fit_none() {
    let all = "details_submitted,charges_enabled,payouts_enabled,transfers_active,no_past_due";
    let usual = "details_submitted,charges_enabled,transfers_active";
    let rows: [(&str, [&[&str]; 3]); 7] = [
        (
            NEW,
            [
                &["details_not_submitted", "charges_disabled", "transfers_inactive"],
                &[
                    "details_not_submitted",
                    "charges_disabled",
                    "payouts_disabled",
                    "transfers_inactive",
                    "requirements_past_due",
                ],
                &["transfers_inactive"],
            ],
        ),
        (
            PENDING,
            [
                &["charges_disabled", "transfers_inactive"],
                &["charges_disabled", "payouts_disabled", "transfers_inactive"],
                &["transfers_inactive"],
            ],
        ),
        (READY, [&[], &[], &[]]),
        (NO_PAYOUTS, [&[], &["payouts_disabled", "requirements_past_due"], &[]]),
        (
            REVOKED,
            [
                &["charges_disabled", "transfers_inactive"],
                &["charges_disabled", "transfers_inactive", "requirements_past_due"],
                &["transfers_inactive"],
            ],
        ),
        (
            REJECTED,
            [
                &["account_blocked", "charges_disabled", "transfers_inactive"],
                &["account_blocked", "charges_disabled", "payouts_disabled", "transfers_inactive"],
                &["account_blocked", "transfers_inactive"],
            ],
        ),
        ("account.updated.08_recipient_agreement", [&["charges_disabled"], &["charges_disabled"], &[]]),
    ];
    for (place, policy) in [usual, all, "transfers_active"].into_iter().enumerate() {
        let world = World::with(|setting| setting.plan.policy = Policy::parse(policy).unwrap()).await;
        for (i, (name, reasons)) in rows.iter().enumerate() {
            let account = format!("acct_{i}");
            world.tell(&about_account(name, &account, world.second())).await;
            let shown = world.api.until(&readiness(&account), |_| true).await;
            assert_eq!(shown["reasons"], json!(reasons[place]), "{name} under {policy}");
            assert_eq!(shown["ready"], json!(reasons[place].is_empty()), "{name} under {policy}");
        }
        for disabled in ["listed", "under_review", "platform_paused", "other", "rejected.new"] {
            let account = format!("acct_{}", disabled.replace('.', "_"));
            let mut event = about_account(READY, &account, world.second());
            event["data"]["object"]["requirements"]["disabled_reason"] = json!(disabled);
            world.tell(&event).await;
            let shown = world.api.until(&readiness(&account), |_| true).await;
            assert_eq!(shown["reasons"], json!(["account_blocked"]), "{disabled} under {policy}");
        }
    }
}

#[tokio::test]
async fn an_account_nobody_told_of_is_unknown_until_stripe_is_asked() {
    let world = World::start().await;
    let account = unheard_of(&world, READY);
    for path in [readiness(&account), format!("/v1/accounts/{account}")] {
        let reply = ask(world.api.http.get(world.api.url(&path)).bearer_auth(&world.api.key)).await;
        reply.must_be(404, "account_unknown", &path);
    }
    // Nor does an id that Stripe does not know either become an account by being asked for.
    let mistyped = format!("{}?refresh=true", readiness("acct_mistyped"));
    let reply = ask(world.api.http.get(world.api.url(&mistyped)).bearer_auth(&world.api.key)).await;
    reply.must_be(404, "account_unknown", &mistyped);
    assert_eq!(world.api.get("/v1/accounts").await.1["data"], json!([]));
    let before = world.clock.now();
    let (status, shown) = world.api.get(&format!("{}?refresh=true", readiness(&account))).await;
    assert_eq!((status, &shown["ready"], &shown["source"]), (200, &json!(true), &json!("api")));
    let as_of = OffsetDateTime::parse(
        shown["as_of"].as_str().unwrap(),
        &time::format_description::well_known::Rfc3339,
    );
    assert!(as_of.unwrap() >= before.truncate_to_second(), "{shown}");
    assert_eq!(world.api.get(&format!("{}?refresh=false", readiness(&account))).await, (200, shown));
    assert_eq!(fetched(&world, &account), 1);
    let (status, problem) = world.api.get(&format!("{}?refresh=yes", readiness(&account))).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/query/refresh")));
    // An account without a flag that could be asked for is fetched before anything is said.
    let other = unheard_of(&world, READY);
    world.tell(&about_account("account.updated.09_standard_minimal", &other, world.second())).await;
    let shown = world.api.until(&readiness(&other), |_| true).await;
    assert_eq!((&shown["source"], fetched(&world, &other)), (&json!("api"), 1));
}

#[tokio::test]
async fn a_refresh_while_stripe_is_away_says_so_and_changes_nothing() {
    let world = World::start().await;
    let account = unheard_of(&world, REVOKED);
    world.tell(&about_account(READY, &account, world.second())).await;
    let before = world.api.until(&readiness(&account), |_| true).await;
    for kind in [FaultKind::UnavailableBeforeCommit, FaultKind::DropBeforeCommit, FaultKind::Unauthorized] {
        world.stripe.fault(Fault::next(kind.clone()).on("GET", "/v1/accounts/").times(None));
        let url = world.api.url(&format!("{}?refresh=true", readiness(&account)));
        let reply = ask(world.api.http.get(url).bearer_auth(&world.api.key)).await;
        reply.must_be(503, "unavailable", &format!("{kind:?}"));
        assert!(!reply.header("retry-after").is_empty(), "{kind:?}");
        assert_eq!(world.api.get(&readiness(&account)).await.1, before, "{kind:?}");
        world.stripe.clear_faults();
    }
    let (_, shown) = world.api.get(&format!("{}?refresh=true", readiness(&account))).await;
    assert_eq!(shown["reasons"], json!(["charges_disabled", "transfers_inactive"]));
}

#[tokio::test]
async fn a_deauthorized_account_comes_back_by_a_fetch_a_minute_later() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.until_quiet_about(&account).await;
    world.stripe.deauthorize(&account).unwrap();
    let gone = world.api.until(&readiness(&account), |shown| shown["deauthorized"] == json!(true)).await;
    assert_eq!((&gone["ready"], &gone["reasons"]), (&json!(false), &json!(["account_deauthorized"])));
    world.stripe.deny(&account, false).unwrap();
    let refresh = format!("{}?refresh=true", readiness(&account));
    world.clock.advance(Duration::seconds(55));
    let soon = world.api.get(&refresh).await.1;
    assert_eq!(soon["reasons"], json!(["account_deauthorized"]), "it may be the answer of a moment before");
    assert_eq!(
        world.api.get("/v1/accounts?reason=account_deauthorized").await.1["data"][0]["account"],
        json!(account)
    );
    world.clock.advance(Duration::seconds(10));
    let back = world.api.get(&refresh).await.1;
    assert_eq!((&back["ready"], &back["deauthorized"]), (&json!(true), &json!(false)));
    // The event again, as another: older than the fetch by more than a minute, it is over.
    let mut old = about_account("account.application.deauthorized", &account, world.second() - 65);
    old["id"] = json!(fresh_id());
    world.tell(&old).await;
    world.until_settled(&old).await;
    assert_eq!(world.api.get(&readiness(&account)).await.1["ready"], json!(true));
    world.tell(&thin(&world, "v1.account.application.deauthorized", Some(&account), None)).await;
    world.api.until(&readiness(&account), |shown| shown["deauthorized"] == json!(true)).await;
}

#[tokio::test]
async fn an_account_that_stripe_will_not_show_is_taken_to_have_left() {
    let world = World::start().await;
    let refused = |status, code: &str| FaultKind::Refuse { status, code: code.into(), message: "no".into() };
    for (i, kind) in
        [refused(403, "account_invalid"), refused(404, "resource_missing")].into_iter().enumerate()
    {
        let account = unheard_of(&world, READY);
        world.tell(&about_account(READY, &account, world.second())).await;
        world.until_ready(&account).await;
        world.stripe.fault(Fault::next(kind.clone()).on("GET", "/v1/accounts/"));
        let gone = world.api.get(&format!("{}?refresh=true", readiness(&account))).await.1;
        assert_eq!(gone["reasons"], json!(["account_deauthorized"]), "{kind:?}");
        let listed = world.api.get("/v1/accounts?ready=false").await.1;
        assert_eq!(listed["data"].as_array().unwrap().len(), i + 1, "{kind:?}");
    }
    // What the key may not read has not left.
    let account = unheard_of(&world, READY);
    world.tell(&about_account(READY, &account, world.second())).await;
    world.until_ready(&account).await;
    world.stripe.fault(Fault::next(refused(403, "more_permissions_required")).on("GET", "/v1/accounts/"));
    let (status, problem) = world.api.get(&format!("{}?refresh=true", readiness(&account))).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    assert_eq!(world.api.get(&readiness(&account)).await.1["ready"], json!(true));
    // Told of later, it is looked at again as soon as that can clear it.
    let account = unheard_of(&world, READY);
    world.tell(&about_account(READY, &account, world.second() - 5)).await;
    world.until_ready(&account).await;
    world.stripe.deny(&account, true).unwrap();
    world.api.get(&format!("{}?refresh=true", readiness(&account))).await;
    world.stripe.deny(&account, false).unwrap();
    world.clock.advance(Duration::seconds(2));
    world.tell(&about_account(READY, &account, world.second())).await;
    world.until_events_done().await;
    assert_eq!(world.api.get(&readiness(&account)).await.1["deauthorized"], json!(true));
    world.clock.advance(Duration::seconds(60));
    world.until_ready(&account).await;
}

#[tokio::test]
async fn the_history_tells_each_change_once_and_lists_filter_by_what_holds() {
    let world = World::start().await;
    let account = unheard_of(&world, READY);
    let base = world.second() - 20;
    let told: Vec<Value> = [NEW, PENDING, READY, DEADLINE, REVOKED]
        .into_iter()
        .zip(base..)
        .map(|(name, at)| about_account(name, &account, at))
        .collect();
    for event in &told {
        world.tell(event).await;
        world.send(event).await;
        world.until_settled(event).await;
    }
    let late = about_account(NEW, &account, base - 1);
    world.tell(&late).await;
    world.until_settled(&late).await;
    let shown = world.api.get(&format!("/v1/accounts/{account}")).await.1;
    let history = shown["history"].as_array().unwrap();
    let sources: Vec<&Value> = history.iter().map(|change| &change["source"]).collect();
    assert_eq!(sources, told.iter().map(|event| &event["id"]).collect::<Vec<_>>());
    let ready: Vec<bool> = history.iter().map(|change| change["ready"].as_bool().unwrap()).collect();
    assert_eq!(ready, [false, false, true, true, false]);
    assert_eq!(history[4]["reasons"], json!(["charges_disabled", "transfers_inactive"]));
    assert_eq!(history[1]["as_of"], json!(second(base + 1)));
    let good = unheard_of(&world, READY);
    world.tell(&about_account(READY, &good, base)).await;
    world.until_ready(&good).await;
    for (query, wanted) in [
        ("ready=true", vec![&good]),
        ("ready=false", vec![&account]),
        ("reason=charges_disabled", vec![&account]),
        ("reason=details_not_submitted", vec![]),
        ("ready=true&reason=charges_disabled", vec![]),
    ] {
        let (status, page) = world.api.get(&format!("/v1/accounts?{query}")).await;
        let ids: Vec<&str> =
            page["data"].as_array().unwrap().iter().filter_map(|line| line["account"].as_str()).collect();
        assert_eq!((status, ids), (200, wanted.into_iter().map(String::as_str).collect()), "{query}");
    }
    for query in ["ready=1", "reason=nope", "reason="] {
        assert_eq!(world.api.get(&format!("/v1/accounts?{query}")).await.0, 422, "{query}");
    }
}

#[tokio::test]
async fn a_delivery_shows_within_a_tenth_of_a_second() {
    let world = World::start().await;
    let account = unheard_of(&world, READY);
    let base = world.second() - 100;
    let mut ms = Vec::new();
    for i in 0..50 {
        let event = about_account(if i % 2 == 0 { READY } else { REVOKED }, &account, base + i);
        world.tell(&event).await;
        let answered = Instant::now();
        loop {
            if world.api.get(&readiness(&account)).await.1["source"] == json!(id_of(&event)) {
                break;
            }
            assert!(answered.elapsed().as_secs() < 15, "{event}");
        }
        ms.push(answered.elapsed().as_secs_f64() * 1_000.0);
    }
    ms.sort_by(f64::total_cmp);
    let (median, worst) = (ms[25], ms[49]);
    println!("from the 200 until readiness shows it: median {median:.1} ms, worst {worst:.1} ms of 50");
    assert!(median < 100.0, "median {median:.1} ms: {ms:?}");
}
