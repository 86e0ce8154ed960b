//! Readiness as it is asked for: only where it changed, of many at once, and when it has come.

use std::time::{Duration, Instant};

use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};
use sluicegate::sandbox::AccountChange;

use super::readiness;
use crate::support::events::about_account;
use crate::support::reply::{Reply, ask};
use crate::support::world::{Api, World};

const NEW: &str = "account.updated.01_new_express";
const READY: &str = "account.updated.03_ready_transfers_only";

/// An account that the service knows and does not take to be ready.
async fn unready(world: &World, id: &str) {
    world.tell(&about_account(NEW, id, world.second() - 60)).await;
    world.api.until(&readiness(id), |shown| shown["ready"] == json!(false)).await;
}

async fn become_ready(world: &World, id: &str) {
    world.tell(&about_account(READY, id, world.second())).await;
}

async fn if_none_match(world: &World, path: &str, tag: &str) -> Reply {
    ask(world.api.http.get(world.api.url(path)).bearer_auth(&world.api.key).header(IF_NONE_MATCH, tag)).await
}

#[tokio::test]
async fn what_the_caller_has_already_is_not_sent_again() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let path = readiness(&account);
    let first = ask(world.api.http.get(world.api.url(&path)).bearer_auth(&world.api.key)).await;
    let tag = first.headers[ETAG].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10, "a strong one: {tag}");
    for same in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let reply = if_none_match(&world, &path, &same).await;
        assert_eq!((reply.status, &reply.body, reply.header("etag")), (304, &json!(""), &*tag), "{same}");
    }
    for other in ["\"other\"", "W/\"other\"", "", "nonsense", &tag[1..]] {
        let reply = if_none_match(&world, &path, other).await;
        assert_eq!((reply.status, &reply.body), (200, &first.body), "{other}");
    }
    let change = AccountChange { payouts_enabled: Some(false), ..AccountChange::default() };
    world.stripe.change_account(&account, &change).unwrap();
    world.api.until(&path, |shown| shown["payouts_enabled"] == json!(false)).await;
    let changed = if_none_match(&world, &path, &tag).await;
    assert_eq!((changed.status, &changed.body["ready"]), (200, &json!(true)));
    assert_ne!(changed.header("etag"), tag, "something that is shown changed");
    if_none_match(&world, &readiness("acct_unknown"), "*").await.must_be(
        404,
        "account_unknown",
        "no such account",
    );
}

#[tokio::test]
async fn many_are_asked_for_at_once() {
    let world = World::start().await;
    let (ready, new) = (world.ready_account().await, "acct_new");
    unready(&world, new).await;
    let asked = json!({"accounts": [new, "acct_nobody", ready, new, "acct_nobody"]});
    let (status, answer) = world.api.post("/v1/accounts/readiness", "k", &asked).await;
    assert_eq!(status, 200, "{answer}");
    let one = async |id: &str| world.api.get(&readiness(id)).await.1;
    assert_eq!(answer, json!({"data": [one(new).await, one(&ready).await], "unknown": ["acct_nobody"]}));
    // It is a question: the same key later gets the answer of then.
    become_ready(&world, new).await;
    world.until_ready(new).await;
    let (_, later) = world.api.post("/v1/accounts/readiness", "k", &asked).await;
    assert_eq!(later["data"][0]["ready"], json!(true));
    let none = json!({"accounts": []});
    let (status, answer) = world.api.post("/v1/accounts/readiness", "k", &none).await;
    assert_eq!((status, answer), (200, json!({"data": [], "unknown": []})));
    let thousand: Vec<String> = (0..1_000).map(|n| format!("acct_{n}")).collect();
    let (status, answer) =
        world.api.post("/v1/accounts/readiness", "k", &json!({"accounts": thousand})).await;
    assert_eq!((status, answer["unknown"].as_array().unwrap().len()), (200, 1_000));
    let too_many: Vec<String> = (0..1_001).map(|n| format!("acct_{n}")).collect();
    for (body, pointers) in [
        (json!({}), vec!["/accounts"]),
        (json!({"accounts": "acct_1"}), vec!["/accounts"]),
        (json!({"accounts": too_many}), vec!["/accounts"]),
        (json!({"accounts": ["acct_1", "tu_1", 5, null]}), vec!["/accounts/1", "/accounts/2", "/accounts/3"]),
        (json!({"accounts": ["acct_1"], "refresh": true}), vec!["/refresh"]),
    ] {
        let url = world.api.url("/v1/accounts/readiness");
        let reply = ask(world.api.http.post(url).bearer_auth(&world.api.key).json(&body)).await;
        assert_eq!((reply.status, reply.pointers()), (422, pointers), "{body}");
    }
}

#[tokio::test]
async fn who_waits_is_answered_when_the_account_becomes_ready() {
    let world = World::start().await;
    unready(&world, "acct_new").await;
    let path = format!("{}?wait=60&until=ready", readiness("acct_new"));
    let (api, started) = (world.api.clone(), Instant::now());
    let waits = tokio::spawn(async move { api.get(&path).await });
    let looked = "select count(*) from pg_stat_activity
        where query like '-- list_accounts_changed%' and datname = current_database() and $1 = ''";
    let seen =
        crate::support::world::eventually(|| async { (world.count(looked, "").await > 0).then_some(()) });
    assert!(seen.await.is_some(), "nobody looks for who waits");
    become_ready(&world, "acct_new").await;
    let (status, shown) = waits.await.unwrap();
    assert_eq!((status, &shown["ready"]), (200, &json!(true)), "{shown}");
    assert!(started.elapsed() < Duration::from_secs(30));
    // One that is ready already is not waited for, nor one that nobody knows.
    let started = Instant::now();
    assert_eq!(world.api.get(&format!("{}?wait=60&until=ready", readiness("acct_new"))).await.0, 200);
    assert_eq!(world.api.get(&format!("{}?wait=60&until=ready", readiness("acct_nobody"))).await.0, 404);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn who_waited_in_vain_is_told_what_is_and_not_twice_the_same() {
    let world = World::start().await;
    unready(&world, "acct_new").await;
    let path = format!("{}?wait=1&until=ready", readiness("acct_new"));
    let started = Instant::now();
    let reply = ask(world.api.http.get(world.api.url(&path)).bearer_auth(&world.api.key)).await;
    assert_eq!((reply.status, &reply.body["ready"]), (200, &json!(false)));
    assert!(started.elapsed() >= Duration::from_secs(1));
    let again = if_none_match(&world, &path, reply.header("etag")).await;
    assert_eq!(again.status, 304, "still as the caller knows it");
    let now = format!("{}?wait=0&until=ready", readiness("acct_new"));
    assert_eq!(world.api.get(&now).await.0, 200);
    for (query, pointer) in [
        ("wait=61&until=ready", "/query/wait"),
        ("wait=-1&until=ready", "/query/wait"),
        ("wait=1.5&until=ready", "/query/wait"),
        ("wait=&until=ready", "/query/wait"),
        ("wait=5", "/query/until"),
        ("until=ready", "/query/wait"),
        ("wait=5&until=paid", "/query/until"),
    ] {
        let path = format!("{}?{query}", readiness("acct_new"));
        let reply = ask(world.api.http.get(world.api.url(&path)).bearer_auth(&world.api.key)).await;
        assert_eq!((reply.status, reply.pointers()), (422, vec![pointer]), "{query}");
    }
}

#[tokio::test]
async fn hundreds_who_wait_hold_no_connection_and_ask_together() {
    const WAITING: usize = 300;
    // Fewer connections than a tenth of those who wait.
    let world = World::with(|setting| setting.plan.connections = 8).await;
    unready(&world, "acct_new").await;
    let path = format!("{}?wait=60&until=ready", readiness("acct_new"));
    let waits: Vec<_> = (0..WAITING)
        .map(|_| {
            let (api, path): (Api, String) = (world.api.clone(), path.clone());
            tokio::spawn(async move { api.get(&path).await })
        })
        .collect();
    let all_wait = crate::support::world::eventually(|| async {
        let metrics =
            world.api.http.get(world.api.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("sluicegate_waiting_callers "))?.to_owned();
        (line.parse::<f64>().unwrap() >= WAITING as f64).then_some(())
    });
    assert!(all_wait.await.is_some(), "they never all waited");
    // Whoever only asks is answered meanwhile.
    for _ in 0..20 {
        assert_eq!(world.api.get("/v1/funds").await.0, 200);
    }
    become_ready(&world, "acct_new").await;
    for wait in waits {
        let (status, shown): (u16, Value) = wait.await.unwrap();
        assert_eq!((status, &shown["ready"]), (200, &json!(true)));
    }
}
