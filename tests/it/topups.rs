//! Money on its way: shown at each step, counted once it is there, and found even where no event tells.

use serde_json::{Value, json};
use sluicegate::domain::topup::Rule;
use time::{Duration, OffsetDateTime};

use crate::support::events::{about_topup, fresh_id, thin};
use crate::support::world::{STRIPE_KEY, World, eventually};

fn path(topup: &str) -> String {
    format!("/v1/topups/{topup}")
}

impl World {
    async fn until_topup(&self, topup: &str, status: &str, settled: bool) -> Value {
        let fits = |shown: &Value| shown["status"] == json!(status) && shown["settled"] == json!(settled);
        self.api.until(&path(topup), fits).await
    }

    /// What the funds of a currency say of money that came and is to come.
    async fn money(&self, currency: &str) -> (i64, i64, Vec<Value>) {
        let funds = self.funds(currency).await;
        let arrivals = funds["arrivals"].as_array().cloned().unwrap_or_default();
        let minor = |name: &str| funds[name].as_i64().unwrap_or_default();
        (minor("settled"), minor("pending"), arrivals.into_iter().map(|a| a["topup"].clone()).collect())
    }

    async fn until_money(&self, currency: &str, settled: i64, pending: i64) {
        let fits = |funds: &Value| {
            let rows = funds["data"].as_array().unwrap();
            rows.iter().any(|row| {
                row["currency"] == json!(currency)
                    && row["settled"] == json!(settled)
                    && row["pending"] == json!(pending)
            })
        };
        self.api.until("/v1/funds", fits).await;
    }

    /// Calls a top-up off, as somebody in the dashboard.
    async fn cancel_at_stripe(&self, topup: &str) {
        let url = format!("{}/v1/topups/{topup}/cancel", self.sandbox.url());
        let request = self.api.http.post(url).basic_auth(STRIPE_KEY, Some(""));
        let request = request.header("Stripe-Version", sluicegate::sandbox::API_VERSION);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let answer = request.header("Idempotency-Key", fresh_id()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
    }

    /// Waits until a top-up's next look is at least this far ahead.
    async fn until_next_look_is_after(&self, topup: &str, pause: Duration) {
        let far = || async {
            let at: Option<OffsetDateTime> =
                sqlx::query_scalar("select run_at from tasks where subject = $1 and token is null")
                    .bind(topup)
                    .fetch_optional(self.pool())
                    .await
                    .unwrap();
            at.is_some_and(|at| at - self.clock.now() > pause).then_some(())
        };
        assert!(eventually(far).await.is_some(), "{topup} is looked at sooner than every {pause}");
    }
}

/// What Stripe has told of a top-up, as events to deliver.
fn events_of(world: &World, topup: &str) -> Vec<Value> {
    world.stripe.events().into_iter().filter(|event| event["data"]["object"]["id"] == json!(topup)).collect()
}

#[tokio::test]
async fn money_is_shown_at_every_step_of_its_way() {
    let world = World::start().await;
    let id = world.stripe.create_topup("usd", 2_500);
    let pending = world.until_topup(&id, "pending", false).await;
    for (name, value) in [
        ("amount", json!(2_500)),
        ("currency", json!("usd")),
        ("counted_amount", json!(0)),
        ("failure", json!(null)),
    ] {
        assert_eq!(pending[name], value, "{name} of {pending}");
    }
    assert_eq!(world.money("usd").await, (0, 2_500, vec![json!(id)]));
    world.stripe.settle_topup(&id).unwrap();
    world.until_topup(&id, "succeeded", false).await;
    assert_eq!(world.money("usd").await, (0, 2_500, vec![json!(id)]), "the bank has paid, Stripe not yet");
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 1, json!({})).await;
    world.until_waiting_on(&transfer, &["funds_insufficient"]).await;
    world.stripe.make_available(&id).unwrap();
    let settled = world.until_topup(&id, "succeeded", true).await;
    assert_eq!((&settled["excluded"], &settled["counted_amount"]), (&json!(false), &json!(2_500)));
    for name in ["available_on", "settled_at", "balance_transaction"] {
        assert!(settled[name].is_string(), "{name} of {settled}");
    }
    assert_eq!(world.money("usd").await, (2_500, 0, vec![]));
    world.until_status(&transfer, "released").await;
    assert_eq!(world.api.get("/v1/topups").await.1["data"][0]["id"], json!(id));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn the_events_of_a_top_up_in_any_order_and_repeated_settle_it_once() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let (mut settled, mut reversed) = (0, 0);
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        for ends_reversed in [false, true] {
            let id = world.stripe.create_topup("usd", 1_000);
            world.stripe.settle_topup(&id).unwrap();
            world.stripe.make_available(&id).unwrap();
            if ends_reversed {
                world.stripe.reverse_topup(&id).unwrap();
            }
            let events = events_of(&world, &id);
            assert_eq!(events.len(), 2 + usize::from(ends_reversed));
            for at in order.into_iter().filter(|at| *at < events.len()) {
                for _ in 0..2 {
                    assert_eq!(world.send(&events[at]).await.0, 200);
                }
                world.until_settled(&events[at]).await;
            }
            let (status, is_settled) = if ends_reversed { ("reversed", false) } else { ("succeeded", true) };
            world.until_topup(&id, status, is_settled).await;
            if ends_reversed {
                reversed += 1
            } else {
                settled += 1
            }
            world.until_money("usd", settled * 1_000, 0).await;
        }
    }
    assert_eq!((settled, reversed), (6, 6));
    let twice = world
        .count("select count(*) from topups where booked_amount <> 0 and $1 = '' and bookings <> 1", "")
        .await;
    assert_eq!(twice, 0, "money that stayed was booked once");
    world.assert_books_hold().await;
}

#[tokio::test]
async fn money_that_never_comes_is_no_money() {
    let world = World::start().await;
    let failed = world.stripe.create_topup("usd", 700);
    let canceled = world.stripe.create_topup("usd", 800);
    world.until_topup(&failed, "pending", false).await;
    world.until_topup(&canceled, "pending", false).await;
    assert_eq!(world.money("usd").await.1, 1_500);
    world.stripe.fail_topup(&failed, "insufficient_funds").unwrap();
    let shown = world.until_topup(&failed, "failed", false).await;
    assert_eq!(shown["failure"]["code"], json!("insufficient_funds"));
    assert_eq!(world.money("usd").await, (0, 800, vec![json!(canceled)]));
    world.cancel_at_stripe(&canceled).await;
    world.until_topup(&canceled, "canceled", false).await;
    assert_eq!(world.money("usd").await, (0, 0, vec![]));
    let account = world.ready_account().await;
    for topup in [&failed, &canceled] {
        let tied = world.transfer(&account, 1, json!({"topup": topup})).await;
        world.until_waiting_on(&tied, &["topup_failed"]).await;
    }
    assert_eq!(world.rows("ledger_entries").await, 0, "nothing was ever booked");
}

#[tokio::test]
async fn money_taken_back_is_taken_out_whether_it_had_settled_or_not() {
    let world = World::start().await;
    let early = world.stripe.create_topup("usd", 300);
    world.stripe.settle_topup(&early).unwrap();
    world.until_topup(&early, "succeeded", false).await;
    world.stripe.reverse_topup(&early).unwrap();
    world.until_topup(&early, "reversed", false).await;
    assert_eq!(world.money("usd").await, (0, 0, vec![]));
    let late = world.settled_topup("usd", 500).await;
    assert_eq!(world.money("usd").await, (500, 0, vec![]));
    world.stripe.reverse_topup(&late).unwrap();
    let shown = world.until_topup(&late, "reversed", false).await;
    assert_eq!(shown["counted_amount"], json!(0));
    world.until_money("usd", 0, 0).await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn money_from_before_the_date_is_shown_and_does_not_count() {
    let since = OffsetDateTime::now_utc() + Duration::HOUR;
    let world = World::with(|setting| setting.plan.funds_since = Some(since)).await;
    let before = world.settled_topup("usd", 400).await;
    let shown = world.until_topup(&before, "succeeded", true).await;
    assert_eq!((&shown["excluded"], &shown["counted_amount"]), (&json!(true), &json!(0)));
    assert_eq!(world.money("usd").await, (0, 0, vec![]));
    let on_its_way = world.stripe.create_topup("usd", 600);
    world.stripe.settle_topup(&on_its_way).unwrap();
    world.until_topup(&on_its_way, "succeeded", false).await;
    assert_eq!(world.money("usd").await, (0, 600, vec![json!(on_its_way)]));
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 500, json!({})).await;
    world.until_waiting_on(&transfer, &["funds_insufficient"]).await;
    world.clock.advance(Duration::minutes(61));
    world.stripe.make_available(&on_its_way).unwrap();
    let shown = world.until_topup(&on_its_way, "succeeded", true).await;
    assert_eq!((&shown["excluded"], &shown["counted_amount"]), (&json!(false), &json!(600)));
    world.until_status(&transfer, "released").await;
    assert_eq!(world.money("usd").await, (600, 0, vec![]));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn without_a_date_money_counts_from_an_hour_before_the_first_start_and_that_is_kept() {
    let mut world = World::start().await;
    let settled_ago = async |world: &World, ago: Duration| {
        world.clock.advance(-ago);
        let id = world.stripe.create_topup("usd", 100);
        world.stripe.settle_topup(&id).unwrap();
        world.stripe.make_available(&id).unwrap();
        let shown = world.until_topup(&id, "succeeded", true).await;
        world.clock.advance(ago);
        shown["excluded"].clone()
    };
    assert_eq!(settled_ago(&world, Duration::minutes(70)).await, json!(true));
    assert_eq!(settled_ago(&world, Duration::minutes(50)).await, json!(false));
    world.stop_service().await;
    world.clock.advance(Duration::hours(3));
    world.start_service().await;
    assert_eq!(
        settled_ago(&world, Duration::minutes(150)).await,
        json!(false),
        "it is the first start that counts"
    );
    world.until_money("usd", 200, 0).await;
}

#[tokio::test]
async fn under_the_other_rule_money_counts_once_the_bank_has_paid() {
    let world = World::with(|setting| setting.plan.rule = Rule::TopupSucceeded).await;
    let id = world.stripe.create_topup("usd", 900);
    world.until_topup(&id, "pending", false).await;
    assert_eq!(world.money("usd").await, (0, 900, vec![json!(id)]));
    world.stripe.settle_topup(&id).unwrap();
    world.until_topup(&id, "succeeded", true).await;
    assert_eq!(world.money("usd").await, (900, 0, vec![]));
    world.stripe.make_available(&id).unwrap();
    world.until_quiet_about(&id).await;
    assert_eq!(world.money("usd").await, (900, 0, vec![]));
    let entries = world.rows("ledger_entries").await;
    assert_eq!(entries, 1, "once");
}

#[tokio::test]
async fn a_top_up_whose_events_are_lost_settles_by_being_looked_at() {
    let world = World::start().await;
    let id = world.stripe.create_topup("usd", 1_200);
    world.until_topup(&id, "pending", false).await;
    world.stripe.lose_events(1_000);
    world.stripe.settle_topup(&id).unwrap();
    world.clock.advance(Duration::seconds(31));
    world.until_topup(&id, "succeeded", false).await;
    world.until_next_look_is_after(&id, Duration::ZERO).await;
    // Watched for days without a forecast, it is looked at every hour.
    world.clock.advance(Duration::days(3));
    world.until_next_look_is_after(&id, Duration::minutes(50)).await;
    let calls = world.stripe.calls().len();
    world.stripe.make_available(&id).unwrap();
    world.clock.advance(Duration::minutes(45));
    world.until_next_look_is_after(&id, Duration::minutes(1)).await;
    assert_eq!(world.api.get(&path(&id)).await.1["settled"], json!(false), "not looked at yet");
    world.clock.advance(Duration::minutes(16));
    world.until_topup(&id, "succeeded", true).await;
    let looks =
        world.stripe.calls()[calls..].iter().filter(|c| c.path.contains("balance_transactions")).count();
    assert_eq!(looks, 1);
    world.until_money("usd", 1_200, 0).await;
    world.until_quiet_about(&id).await;
}

#[tokio::test]
async fn a_balance_that_becomes_available_wakes_what_is_on_its_way() {
    let world = World::start().await;
    let id = world.stripe.create_topup("usd", 1_200);
    world.stripe.settle_topup(&id).unwrap();
    world.until_topup(&id, "succeeded", false).await;
    world.until_next_look_is_after(&id, Duration::ZERO).await;
    world.clock.advance(Duration::days(3));
    world.until_next_look_is_after(&id, Duration::minutes(50)).await;
    // The event alone tells: the next look is most of an hour away.
    world.stripe.make_available(&id).unwrap();
    world.until_topup(&id, "succeeded", true).await;
    world.until_money("usd", 1_200, 0).await;
    let thinly = world.stripe.create_topup("usd", 300);
    world.stripe.settle_topup(&thinly).unwrap();
    world.until_topup(&thinly, "succeeded", false).await;
    world.until_next_look_is_after(&thinly, Duration::ZERO).await;
    world.clock.advance(Duration::days(3));
    world.until_next_look_is_after(&thinly, Duration::minutes(50)).await;
    world.stripe.lose_events(1_000);
    world.stripe.make_available(&thinly).unwrap();
    world.tell(&thin(&world, "v1.balance.available", None, None)).await;
    world.until_topup(&thinly, "succeeded", true).await;
}

#[tokio::test]
async fn a_thin_event_or_a_status_nobody_knows_has_the_top_up_fetched() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let fetches = |id: &str| world.asked(&format!("/v1/topups/{id}")).len();
    let thinly = world.stripe.create_topup("usd", 100);
    world.stripe.settle_topup(&thinly).unwrap();
    assert_eq!(world.api.get(&path(&thinly)).await.0, 404);
    world.tell(&thin(&world, "v1.topup.succeeded", None, Some(("topup", &thinly)))).await;
    let shown = world.until_topup(&thinly, "succeeded", false).await;
    assert_eq!(shown["source"], json!("api"));
    assert!(fetches(&thinly) >= 1);
    // What the event claims is not believed: at Stripe it is still pending.
    let odd = world.stripe.create_topup("usd", 200);
    let event = about_topup("topup.updated.unknown_type_and_status", &odd, world.second());
    world.tell(&event).await;
    let shown = world.until_topup(&odd, "pending", false).await;
    assert_eq!((&shown["source"], &shown["amount"]), (&json!("api"), &json!(200)));
    for (what, name, value) in [
        ("a status nobody knows", "status", json!("half_succeeded")),
        ("an amount that is a text", "amount", json!("200")),
        ("an amount below nothing", "amount", json!(-1)),
        ("a currency nobody knows", "currency", json!("xxx")),
    ] {
        let id = world.stripe.create_topup("usd", 200);
        let mut event = about_topup("topup.succeeded", &id, world.second());
        event["data"]["object"][name] = value;
        world.tell(&event).await;
        let shown = world.until_topup(&id, "pending", false).await;
        assert_eq!((&shown["source"], &shown["amount"]), (&json!("api"), &json!(200)), "{what}");
        assert_eq!(world.until_settled(&event).await["status"], json!("processed"), "{what}");
    }
    let old = world.stripe.create_topup("usd", 200);
    let mut event = about_topup("topup.succeeded", &old, world.second());
    event["api_version"] = json!("2018-11-08");
    world.tell(&event).await;
    world.until_topup(&old, "pending", false).await;
    assert_eq!(world.money("usd").await.0, 0);
}

#[tokio::test]
async fn a_forged_success_settles_nothing_until_stripes_own_books_say_so() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    // Stripe signed it, and yet the money is not in the balance: the event alone is no money.
    let id = world.stripe.create_topup("usd", 5_000);
    let event = about_topup("topup.succeeded", &id, world.second());
    world.tell(&event).await;
    world.until_settled(&event).await;
    world.until_next_look_is_after(&id, Duration::ZERO).await;
    assert_eq!(world.money("usd").await.0, 0);
    assert_eq!(world.api.get(&path(&id)).await.1["settled"], json!(false));
}

#[tokio::test]
async fn each_currency_is_its_own_money() {
    let world = World::start().await;
    world.settled_topup("usd", 1_000).await;
    let coming = world.stripe.create_topup("eur", 2_000);
    world.until_topup(&coming, "pending", false).await;
    assert_eq!(world.money("usd").await, (1_000, 0, vec![]));
    assert_eq!(world.money("eur").await, (0, 2_000, vec![json!(coming)]));
    let account = world.ready_account().await;
    let id = world.transfer(&account, 100, json!({"currency": "eur"})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.stripe.make_available(&coming).unwrap();
    world.until_status(&id, "released").await;
    assert_eq!(world.money("eur").await, (2_000, 0, vec![]));
    assert_eq!(world.funds("usd").await["available"], json!(1_000));
    assert_eq!(world.funds("eur").await["available"], json!(1_900));
    world.assert_books_hold().await;
}
