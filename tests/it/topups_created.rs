//! Adding funds: a top-up is ordered, and the bank is debited once, whatever becomes of the calls.

use serde_json::{Value, json};
use sluicegate::sandbox::{Fault, FaultKind};
use time::Duration;

use crate::audit;
use crate::support::world::{STRIPE_KEY, World, eventually};

fn path(topup: &Value) -> String {
    format!("/v1/topups/{}", topup["id"].as_str().unwrap())
}

impl World {
    /// Orders a top-up of 5,000 usd cents.
    async fn order(&self, key: &str) -> (u16, Value) {
        self.api.post("/v1/topups", key, &json!({"amount": 5_000, "currency": "usd"})).await
    }

    /// The ids of the top-ups at Stripe, oldest first, as its own list has them.
    async fn at_stripe(&self) -> Vec<Value> {
        let url = format!("{}/v1/topups?limit=100", self.sandbox.url());
        let request = self.api.http.get(url).basic_auth(STRIPE_KEY, Some(""));
        let request = request.header("Stripe-Version", sluicegate::sandbox::API_VERSION);
        let text = request.send().await.unwrap().text().await.unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        list["data"].as_array().unwrap().iter().rev().cloned().collect()
    }

    /// The keys of the calls that asked the bank, in order.
    fn asked_with(&self) -> Vec<String> {
        let calls = self.stripe.calls();
        let posts = calls.into_iter().filter(|call| call.method == "POST" && call.path == "/v1/topups");
        posts.filter_map(|call| call.idempotency_key).collect()
    }

    fn on_topups(&self, kind: FaultKind, times: Option<u32>) {
        self.stripe.fault(Fault::next(kind).on("POST", "/v1/topups").times(times));
    }
}

async fn impatient() -> World {
    World::with(|setting| setting.plan.grace = std::time::Duration::from_secs(1)).await
}

#[tokio::test]
async fn an_order_becomes_a_top_up_that_is_shown_at_once_and_a_repetition_is_answered_alike() {
    let world = World::start().await;
    let body = json!({
        "amount": 5_000, "currency": "usd", "description": "payroll", "statement_descriptor": "PAYROLL 11/26",
        "transfer_group": "november", "metadata": {"run": "17"},
    });
    let (status, made) = world.api.post("/v1/topups", "k", &body).await;
    assert_eq!(status, 201, "{made}");
    for (name, value) in [
        ("status", json!("pending")),
        ("amount", json!(5_000)),
        ("currency", json!("usd")),
        ("description", json!("payroll")),
        ("statement_descriptor", json!("PAYROLL 11/26")),
        ("transfer_group", json!("november")),
        ("metadata", json!({"run": "17"})),
        ("settled", json!(false)),
        ("failure", json!(null)),
    ] {
        assert_eq!(made[name], value, "{name} of {made}");
    }
    let (status, shown) = world.api.get(&path(&made)).await;
    assert_eq!((status, &shown["history"][0]["steps"]), (200, &json!(["created"])));
    let by_intent = world.api.get(&format!("/v1/topups/{}", made["intent"].as_str().unwrap())).await.1;
    assert_eq!(by_intent["id"], made["id"]);
    world.stripe.settle_topup(made["id"].as_str().unwrap()).unwrap();
    world.api.until(&path(&made), |topup| topup["status"] == json!("succeeded")).await;
    assert_eq!(world.api.post("/v1/topups", "k", &body).await, (201, made.clone()), "as before");
    assert_eq!(world.asked_with(), [format!("{}.1", made["intent"].as_str().unwrap())]);
    let seen = &world.at_stripe().await[0];
    assert_eq!(seen["metadata"], json!({"run": "17", "sluicegate_topup": made["intent"]}));
    let rows = audit::log(&world).await;
    let row = rows.iter().find(|row| row.entry.action == "topup.requested").expect("on record");
    assert_eq!(row.entry.subject, made["intent"].as_str().unwrap());
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_key_stands_for_one_order_across_api_keys_and_calls() {
    let world = World::start().await;
    let (_, made) = world.order("k").await;
    let body = json!({"name": "other", "scope": "operate"});
    let (_, other) = world.api.post("/v1/keys", "make", &body).await;
    let other = world.api.with_key(other["secret"].as_str().unwrap());
    let same = json!({"amount": 5_000, "currency": "usd"});
    assert_eq!(other.post("/v1/topups", "k", &same).await.1["id"], made["id"]);
    let (status, problem) = other.post("/v1/topups", "k", &json!({"amount": 5_001, "currency": "usd"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
    let transfer = json!({"destination": "acct_1", "amount": 5_000, "currency": "usd"});
    assert_eq!(
        world.api.post("/v1/transfers", "k", &transfer).await.0,
        409,
        "of money there is one kind of key"
    );
    let keyless = world.api.http.post(world.api.url("/v1/topups")).bearer_auth(&world.api.key).json(&same);
    assert_eq!(keyless.send().await.unwrap().status(), 400);
    world.clock.advance(Duration::days(400));
    assert_eq!(world.order("k").await.1["id"], made["id"], "it never expires");
    assert_eq!(world.at_stripe().await.len(), 1);
}

#[tokio::test]
async fn what_the_rules_forbid_never_reaches_stripe() {
    let world = World::start().await;
    for (changes, pointer) in [
        (json!({"amount": 0}), "/amount"),
        (json!({"currency": "xxx"}), "/currency"),
        (json!({"statement_descriptor": "SIXTEEN CHARS 16"}), "/statement_descriptor"),
        (json!({"metadata": {"sluicegate_topup": "tpi_1"}}), "/metadata/sluicegate_topup"),
    ] {
        let mut body = json!({"amount": 5_000, "currency": "usd"});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let (status, problem) = world.api.post("/v1/topups", "k", &body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{problem}");
    }
    assert_eq!(world.asked_with(), Vec::<String>::new());
    assert_eq!(world.order("k").await.0, 201, "a refused request leaves the key free");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_had_by_repeating_the_order_with_the_same_key() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    world.on_topups(FaultKind::DropAfterCommit, Some(1));
    let (status, unknown) = world.order("k").await;
    assert_eq!((status, &unknown["status"], &unknown["id"]), (202, &json!("unknown"), &json!(null)));
    let by_intent = world.api.get(&format!("/v1/topups/{}", unknown["intent"].as_str().unwrap())).await;
    assert_eq!((by_intent.0, &by_intent.1["status"]), (200, &json!("unknown")));
    let measured = || async {
        let answer = world.api.http.get(world.api.url("/metrics")).send().await.unwrap();
        answer.text().await.unwrap().lines().any(|line| line == "sluicegate_topups_unknown 1").then_some(())
    };
    assert!(eventually(measured).await.is_some(), "an operator sees that one is open");
    let (status, made) = world.order("k").await;
    assert_eq!((status, &made["intent"]), (201, &unknown["intent"]));
    assert_eq!(world.order("k").await, (201, made.clone()), "as before");
    let mut keys = world.asked_with();
    keys.dedup();
    assert_eq!(keys.len(), 1, "one key: {keys:?}");
    assert_eq!(world.at_stripe().await.len(), 1);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn an_event_tells_what_came_of_an_order_that_nobody_repeats() {
    let world = World::start().await;
    // Not before the order was answered.
    world.stripe.hold_events(true);
    world.on_topups(FaultKind::DropAfterCommit, Some(1));
    let (status, unknown) = world.order("k").await;
    assert_eq!(status, 202, "{unknown}");
    world.stripe.hold_events(false);
    world.stripe.release(&[]);
    let path = format!("/v1/topups/{}", unknown["intent"].as_str().unwrap());
    let shown = world.api.until(&path, |topup| topup["status"] == json!("pending")).await;
    assert_eq!(world.asked_with().len(), 1);
    let (status, made) = world.order("k").await;
    assert_eq!((status, &made["id"]), (201, &shown["id"]));
    assert_eq!(world.asked_with().len(), 1, "nothing more was asked for");
}

#[tokio::test]
async fn a_look_through_stripes_list_tells_where_no_event_does() {
    let world = impatient().await;
    world.stripe.lose_events(10_000);
    world.on_topups(FaultKind::DropAfterCommit, Some(1));
    let (status, unknown) = world.order("k").await;
    assert_eq!(status, 202, "{unknown}");
    let path = format!("/v1/topups/{}", unknown["intent"].as_str().unwrap());
    world.api.until(&path, |topup| topup["status"] == json!("pending")).await;
    assert_eq!(world.asked_with().len(), 1, "a look sends nothing");
    assert_eq!(world.at_stripe().await.len(), 1);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn after_a_500_kept_before_the_commit_the_next_key_follows_only_two_empty_looks() {
    let world = impatient().await;
    world.on_topups(FaultKind::Error500BeforeCommit, Some(1));
    let (status, unknown) = world.order("k").await;
    assert_eq!(status, 202, "{unknown}");
    let intent = unknown["intent"].as_str().unwrap().to_owned();
    // Repeated at once nothing is sent: Stripe would only say the same again.
    assert_eq!(world.order("k").await.0, 202);
    assert_eq!(world.asked_with(), [format!("{intent}.1")]);
    world.api.until(&format!("/v1/topups/{intent}"), |order| order["status"] == json!("absent")).await;
    assert_eq!(world.asked_with().len(), 1, "nobody asked for it again");
    let (status, made) = world.order("k").await;
    assert_eq!((status, &made["intent"]), (201, &json!(intent)));
    assert_eq!(world.asked_with(), [format!("{intent}.1"), format!("{intent}.2")]);
    assert_eq!(world.at_stripe().await.len(), 1);
}

#[tokio::test]
async fn a_500_kept_after_the_commit_is_never_followed_by_another_key() {
    let world = impatient().await;
    world.stripe.hold_events(true);
    world.on_topups(FaultKind::Error500AfterCommit, Some(1));
    assert_eq!(world.order("k").await.0, 202);
    // A look that finds it is believed at once, however young it is.
    let (status, made) = world.order("k").await;
    assert_eq!((status, world.at_stripe().await.len()), (201, 1), "{made}");
    assert_eq!(world.asked_with().len(), 1);
}

#[tokio::test]
async fn after_23_hours_a_key_is_not_used_again_and_after_24_the_next_one_follows_proof() {
    let world = World::start().await;
    world.on_topups(FaultKind::DropBeforeCommit, Some(1));
    let (status, unknown) = world.order("k").await;
    assert_eq!(status, 202, "{unknown}");
    let intent = unknown["intent"].as_str().unwrap().to_owned();
    world.clock.advance(Duration::hours(23));
    assert_eq!(world.order("k").await.0, 202);
    assert_eq!(world.asked_with(), [format!("{intent}.1")], "only looked for");
    world.clock.advance(Duration::minutes(61));
    world.stripe.forget_keys();
    for _ in 0..4 {
        world.order("k").await;
        world.clock.advance(Duration::minutes(6));
    }
    let (status, made) = world.order("k").await;
    assert_eq!((status, &made["intent"]), (201, &json!(intent)));
    assert_eq!(world.asked_with(), [format!("{intent}.1"), format!("{intent}.2")]);
    assert_eq!(world.at_stripe().await.len(), 1);
}

#[tokio::test]
async fn a_refusal_names_the_field_and_leaves_the_key_free() {
    let world = World::start().await;
    let refuse = |code: &str| FaultKind::Refuse { status: 400, code: code.into(), message: "no".into() };
    world.on_topups(refuse("of_tomorrow"), Some(1));
    let (status, problem) = world.order("k").await;
    assert_eq!((status, &problem["code"]), (409, &json!("stripe_refused")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("no"));
    let forbidden =
        FaultKind::Refuse { status: 403, code: "more_permissions_required".into(), message: "no".into() };
    world.on_topups(forbidden, Some(1));
    let (status, problem) = world.order("k").await;
    assert_eq!((status, &problem["code"]), (409, &json!("stripe_refused")));
    assert!(problem["detail"].as_str().unwrap().contains("STRIPE_SECRET_KEY"), "{problem}");
    let (status, made) = world.order("k").await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(world.at_stripe().await.len(), 1);
    let keys = world.asked_with();
    assert!(keys.len() == 3 && keys.iter().all(|key| key.ends_with(".1")), "each order its own: {keys:?}");
}

#[tokio::test]
async fn a_call_that_stripe_turned_away_was_not_made_and_says_so() {
    let world = World::start().await;
    world.on_topups(FaultKind::RateLimited { reason: Some("global-rate".into()) }, Some(1));
    let (status, problem) = world.order("k").await;
    assert_eq!((status, &problem["code"]), (503, &json!("stripe_unavailable")), "{problem}");
    assert_eq!(world.order("k").await.0, 201);
    assert_eq!(world.at_stripe().await.len(), 1);
}

#[tokio::test]
async fn concurrent_orders_with_one_key_wait_for_the_one_that_is_under_way() {
    let world = World::start().await;
    world.on_topups(FaultKind::DelayAnswer { ms: 400 }, Some(1));
    let answers = futures_util::future::join_all((0..5).map(|_| world.order("k"))).await;
    for answer in &answers {
        assert_eq!((answer.0, &answer.1["id"]), (201, &answers[0].1["id"]));
    }
    assert_eq!((world.asked_with().len(), world.at_stripe().await.len()), (1, 1));
}

#[tokio::test]
async fn each_test_bank_token_fails_later_and_says_why_in_plain_words() {
    let world = World::start().await;
    for (token, code) in [
        ("btok_us_verified_noAccount", "no_account"),
        ("btok_us_verified_accountClosed", "account_closed"),
        ("btok_us_verified_insufficientFunds", "insufficient_funds"),
        ("btok_us_verified_debitNotAuthorized", "debit_not_authorized"),
        ("btok_us_verified_invalidCurrency", "invalid_currency"),
    ] {
        let body = json!({"amount": 5_000, "currency": "usd", "source": token});
        let (status, made) = world.api.post("/v1/topups", token, &body).await;
        assert_eq!((status, &made["status"], &made["failure"]), (201, &json!("pending"), &json!(null)));
        world.stripe.settle_topup(made["id"].as_str().unwrap()).unwrap();
        let failed = world.api.until(&path(&made), |topup| topup["status"] == json!("failed")).await;
        assert_eq!(failed["failure"]["code"], json!(code));
        let words = failed["failure"]["explanation"].as_str().unwrap();
        assert!(words.ends_with('.') && words != failed["failure"]["message"].as_str().unwrap(), "{words}");
    }
    let odd = world.order("odd").await.1;
    world.stripe.fail_topup(odd["id"].as_str().unwrap(), "of_tomorrow").unwrap();
    let failed = world.api.until(&path(&odd), |topup| topup["status"] == json!("failed")).await;
    assert_eq!(failed["failure"]["explanation"], failed["failure"]["message"], "Stripe's own text must do");
    let body = json!({"amount": 5_000, "currency": "usd", "source": "btok_us_verified"});
    let good = world.api.post("/v1/topups", "good", &body).await.1;
    world.stripe.make_available(good["id"].as_str().unwrap()).unwrap();
    world.api.until(&path(&good), |topup| topup["settled"] == json!(true)).await;
    let listed = world.api.get("/v1/topups?status=failed&settled=false&currency=usd").await.1;
    assert_eq!(listed["data"].as_array().unwrap().len(), 6);
    assert_eq!(world.api.get("/v1/topups?settled=true").await.1["data"][0]["id"], good["id"]);
    assert_eq!(world.api.get("/v1/topups?currency=eur").await.1["data"], json!([]));
    assert_eq!(world.api.get("/v1/topups?status=odd").await.0, 422);
}

#[tokio::test]
async fn a_pending_top_up_is_called_off_once_and_no_other() {
    let world = World::start().await;
    let made = world.order("k").await.1;
    let cancel = format!("{}/cancel", path(&made));
    let (status, canceled) = world.api.post(&cancel, "c1", &json!({"reason": "too much"})).await;
    assert_eq!((status, &canceled["status"]), (200, &json!("canceled")));
    assert_eq!(world.api.post(&cancel, "c2", &json!({})).await.1["status"], json!("canceled"), "it stays so");
    let paid = world.order("paid").await.1;
    world.stripe.settle_topup(paid["id"].as_str().unwrap()).unwrap();
    world.api.until(&path(&paid), |topup| topup["status"] == json!("succeeded")).await;
    let (status, problem) = world.api.post(&format!("{}/cancel", path(&paid)), "c3", &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("topup_state")));
    assert_eq!(world.api.post("/v1/topups/tu_never/cancel", "c4", &json!({})).await.0, 404);
    let rows = audit::log(&world).await;
    assert_eq!(rows.iter().filter(|row| row.entry.action == "topup.cancel_requested").count(), 1);
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_cancellation_without_an_answer_is_told_by_a_fetch() {
    let world = World::start().await;
    world.stripe.hold_events(true);
    let lost = world.order("lost").await.1;
    let drop_it = Fault::next(FaultKind::DropAfterCommit).on("POST", &format!("{}/cancel", path(&lost)));
    world.stripe.fault(drop_it);
    let (status, canceled) = world.api.post(&format!("{}/cancel", path(&lost)), "c1", &json!({})).await;
    assert_eq!((status, &canceled["status"]), (200, &json!("canceled")));
    // The bank was faster than the news of it.
    let paid = world.order("paid").await.1;
    world.stripe.settle_topup(paid["id"].as_str().unwrap()).unwrap();
    let (status, problem) = world.api.post(&format!("{}/cancel", path(&paid)), "c2", &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("topup_state")), "{problem}");
    assert_eq!(world.api.get(&path(&paid)).await.1["status"], json!("succeeded"), "and now it is known");
    let away = world.order("away").await.1;
    let cancel = format!("{}/cancel", path(&away));
    world.stripe.fault(Fault::next(FaultKind::DropBeforeCommit).on("POST", &cancel));
    let (status, problem) = world.api.post(&cancel, "c3", &json!({})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("stripe_unavailable")), "{problem}");
    assert_eq!(world.api.post(&cancel, "c3", &json!({})).await.0, 200, "the same again, and it is done");
}

#[tokio::test]
async fn the_database_holds_an_intent_to_the_same_life_as_the_code() {
    use sluicegate::domain::topup::intent::Status;
    let world = World::start().await;
    world.on_topups(FaultKind::DropBeforeCommit, None);
    for from in Status::ALL {
        for to in Status::ALL {
            let key = format!("{from:?} {to:?}");
            let intent = world.order(&key).await.1["intent"].as_str().unwrap().to_owned();
            let topup = world.stripe.create_topup("usd", 5_000);
            world.api.until(&format!("/v1/topups/{topup}"), |_| true).await;
            let set = async |status: Status| {
                let refused = status == Status::Refused;
                let created = (status == Status::Created).then_some(&topup);
                sqlx::query(
                    "update topup_intents set status = $2, topup = $3, refusal_status = $4, refusal_message = $5
                     where id = $1",
                )
                .bind(&intent)
                .bind(status.as_str())
                .bind(created)
                .bind(refused.then_some(400))
                .bind(refused.then_some("no"))
                .execute(world.pool())
                .await
                .is_ok()
            };
            assert!(set(from).await, "open may become {from:?}");
            assert_eq!(set(to).await, from.may_become(to), "{from:?} to {to:?}");
        }
    }
    let changed = sqlx::query("update topup_intents set amount = 1").execute(world.pool()).await;
    assert!(changed.is_err(), "what was asked for stays");
    let none = || async { (world.rows("topup_intents where generation > 1").await == 0).then_some(()) };
    assert!(eventually(none).await.is_some());
}
