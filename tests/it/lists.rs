//! Lists: a page does not move under its reader, and every filter asks for what it says, alone and with others.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluicegate::http;

use crate::support::events::about_account;
use crate::support::world::World;

const NEW: &str = "account.updated.01_new_express";

/// Adds a line to a list; returns what it is known by there.
async fn add(world: &World, list: &str, n: usize) -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let id = |(status, made): (u16, Value)| {
        assert_eq!(status, 201, "{made}");
        made["id"].as_str().unwrap().to_owned()
    };
    match list {
        "/v1/accounts" => {
            // Before and after those that are there.
            let account = format!("acct_{}{unique}", if n.is_multiple_of(2) { "0" } else { "z" });
            world.tell(&about_account(NEW, &account, world.second())).await;
            world.api.until(&format!("/v1/accounts/{account}"), |_| true).await;
            account
        }
        "/v1/topups" => {
            let topup = world.stripe.create_topup("usd", 100);
            world.api.until(&format!("/v1/topups/{topup}"), |_| true).await;
            topup
        }
        "/v1/events" => {
            let event = about_account(NEW, "acct_1", world.second());
            world.tell(&event).await;
            event["id"].as_str().unwrap().to_owned()
        }
        "/v1/transfers" => world.transfer("acct_1", 100, json!({})).await,
        "/v1/funds/adjustments" => {
            let body = json!({"currency": "usd", "amount": 1, "reason": "story"});
            id(world.api.post(list, &unique, &body).await)
        }
        "/v1/keys" => id(world.api.post(list, &unique, &json!({"name": "n", "scope": "read"})).await),
        other => panic!("say how a line comes into {other}"),
    }
}

/// What each line of a list is known by.
fn names(page: &Value) -> Vec<String> {
    let lines = page["data"].as_array().unwrap().iter();
    lines.map(|line| line["id"].as_str().or(line["account"].as_str()).unwrap().to_owned()).collect()
}

/// The routes that come in pages, as the document has them.
fn lists() -> Vec<String> {
    let document = http::document();
    let paged = |path: &Value| {
        let parameters = path["get"]["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().any(|parameter| parameter["name"] == json!("after"))
    };
    let paths = document["paths"].as_object().unwrap().iter();
    paths.filter(|(_, path)| paged(path)).map(|(template, _)| template.clone()).collect()
}

#[tokio::test]
async fn lines_that_arrive_between_pages_leave_every_old_one_where_it_was() {
    let lists = lists();
    assert!(lists.len() >= 6, "{lists:?}");
    for list in lists {
        let world = World::start().await;
        let mut old = Vec::new();
        for n in 0..7 {
            old.push(add(&world, &list, n).await);
        }
        let (mut path, mut seen) = (format!("{list}?limit=2"), Vec::new());
        for n in 0.. {
            let (status, page) = world.api.get(&path).await;
            assert_eq!(status, 200, "{list}: {page}");
            seen.extend(names(&page));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("{list}?limit=2&after={next}");
            add(&world, &list, n).await;
            assert!(n < 20, "{list} has no end");
        }
        for line in &old {
            let times = seen.iter().filter(|one| *one == line).count();
            assert_eq!(times, 1, "{list}: {line} in {seen:?}");
        }
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), seen.len(), "{list}: nothing is shown twice");
    }
}

/// A value as it stands in a query.
fn encoded(value: &str) -> String {
    value.replace(' ', "%20")
}

/// The lines of a list that a query asks for.
async fn asked(world: &World, path: &str) -> Vec<String> {
    let (status, page) = world.api.get(path).await;
    assert_eq!(status, 200, "{path}: {page}");
    assert_eq!(page["next"], Value::Null, "{path}");
    names(&page)
}

#[tokio::test]
async fn transfers_are_found_by_every_filter_alone_and_by_two_at_once() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    for (destination, amount, more) in [
        (account.as_str(), 400, json!({"transfer_group": "group a"})),
        (account.as_str(), 5_000, json!({})),
        ("acct_1", 100, json!({"currency": "eur", "transfer_group": "group a"})),
        ("acct_1", 100, json!({"topup": topup})),
    ] {
        world.clock.advance(time::Duration::MINUTE);
        world.transfer(destination, amount, more).await;
    }
    world.until_idle().await;
    // Stripe was asked for `acct_1`, and has no such account.
    let left = "/v1/transfers?waiting_on=account_deauthorized";
    world.api.until(left, |page| page["data"].as_array().unwrap().len() == 2).await;
    let (_, all) = world.api.get("/v1/transfers").await;
    let all = all["data"].as_array().unwrap().clone();
    let third = all[1]["created_at"].as_str().unwrap().to_owned();
    let first_key: String = sqlx::query_scalar("select idempotency_key from transfers where id = $1")
        .bind(all[3]["id"].as_str())
        .fetch_one(world.pool())
        .await
        .unwrap();
    let released = all[3]["stripe_transfer"].as_str().unwrap().to_owned();
    type Holds = Box<dyn Fn(&Value) -> bool>;
    let is = |field: &'static str, value: &str| -> Holds {
        let value = json!(value);
        Box::new(move |transfer| transfer[field] == value)
    };
    let (of_first, since) = (all[3]["id"].clone(), third.clone());
    let filters: Vec<(&str, String, Holds)> = vec![
        ("status", "released".into(), is("status", "released")),
        (
            "waiting_on",
            "account_deauthorized".into(),
            Box::new(|t| t["waiting_on"].as_array().unwrap().contains(&json!("account_deauthorized"))),
        ),
        ("destination", account.clone(), is("destination", &account)),
        ("currency", "usd".into(), is("currency", "usd")),
        ("topup", topup.clone(), is("topup", &topup)),
        ("transfer_group", "group a".into(), is("transfer_group", "group a")),
        ("stripe_transfer", released.clone(), is("stripe_transfer", &released)),
        ("idempotency_key", first_key, Box::new(move |t| t["id"] == of_first)),
        ("created_from", third.clone(), Box::new(move |t| t["created_at"].as_str() >= Some(&*since))),
        ("created_to", third.clone(), Box::new(move |t| t["created_at"].as_str() < Some(&*third))),
    ];
    let mut found = BTreeMap::new();
    for (one, value, holds) in &filters {
        for (other, also, too) in &filters {
            let query = match one == other {
                true => format!("{one}={}", encoded(value)),
                false => format!("{one}={}&{other}={}", encoded(value), encoded(also)),
            };
            let expected: Vec<&str> = all
                .iter()
                .filter(|transfer| holds(transfer) && too(transfer))
                .map(|transfer| transfer["id"].as_str().unwrap())
                .collect();
            assert_eq!(asked(&world, &format!("/v1/transfers?{query}")).await, expected, "{query}");
            *found.entry(*one).or_insert(0) += expected.len();
        }
    }
    assert!(found.values().all(|lines| *lines > 0), "each filter finds something: {found:?}");
}

#[tokio::test]
async fn events_and_accounts_are_found_by_every_filter_alone_and_together() {
    let world = World::start().await;
    let ready = world.ready_account().await;
    world.tell(&about_account(NEW, "acct_new", world.second())).await;
    let ignored = about_account("account.external_account.created", "acct_new", world.second());
    world.send(&ignored).await;
    world.until_events_done().await;
    let ignored = ignored["id"].as_str().unwrap().to_owned();
    assert_eq!(
        asked(&world, "/v1/events?status=ignored&account=acct_new").await,
        std::slice::from_ref(&ignored)
    );
    assert_eq!(asked(&world, "/v1/events?type=account.external_account.created").await, [ignored]);
    assert_eq!(
        asked(&world, "/v1/events?status=processed&account=acct_new&type=account.updated").await.len(),
        1
    );
    assert!(asked(&world, "/v1/events?status=pending").await.is_empty());
    assert!(asked(&world, "/v1/events?status=failed&type=account.updated").await.is_empty());
    assert_eq!(asked(&world, "/v1/accounts?ready=true").await, [ready]);
    assert_eq!(asked(&world, "/v1/accounts?ready=false&reason=details_not_submitted").await, ["acct_new"]);
    assert!(asked(&world, "/v1/accounts?ready=true&reason=details_not_submitted").await.is_empty());
}

#[tokio::test]
async fn every_filter_has_an_index_that_begins_with_it() {
    let world = World::start().await;
    let filters = [
        ("outbox", "type"),
        ("outbox", "account"),
        ("transfers", "status"),
        ("transfers", "destination"),
        ("transfers", "currency"),
        ("transfers", "topup"),
        ("transfers", "transfer_group"),
        ("transfers", "stripe_transfer"),
        ("transfers", "idempotency_key"),
        ("transfers", "created_at"),
    ];
    for (table, column) in filters {
        // The mode may stand before it.
        let sql = "select exists (
            select from pg_index i
            join lateral unnest(i.indkey::int2[]) with ordinality k (attribute, place) on true
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attribute
            where i.indrelid = $1::regclass and a.attname = $2 and (k.place = 1 or (k.place = 2 and exists (
                select from pg_attribute m where m.attrelid = i.indrelid and m.attnum = i.indkey[0]
                    and m.attname = 'livemode'))))";
        let query = sqlx::query_scalar(sql).bind(table).bind(column);
        let indexed: bool = query.fetch_one(world.pool()).await.unwrap();
        assert!(indexed, "{table}.{column}");
    }
}
