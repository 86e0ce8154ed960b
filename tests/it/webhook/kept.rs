//! What is kept of a delivery: its bytes and its signature, or, of what is no event, a copy for inspection.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluicegate::stripe::signature;
use sqlx::FromRow;

use super::{MIB, padded, post, secret, signed};
use crate::support::events::{about_account, id_of, renewed};
use crate::support::world::{CONNECT_SECRET, PLATFORM_SECRET, World};

#[tokio::test]
async fn what_is_signed_but_no_event_is_refused_and_kept_apart() {
    let world = World::start().await;
    let whole = || renewed("topup.succeeded", world.second());
    let with = |name: &str, value: Value| {
        let mut event = whole();
        event[name] = value;
        event.to_string().into_bytes()
    };
    let without = |name: &str| {
        let mut event = whole();
        event.as_object_mut().unwrap().remove(name);
        event.to_string().into_bytes()
    };
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("no JSON", b"{".to_vec()),
        ("two JSONs", b"{}{}".to_vec()),
        ("a list", b"[1]".to_vec()),
        ("a text", b"\"evt_1\"".to_vec()),
        ("no UTF-8", b"{\"id\":\"evt_\xff\"}".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("no id", without("id")),
        ("no type", without("type")),
        ("a null id", with("id", json!(null))),
        ("an id that is a number", with("id", json!(7))),
        ("an empty id", with("id", json!(""))),
        ("an id with a NUL", with("id", json!("evt_\0"))),
        ("an id with a slash", with("id", json!("evt_/../x"))),
        ("an id that is too long", with("id", json!("e".repeat(256)))),
        ("a type that is a list", with("type", json!(["topup.succeeded"]))),
        ("an empty type", with("type", json!(""))),
        ("a type with a NUL", with("type", json!("topup.\0"))),
        ("an account that is a number", with("account", json!(1))),
        ("another object", with("object", json!("charge"))),
    ];
    for (what, body) in &rows {
        let header = signed(body, PLATFORM_SECRET, world.second());
        let reply = post(&world, body, &[header.as_bytes()]).await;
        reply.must_be(400, "event_malformed", what);
        let kept: (Option<String>, String, Vec<u8>, String) = sqlx::query_as(
            "select secret_label, signature, payload, problem from quarantine order by id desc limit 1",
        )
        .fetch_one(world.pool())
        .await
        .unwrap();
        assert_eq!((kept.0.as_deref(), &kept.1, &kept.2), (Some("platform"), &header, body), "{what}");
        assert!(!kept.3.is_empty(), "{what}");
    }
    assert_eq!((world.received().await, world.rows("tasks where event_id is not null").await), (0, 0));
    assert_eq!(world.rows("quarantine").await, rows.len() as i64);
}

#[derive(FromRow)]
struct Kept {
    event_id: String,
    payload: Vec<u8>,
    signature: String,
    secret_label: Option<String>,
    received_at: time::OffsetDateTime,
}

#[tokio::test]
async fn what_is_stored_can_be_verified_again_byte_for_byte() {
    let world = World::start().await;
    let event = renewed("topup.succeeded", world.second());
    let mut escaped = renewed("person.updated", world.second());
    escaped["note"] = json!("ü / € 😀");
    let long = padded(&renewed("person.updated", world.second()), MIB);
    let bodies: Vec<(Vec<u8>, &str, &str)> = vec![
        (
            format!(" \r\n\t{} \n\n", serde_json::to_string_pretty(&event).unwrap()).into_bytes(),
            PLATFORM_SECRET,
            "platform",
        ),
        (
            escaped.to_string().replace('/', "\\/").replace('ü', "\\u00fc").into_bytes(),
            CONNECT_SECRET,
            "connect",
        ),
        (long, CONNECT_SECRET, "connect"),
    ];
    for (body, by, _) in &bodies {
        assert_eq!(world.deliver(body, by).await.0, 200);
    }
    let kept: Vec<Kept> = sqlx::query_as(
        "select event_id, payload, signature, secret_label, received_at from outbox where source = 'webhook' order by seq",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    assert_eq!(kept.len(), bodies.len());
    for (kept, (body, by, label)) in kept.iter().zip(&bodies) {
        assert_eq!(&kept.payload, body, "{}", kept.event_id);
        assert_eq!(kept.secret_label.as_deref(), Some(*label));
        let secrets = [secret(by)];
        let at = kept.received_at.unix_timestamp();
        assert!(signature::verify(&kept.payload, &kept.signature, &secrets, at, 300).is_ok());
        assert!(signature::verify(&kept.payload, &kept.signature, &[secret("whsec_x")], at, 300).is_err());
    }
}

#[tokio::test]
async fn an_event_without_a_usable_date_is_still_stored_once() {
    let world = World::start().await;
    let mut ids = BTreeSet::new();
    for created in [json!(null), json!("yesterday"), json!(-1), json!(1e300), json!(i64::MAX), json!([])] {
        let account = world.stripe.create_ready_account();
        world.until_ready(&account).await;
        let mut event = about_account("account.updated.05_transfers_revoked_after_ready", &account, 0);
        event["created"] = created;
        world.tell(&event).await;
        assert_eq!(world.send(&event).await.1["duplicate"], json!(true));
        assert_eq!(world.until_settled(&event).await["status"], json!("processed"));
        world.until_quiet_about(&account).await;
        let shown = world.api.get(&format!("/v1/accounts/{account}/readiness")).await.1;
        assert_eq!(shown["ready"], json!(true), "an undated event is older than everything");
        ids.insert(id_of(&event).to_owned());
    }
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn the_quarantine_keeps_the_newest_thousand() {
    let world = World::start().await;
    sqlx::query(
        "insert into quarantine (received_at, signature, problem, payload)
         select now(), 't=1', 'old ' || i, '' from generate_series(1, 999) as i",
    )
    .execute(world.pool())
    .await
    .unwrap();
    for i in 0..4 {
        let body = format!("no event {i}");
        assert_eq!(world.deliver(body.as_bytes(), PLATFORM_SECRET).await.0, 400);
    }
    assert_eq!(world.rows("quarantine").await, 1_000);
    assert_eq!(world.rows("quarantine where problem in ('old 1', 'old 2', 'old 3')").await, 0);
    assert_eq!(world.rows("quarantine where problem = 'old 4'").await, 1);
}
