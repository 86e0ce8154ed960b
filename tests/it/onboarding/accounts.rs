//! Step 1 of the guide: a connected account, prefilled with what is known.

use serde_json::{Value, json};
use sluicegate::sandbox::{AccountChange, Fault, FaultKind};

use super::shown;
use crate::audit::{log, said};
use crate::support::reply::{Reply, ask};
use crate::support::world::{Api, World};

fn someone() -> Value {
    json!({
        "country": "US", "email": "jenny@example.com", "business_type": "individual",
        "individual": {"first_name": "Jenny", "dob": {"day": 1, "month": 1, "year": 1901}},
        "business_profile": {"url": "https://example.com/jenny"}, "metadata": {"user": "u_42"},
    })
}

async fn create(api: &Api, key: Option<&str>, body: &Value) -> Reply {
    let request = api.http.post(api.url("/v1/accounts")).bearer_auth(&api.key).json(body);
    ask(match key {
        Some(key) => request.header("Idempotency-Key", key),
        None => request,
    })
    .await
}

/// The calls that asked Stripe for an account.
fn asked_for(world: &World) -> Vec<sluicegate::sandbox::Call> {
    let calls = world.stripe.calls();
    calls.into_iter().filter(|call| call.method == "POST" && call.path == "/v1/accounts").collect()
}

/// How many accounts there are at Stripe.
fn made(world: &World) -> usize {
    asked_for(world).iter().filter(|call| call.outcome.committed).count()
}

#[tokio::test]
async fn a_connected_account_is_made_prefilled_and_its_readiness_is_there_at_once() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let reply = create(&world.api, Some("k"), &someone()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let id = reply.body["account"].as_str().unwrap();
    assert_eq!(
        (&reply.body["ready"], &reply.body["transfers_capability"], &reply.body["country"]),
        (&json!(false), &json!("inactive"), &json!("US"))
    );
    assert_eq!(
        reply.body["reasons"],
        json!(["details_not_submitted", "charges_disabled", "transfers_inactive"])
    );
    assert_eq!(reply.body["next_step"]["action"], "onboarding_link");
    assert_eq!(reply.body["next_step"]["fields"][0], "business_profile.url");
    assert_eq!(reply.body["history"].as_array().unwrap().len(), 1);
    assert_eq!(shown(&world, id).await, reply.body, "GET shows the same");
    let (status, readiness) = world.api.get(&format!("/v1/accounts/{id}/readiness")).await;
    assert_eq!((status, &readiness["source"]), (200, &json!("api")), "{readiness}");

    let at_stripe = world.stripe.account(id).unwrap();
    assert_eq!(
        (&at_stripe["type"], &at_stripe["email"], &at_stripe["metadata"]["user"]),
        (&json!("express"), &json!("jenny@example.com"), &json!("u_42"))
    );
    let sent = &asked_for(&world)[0].body;
    assert!(
        sent.contains("individual[dob][year]=1901")
            && sent.contains("capabilities[transfers][requested]=true")
    );

    let rows = log(&world).await;
    assert_eq!(said(&rows), [("admin", "account.created", id)]);
    let details: Value = serde_json::from_str(&rows[0].entry.details).unwrap();
    let names = json!([
        "business_profile",
        "business_type",
        "capabilities",
        "country",
        "email",
        "individual",
        "metadata",
        "type"
    ]);
    assert_eq!(details, json!({"parameters": names, "idempotency_key": "k"}));

    // What Stripe tells of it afterwards changes nothing, in whichever order.
    world.stripe.hold_events(false);
    world.stripe.release(&[]);
    world.until_events_done().await;
    world.until_idle().await;
    assert_eq!(shown(&world, id).await["reasons"], reply.body["reasons"]);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_account_needs_no_field_and_no_key() {
    let world = World::start().await;
    let (one, two) = (create(&world.api, None, &json!({})).await, create(&world.api, None, &json!({})).await);
    assert_eq!((one.status, two.status), (201, 201), "{one:?} {two:?}");
    assert_ne!(one.body["account"], two.body["account"]);
    let sent = &asked_for(&world)[0].body;
    assert_eq!(sent, "capabilities[transfers][requested]=true&type=express");
}

#[tokio::test]
async fn what_stripe_finds_wrong_is_named_by_its_field_in_stripes_words() {
    let world = World::start().await;
    let rows = [
        (json!({"email": "jenny"}), "/email", "Invalid email address: jenny"),
        (json!({"individual": {"frist_name": "Jenny"}}), "/individual/frist_name", "unknown parameter"),
        (json!({"country": "XX"}), "/country", "is unknown"),
        (json!({"tos": {}, "nonsense": 1}), "/nonsense", "unknown parameter"),
        (json!({"capabilities": {"teleport": {"requested": true}}}), "/capabilities/teleport", "unknown"),
    ];
    for (body, pointer, words) in rows {
        let reply = create(&world.api, Some("one"), &body).await;
        reply.must_be(422, "validation", &body.to_string());
        assert_eq!(reply.pointers(), [pointer], "{reply:?}");
        let detail = reply.body["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
    }
    assert_eq!((world.rows("accounts").await, world.rows("audit_log").await, made(&world)), (0, 0, 0));
    let mended = create(&world.api, Some("one"), &someone()).await;
    assert_eq!(mended.status, 201, "the key was not used up: {mended:?}");
}

#[tokio::test]
async fn what_only_the_operators_can_mend_is_said_to_be_theirs() {
    let world = World::start().await;
    let refuse = |status, code: &str, message: &str| {
        let kind = FaultKind::Refuse { status, code: code.to_owned(), message: message.to_owned() };
        world.stripe.fault(Fault::next(kind).on("POST", "/v1/accounts"));
    };
    let approval = "Your platform needs approval for accounts to have requested the `transfers` capability without the \
                    `card_payments` capability.";
    refuse(400, "platform_approval_required", approval);
    let reply = create(&world.api, Some("a"), &someone()).await;
    reply.must_be(409, "stripe_refused", "the platform");
    assert!(reply.body["detail"].as_str().unwrap().contains(approval), "{reply:?}");
    let again = create(&world.api, Some("a"), &someone()).await;
    again.must_be(409, "stripe_refused", "Stripe replays what it said for a key");
    assert!(again.body["detail"].as_str().unwrap().contains("use a new one"), "{again:?}");

    refuse(403, "more_permissions_required", "This key may not create accounts.");
    let reply = create(&world.api, Some("b"), &someone()).await;
    reply.must_be(409, "stripe_refused", "the key");
    assert!(reply.body["detail"].as_str().unwrap().contains("STRIPE_SECRET_KEY"), "{reply:?}");
    world.stripe.fault(Fault::next(FaultKind::Unauthorized).on("POST", "/v1/accounts"));
    create(&world.api, Some("c"), &someone()).await.must_be(409, "stripe_refused", "the key is unknown");
    assert_eq!(made(&world), 0);
    // None of that stops money that is on its way to others.
    let (_, pause) = world.api.post("/v1/releases/resume", "r", &json!({})).await;
    assert_eq!(pause["paused"], json!(false), "{pause}");
}

#[tokio::test]
async fn an_order_repeated_after_a_lost_answer_makes_no_second_account() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    // Lost once, the service itself asks again.
    world.stripe.fault(Fault::next(FaultKind::DropAfterCommit).on("POST", "/v1/accounts"));
    let first = create(&world.api, Some("a"), &someone()).await;
    assert_eq!((first.status, made(&world)), (201, 1), "{first:?}");
    assert_eq!(create(&world.api, Some("a"), &someone()).await.body, first.body, "answered as before");
    create(&world.api, Some("a"), &json!({"country": "CA"})).await.must_be(
        409,
        "idempotency_key_reused",
        "a",
    );

    // Lost for good, the caller does.
    let lost = Fault::next(FaultKind::DropAfterCommit).on("POST", "/v1/accounts").times(Some(4));
    world.stripe.fault(lost);
    let reply = create(&world.api, Some("b"), &someone()).await;
    reply.must_be(503, "stripe_unavailable", "no answer");
    assert!(reply.headers.contains_key("retry-after") && made(&world) == 2, "{reply:?}");
    create(&world.api, Some("b"), &json!({"country": "CA"})).await.must_be(
        409,
        "idempotency_key_reused",
        "b",
    );
    // Meanwhile the person went on; what Stripe had stored for the key is not what is true now.
    let calls = asked_for(&world);
    let key = calls.last().unwrap().idempotency_key.clone();
    let events = world.stripe.events();
    let id = events.last().unwrap()["account"].as_str().unwrap();
    world.stripe.change_account(id, &AccountChange::ready()).unwrap();
    let reply = create(&world.api, Some("b"), &someone()).await;
    assert_eq!((reply.status, &reply.body["account"], &reply.body["ready"]), (201, &json!(id), &json!(true)));
    assert_eq!(made(&world), 2);
    assert_eq!(asked_for(&world).last().unwrap().idempotency_key, key, "the same key at Stripe");

    // Without a key there is nothing to repeat, and that is what is said.
    let lost = Fault::next(FaultKind::DropAfterCommit).on("POST", "/v1/accounts").times(Some(4));
    world.stripe.fault(lost);
    let reply = create(&world.api, None, &someone()).await;
    reply.must_be(503, "stripe_unavailable", "without a key");
    assert!(reply.body["detail"].as_str().unwrap().contains("Dashboard"), "{reply:?}");
    assert_eq!(said(&log(&world).await).len(), 2, "one row for each that was made here");
}

#[tokio::test]
async fn two_orders_at_once_with_one_key_make_one_account_and_two_api_keys_never_meet() {
    let world = World::start().await;
    world.stripe.fault(Fault::next(FaultKind::Delay { ms: 200 }).on("POST", "/v1/accounts"));
    let body = someone();
    let (one, two) =
        futures_util::join!(create(&world.api, Some("k"), &body), create(&world.api, Some("k"), &body));
    assert_eq!((one.status, &one.body), (201, &two.body), "{one:?} {two:?}");
    assert_eq!(made(&world), 1);
    let (_, key) = world.api.post("/v1/keys", "n", &json!({"name": "n", "scope": "operate"})).await;
    let other = world.api.with_key(key["secret"].as_str().unwrap());
    let third = create(&other, Some("k"), &body).await;
    assert_eq!(third.status, 201, "{third:?}");
    assert_ne!(third.body["account"], one.body["account"]);
}
