//! Transfers that wait for one thing after another, and go out once.

use serde_json::{Value, json};
use time::Duration;

use crate::support::world::World;

#[tokio::test]
async fn a_transfer_waits_for_its_account_then_for_money_and_then_goes_out_once() {
    let world = World::start().await;
    let account = world.stripe.create_account(sluicegate::sandbox::AccountSpec::default());
    world.api.until(&format!("/v1/accounts/{account}/readiness"), |_| true).await;
    let id =
        world.transfer(&account, 1_000, json!({"metadata": {"order": "7"}, "description": "Answers"})).await;
    world.until_waiting_on(&id, &["details_not_submitted", "charges_disabled", "transfers_inactive"]).await;
    world.stripe.change_account(&account, &sluicegate::sandbox::AccountChange::ready()).unwrap();
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.settled_topup("usd", 1_500).await;
    let released = world.until_status(&id, "released").await;
    assert_eq!(released["waiting_on"], json!([]));
    assert!(released["stripe_transfer"].as_str().unwrap().starts_with("tr_"), "{released}");
    assert_eq!(world.times_at_stripe(&id), 1);
    let funds = world.funds("usd").await;
    for (name, minor) in [("settled", 1_500), ("reserved", 0), ("released", 1_000), ("available", 500)] {
        assert_eq!(funds[name], json!(minor), "{name} in {funds}");
    }
    // Half a minute after money moved Stripe's balance is read again, and the two books are compared.
    world.clock.advance(Duration::seconds(31));
    // A reading between Stripe's booking and ours shows the one without the other, until then.
    let agree = |funds: &serde_json::Value| {
        let usd = &funds["data"][0];
        (&usd["stripe_available"], &usd["drift"]) == (&json!(500), &json!(0))
    };
    world.api.until("/v1/funds", agree).await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn the_call_is_made_exactly_as_it_is_promised() {
    let world = World::with(|setting| setting.plan.source_type = Some("card".to_owned())).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 5_000).await;
    let id = world.transfer(&account, 1_000, json!({"metadata": {"k": "ü&="}, "description": "d"})).await;
    world.until_status(&id, "released").await;
    let labeled = world.transfer(&account, 2_000, json!({"transfer_group": "week 46"})).await;
    world.until_status(&labeled, "released").await;
    let calls = world.stripe.calls();
    let sent: Vec<_> =
        calls.iter().filter(|call| call.method == "POST" && call.path == "/v1/transfers").collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].idempotency_key.as_deref(), Some(format!("{id}.1").as_str()));
    let form = |body: &str| -> std::collections::BTreeMap<String, String> {
        reqwest::Url::parse(&format!("http://x/?{body}")).unwrap().query_pairs().into_owned().collect()
    };
    let expected = [
        ("amount", "1000"),
        ("currency", "usd"),
        ("description", "d"),
        ("destination", &account),
        ("metadata[k]", "ü&="),
        ("metadata[sluicegate_transfer]", &id),
        ("source_type", "card"),
        ("transfer_group", &id),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(&sent[0].body), expected.into_iter().collect());
    assert_eq!(form(&sent[1].body)["transfer_group"], "week 46");
    assert_eq!(form(&sent[1].body).get("description"), None);
}

#[tokio::test]
async fn the_reservation_and_the_release_are_balanced_entries_that_add_up_to_the_funds() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 400, json!({})).await;
    world.until_status(&id, "released").await;
    let lines: Vec<(String, String, String, i64)> = sqlx::query_as(
        "select e.kind, a.kind, a.lot, p.amount from ledger_entries e
         join ledger_postings p on p.entry = e.id join ledger_accounts a on a.id = p.account
         order by e.id, p.amount",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let line = |entry: &str, place: &str, amount| (entry.to_owned(), place.to_owned(), topup.clone(), amount);
    assert_eq!(
        lines,
        [
            line("settlement", "money_in", -1_000),
            line("settlement", "available", 1_000),
            line("reservation", "available", -400),
            line("reservation", "reserved", 400),
            line("release", "reserved", -400),
            line("release", "released", 400),
        ]
    );
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_tied_transfer_waits_for_its_own_top_up_and_never_draws_on_another() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let own = world.stripe.create_topup("usd", 1_000);
    let id = world.transfer(&account, 1_000, json!({"topup": own})).await;
    world.until_waiting_on(&id, &["topup_pending"]).await;
    world.settled_topup("usd", 9_000).await;
    world.stripe.settle_topup(&own).unwrap();
    world.until_waiting_on(&id, &["topup_not_settled"]).await;
    assert_eq!(world.funds("usd").await["available"], json!(9_000));
    world.stripe.make_available(&own).unwrap();
    world.until_status(&id, "released").await;
    let lot: String =
        sqlx::query_scalar("select lot from ledger_accounts where kind = 'released' and balance = 1000")
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!(lot, own);
    let greedy = world.transfer(&account, 1, json!({"topup": own})).await;
    world.until_waiting_on(&greedy, &["funds_insufficient"]).await;
}

#[tokio::test]
async fn a_transfer_tied_to_a_top_up_that_fails_says_so() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.stripe.create_topup("usd", 1_000);
    let id = world.transfer(&account, 1_000, json!({"topup": topup})).await;
    world.stripe.fail_topup(&topup, "insufficient_funds").unwrap();
    world.until_waiting_on(&id, &["topup_failed"]).await;
}

#[tokio::test]
async fn an_unknown_account_and_an_unknown_top_up_are_asked_for_at_once() {
    let world = World::start().await;
    world.stripe.lose_events(100);
    let account = world.stripe.create_ready_account();
    let topup = world.stripe.create_topup("usd", 1_000);
    let id = world.transfer(&account, 1_000, json!({"topup": topup})).await;
    world.until_waiting_on(&id, &["topup_pending"]).await;
    let absent = world.transfer("acct_nowhere", 1, json!({})).await;
    world.until_waiting_on(&absent, &["account_deauthorized"]).await;
}

#[tokio::test]
async fn money_goes_by_priority_then_age_and_one_that_it_does_not_reach_is_not_overtaken() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let large = world.transfer(&account, 900, json!({})).await;
    let small = world.transfer(&account, 100, json!({})).await;
    let urgent = world.transfer(&account, 300, json!({"priority": 5})).await;
    for id in [&large, &small, &urgent] {
        world.until_waiting_on(id, &["funds_insufficient"]).await;
    }
    world.settled_topup("usd", 1_000).await;
    world.until_status(&urgent, "released").await;
    world.until_waiting_on(&large, &["funds_insufficient"]).await;
    world.until_waiting_on(&small, &["funds_insufficient"]).await;
    world.settled_topup("usd", 300).await;
    world.until_status(&large, "released").await;
    world.until_status(&small, "released").await;
    assert_eq!(world.funds("usd").await["available"], json!(0));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_date_a_hold_and_the_emergency_stop_each_keep_a_transfer() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let date = world.clock.now() + Duration::hours(1);
    let later = date.format(&time::format_description::well_known::Rfc3339).unwrap();
    let scheduled = world.transfer(&account, 100, json!({"release_after": later})).await;
    let held = world.transfer(&account, 100, json!({})).await;
    let (status, _) = world.api.post(&format!("/v1/transfers/{held}/hold"), "h", &json!({})).await;
    assert_eq!(status, 200);
    let (status, _) = world.api.post("/v1/releases/pause", "p", &json!({"reason": "month end"})).await;
    assert_eq!(status, 200);
    world.settled_topup("usd", 1_000).await;
    world.until_waiting_on(&scheduled, &["releases_paused", "scheduled"]).await;
    world.until_waiting_on(&held, &["releases_paused", "on_hold"]).await;
    let (status, _) = world.api.post("/v1/releases/resume", "r", &json!({})).await;
    assert_eq!(status, 200);
    world.until_waiting_on(&held, &["on_hold"]).await;
    let (status, _) = world.api.post(&format!("/v1/transfers/{held}/resume"), "hr", &json!({})).await;
    assert_eq!(status, 200);
    world.until_status(&held, "released").await;
    world.until_waiting_on(&scheduled, &["scheduled"]).await;
    world.clock.advance(Duration::hours(1));
    world.until_status(&scheduled, "released").await;
}

#[tokio::test]
async fn canceling_stops_a_waiting_transfer_and_nothing_else() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let waiting = world.transfer(&account, 600, json!({})).await;
    let behind = world.transfer(&account, 500, json!({})).await;
    world.settled_topup("usd", 500).await;
    world.until_waiting_on(&behind, &["funds_insufficient"]).await;
    let (status, canceled) =
        world.api.post(&format!("/v1/transfers/{waiting}/cancel"), "c", &json!({})).await;
    assert_eq!((status, &canceled["status"]), (200, &json!("canceled")));
    world.until_status(&behind, "released").await;
    for id in [&waiting, &behind] {
        let (status, problem) =
            world.api.post(&format!("/v1/transfers/{id}/cancel"), "again", &json!({})).await;
        let _ = (status, problem);
    }
    let (status, problem) = world.api.post(&format!("/v1/transfers/{behind}/cancel"), "c2", &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("transfer_state")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("The transfer is released. ") && detail.contains("a released one reversed"),
        "{detail}"
    );
    assert_eq!(world.times_at_stripe(&waiting), 0);
}

#[tokio::test]
async fn the_same_key_makes_one_transfer_even_when_many_ask_at_once() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let body = json!({"destination": account, "amount": 100, "currency": "usd"});
    let asks = (0..12).map(|_| {
        let (api, body) = (world.api.clone(), body.clone());
        tokio::spawn(async move { api.post("/v1/transfers", "one-key", &body).await })
    });
    let mut answers = Vec::new();
    for ask in asks {
        answers.push(ask.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, 201);
    let other = json!({"destination": account, "amount": 101, "currency": "usd"});
    let (status, problem) = world.api.post("/v1/transfers", "one-key", &other).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
    let listed = world.api.get("/v1/transfers").await.1;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_stripe_tells_of_reversals_returns_to_the_books() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 800, json!({})).await;
    let released = world.until_status(&id, "released").await;
    let stripe_transfer = released["stripe_transfer"].as_str().unwrap();
    reverse(&world, stripe_transfer, 300).await;
    let partly = world.until_status(&id, "partially_reversed").await;
    assert_eq!(partly["amount_reversed"], json!(300));
    reverse(&world, stripe_transfer, 500).await;
    world.until_status(&id, "reversed").await;
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["available"]), (&json!(0), &json!(1_000)));
    world.assert_books_hold().await;
}

/// A reversal as somebody makes it in Stripe's dashboard.
pub async fn reverse(world: &World, stripe_transfer: &str, amount: i64) {
    let url = format!("{}/v1/transfers/{stripe_transfer}/reversals", world.sandbox.url());
    let request = world.api.http.post(url).basic_auth("sk_test_world", Some(""));
    let request = request
        .header("Stripe-Version", "2026-10-28.endive")
        .header("Idempotency-Key", format!("rev-{amount}"));
    let answer =
        request.header("Content-Type", "application/x-www-form-urlencoded").body(format!("amount={amount}"));
    assert_eq!(answer.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_top_up_reversed_after_its_money_went_out_leaves_a_hole_and_stops_the_currency() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 800, json!({})).await;
    world.until_status(&id, "released").await;
    world.stripe.reverse_topup(&topup).unwrap();
    world.api.until(&format!("/v1/topups/{topup}"), |t| t["status"] == json!("reversed")).await;
    assert_eq!(world.funds("usd").await["available"], json!(-800));
    let next = world.transfer(&account, 100, json!({})).await;
    world.settled_topup("usd", 500).await;
    world.until_waiting_on(&next, &["funds_insufficient"]).await;
    world.settled_topup("usd", 400).await;
    world.until_status(&next, "released").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn the_history_tells_every_step() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 800, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.settled_topup("usd", 1_000).await;
    let transfer = world.until_status(&id, "released").await;
    let steps: Vec<&Value> =
        transfer["history"].as_array().unwrap().iter().map(|step| &step["status"]).collect();
    assert_eq!(steps.first(), Some(&&json!("waiting")));
    assert_eq!(steps.last(), Some(&&json!("released")));
    assert!(steps.contains(&&json!("releasing")), "{steps:?}");
}

#[tokio::test]
async fn of_several_that_become_ready_at_once_the_first_in_order_gets_the_money() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.api.post("/v1/releases/pause", "p", &json!({})).await;
    let mut ids = Vec::new();
    for priority in 0..12 {
        ids.push(world.transfer(&account, 100, json!({"priority": priority})).await);
    }
    world.settled_topup("usd", 300).await;
    world.api.post("/v1/releases/resume", "r", &json!({})).await;
    for id in ids.iter().rev().take(3) {
        world.until_status(id, "released").await;
    }
    for id in ids.iter().take(9) {
        world.until_waiting_on(id, &["funds_insufficient"]).await;
    }
}

#[tokio::test]
async fn a_transfer_of_the_other_mode_is_never_touched() {
    let mut world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 100, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.settled_topup("usd", 300).await;
    world.until_status(&id, "released").await;
    let waiting = world.transfer(&account, 900, json!({})).await;
    world.until_waiting_on(&waiting, &["funds_insufficient"]).await;
    world.stop_service().await;
    sqlx::query("insert into tasks (kind, subject, livemode, run_at) values ('transfer', $1, false, now()) on conflict do nothing")
        .bind(&waiting)
        .execute(world.pool())
        .await
        .unwrap();
    world.plan.livemode = true;
    world.start_service().await;
    // A live process works off its own bells and leaves the test ones.
    let live = || async {
        let left: i64 = sqlx::query_scalar("select count(*) from tasks where livemode and kind = 'balance' and run_at > now() + interval '1 minute'")
            .fetch_one(world.pool())
            .await
            .unwrap();
        (left == 1).then_some(())
    };
    assert!(crate::support::world::eventually(live).await.is_some());
    let untouched: i64 = sqlx::query_scalar(
        "select count(*) from tasks where not livemode and subject = $1 and attempts = 0 and token is null",
    )
    .bind(&waiting)
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(untouched, 1);
}

#[tokio::test]
async fn holding_the_head_of_the_line_lets_the_next_one_go() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let head = world.transfer(&account, 900, json!({})).await;
    world.settled_topup("usd", 500).await;
    world.until_waiting_on(&head, &["funds_insufficient"]).await;
    let next = world.transfer(&account, 400, json!({})).await;
    world.until_waiting_on(&next, &["funds_insufficient"]).await;
    let (status, _) = world.api.post(&format!("/v1/transfers/{head}/hold"), "h", &json!({})).await;
    assert_eq!(status, 200);
    world.until_status(&next, "released").await;
    world.until_waiting_on(&head, &["on_hold"]).await;
}

#[tokio::test]
async fn an_account_that_stripe_did_not_show_is_asked_for_again_as_long_as_money_waits_for_it() {
    let world = World::start().await;
    let account = world.stripe.create_ready_account();
    world.until_ready(&account).await;
    world.settled_topup("usd", 500).await;
    world.stripe.deny(&account, true).unwrap();
    world.api.get(&format!("/v1/accounts/{account}/readiness?refresh=true")).await;
    let id = world.transfer(&account, 400, json!({})).await;
    world.until_waiting_on(&id, &["account_deauthorized"]).await;
    world.api.get(&format!("/v1/accounts/{account}/readiness?refresh=true")).await;
    world.stripe.deny(&account, false).unwrap();
    world.clock.advance(Duration::minutes(6));
    world.until_status(&id, "released").await;
}
