//! Whose turn it is when money comes, what finance counts in by hand, and when the rest should go out.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluicegate::cli::service::{self, Plan};
use sluicegate::domain::limits::ReleaseOrder;
use sluicegate::worker::driver;
use time::Duration;

use crate::audit::{log, said};
use crate::support::world::{Api, World, eventually};

async fn best_fit() -> World {
    World::with(|setting| setting.plan.release_order = ReleaseOrder::BestFit).await
}

async fn adjust(api: &Api, currency: &str, amount: i64) -> (u16, Value) {
    let body = json!({"currency": currency, "amount": amount, "reason": "opening balance"});
    api.post("/v1/funds/adjustments", &uuid::Uuid::new_v4().to_string(), &body).await
}

#[tokio::test]
async fn an_adjustment_is_money_of_its_own_lot_and_on_record() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.stripe.add_balance("usd", 1_500);
    let (status, made) = adjust(&world.api, "usd", 1_500).await;
    assert_eq!((status, &made["amount"], &made["reason"]), (201, &json!(1_500), &json!("opening balance")));
    world.until_status(&id, "released").await;
    let funds = world.funds("usd").await;
    assert_eq!((&funds["settled"], &funds["available"]), (&json!(1_500), &json!(500)));
    let lot = made["id"].as_str().unwrap();
    let out =
        world.count("select count(*) from ledger_accounts where lot = $1 and kind = 'released'", lot).await;
    assert_eq!(out, 1, "the release is booked against it");
    // Counted out again: more than is left, so that nothing more goes out.
    let (_, second) = adjust(&world.api, "usd", -600).await;
    assert_eq!(world.funds("usd").await["available"], json!(-100));
    let (_, page) = world.api.get("/v1/funds/adjustments").await;
    let ids: Vec<&Value> = page["data"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [&second["id"], &made["id"]], "the newest first");
    let rows = log(&world).await;
    assert!(said(&rows).contains(&("admin", "funds.adjusted", lot)));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_adjustment_that_says_nothing_is_refused_by_field() {
    let world = World::start().await;
    for (body, pointer) in [
        (json!({"currency": "usd", "amount": 0, "reason": "x"}), "/amount"),
        (json!({"currency": "usd", "amount": 1_000_000_000_000_i64, "reason": "x"}), "/amount"),
        (json!({"currency": "usd", "amount": i64::MIN, "reason": "x"}), "/amount"),
        (json!({"currency": "USD", "amount": 1, "reason": "x"}), "/currency"),
        (json!({"currency": "usd", "amount": 1, "reason": " "}), "/reason"),
        (json!({"currency": "usd", "amount": 1}), "/reason"),
    ] {
        let (status, problem) = world.api.post("/v1/funds/adjustments", "k", &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], json!(pointer), "{body}");
    }
    assert_eq!(world.rows("adjustments").await, 0);
}

#[tokio::test]
async fn best_fit_passes_over_what_the_money_does_not_reach_for_a_day() {
    let world = best_fit().await;
    let account = world.ready_account().await;
    let large = world.transfer(&account, 1_000, json!({})).await;
    let small = world.transfer(&account, 300, json!({})).await;
    world.until_waiting_on(&large, &["funds_insufficient"]).await;
    world.until_waiting_on(&small, &["funds_insufficient"]).await;
    world.settled_topup("usd", 500).await;
    world.until_status(&small, "released").await;
    world.until_waiting_on(&large, &["funds_insufficient"]).await;
    world.clock.advance(Duration::hours(23));
    let second = world.transfer(&account, 100, json!({})).await;
    world.until_status(&second, "released").await;
    // A whole day passed over: now it blocks until the money reaches it.
    world.clock.advance(Duration::hours(2));
    let third = world.transfer(&account, 50, json!({})).await;
    world.until_waiting_on(&third, &["funds_insufficient"]).await;
    world.settled_topup("usd", 900).await;
    world.until_status(&large, "released").await;
    world.until_waiting_on(&third, &["funds_insufficient"]).await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn each_waiting_transfer_says_when_its_money_is_expected() {
    let world = World::with(|setting| {
        setting.stripe.settle_after = std::time::Duration::from_secs(24 * 60 * 60);
        setting.stripe.available_after = std::time::Duration::from_secs(4 * 24 * 60 * 60);
    })
    .await;
    let account = world.ready_account().await;
    let topup = world.stripe.create_topup("usd", 1_000);
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["status"] == json!("pending")).await;
    let (_, known) = world.api.get(&format!("/v1/topups/{topup}")).await;
    let due = known["expected_availability_date"].clone();
    assert!(due.is_string(), "{known}");
    let pooled = world.transfer(&account, 600, json!({})).await;
    let tied = world.transfer(&account, 300, json!({"topup": topup})).await;
    let beyond = world.transfer(&account, 200, json!({})).await;
    let unforeseeable = world.transfer("acct_nobody", 1, json!({})).await;
    let is = |at: Value| move |t: &Value| t["expected_release_at"] == at;
    world.api.until(&format!("/v1/transfers/{pooled}"), is(due.clone())).await;
    world.api.until(&format!("/v1/transfers/{tied}"), is(due.clone())).await;
    for id in [&beyond, &unforeseeable] {
        assert_eq!(world.api.get(&format!("/v1/transfers/{id}")).await.1["expected_release_at"], Value::Null);
    }
    // The forecast by day: what comes, what is wanted, what is missing.
    let (_, forecast) = world.api.get("/v1/funds/forecast").await;
    let days = forecast["data"].as_array().unwrap();
    assert!(days.iter().all(|day| day["currency"] == json!("usd")));
    let today = &days[0];
    assert_eq!(
        (&today["arrivals"], &today["waiting"], &today["shortfall"]),
        (&json!(0), &json!(1_101), &json!(1_101))
    );
    let last = days.last().unwrap();
    assert_eq!(last["day"].as_str().unwrap(), &due.as_str().unwrap()[..10]);
    assert_eq!(
        (&last["arrivals"], &last["waiting"], &last["shortfall"]),
        (&json!(1_000), &json!(0), &json!(101))
    );
    // Another one on its way reaches the next in line.
    let second = world.stripe.create_topup("usd", 100);
    world.api.until(&format!("/v1/topups/{second}"), |t| t["status"] == json!("pending")).await;
    world.api.until(&format!("/v1/transfers/{beyond}"), |t| t["expected_release_at"].is_string()).await;
}

/// What another replica on the same database is started with.
fn beside(world: &World) -> Plan {
    let worker = driver::Settings::default();
    Plan { worker, listen: "127.0.0.1:0".parse().unwrap(), ..world.plan.clone() }
}

/// The lowest that any lot, and all of them together, ever stood at, from the postings in their order.
async fn lowest_available(world: &World) -> (i64, i64) {
    let postings: Vec<(i64, String, i64)> = sqlx::query_as(
        "select p.entry, a.lot, p.amount from ledger_postings p join ledger_accounts a on a.id = p.account
         where a.kind = 'available' order by p.entry",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let (mut lots, mut lowest_lot, mut lowest) = (BTreeMap::<String, i64>::new(), 0, 0);
    for at in 0..postings.len() {
        let (entry, lot, amount) = &postings[at];
        let balance = lots.entry(lot.clone()).or_default();
        *balance += amount;
        lowest_lot = lowest_lot.min(*balance);
        if postings.get(at + 1).is_none_or(|next| next.0 != *entry) {
            lowest = lowest.min(lots.values().sum());
        }
    }
    (lowest_lot, lowest)
}

/// Where each of these stands in an order.
fn places(ids: &[String], order: &[String]) -> Vec<usize> {
    ids.iter().map(|id| order.iter().position(|known| known == id).unwrap()).collect()
}

#[tokio::test]
async fn of_a_thousand_with_money_for_six_hundred_three_replicas_pay_the_first_six_hundred_once_each() {
    let world = World::start().await;
    let more = [
        service::start(beside(&world), world.clock.clone()).await.unwrap(),
        service::start(beside(&world), world.clock.clone()).await.unwrap(),
    ];
    let account = world.ready_account().await;
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    for chunk in 0..50 {
        let many = (0..20).map(|nth| {
            let priority = i64::from((chunk * 20 + nth) % 7);
            let (world, account) = (&world, &account);
            async move { world.transfer(account, 100, json!({"priority": priority})).await }
        });
        futures_util::future::join_all(many).await;
    }
    // In several top-ups, so that reservations span lots.
    for _ in 0..7 {
        world.settled_topup("usd", 8_571).await;
    }
    world.settled_topup("usd", 3).await;
    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    let released = || async {
        let count: i64 = sqlx::query_scalar("select count(*) from transfers where status = 'released'")
            .fetch_one(world.pool())
            .await
            .unwrap();
        (count >= 600).then_some(())
    };
    for _ in 0..6 {
        if eventually(released).await.is_some() {
            break;
        }
    }
    world.until_idle().await;
    // By priority, then by when the database says each was asked for.
    let order: Vec<String> =
        sqlx::query_scalar("select id from transfers order by priority desc, created_at, id")
            .fetch_all(world.pool())
            .await
            .unwrap();
    let books = world.stripe.books();
    let out: Vec<&str> =
        books.transfers.iter().map(|t| t.metadata["sluicegate_transfer"].as_str().unwrap()).collect();
    assert_eq!(out.len(), 600, "exactly six hundred, none twice");
    let mut paid = out;
    paid.sort_unstable();
    let mut expected: Vec<&str> = order[..600].iter().map(String::as_str).collect();
    let reserved: Vec<String> =
        sqlx::query_scalar("select transfer from ledger_entries where kind = 'reservation' order by id")
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(places(&reserved, &order), (0..600).collect::<Vec<_>>(), "one after the other");
    expected.sort_unstable();
    assert_eq!(paid, expected);
    assert_eq!(
        lowest_available(&world).await,
        (0, 0),
        "never below zero, in no lot and in none at any moment"
    );
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["available"]), (&json!(60_000), &json!(0)));
    world.assert_books_hold().await;
    for service in more {
        service.stop().await;
    }
}
