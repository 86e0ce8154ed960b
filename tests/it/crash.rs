//! The real program, killed with SIGKILL at any moment and started again.
//!
//! The stand-in for Stripe lives in the test, so it remembers what it was told while the program is dead.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::clock::Clock;
use sluicegate::sandbox::{self, AccountSpec, Control, Delivery, Fault, FaultKind, Sandbox};

use crate::support::postgres::{TestDatabase, database};
use crate::support::reply::try_ask;
use crate::support::world::{ADMIN_KEY, Api, CONNECT_SECRET, PLATFORM_SECRET, STRIPE_KEY, eventually};

/// The program and its surroundings.
struct Program {
    child: Child,
    api: Api,
    db: TestDatabase,
    sandbox: Sandbox,
    stripe: Control,
}

impl Program {
    async fn start() -> Program {
        let db = database().await;
        let sandbox = sandbox::start(sandbox::Config {
            settle_after: Duration::MAX,
            available_after: Duration::MAX,
            secret_key: Some(STRIPE_KEY.to_owned()),
            clock: Clock::system(),
            deliver: Delivery { duplicate_every: 4, reorder: true, ..Delivery::default() },
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            ..sandbox::Config::default()
        })
        .await
        .unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = format!("http://127.0.0.1:{port}");
        let api = Api { base: base.clone(), key: ADMIN_KEY.to_owned(), http: reqwest::Client::new() };
        let stripe = sandbox.control();
        for (secret, connect) in [(PLATFORM_SECRET, false), (CONNECT_SECRET, true)] {
            stripe.add_endpoint(&format!("{base}/webhooks/stripe"), secret, connect).unwrap();
        }
        let child = spawn(&db.url, &sandbox.url(), port);
        let program = Program { child, api, db, sandbox, stripe };
        program.until_up().await;
        program
    }

    /// SIGKILL: no destructor, no goodbye.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        let port = self.api.base.rsplit(':').next().unwrap().parse().unwrap();
        self.child = spawn(&self.db.url, &self.sandbox.url(), port);
        self.until_up().await;
    }

    async fn until_up(&self) {
        let up = || async {
            let answer = try_ask(self.api.http.get(self.api.url("/readyz"))).await.ok()?;
            (answer.status == 200).then_some(())
        };
        assert!(eventually(up).await.is_some(), "the program did not come up");
    }

    fn times_at_stripe(&self, id: &str) -> usize {
        let books = self.stripe.books();
        books.transfers.iter().filter(|t| t.metadata.get("sluicegate_transfer") == Some(&json!(id))).count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(database_url: &str, stripe: &str, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("STRIPE_API_BASE", stripe)
        .env("STRIPE_SECRET_KEY", STRIPE_KEY)
        .env("STRIPE_WEBHOOK_SECRETS", format!("platform={PLATFORM_SECRET},connect={CONNECT_SECRET}"))
        .env("SLUICEGATE_ADMIN_KEY", ADMIN_KEY)
        .env("SLUICEGATE_LISTEN", format!("127.0.0.1:{port}"))
        .env("SLUICEGATE_STRIPE_RATE", "0")
        .env("SLUICEGATE_UNKNOWN_OUTCOME_GRACE", "3s")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn settle(program: &Program, amount: i64) {
    let topup = program.stripe.create_topup("usd", amount);
    program.stripe.settle_topup(&topup).unwrap();
    program.stripe.make_available(&topup).unwrap();
    program.api.until(&format!("/v1/topups/{topup}"), |t| t["settled"] == json!(true)).await;
}

async fn ask(program: &Program, account: &str, number: usize) -> String {
    let body = json!({"destination": account, "amount": 100, "currency": "usd"});
    let (status, answer) = program.api.post("/v1/transfers", &format!("n-{number}"), &body).await;
    assert_eq!(status, 201, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn killed_again_and_again_while_it_releases_it_sends_each_transfer_once() {
    let mut program = Program::start().await;
    let account = program.stripe.create_ready_account();
    program.api.until(&format!("/v1/accounts/{account}/readiness"), |r| r["ready"] == json!(true)).await;
    // Calls take a while, so that kills find them at every stage: before, under way, committed, answered.
    program.stripe.fault(Fault::next(FaultKind::Delay { ms: 20 }).on("POST", "/v1/transfers").times(None));
    program
        .stripe
        .fault(Fault::next(FaultKind::DelayAnswer { ms: 20 }).on("POST", "/v1/transfers").times(None));
    settle(&program, 6_000).await;
    let mut ids = Vec::new();
    for round in 0..6 {
        for number in 0..10 {
            ids.push(ask(&program, &account, round * 10 + number).await);
        }
        // A different moment each time, spread over what ten releases take.
        tokio::time::sleep(Duration::from_millis(7 + 23 * round as u64)).await;
        program.kill();
        program.restart().await;
    }
    for id in &ids {
        program.api.until(&format!("/v1/transfers/{id}"), |t| t["status"] == json!("released")).await;
        assert_eq!(program.times_at_stripe(id), 1, "{id}");
    }
    let funds = program.api.get("/v1/funds").await.1["data"][0].clone();
    for (name, minor) in [("settled", 6_000), ("reserved", 0), ("released", 6_000), ("available", 0)] {
        assert_eq!(funds[name], json!(minor), "{name} in {funds}");
    }
    assert_eq!(program.stripe.books().currencies["usd"].transferred, 6_000);
}

#[tokio::test]
async fn every_event_that_was_answered_200_is_applied_after_a_kill() {
    let mut program = Program::start().await;
    let mut accounts: Vec<String> = Vec::new();
    for round in 0..4 {
        accounts.extend(
            (0..15).map(|_| {
                program.stripe.create_account(AccountSpec { ready: true, ..AccountSpec::default() })
            }),
        );
        tokio::time::sleep(Duration::from_millis(5 + 15 * round)).await;
        program.kill();
        // From here on nothing more is delivered: only what was answered 200 may be known, and all of it must.
        let answered: Vec<String> = program
            .stripe
            .attempts()
            .into_iter()
            .filter(|attempt| attempt.status == Some(200))
            .map(|attempt| attempt.event)
            .collect();
        program.restart().await;
        let stored: Vec<String> = sqlx::query_scalar("select event_id from outbox where event_id = any($1)")
            .bind(&answered)
            .fetch_all(&program.db.pool)
            .await
            .unwrap();
        let missing: Vec<&String> = answered.iter().filter(|event| !stored.contains(event)).collect();
        assert!(missing.is_empty(), "answered 200 and lost: {missing:?}");
    }
    for account in &accounts {
        program.api.until(&format!("/v1/accounts/{account}/readiness"), |r| r["ready"] == json!(true)).await;
    }
    let left = || async {
        let left: i64 = sqlx::query_scalar("select count(*) from tasks where event_id is not null")
            .fetch_one(&program.db.pool)
            .await
            .unwrap();
        (left == 0).then_some(())
    };
    assert!(eventually(left).await.is_some(), "events were left unapplied");
}

// The stand-in goes on answering on other threads while this one waits for the program's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_finishes_what_is_under_way_and_leaves_nothing_leased() {
    let mut program = Program::start().await;
    let account = program.stripe.create_ready_account();
    program.api.until(&format!("/v1/accounts/{account}/readiness"), |r| r["ready"] == json!(true)).await;
    program.stripe.fault(Fault::next(FaultKind::Delay { ms: 300 }).on("POST", "/v1/transfers").times(None));
    settle(&program, 500).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(ask(&program, &account, number).await);
    }
    let under_way =
        || async { (!program.stripe.calls().iter().all(|call| call.path != "/v1/transfers")).then_some(()) };
    assert!(eventually(under_way).await.is_some());
    let pid = i32::try_from(program.child.id()).unwrap();
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    let status = program.child.wait().unwrap();
    assert!(status.success(), "{status}");
    let (leased, in_flight): (i64, i64) = sqlx::query_as(
        "select (select count(*) from tasks where token is not null), (select count(*) from attempts where in_flight)",
    )
    .fetch_one(&program.db.pool)
    .await
    .unwrap();
    assert_eq!((leased, in_flight), (0, 0));
    program.restart().await;
    for id in &ids {
        program.api.until(&format!("/v1/transfers/{id}"), |t: &Value| t["status"] == json!("released")).await;
        assert_eq!(program.times_at_stripe(id), 1);
    }
}

/// Orders a top-up again and again with one key, as a caller does who wants to know, until it is known.
async fn until_made(program: &Program, key: &str) -> Value {
    let made = || async {
        let body = json!({"amount": 5_000, "currency": "usd"});
        let request = program.api.http.post(program.api.url("/v1/topups")).bearer_auth(&program.api.key);
        let answer = request.header("Idempotency-Key", key).json(&body).send().await.ok()?;
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        (status == 201).then_some(body)
    };
    eventually(made).await.expect("the order was never carried out")
}

/// How many top-ups there are at Stripe for each intent; the bank is debited for each of them.
fn debits(program: &Program) -> Vec<usize> {
    let mut by_intent = std::collections::BTreeMap::<String, usize>::new();
    let created = |event: &&Value| event["type"] == json!("topup.created");
    for event in program.stripe.events().iter().filter(created) {
        let intent = event["data"]["object"]["metadata"]["sluicegate_topup"].as_str().unwrap_or_default();
        *by_intent.entry(intent.to_owned()).or_default() += 1;
    }
    by_intent.into_values().collect()
}

/// Orders a top-up without waiting for the answer.
fn order_and_go(program: &Program, key: &str) -> tokio::task::JoinHandle<()> {
    let (api, key) = (program.api.clone(), key.to_owned());
    tokio::spawn(async move {
        let body = json!({"amount": 5_000, "currency": "usd"});
        let request = api.http.post(api.url("/v1/topups")).bearer_auth(&api.key);
        let _ = request.header("Idempotency-Key", key).json(&body).send().await;
    })
}

#[tokio::test]
async fn killed_between_the_intent_and_the_call_a_top_up_is_made_once_by_repeating_the_order() {
    let mut program = Program::start().await;
    // The intent is stored; writing down that the call begins takes for ever.
    sqlx::raw_sql(
        "create function stall() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$;
         create trigger stall before update on attempts for each row execute function stall();",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let order = order_and_go(&program, "k");
    let stalled = || async {
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
                .fetch_one(&program.db.pool)
                .await
                .unwrap();
        (waiting > 0).then_some(())
    };
    assert!(eventually(stalled).await.is_some(), "the order never came to its call");
    program.kill();
    order.await.unwrap();
    sqlx::raw_sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database();
         drop trigger stall on attempts;",
    )
    .execute(&program.db.pool)
    .await
    .unwrap();
    let (intents, calls) = (
        sqlx::query_scalar::<_, i64>("select count(*) from topup_intents where status = 'open'")
            .fetch_one(&program.db.pool)
            .await
            .unwrap(),
        debits(&program).len(),
    );
    assert_eq!((intents, calls), (1, 0), "ordered, and not asked for");
    program.restart().await;
    let made = until_made(&program, "k").await;
    assert_eq!(made["status"], json!("pending"));
    assert_eq!(debits(&program), [1]);
}

#[tokio::test]
async fn killed_between_the_call_and_its_record_a_top_up_is_found_and_not_made_again() {
    let mut program = Program::start().await;
    program.stripe.fault(Fault::next(FaultKind::DelayAnswer { ms: 60_000 }).on("POST", "/v1/topups"));
    // Nor does an event tell: the order alone must find out.
    program.stripe.lose_events(1);
    let order = order_and_go(&program, "k");
    let committed = || async { (!debits(&program).is_empty()).then_some(()) };
    assert!(eventually(committed).await.is_some(), "Stripe was never asked");
    program.kill();
    order.await.unwrap();
    program.restart().await;
    let made = until_made(&program, "k").await;
    assert_eq!(debits(&program), [1], "{made}");
    program.api.until(&format!("/v1/topups/{}", made["id"].as_str().unwrap()), |_| true).await;
}

#[tokio::test]
async fn killed_again_and_again_while_top_ups_are_ordered_the_bank_is_debited_once_for_each() {
    let mut program = Program::start().await;
    program.stripe.fault(Fault::next(FaultKind::Delay { ms: 15 }).on("POST", "/v1/topups").times(None));
    program.stripe.fault(Fault::next(FaultKind::DelayAnswer { ms: 15 }).on("POST", "/v1/topups").times(None));
    let keys: Vec<String> = (0..12).map(|number| format!("order-{number}")).collect();
    for round in 0..4 {
        let orders: Vec<_> = keys.iter().map(|key| order_and_go(&program, key)).collect();
        tokio::time::sleep(Duration::from_millis(5 + 17 * round)).await;
        program.kill();
        for order in orders {
            order.await.unwrap();
        }
        program.restart().await;
    }
    for key in &keys {
        until_made(&program, key).await;
    }
    assert_eq!(debits(&program), vec![1; keys.len()]);
}
