//! The edges of time and money: midnight, clocks that jump, money that leaves between two steps.

use std::collections::BTreeMap;
use std::time::Duration as Wait;

use serde_json::{Value, json};
use sluicegate::domain::limits::{Limits, ReleaseOrder};
use sluicegate::domain::money::Currency;
use sluicegate::domain::task::Kind;
use sluicegate::domain::topup::Rule;
use sluicegate::sandbox::{Fault, FaultKind};
use sluicegate::store::outbox::{self, Observation};
use sluicegate::store::tasks;
use time::{Duration, Time};

use crate::support::world::{World, eventually};

fn usd(minor: i64) -> BTreeMap<Currency, i64> {
    BTreeMap::from([(Currency::parse("usd").unwrap(), minor)])
}

fn to_midnight(world: &World) -> Duration {
    let now = world.clock.now();
    now.date().next_day().unwrap().with_time(Time::MIDNIGHT).assume_utc() - now
}

/// Waits until a statement of this name waits for a lock.
async fn until_stuck(world: &World, statement: &str) {
    let stuck = || async {
        let waiting = world.count(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
                and datname = current_database() and query like '-- ' || $1 || '%'",
            statement,
        );
        (waiting.await > 0).then_some(())
    };
    assert!(eventually(stuck).await.is_some(), "no {statement} waits for a lock");
}

/// Has the next insert of such a task wait for as long as the returned connection is not closed.
async fn stop_rings(world: &World, of: &str) -> sqlx::PgConnection {
    let mut held = world.pool().acquire().await.unwrap().detach();
    sqlx::query("select pg_advisory_lock(42)").execute(&mut held).await.unwrap();
    let stop = format!(
        "create function wait_here() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared(42); return new; end $$;
        create trigger wait_here before insert on tasks for each row when ({of}) execute function wait_here()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(stop)).execute(world.pool()).await.unwrap();
    held
}

#[tokio::test]
async fn one_that_is_asked_for_while_its_top_up_is_first_written_down_hears_of_it() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1).await;
    world.until_idle().await;
    world.stripe.hold_events(true);
    let topup = world.stripe.create_topup("usd", 2_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.stripe.make_available(&topup).unwrap();
    // The first look at the top-up has already found out whom it must ring for, and is not done yet.
    let held = stop_rings(&world, "new.kind = 'balance'").await;
    let first = world.transfer(&account, 1_000, json!({"topup": topup})).await;
    until_stuck(&world, "ring").await;
    let second = world.transfer(&account, 1_000, json!({"topup": topup})).await;
    let looked_at = || async {
        let left = world.count("select count(*) from tasks where subject = $1 and run_at <= now()", &second);
        let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'
            and datname = current_database() and query like '-- ' || $1 || '%'";
        (left.await == 0 || world.count(waits, "hold_topups").await > 0).then_some(())
    };
    assert!(eventually(looked_at).await.is_some());
    sqlx::Connection::close(held).await.unwrap();
    world.until_status(&first, "released").await;
    world.until_status(&second, "released").await;
}

/// Waits until somebody waits for what `held` has locked, then locks more; an error where that somebody has it.
async fn lock_more(
    world: &World,
    held: &mut sqlx::PgConnection,
    once_stuck: &str,
    sql: &'static str,
    id: &str,
) -> Result<(), sqlx::Error> {
    until_stuck(world, once_stuck).await;
    sqlx::query("set local lock_timeout = '3s'").execute(&mut *held).await?;
    sqlx::query(sql).bind(id).execute(held).await.map(drop)
}

const LOCK_TOPUP: &str = "select pg_advisory_xact_lock(hashtextextended('topup:false:' || $1, 0))";
const LOCK_ACCOUNT: &str = "select 1 from accounts where account = $1 for no key update";

#[tokio::test]
async fn whoever_decides_takes_top_ups_and_accounts_in_the_order_in_which_events_change_them() {
    let world = World::start().await;
    let mut accounts = [world.ready_account().await, world.ready_account().await];
    accounts.sort();
    let [low, high] = accounts;
    let topup = world.settled_topup("usd", 3_000).await;
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    let later = world.transfer(&high, 1_000, json!({})).await;
    let tied = world.transfer(&low, 1_000, json!({"topup": topup})).await;
    world.until_waiting_on(&tied, &["releases_paused"]).await;
    world.until_idle().await;
    // One transfer: the top-up before the account.
    let mut held = world.pool().begin().await.unwrap();
    sqlx::query(LOCK_TOPUP).bind(&topup).execute(&mut *held).await.unwrap();
    world.api.post(&format!("/v1/transfers/{tied}/hold"), "h", &json!({})).await;
    lock_more(&world, &mut held, "hold_topups", LOCK_ACCOUNT, &low).await.unwrap();
    held.rollback().await.unwrap();
    world.api.post(&format!("/v1/transfers/{tied}/resume"), "u", &json!({})).await;
    world.until_idle().await;
    // A whole line: all top-ups, then the accounts by their ids, whatever the order of the line.
    for (first, then) in [(LOCK_TOPUP, LOCK_ACCOUNT), (LOCK_ACCOUNT, LOCK_ACCOUNT)] {
        let first_id = if first == LOCK_TOPUP { &topup } else { &low };
        let mut held = world.pool().begin().await.unwrap();
        sqlx::query(first).bind(first_id).execute(&mut *held).await.unwrap();
        // As if both stood in the line.
        let ready = "update transfers set fundable = true, waiting_on = '{}'";
        sqlx::query(ready).execute(world.pool()).await.unwrap();
        let mut conn = world.pool().acquire().await.unwrap();
        tasks::ring(&mut conn, Kind::Funds, false, &["usd"], world.clock.now()).await.unwrap();
        let stuck = if first == LOCK_TOPUP { "hold_topups" } else { "hold_accounts" };
        lock_more(&world, &mut held, stuck, then, &high).await.unwrap();
        held.rollback().await.unwrap();
        world.until_idle().await;
    }
    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    for id in [&tied, &later] {
        world.until_status(id, "released").await;
    }
}

#[tokio::test]
async fn a_line_that_is_served_over_midnight_keeps_to_the_cap_of_each_day() {
    let limits = Limits { daily_cap: usd(1_000), ..Limits::default() };
    let world = World::with(|setting| setting.plan.limits = limits).await;
    let (one, other) = (world.ready_account().await, world.ready_account().await);
    world.settled_topup("usd", 5_000).await;
    world.clock.advance(to_midnight(&world) - Duration::seconds(20));
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    let first = world.transfer(&one, 1_000, json!({})).await;
    let second = world.transfer(&other, 1_000, json!({})).await;
    world.until_waiting_on(&second, &["releases_paused"]).await;
    world.until_idle().await;
    // The line is read before midnight, and has to wait for the second account until after it.
    let mut held = world.pool().begin().await.unwrap();
    sqlx::query("select 1 from accounts where account = $1 for update")
        .bind(&other)
        .execute(&mut *held)
        .await
        .unwrap();
    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    until_stuck(&world, "").await;
    world.clock.advance(Duration::seconds(30));
    held.rollback().await.unwrap();
    world.until_status(&first, "released").await;
    // Where both were looked at together, it was the look that waited, and both are served on one day.
    let decided = |t: &Value| t["status"] == "released" || t["waiting_on"] == json!(["daily_cap_reached"]);
    if world.api.until(&format!("/v1/transfers/{second}"), decided).await["status"] == "waiting" {
        world.clock.advance(Duration::days(1));
    }
    world.until_status(&second, "released").await;
    let most = world.count("select max(amount) from cap_usage where destination = $1", "").await;
    assert_eq!(most, 1_000, "in no day more than its cap");
}

#[tokio::test]
async fn an_account_confirmed_by_a_clock_that_went_back_since_is_fetched_before_it_is_paid() {
    let world = World::start().await;
    world.clock.advance(Duration::days(3));
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    world.until_idle().await;
    world.clock.advance(-Duration::days(3));
    world.stripe.clear_calls();
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "released").await;
    assert_eq!(world.asked(&format!("/v1/accounts/{account}")).len(), 1, "before its money went out");
}

#[tokio::test]
async fn best_fit_counts_a_day_of_being_passed_over_through_a_fetch_of_the_account() {
    let world = World::with(|setting| {
        setting.plan.release_order = ReleaseOrder::BestFit;
        setting.plan.max_age = Wait::from_secs(3_600);
    })
    .await;
    let account = world.ready_account().await;
    let large = world.transfer(&account, 1_000, json!({})).await;
    let small = world.transfer(&account, 300, json!({})).await;
    world.until_waiting_on(&large, &["funds_insufficient"]).await;
    world.settled_topup("usd", 500).await;
    world.until_status(&small, "released").await;
    // Its account was confirmed too long ago by now; the line is served before it was fetched.
    world.clock.advance(Duration::hours(12));
    let counted = json!({"currency": "usd", "amount": 1, "reason": "found"});
    world.api.post("/v1/funds/adjustments", "a", &counted).await;
    world.until_idle().await;
    world.until_waiting_on(&large, &["funds_insufficient"]).await;
    world.clock.advance(Duration::hours(13));
    let last = world.transfer(&account, 50, json!({})).await;
    world.until_waiting_on(&last, &["funds_insufficient"]).await;
    assert_eq!(world.times_at_stripe(&last), 0);
}

#[tokio::test]
async fn a_currency_that_stripe_stopped_goes_on_for_those_that_have_money_whoever_stands_before_them() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let first = world.transfer(&account, 10_000, json!({})).await;
    world.until_waiting_on(&first, &["funds_insufficient"]).await;
    let topup = world.settled_topup("usd", 100).await;
    world.stripe.add_balance("usd", -100);
    let tied = world.transfer(&account, 100, json!({"topup": topup})).await;
    world.until_waiting_on(&tied, &["stripe_balance_insufficient"]).await;
    world.until_waiting_on(&first, &["funds_insufficient", "stripe_balance_insufficient"]).await;
    world.stripe.add_balance("usd", 100);
    world.clock.advance(Duration::seconds(16));
    world.until_status(&tied, "released").await;
    world.until_waiting_on(&first, &["funds_insufficient"]).await;
}

#[tokio::test]
async fn a_top_up_taken_back_while_a_release_is_under_way_stops_the_release_until_money_comes() {
    let world = World::with(|setting| setting.plan.grace = Wait::from_secs(2)).await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    world.stripe.fault(Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/transfers").times(None));
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_waiting_on(&id, &["stripe_unavailable"]).await;
    world.stripe.reverse_topup(&topup).unwrap();
    world.api.until("/v1/funds", |funds| funds["data"][0]["available"] == json!(-1_000)).await;
    world.stripe.clear_faults();
    world.until_waiting_on(&id, &["funds_insufficient", "stripe_unavailable"]).await;
    world.clock.advance(Duration::hours(1));
    world.until_idle().await;
    assert_eq!(world.times_at_stripe(&id), 0, "there is no settled money behind it");
    world.settled_topup("usd", 1_000).await;
    world.clock.advance(Duration::minutes(1));
    world.until_status(&id, "released").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn money_reserved_of_a_top_up_that_is_taken_back_before_the_send_is_given_back() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    // Between the reservation and the send the database fails, for as long as this story likes.
    let stop = "create function no_send() returns trigger language plpgsql as
            $$ begin raise exception 'not now' using errcode = 'lock_not_available'; end $$;
        create trigger no_send before update on attempts for each row execute function no_send()";
    sqlx::raw_sql(stop).execute(world.pool()).await.unwrap();
    let id = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&id, "releasing").await;
    world.stripe.reverse_topup(&topup).unwrap();
    world.api.until("/v1/funds", |funds| funds["data"][0]["available"] == json!(-1_000)).await;
    sqlx::raw_sql("drop trigger no_send on attempts").execute(world.pool()).await.unwrap();
    // The longer it failed, the longer the pause before it is tried again.
    world.clock.advance(Duration::minutes(10));
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    assert_eq!((world.times_at_stripe(&id), world.keys_sent(&id).len()), (0, 0));
    let funds = world.funds("usd").await;
    assert_eq!((&funds["reserved"], &funds["available"]), (&json!(0), &json!(0)));
    world.assert_books_hold().await;
}

/// As if Stripe had told that a top-up's money landed in dollars.
async fn lands_in_dollars(world: &World, topup: &str) {
    // A fetch of the service's own that begins later would say otherwise, and outrank this.
    world.until_idle().await;
    let mut conn = world.pool().acquire().await.unwrap();
    let told = json!({
        "id": "txn_1", "object": "balance_transaction", "amount": 1_100, "net": 1_100, "fee": 0,
        "currency": "usd", "status": "available", "type": "topup", "available_on": world.second(),
    });
    let payload = told.to_string();
    let seen = Observation {
        id: "obs_landed".to_owned(),
        event_type: "balance_transaction",
        subject_kind: "topup",
        subject: topup,
        livemode: false,
        observed_from: world.clock.now(),
        after_seq: outbox::last_seq(&mut conn).await.unwrap(),
        received_at: world.clock.now(),
        payload: payload.as_bytes(),
    };
    outbox::insert_rung_observation(&mut conn, &seen).await.unwrap();
}

#[tokio::test]
async fn a_top_up_that_lands_in_another_currency_is_money_of_that_one() {
    let world = World::with(|setting| setting.plan.rule = Rule::TopupSucceeded).await;
    let account = world.ready_account().await;
    let topup = world.stripe.create_topup("eur", 1_000);
    world.stripe.settle_topup(&topup).unwrap();
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["settled"] == json!(true)).await;
    assert_eq!(world.funds("eur").await["available"], json!(1_000), "until it is known where it lands");
    let astray = world
        .transfer(
            &account,
            10,
            json!({"topup": topup, "currency": "eur", "release_after": "2099-01-01T00:00:00Z"}),
        )
        .await;
    world.until_waiting_on(&astray, &["scheduled"]).await;
    lands_in_dollars(&world, &topup).await;
    let shown = |currency: &'static str, minor: i64| {
        move |funds: &Value| {
            let rows = funds["data"].as_array().unwrap();
            rows.iter().any(|row| row["currency"] == *currency && row["available"] == json!(minor))
        }
    };
    world.api.until("/v1/funds", shown("eur", 0)).await;
    world.api.until("/v1/funds", shown("usd", 1_100)).await;
    world.until_waiting_on(&astray, &["scheduled", "topup_failed"]).await;
    world.stripe.add_balance("usd", 1_100);
    let id = world.transfer(&account, 1_100, json!({"topup": topup})).await;
    world.until_status(&id, "released").await;
    world.assert_books_hold().await;
}
