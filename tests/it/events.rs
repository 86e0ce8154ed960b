//! What was received and what became of it, and how a dead letter is raised.

use serde_json::{Value, json};
use sluicegate::store::outbox::{self, NewEvent};
use sluicegate::store::unhandled;
use time::Duration;

use crate::support::events::{about_account, about_topup, fresh_id, id_of, renewed};
use crate::support::world::{PLATFORM_SECRET, World, eventually};

/// A success of something that is no top-up.
fn nonsense(world: &World) -> Value {
    about_topup("topup.succeeded", "nonsense", world.second())
}

/// Lets time pass until an event is given up.
async fn until_dead(world: &World, event: &Value) -> Value {
    let dead = || async {
        let shown = world.event(event).await;
        world.clock.advance(Duration::seconds(5));
        (shown["status"] == json!("failed")).then_some(shown)
    };
    eventually(dead).await.expect("it is given up")
}

#[tokio::test]
async fn each_event_says_what_became_of_it() {
    let world = World::start().await;
    let now = world.second();
    let processed = about_account("account.updated.03_ready_transfers_only", "acct_1", now);
    let ignored = about_account("person.updated", "acct_1", now);
    let failed = nonsense(&world);
    for event in [&processed, &ignored, &failed] {
        world.tell(event).await;
    }
    world.until_settled(&processed).await;
    let dead = until_dead(&world, &failed).await;
    assert!(dead["reason"].as_str().is_some_and(|reason| reason.contains("top-up")), "{dead}");
    assert_eq!(dead["subject"], json!(id_of(&failed)));
    let shown = world.event(&processed).await;
    for (name, value) in [
        ("id", processed["id"].clone()),
        ("type", json!("account.updated")),
        ("account", json!("acct_1")),
        ("status", json!("processed")),
        ("reason", json!(null)),
        ("livemode", json!(false)),
        ("kind", json!("snapshot")),
        ("source", json!("webhook")),
        ("subject", json!("acct_1")),
        ("api_version", processed["api_version"].clone()),
        ("secret_label", json!("connect")),
        ("payload", processed.clone()),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let created = time::OffsetDateTime::from_unix_timestamp(now).unwrap();
    let created = created.format(&time::format_description::well_known::Rfc3339).unwrap();
    assert_eq!(shown["created"], json!(created));
    assert!(shown["received_at"].as_str().unwrap() >= created.trim_end_matches('Z'), "{shown}");
    for (query, wanted) in [
        ("", vec![&failed, &ignored, &processed]),
        ("status=processed", vec![&processed]),
        ("status=ignored", vec![&ignored]),
        ("status=failed", vec![&failed]),
        ("status=pending", vec![]),
        ("type=account.updated", vec![&processed]),
        ("type=account", vec![]),
        ("account=acct_1", vec![&ignored, &processed]),
        ("account=acct_1&status=ignored", vec![&ignored]),
        ("account=acct_2", vec![]),
    ] {
        assert_eq!(
            listed(&world, query).await,
            wanted.iter().map(|e| id_of(e)).collect::<Vec<_>>(),
            "{query}"
        );
    }
    for query in ["status=dead", "account=tu_1", "type=", "created=1"] {
        assert_eq!(world.api.get(&format!("/v1/events?{query}")).await.0, 422, "{query}");
    }
    let (status, problem) = world.api.get("/v1/events/evt_unknown").await;
    assert_eq!((status, &problem["code"]), (404, &json!("event_unknown")));
    let observed = world.rows("outbox where kind = 'observation'").await;
    assert!(observed > 0, "the balance was read");
    let (_, id): (i64, String) =
        sqlx::query_as("select seq, event_id from outbox where kind = 'observation' limit 1")
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!(world.api.get(&format!("/v1/events/{id}")).await.0, 404, "what Stripe answered is no event");
}

/// The ids of a list of events, in order.
async fn listed(world: &World, query: &str) -> Vec<String> {
    let (status, page) = world.api.get(&format!("/v1/events?{query}")).await;
    assert_eq!(status, 200, "{query}: {page}");
    page["data"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn while_nobody_works_events_are_pending() {
    let world = World::with(|setting| setting.plan.roles.worker = false).await;
    let event = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    world.tell(&event).await;
    assert_eq!(world.event(&event).await["status"], json!("pending"));
    assert_eq!(listed(&world, "status=pending").await, [id_of(&event)]);
    assert_eq!(listed(&world, "status=processed").await, Vec::<String>::new());
    assert_eq!(world.api.get("/v1/accounts/acct_1/readiness").await.0, 404);
}

#[tokio::test]
async fn a_dead_letter_stops_nobody_and_can_be_raised_again_and_again() {
    let world = World::start().await;
    let event = nonsense(&world);
    world.tell(&event).await;
    until_dead(&world, &event).await;
    assert_eq!(world.rows("dead_letters").await, 1);
    assert_eq!(world.rows("tasks where event_id is not null").await, 0);
    let path = format!("/v1/events/{}/replay", id_of(&event));
    for round in 0..2 {
        let (status, shown) = world.api.post(&path, &format!("again {round}"), &json!({})).await;
        assert_eq!((status, &shown["status"]), (200, &json!("pending")), "{shown}");
        let repeated = world.api.post(&path, &format!("again {round}"), &json!({})).await;
        assert_eq!(repeated, (200, shown), "the same order, carried out once");
        until_dead(&world, &event).await;
        assert_eq!(world.rows("dead_letters").await, 1);
    }
    let good = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    world.tell(&good).await;
    world.until_settled(&good).await;
    assert_eq!(world.api.get("/v1/accounts/acct_1/readiness").await.1["ready"], json!(true));
}

#[tokio::test]
async fn an_event_buried_through_a_fault_of_ours_takes_effect_when_it_is_raised() {
    let mut world = World::with(|setting| setting.plan.roles.worker = false).await;
    let event = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    world.tell(&event).await;
    // As it lies after an upgrade that can read what the version before could not.
    sqlx::query(
        "with dead as (delete from tasks where event_id = $1 returning *)
         insert into dead_letters (id, kind, subject, livemode, event_id, event_created, attempts, reason, died_at)
         select id, kind, subject, livemode, event_id, event_created, 6, 'a bug', now() from dead",
    )
    .bind(id_of(&event))
    .execute(world.pool())
    .await
    .unwrap();
    world.stop_service().await;
    world.plan.roles.worker = true;
    world.start_service().await;
    let shown = world.event(&event).await;
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("failed"), &json!("a bug")));
    assert_eq!(world.api.get("/v1/accounts/acct_1/readiness").await.0, 404);
    let path = format!("/v1/events/{}/replay", id_of(&event));
    assert_eq!(world.api.post(&path, "raise", &json!({})).await.0, 200);
    let shown = world.until_settled(&event).await;
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("processed"), &json!(null)));
    assert_eq!(world.api.get("/v1/accounts/acct_1/readiness").await.1["ready"], json!(true));
    assert_eq!(world.rows("dead_letters").await, 0);
}

#[tokio::test]
async fn a_bad_event_takes_no_good_neighbour_of_its_subject_with_it() {
    let world = World::start().await;
    let topup = world.stripe.create_topup("usd", 100);
    world.api.until(&format!("/v1/topups/{topup}"), |_| true).await;
    let events: Vec<Value> = (0..20).map(|_| nonsense(&world)).collect();
    for event in &events {
        world.tell(event).await;
    }
    world.stripe.make_available(&topup).unwrap();
    world.api.until(&format!("/v1/topups/{topup}"), |shown| shown["settled"] == json!(true)).await;
    for event in &events {
        until_dead(&world, event).await;
    }
    assert_eq!(world.rows("dead_letters").await, 20);
}

#[tokio::test]
async fn a_replay_of_what_took_effect_changes_nothing_and_of_what_is_ignored_is_refused() {
    let world = World::start().await;
    let topup = world.settled_topup("usd", 1_000).await;
    world.until_events_done().await;
    world.until_quiet_about(&topup).await;
    // A replayed event may be no older than the last look by five minutes: Stripe is asked once more, and the
    // source is then that answer.
    let seen = async || {
        let mut shown = world.api.get(&format!("/v1/topups/{topup}")).await.1;
        let fields = shown.as_object_mut().unwrap();
        fields.remove("source");
        fields.remove("as_of");
        (shown, world.funds("usd").await["settled"].clone())
    };
    let before = seen().await;
    assert_eq!((&before.0["settled"], &before.1), (&json!(true), &json!(1_000)));
    for id in listed(&world, "status=processed").await {
        let (status, _) = world.api.post(&format!("/v1/events/{id}/replay"), &id, &json!({})).await;
        assert_eq!(status, 200, "{id}");
    }
    world.until_events_done().await;
    world.until_quiet_about(&topup).await;
    let after = seen().await;
    assert_eq!(after, before);
    assert_eq!(world.rows("ledger_entries").await, 1);
    let ignored = about_account("person.updated", "acct_1", world.second());
    world.tell(&ignored).await;
    let path = format!("/v1/events/{}/replay", id_of(&ignored));
    let (status, problem) = world.api.post(&path, "k", &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("event_state")));
    let (status, problem) = world.api.post(&path, "k2", &json!({"force": true})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/force")));
    let (status, problem) = world.api.post("/v1/events/evt_unknown/replay", "k", &json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("event_unknown")));
}

#[tokio::test]
async fn pages_stay_as_they_are_while_events_arrive() {
    let world = World::start().await;
    let mut sent = Vec::new();
    let mut send = async |count: usize| {
        for _ in 0..count {
            let event = about_account("person.updated", "acct_1", world.second());
            world.tell(&event).await;
            sent.push(id_of(&event).to_owned());
        }
        sent.clone()
    };
    let mut wanted = send(23).await;
    wanted.reverse();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = world.api.get(&format!("/v1/events?limit=5{after}")).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["data"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()));
        send(3).await;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, wanted, "none twice, none left out, none that came later");
    // A list whose last page is full ends there.
    let page = world.api.get("/v1/events?limit=100").await.1;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["next"]), (send(0).await.len(), &json!(null)));
}

#[tokio::test]
async fn an_undated_event_is_shown_with_its_bytes() {
    let world = World::start().await;
    let mut event = renewed("person.updated", 0);
    (event["id"], event["created"]) = (json!(fresh_id()), json!("soon"));
    let body = serde_json::to_string_pretty(&event).unwrap();
    assert_eq!(world.deliver(body.as_bytes(), PLATFORM_SECRET).await.0, 200);
    let shown = world.event(&event).await;
    assert_eq!((&shown["created"], &shown["payload"]), (&json!("1970-01-01T00:00:00Z"), &event));
    // To the byte, so that its signature can be verified once more.
    let request = world.api.http.get(world.api.url(&format!("/v1/events/{}", id_of(&event))));
    let answer = request.bearer_auth(&world.api.key).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains(&format!("\"payload\":{body}")), "{answer}");
}

/// Stores an event as a version that did not know its type would have.
async fn store_unhandled(world: &World, event: &Value) {
    let mut conn = world.pool().acquire().await.unwrap();
    let unhandled = NewEvent {
        event_id: id_of(event).to_owned(),
        created: time::OffsetDateTime::from_unix_timestamp(event["created"].as_i64().unwrap()).unwrap(),
        kind: "snapshot",
        event_type: event["type"].as_str().unwrap().to_owned(),
        account: event["account"].as_str().map(str::to_owned),
        subject_kind: None,
        subject: None,
        livemode: false,
        api_version: event["api_version"].as_str().map(str::to_owned),
        ignored: Some("unhandled_type"),
        received_at: world.clock.now(),
        signed: None,
        payload: event.to_string().into(),
    };
    assert_eq!(outbox::insert_new(&mut conn, &[unhandled]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_type_that_an_earlier_version_did_not_know_is_looked_at_again_after_the_upgrade() {
    let mut world = World::start().await;
    let account = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    let person = about_account("person.updated", "acct_1", world.second());
    world.stop_service().await;
    store_unhandled(&world, &account).await;
    store_unhandled(&world, &person).await;
    world.start_service().await;
    world.until_ready("acct_1").await;
    world.until_settled(&account).await;
    assert_eq!(world.event(&account).await["subject"], json!("acct_1"));
    let person = world.event(&person).await;
    assert_eq!((&person["status"], &person["reason"]), (&json!("ignored"), &json!("unhandled_type")));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn large_events_are_looked_at_again_few_at_a_time_and_all_of_them() {
    let mut world = World::start().await;
    let events: Vec<Value> = (0..5)
        .map(|n| {
            let mut event = about_account(
                "account.updated.03_ready_transfers_only",
                &format!("acct_{n}"),
                world.second(),
            );
            event["data"]["object"]["metadata"] = json!({"x": "x".repeat(900_000)});
            event
        })
        .collect();
    world.stop_service().await;
    for event in &events {
        store_unhandled(&world, event).await;
    }
    let mut tx = world.pool().begin().await.unwrap();
    let mib = 1_024 * 1_024;
    let mut claim = async |limit, bytes| {
        let claimed =
            unhandled::claim_next(&mut tx, false, "account.updated", 0, limit, bytes).await.unwrap();
        claimed.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>()
    };
    let ids: Vec<String> = events.iter().map(|event| id_of(event).to_owned()).collect();
    assert_eq!(claim(500, 2 * mib).await, ids[..3], "no further one once there are 2 MiB");
    assert_eq!(claim(500, 1).await, ids[..1], "one at least");
    assert_eq!(claim(2, 100 * mib).await, ids[..2]);
    tx.rollback().await.unwrap();
    world.start_service().await;
    for n in 0..5 {
        world.until_ready(&format!("acct_{n}")).await;
    }
}

#[tokio::test]
async fn what_stripe_told_stays_as_it_was_told() {
    let world = World::start().await;
    let (handled, ignored) = (
        about_account("account.updated.03_ready_transfers_only", "acct_1", world.second()),
        about_account("person.updated", "acct_1", world.second()),
    );
    for event in [&handled, &ignored] {
        world.tell(event).await;
    }
    world.until_settled(&handled).await;
    for (event, change) in [
        (&handled, "subject = 'acct_2'"),
        (&handled, "ignored = 'unhandled_type'"),
        (&ignored, "payload = ''"),
        (&ignored, "signature = 'x', subject_kind = 'account', subject = 'acct_1', ignored = null"),
    ] {
        let sql = format!("update outbox set {change} where event_id = '{}'", id_of(event));
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(world.pool()).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{change}: {refused}");
    }
}
