//! What comes to the webhook door: stored durably before it is answered, once, and only if Stripe signed it.

mod kept;
mod limits;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sluicegate::stripe::signature::{self, SigningSecret};

use crate::support::events::{about_account, about_topup, all_recorded, fresh_id, recorded, renewed, thin};
use crate::support::reply::{Reply, ask};
use crate::support::world::{CONNECT_SECRET, PLATFORM_SECRET, World, eventually};

const MIB: usize = 1 << 20;

fn secret(text: &str) -> SigningSecret {
    SigningSecret::parse(text).unwrap()
}

/// The header that Stripe would send for this body at this second.
fn signed(body: &[u8], by: &str, at: i64) -> String {
    signature::sign(body, &secret(by), at)
}

/// One delivery with exactly these signature headers.
async fn post(world: &World, body: &[u8], headers: &[&[u8]]) -> Reply {
    let mut request = world.api.http.post(world.api.url("/webhooks/stripe"));
    for header in headers {
        request =
            request.header("Stripe-Signature", reqwest::header::HeaderValue::from_bytes(header).unwrap());
    }
    ask(request.body(body.to_vec())).await
}

/// The parts of a header.
fn parts(header: &str) -> (&str, &str) {
    let (t, v1) = header.split_once(',').unwrap();
    (t, v1.strip_prefix("v1=").unwrap())
}

/// What is odd about a delivery, its body, and its signature headers.
type Row = (&'static str, Vec<u8>, Vec<Vec<u8>>);

#[tokio::test]
async fn only_what_stripe_signed_within_the_tolerance_is_taken() {
    let world = World::start().await;
    let now = world.second();
    let body = renewed("account.updated.03_ready_transfers_only", now).to_string().into_bytes();
    let good = signed(&body, CONNECT_SECRET, now);
    let (t, v1) = parts(&good);
    let elses = signed(&body, "whsec_somebody_elses", now);
    let (_, other) = parts(&elses);
    let flipped = |at: usize| {
        let mut body = body.clone();
        body[at] ^= 1;
        body
    };
    let same = || body.clone();
    let mut longer = body.clone();
    longer.push(b'\n');
    let rows: Vec<Row> = vec![
        ("no header", same(), vec![]),
        ("an empty header", same(), vec![b"".to_vec()]),
        ("garbage", same(), vec![b"garbage".to_vec()]),
        ("no text", same(), vec![b"t=1,v1=\xff".to_vec()]),
        ("no t", same(), vec![format!("v1={v1}").into_bytes()]),
        ("no v1", same(), vec![t.as_bytes().to_vec()]),
        ("v0 only", same(), vec![format!("{t},v0={v1}").into_bytes()]),
        ("two t", same(), vec![format!("{t},{t},v1={v1}").into_bytes()]),
        ("t is not decimal", same(), vec![format!("{t}xyz,v1={v1}").into_bytes()]),
        ("another t than was signed", same(), vec![format!("t={},v1={v1}", now - 1).into_bytes()]),
        ("half a signature", same(), vec![format!("{t},v1={}", &v1[..32]).into_bytes()]),
        ("another secret", same(), vec![format!("{t},v1={other}").into_bytes()]),
        ("the header twice", same(), vec![good.clone().into_bytes(), good.clone().into_bytes()]),
        ("the first byte changed", flipped(0), vec![good.clone().into_bytes()]),
        ("a byte in the middle changed", flipped(body.len() / 2), vec![good.clone().into_bytes()]),
        ("the last byte changed", flipped(body.len() - 1), vec![good.clone().into_bytes()]),
        ("a line end added", longer, vec![good.clone().into_bytes()]),
        ("expired", same(), vec![signed(&body, CONNECT_SECRET, now - 302).into_bytes()]),
        ("far ahead", same(), vec![signed(&body, CONNECT_SECRET, now + 330).into_bytes()]),
    ];
    for (what, body, headers) in &rows {
        let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        post(&world, body, &headers).await.must_be(400, "signature_invalid", what);
    }
    assert_eq!((world.received().await, world.rows("quarantine").await), (0, 0), "nothing is kept of them");
    // The same bytes under what is merely odd.
    for (what, header) in [
        ("a broken v1 beside the good one", format!("{t},v1=potato,v1={v1}")),
        ("a wrong v1 beside the good one", format!("{t},v1={v1},v1={other}")),
        ("an unknown scheme beside it", format!("{t},v0=00,v1={v1},v9=1")),
        ("almost expired", signed(&body, CONNECT_SECRET, world.second() - 295)),
        ("a little ahead", signed(&body, CONNECT_SECRET, world.second() + 295)),
    ] {
        let reply = post(&world, &body, &[header.as_bytes()]).await;
        assert_eq!(reply.status, 200, "{what}: {reply:?}");
    }
    assert_eq!(world.received().await, 1);
}

#[tokio::test]
async fn while_a_secret_is_rotated_both_are_good_and_the_one_that_matched_is_kept() {
    const OLD: &str = "whsec_the_old_one_0000";
    const NEW: &str = "whsec_the_new_one_0000";
    const PLAIN: &str = "whsec_without_a_label";
    let world = World::with(|setting| {
        let list = format!("platform-old={OLD},platform-new={NEW},{PLAIN}");
        setting.plan.webhook_secrets = SigningSecret::parse_list(&list).unwrap();
    })
    .await;
    let now = world.second();
    for (by, label) in [(OLD, json!("platform-old")), (NEW, json!("platform-new")), (PLAIN, json!(null))] {
        let event = renewed("topup.created", now);
        assert_eq!(world.deliver(event.to_string().as_bytes(), by).await.0, 200);
        assert_eq!(world.event(&event).await["secret_label"], label);
    }
    // Meanwhile Stripe sends a signature for each; so it does where only one of the two is known here.
    for (theirs, label) in [(OLD, "platform-old"), ("whsec_not_known_here", "platform-new")] {
        let event = renewed("topup.created", now);
        let body = event.to_string();
        let (first, second) = (signed(body.as_bytes(), theirs, now), signed(body.as_bytes(), NEW, now));
        let both = format!("{first},v1={}", parts(&second).1);
        assert_eq!(world.deliver_signed(body.as_bytes(), &both).await.0, 200);
        assert_eq!(world.event(&event).await["secret_label"], json!(label));
    }
    let event = renewed("topup.created", now).to_string();
    assert_eq!(world.deliver(event.as_bytes(), CONNECT_SECRET).await.0, 400, "not configured here");
}

/// An event and what is to become of it.
fn turned_away(world: &World, account: &str) -> Vec<(&'static str, Value, &'static str)> {
    let now = world.second();
    let other_mode = |mut event: Value| {
        event["livemode"] = json!(true);
        event
    };
    let connected = |name: &str| about_account(name, account, now);
    let of_the_platform = |name: &str| {
        let mut event = renewed(name, now);
        event.as_object_mut().unwrap().remove("account");
        event
    };
    let topup = "tu_1Connected";
    let theirs = |mut event: Value| {
        event["account"] = json!(account);
        event
    };
    let mut silent = connected("account.updated.03_ready_transfers_only");
    silent.as_object_mut().unwrap().remove("livemode");
    vec![
        ("a person", connected("person.updated"), "unhandled_type"),
        ("an external account", connected("account.external_account.created"), "unhandled_type"),
        (
            "the platform's payout that has arrived",
            of_the_platform("payout.paid.connected"),
            "unhandled_type",
        ),
        ("a transfer of 2017", renewed("transfer.paid.legacy_2017-02-14", now), "unhandled_type"),
        ("a ping", recorded("thin.v2.core.event_destination.ping"), "unhandled_type"),
        ("a thin type nobody knows", recorded("thin.unknown_type"), "unhandled_type"),
        (
            "an account in live mode",
            other_mode(connected("account.updated.03_ready_transfers_only")),
            "livemode_mismatch",
        ),
        (
            "a top-up in live mode",
            other_mode(about_topup("topup.succeeded", topup, now)),
            "livemode_mismatch",
        ),
        ("an unhandled type in live mode", other_mode(connected("person.updated")), "livemode_mismatch"),
        ("an account in neither mode", silent, "livemode_mismatch"),
        (
            "a connected account's top-up",
            theirs(about_topup("topup.succeeded", topup, now)),
            "connected_account",
        ),
        ("its transfer", theirs(renewed("transfer.created", now)), "connected_account"),
        ("its balance", theirs(renewed("balance.available", now)), "connected_account"),
        ("its payout", connected("payout.failed.connected"), "connected_account"),
        (
            "its top-up, thin",
            thin(world, "v1.topup.succeeded", Some(account), Some(("topup", topup))),
            "connected_account",
        ),
        ("its balance, thin", thin(world, "v1.balance.available", Some(account), None), "connected_account"),
    ]
}

#[tokio::test]
async fn what_nothing_is_to_be_done_with_is_stored_told_and_never_acted_on() {
    let world = World::start().await;
    world.until_none_due().await;
    let calls = world.stripe.calls().len();
    let account = "acct_1NeverSeen";
    let rows = turned_away(&world, account);
    for (what, event, reason) in &rows {
        world.tell(event).await;
        let shown = world.event(event).await;
        assert_eq!((&shown["status"], &shown["reason"]), (&json!("ignored"), &json!(reason)), "{what}");
        assert_eq!(&shown["payload"], event, "{what}");
    }
    assert_eq!(world.received().await, rows.len() as i64);
    assert_eq!(world.rows("tasks where event_id is not null").await, 0, "nobody is woken for them");
    assert_eq!(world.api.get(&format!("/v1/accounts/{account}/readiness")).await.0, 404);
    assert_eq!(world.api.get("/v1/topups/tu_1Connected").await.0, 404);
    assert_eq!((world.rows("accounts").await, world.rows("topups").await), (0, 0));
    assert_eq!(world.stripe.calls().len(), calls, "Stripe is not asked about them");
}

#[tokio::test]
async fn the_platforms_own_account_is_no_connected_one_however_it_is_named() {
    let world = World::start().await;
    world.until_none_due().await;
    let platform = world.stripe.platform();
    let mut named = about_account("capability.updated.transfers_active", &platform, world.second());
    let ignored = || async {
        let event = {
            let mut event = named.clone();
            event["id"] = json!(fresh_id());
            event
        };
        world.tell(&event).await;
        (world.event(&event).await["reason"] == json!("platform_account")).then_some(())
    };
    // The answer that tells who the platform is may still be on its way to where events are routed.
    assert!(eventually(ignored).await.is_some());
    // The platform's money is its own under its own name as well.
    named = about_topup("topup.created", "tu_1Own", world.second());
    named["account"] = json!(platform);
    world.tell(&named).await;
    assert_eq!(world.until_settled(&named).await["status"], json!("processed"));
    assert_eq!(world.api.get("/v1/topups/tu_1Own").await.0, 200);
}

#[tokio::test]
async fn thin_events_are_told_by_their_object_and_have_the_object_fetched() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let rows: [(&str, bool, Option<&str>); 5] = [
        ("v1.account.updated", true, Some("account")),
        ("v1.capability.updated", true, Some("capability")),
        (
            "v2.core.account[configuration.recipient].capability_status_updated",
            false,
            Some("v2.core.account"),
        ),
        ("v2.core.account[requirements].updated", false, Some("v2.core.account")),
        ("v2.core.account.updated", true, Some("v2.core.account")),
    ];
    for (event_type, with_context, kind) in rows {
        let account = world.stripe.create_ready_account();
        let object = if kind == Some("capability") { "transfers" } else { account.as_str() };
        let context = format!("org_1/{account}");
        let event = thin(
            &world,
            event_type,
            with_context.then_some(context.as_str()),
            kind.map(|kind| (kind, object)),
        );
        let path = format!("/v1/accounts/{account}");
        assert_eq!(world.api.get(&format!("{path}/readiness")).await.0, 404);
        world.tell(&event).await;
        let ready = world.api.until(&format!("{path}/readiness"), |_| true).await;
        assert_eq!((&ready["ready"], &ready["source"]), (&json!(true), &json!("api")), "{event_type}");
        assert_eq!(world.asked(&path).len(), 1, "{event_type}");
        let shown = world.until_settled(&event).await;
        assert_eq!((&shown["status"], &shown["kind"]), (&json!("processed"), &json!("thin")), "{event_type}");
    }
    // A snapshot is one by its `object` too, whatever its type looks like.
    let account = world.stripe.create_account(sluicegate::sandbox::AccountSpec::default());
    let mut odd = about_account("account.updated.03_ready_transfers_only", &account, world.second());
    odd["type"] = json!("v1.account.updated");
    world.tell(&odd).await;
    assert_eq!(world.event(&odd).await["kind"], json!("snapshot"));
}

#[tokio::test]
async fn every_recorded_event_is_taken_and_leaves_nothing_undone() {
    let world = World::start().await;
    world.until_none_due().await;
    let recorded = all_recorded();
    assert!(recorded.len() >= 60, "the recorded events are there");
    let all = recorded.values().map(|body| world.deliver(body, CONNECT_SECRET));
    for ((name, _), answer) in recorded.iter().zip(join_all(all).await) {
        assert_eq!(answer, (200, json!({"received": true, "duplicate": false})), "{name}");
    }
    for (name, body) in &recorded {
        let answer = world.deliver(body, PLATFORM_SECRET).await;
        assert_eq!(answer, (200, json!({"received": true, "duplicate": true})), "{name}");
    }
    assert_eq!(world.received().await, recorded.len() as i64);
    world.until_events_done().await;
    world.until_none_now().await;
    let dead: Vec<(String, String)> =
        sqlx::query_as("select event_id, reason from dead_letters").fetch_all(world.pool()).await.unwrap();
    assert_eq!(dead, [], "each of them can be read");
    let failed: Vec<(String, String, String)> =
        sqlx::query_as("select kind, subject, failure from tasks where failure is not null")
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(failed, [], "no timer fails on what they told");
    for (name, body) in &recorded {
        let event: Value = serde_json::from_slice(body).unwrap();
        let shown = world.event(&event).await;
        assert_eq!(shown["payload"], event, "{name}");
        assert!(["processed", "ignored"].contains(&shown["status"].as_str().unwrap()), "{name}: {shown}");
    }
    world.assert_books_hold().await;
}

/// The event with a note that brings its body to exactly so many bytes.
fn padded(event: &Value, size: usize) -> Vec<u8> {
    let mut event = event.clone();
    event["note"] = json!("");
    event["note"] = json!("x".repeat(size - event.to_string().len()));
    let body = event.to_string().into_bytes();
    assert_eq!(body.len(), size);
    body
}
