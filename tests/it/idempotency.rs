//! Every POST can be repeated: answered alike under its key, refused with another body, and carried out once, also
//! where Stripe is asked in the middle of it.

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use sluicegate::http;
use sluicegate::sandbox::{Fault, FaultKind};
use time::Duration;

use crate::support::reply::ask;
use crate::support::world::{World, eventually};

/// Orders that are made about something that is there.
struct Setting {
    account: String,
    event: String,
    waiting: [String; 4],
    failed: String,
    released: String,
    /// A top-up that can still be called off.
    pending: String,
}

impl Setting {
    async fn of(world: &World) -> Setting {
        let account = world.ready_account().await;
        world.settled_topup("usd", 10_000).await;
        let released = world.transfer(&account, 1_000, json!({})).await;
        world.until_status(&released, "released").await;
        let refuse = FaultKind::Refuse { status: 400, code: "of_tomorrow".into(), message: "no".into() };
        world.stripe.fault(Fault::next(refuse).on("POST", "/v1/transfers"));
        let failed = world.transfer(&account, 1_000, json!({})).await;
        world.until_status(&failed, "failed").await;
        let mut waiting = [const { String::new() }; 4];
        for one in &mut waiting {
            *one = world.transfer(&account, 1, json!({"release_after": "2096-01-01T00:00:00Z"})).await;
        }
        let (_, events) = world.api.get("/v1/events?type=account.updated&limit=1").await;
        let event = events["data"][0]["id"].as_str().unwrap().to_owned();
        let pending = world.stripe.create_topup("usd", 500);
        world.api.until(&format!("/v1/topups/{pending}"), |topup| topup["status"] == json!("pending")).await;
        Setting { account, event, waiting, failed, released, pending }
    }

    /// For a route of the document: where to send it, what, and what else under the same key.
    fn order(&self, template: &str) -> (String, Value, Value) {
        let transfer =
            |amount: i64| json!({"destination": self.account, "amount": amount, "currency": "usd"});
        let (why, other) = (json!({"reason": "one"}), json!({"reason": "another"}));
        let [cancel, hold, resume, approve] = &self.waiting;
        let about = |id: &str| template.replace("{id}", id);
        match template {
            "/v1/transfers" => (template.into(), transfer(10), transfer(11)),
            "/v1/transfers/batch" => (
                template.into(),
                json!({"transfers": [transfer(10), transfer(20)]}),
                json!({"transfers": [transfer(10)]}),
            ),
            "/v1/transfers/{id}/cancel" => (about(cancel), why, other),
            "/v1/transfers/{id}/hold" => (about(hold), why, other),
            "/v1/transfers/{id}/resume" => (about(resume), why, other),
            "/v1/transfers/{id}/approve" => (about(approve), why, other),
            "/v1/transfers/{id}/retry" => (about(&self.failed), why, other),
            "/v1/transfers/{id}/reverse" => {
                (about(&self.released), json!({"amount": 100}), json!({"amount": 200}))
            }
            "/v1/topups" => (
                template.into(),
                json!({"amount": 5_000, "currency": "usd"}),
                json!({"amount": 5_001, "currency": "usd"}),
            ),
            "/v1/topups/{tu}/cancel" => (template.replace("{tu}", &self.pending), why, other),
            "/v1/accounts" => (template.into(), json!({"country": "US"}), json!({"country": "CA"})),
            "/v1/funds/adjustments" => (
                template.into(),
                json!({"currency": "usd", "amount": 1, "reason": "one"}),
                json!({"currency": "usd", "amount": 2, "reason": "one"}),
            ),
            "/v1/releases/pause" | "/v1/releases/resume" => (template.into(), why, other),
            // It takes no fields: another body is refused as such.
            "/v1/events/{evt}/replay" => (template.replace("{evt}", &self.event), json!({}), Value::Null),
            "/v1/backfill" => (template.into(), json!({}), json!({"since": "2026-01-01T00:00:00Z"})),
            "/v1/keys" => (
                template.into(),
                json!({"name": "one", "scope": "read"}),
                json!({"name": "another", "scope": "read"}),
            ),
            new => panic!("say how {new} is ordered"),
        }
    }
}

/// Every POST of the document that is an order.
fn orders() -> Vec<String> {
    let document = http::document();
    let paths = document["paths"].as_object().unwrap().iter();
    let posts = paths.filter(|(template, path)| template.starts_with("/v1/") && path.get("post").is_some());
    // A question, which is answered anew, and a link, which would be used up.
    let anew = ["/v1/accounts/readiness", "/v1/accounts/{acct}/onboarding-links"];
    posts
        .map(|(template, _)| template.clone())
        .filter(|template| !anew.contains(&template.as_str()))
        .collect()
}

/// A key's secret is told once.
fn without_secret(mut answer: Value) -> Value {
    if let Some(body) = answer.as_object_mut() {
        body.remove("secret");
    }
    answer
}

#[tokio::test]
async fn every_order_is_carried_out_once_and_answered_alike() {
    let world = World::start().await;
    // By another key than the one that asked for the transfers, so that it may approve them.
    let (_, made) = world.api.post("/v1/keys", "k", &json!({"name": "n", "scope": "admin"})).await;
    let api = world.api.with_key(made["secret"].as_str().unwrap());
    let setting = Setting::of(&world).await;
    for template in orders() {
        let (path, body, other) = setting.order(&template);
        let before = world.rows("audit_log").await;
        // Several at once, and one more afterwards.
        let at_once = (0..4).map(|_| api.post(&path, &template, &body));
        let answers = futures_util::future::join_all(at_once).await;
        let orders = world.rows("audit_log").await - before;
        let of_batch = if template == "/v1/transfers/batch" { 2 } else { 1 };
        assert_eq!(orders, of_batch, "{template}: carried out once");
        let (status, first) = (answers[0].0, without_secret(answers[0].1.clone()));
        assert!([200, 201].contains(&status), "{template}: {first}");
        let secrets = answers.iter().filter(|(_, answer)| answer.get("secret").is_some()).count();
        assert_eq!(secrets, usize::from(template == "/v1/keys"), "{template}");
        for (again, answer) in answers.into_iter().chain([api.post(&path, &template, &body).await]) {
            assert_eq!((again, without_secret(answer)), (status, first.clone()), "{template}: alike");
        }
        if !other.is_null() {
            let (status, problem) = api.post(&path, &template, &other).await;
            assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")), "{template}");
        }
        assert_eq!(world.rows("audit_log").await - before, of_batch, "{template}: nor later");
    }
    world.assert_books_hold().await;
}

#[tokio::test]
async fn what_was_refused_is_not_kept_and_what_is_no_money_only_for_a_day() {
    let world = World::start().await;
    let setting = Setting::of(&world).await;
    let path = format!("/v1/transfers/{}/retry", setting.released);
    assert_eq!(world.api.post(&path, "later", &json!({})).await.0, 409);
    let path = format!("/v1/transfers/{}/hold", setting.waiting[0]);
    assert_eq!(world.api.post(&path, "later", &json!({})).await.0, 200, "the key was free");
    let resume = format!("/v1/transfers/{}/resume", setting.waiting[0]);
    assert_eq!(world.api.post(&resume, "later", &json!({})).await.0, 409, "and now it is not");
    world.clock.advance(Duration::hours(25));
    assert_eq!(world.api.post(&resume, "later", &json!({})).await.0, 200, "a day later it is free again");
    let odd = HeaderValue::from_bytes("é".as_bytes()).unwrap();
    for template in orders() {
        let (path, body, _) = setting.order(&template);
        let request = world.api.http.request(Method::POST, world.api.url(&path)).bearer_auth(&world.api.key);
        let refused = ask(request.header("Idempotency-Key", odd.clone()).json(&body)).await;
        refused.must_be(400, "idempotency_key_invalid", &template);
    }
}

impl World {
    /// How often Stripe was asked by this call.
    fn times_called(&self, method: &str, path: &str) -> usize {
        self.stripe.calls().iter().filter(|call| call.method == method && call.path == path).count()
    }
}

#[tokio::test]
async fn of_many_orders_at_once_under_one_key_one_asks_stripe_and_the_others_hold_no_connection() {
    let world = World::start().await;
    let pending = world.stripe.create_topup("usd", 500);
    world.api.until(&format!("/v1/topups/{pending}"), |topup| topup["status"] == json!("pending")).await;
    for (path, body, calls) in [
        (format!("/v1/topups/{pending}/cancel"), json!({}), ("POST", format!("/v1/topups/{pending}/cancel"))),
        ("/v1/accounts".to_owned(), json!({"country": "US"}), ("POST", "/v1/accounts".to_owned())),
        ("/v1/backfill".to_owned(), json!({}), ("GET", "/v1/events".to_owned())),
    ] {
        let (method, called) = (calls.0, calls.1.as_str());
        let (asked, rows) = (world.times_called(method, called), world.rows("audit_log").await);
        world.stripe.fault(Fault::next(FaultKind::DelayAnswer { ms: 700 }).on(method, called));
        // More of them than the service has connections.
        let orders = (0..30).map(|_| world.api.post(&path, &path, &body));
        let orders = futures_util::future::join_all(orders);
        let other = async {
            world.until_called(|call| call.method == method && call.path == called).await;
            world.api.get("/v1/funds").await.0
        };
        let (answers, other) = futures_util::join!(orders, other);
        assert_eq!(other, 200, "{path}: who asks something else is answered meanwhile");
        assert!([200, 201].contains(&answers[0].0), "{path}: {:?}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{path}: {answers:?}");
        // The worker may walk through the events too: that is nobody's order.
        let most = if method == "GET" { 2 } else { 1 };
        assert!((1..=most).contains(&(world.times_called(method, called) - asked)), "{path}: one call");
        assert_eq!(world.rows("audit_log").await - rows, 1, "{path}: one row");
    }
    let free = || async { (world.rows("order_claims").await == 0).then_some(()) };
    assert!(eventually(free).await.is_some(), "each key was given back");
}

#[tokio::test]
async fn who_repeats_an_order_that_died_in_the_middle_waits_for_its_time_to_end_and_goes_on() {
    let world = World::start().await;
    let pending = world.stripe.create_topup("usd", 500);
    world.api.until(&format!("/v1/topups/{pending}"), |topup| topup["status"] == json!("pending")).await;
    // What a process leaves behind that ended while it asked Stripe.
    sqlx::query("insert into order_claims values ('admin', 'k', gen_random_uuid(), $1)")
        .bind(world.clock.now() + Duration::hours(1))
        .execute(world.pool())
        .await
        .unwrap();
    let path = format!("/v1/topups/{pending}/cancel");
    let body = json!({});
    let repeated = world.api.post(&path, "k", &body);
    let meanwhile = async {
        // Another key is another order, and waits for nobody.
        let other = world.api.post("/v1/releases/pause", "other", &json!({})).await;
        assert_eq!((other.0, world.times_called("POST", &path)), (200, 0));
        world.clock.advance(Duration::hours(2));
    };
    let ((status, canceled), ()) = futures_util::join!(repeated, meanwhile);
    assert_eq!((status, &canceled["status"]), (200, &json!("canceled")), "{canceled}");
    assert_eq!(world.times_called("POST", &path), 1);
}
