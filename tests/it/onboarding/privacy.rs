//! What is about a person, and what opens a door to it, stays in no log and no table.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sluicegate::sandbox::{self, Control, Fault, FaultKind};
use sqlx::PgPool;

use super::Browser;
use crate::support::postgres::database;
use crate::support::world::{ADMIN_KEY, Api, CONNECT_SECRET, STRIPE_KEY, eventually};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that a database holds, as text; bytes as text too where they are.
async fn everything_in(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 25, "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, E'\\n'), '') from {table} t");
        all += &sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
    }
    let payloads = "select coalesce(string_agg(convert_from(payload, 'utf8'), E'\\n'), '') from outbox";
    all + &sqlx::query_scalar::<_, String>(payloads).fetch_one(pool).await.unwrap()
}

fn spawn(database_url: &str, stripe: &str, port: u16, log: std::fs::File) -> Program {
    let child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("STRIPE_API_BASE", stripe)
        .env("STRIPE_SECRET_KEY", STRIPE_KEY)
        .env("STRIPE_WEBHOOK_SECRETS", format!("connect={CONNECT_SECRET}"))
        .env("SLUICEGATE_ADMIN_KEY", ADMIN_KEY)
        .env("SLUICEGATE_LISTEN", format!("127.0.0.1:{port}"))
        .env("SLUICEGATE_RECONCILE_EVERY", "1s")
        .env("RUST_LOG", "trace")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Program(child.unwrap())
}

fn door(stripe: &Control, door: &str) -> String {
    let calls = stripe.calls();
    let call = calls.iter().rfind(|call| call.path == "/v1/account_links").unwrap();
    let wanted = format!("{door}_url");
    url::form_urlencoded::parse(call.body.as_bytes())
        .find(|(name, _)| *name == wanted)
        .unwrap()
        .1
        .into_owned()
}

#[tokio::test]
async fn neither_prefilled_data_nor_a_link_nor_a_door_is_written_down_anywhere() {
    let db = database().await;
    let sandbox = sandbox::start(sandbox::Config {
        secret_key: Some(STRIPE_KEY.to_owned()),
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
        ..sandbox::Config::default()
    })
    .await
    .unwrap();
    let stripe = sandbox.control();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = std::env::temp_dir().join(format!("sluicegate-log-{}", uuid::Uuid::new_v4().simple()));
    let program = spawn(&db.url, &sandbox.url(), port, std::fs::File::create(&path).unwrap());
    let base = format!("http://127.0.0.1:{port}");
    let api = Api { base, key: ADMIN_KEY.to_owned(), http: reqwest::Client::new() };
    let up =
        || async { api.http.get(api.url("/readyz")).send().await.ok().filter(|a| a.status().is_success()) };
    assert!(eventually(up).await.is_some());

    let person = json!({
        "email": "Personal0Jenny@example.com", "business_type": "individual", "metadata": {"user": "Personal0Meta"},
        "business_profile": {"name": "Personal0Business"}, "external_account": "Personal0Bank",
        "individual": {"first_name": "Personal0Jenny", "ssn_last_4": "0000", "address": {"line1": "Personal0Street"}},
    });
    let mut wrong = person.clone();
    wrong["email"] = json!("Personal0Wrong");
    assert_eq!(api.post("/v1/accounts", "one", &wrong).await.0, 422);
    let (status, made) = api.post("/v1/accounts", "one", &person).await;
    assert_eq!(status, 201, "{made}");
    let account = made["account"].as_str().unwrap();
    // Stripe shows the person until the first link is made; a fetch and the walk through its list meet them.
    assert_eq!(api.get(&format!("/v1/accounts/{account}/readiness?refresh=true")).await.0, 200);
    let walked =
        || async { stripe.calls().iter().find(|c| c.method == "GET" && c.path == "/v1/accounts").cloned() };
    assert!(eventually(walked).await.is_some());

    let links = format!("/v1/accounts/{account}/onboarding-links");
    let (status, first) =
        api.post(&links, "l", &json!({"return_url": "https://app.example.com/?s=Personal0State"})).await;
    assert_eq!(status, 201, "{first}");
    let browser = Browser::new();
    let next = browser.get(&door(&stripe, "refresh")).await.header("location").to_owned();
    assert!(next.contains("/_sandbox/onboarding/"), "{next}");
    assert_eq!(browser.get(&door(&stripe, "return")).await.status, 303);
    // Stripe says no in words that repeat the door's address.
    let message = format!("Not a valid URL: {}", door(&stripe, "refresh"));
    let refuse = FaultKind::Refuse { status: 400, code: "url_invalid".to_owned(), message };
    stripe.fault(Fault::next(refuse).on("POST", "/v1/account_links"));
    assert_eq!(browser.get(&door(&stripe, "refresh")).await.status, 503);

    tokio::time::timeout(Duration::from_secs(5), api.http.get(api.url("/healthz")).send())
        .await
        .unwrap()
        .unwrap();
    drop(program);
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(
        log.contains("/onboarding/{token}/refresh") && log.contains("stripe_call"),
        "the log was written"
    );
    let held = everything_in(&db.pool).await;
    assert!(held.contains(account) && held.contains("onboarding_link.created"));
    let token = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let doors = ["refresh", "return"].map(|name| door(&stripe, name).rsplit('/').nth(1).unwrap().to_owned());
    let mut secrets = vec![token(first["url"].as_str().unwrap()), token(&next), "Personal0".to_owned()];
    secrets.extend(doors);
    for secret in secrets {
        assert!(!held.contains(&secret), "the database holds {secret}");
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "the log holds {secret}");
    }
}
