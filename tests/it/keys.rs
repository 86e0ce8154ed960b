//! Who may call: three scopes, secrets told once, and keys that end when they are taken back.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::Duration;

use crate::support::reply::{Reply, ask};
use crate::support::world::{ADMIN_KEY, Api, World};

/// A new key: its id and its secret.
async fn key(world: &World, scope: &str) -> (String, Api) {
    let (status, made) = world
        .api
        .post("/v1/keys", &uuid::Uuid::new_v4().to_string(), &json!({"name": "n", "scope": scope}))
        .await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap();
    (made["id"].as_str().unwrap().to_owned(), world.api.with_key(secret))
}

async fn call(api: &Api, method: &Method, path: &str, body: Option<&Value>) -> Reply {
    let request = api.http.request(method.clone(), api.url(path)).bearer_auth(&api.key);
    let request = request.header("Idempotency-Key", uuid::Uuid::new_v4().to_string());
    ask(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// Every route behind a key, with the scope it asks for.
fn routes() -> Vec<(Method, &'static str, Option<Value>, &'static str)> {
    let transfer = json!({"destination": "acct_1", "amount": 1, "currency": "usd"});
    vec![
        (Method::GET, "/v1/accounts", None, "read"),
        (Method::GET, "/v1/accounts/acct_1", None, "read"),
        (Method::GET, "/v1/accounts/acct_1/readiness", None, "read"),
        (Method::POST, "/v1/accounts/readiness", Some(json!({"accounts": ["acct_1"]})), "read"),
        (Method::GET, "/v1/stream", None, "read"),
        (Method::POST, "/v1/accounts", Some(json!({})), "operate"),
        (Method::POST, "/v1/accounts/acct_1/onboarding-links", None, "operate"),
        (Method::GET, "/v1/platform", None, "read"),
        (Method::GET, "/v1/topups", None, "read"),
        (Method::GET, "/v1/topups/tu_1", None, "read"),
        (Method::GET, "/v1/funds", None, "read"),
        (Method::GET, "/v1/funds/adjustments", None, "read"),
        (Method::GET, "/v1/funds/forecast", None, "read"),
        (
            Method::POST,
            "/v1/funds/adjustments",
            Some(json!({"currency": "usd", "amount": 1, "reason": "x"})),
            "admin",
        ),
        (Method::GET, "/v1/transfers", None, "read"),
        (Method::GET, "/v1/transfers/xfer_1", None, "read"),
        (Method::GET, "/v1/transfers/xfer_1/explanation", None, "read"),
        (Method::GET, "/v1/events", None, "read"),
        (Method::GET, "/v1/events/evt_1", None, "read"),
        (Method::POST, "/v1/topups", Some(json!({"amount": 1, "currency": "usd"})), "operate"),
        (Method::POST, "/v1/topups/tu_1/cancel", None, "operate"),
        (Method::POST, "/v1/transfers", Some(transfer.clone()), "operate"),
        (Method::POST, "/v1/transfers/batch", Some(json!({"transfers": [transfer]})), "operate"),
        (Method::POST, "/v1/transfers/xfer_1/cancel", None, "operate"),
        (Method::POST, "/v1/transfers/xfer_1/hold", None, "operate"),
        (Method::POST, "/v1/transfers/xfer_1/resume", None, "operate"),
        (Method::POST, "/v1/transfers/xfer_1/approve", None, "operate"),
        (Method::POST, "/v1/transfers/xfer_1/retry", None, "operate"),
        (Method::POST, "/v1/transfers/xfer_1/reverse", None, "operate"),
        (Method::POST, "/v1/backfill", None, "operate"),
        (Method::POST, "/v1/releases/pause", None, "operate"),
        (Method::POST, "/v1/releases/resume", None, "operate"),
        (Method::POST, "/v1/events/evt_1/replay", None, "operate"),
        (Method::GET, "/v1/keys", None, "admin"),
        (Method::POST, "/v1/keys", Some(json!({"name": "x", "scope": "read"})), "admin"),
        (Method::DELETE, "/v1/keys/key_1", None, "admin"),
    ]
}

#[test]
fn the_document_names_for_each_route_the_scope_that_is_asked_for() {
    let document = sluicegate::http::document();
    let mut described = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            if let Some(scope) = call["security"][0]["key"][0].as_str() {
                described.push(format!("{} {path} {scope}", method.to_uppercase()));
            }
        }
    }
    let id = |part: &str| match part.split_once('_') {
        Some(("acct", _)) => "{acct}".to_owned(),
        Some(("tu", _)) => "{tu}".to_owned(),
        Some(("evt", _)) => "{evt}".to_owned(),
        Some(("xfer" | "key", _)) => "{id}".to_owned(),
        Some(_) | None => part.to_owned(),
    };
    let template = |path: &str| path.split('/').map(id).collect::<Vec<_>>().join("/");
    let mut tried: Vec<String> = routes()
        .into_iter()
        .map(|(method, path, _, scope)| format!("{method} {} {scope}", template(path)))
        .collect();
    tried.sort_unstable();
    described.sort_unstable();
    assert_eq!(tried, described);
}

#[tokio::test]
async fn each_scope_reaches_so_far_and_no_further() {
    let world = World::start().await;
    let order = ["read", "operate", "admin"];
    let place = |scope: &str| order.iter().position(|one| *one == scope).unwrap();
    for scope in order {
        let (id, api) = key(&world, scope).await;
        for (method, path, body, needs) in routes() {
            let what = format!("{method} {path} with {scope}");
            let reply = call(&api, &method, path, body.as_ref()).await;
            if place(scope) < place(needs) {
                reply.must_be(403, "forbidden", &what);
            } else {
                assert!([200, 201, 404].contains(&reply.status), "{what}: {reply:?}");
                assert_ne!(reply.body["code"], json!("not_found"), "{what}: there is such a route");
            }
        }
        // A key that was refused did nothing.
        let transfers = world.rows("transfers").await;
        assert_eq!(transfers, 2 * place(scope) as i64, "with {scope}: one, and one in a batch");
        assert_eq!(world.api.delete(&format!("/v1/keys/{id}")).await.0, 200);
        for (method, path, body, _) in routes() {
            let reply = call(&api, &method, path, body.as_ref()).await;
            reply.must_be(401, "unauthorized", &format!("{method} {path} with a key taken back"));
        }
    }
}

#[tokio::test]
async fn without_a_good_key_nobody_gets_in() {
    let world = World::start().await;
    let (_, reader) = key(&world, "read").await;
    let odd: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("none", vec![]),
        ("empty", vec![b"".to_vec()]),
        ("only the scheme", vec![b"Bearer".to_vec()]),
        ("an empty secret", vec![b"Bearer ".to_vec()]),
        ("another scheme", vec![format!("Basic {ADMIN_KEY}").into_bytes()]),
        ("no scheme", vec![ADMIN_KEY.into()]),
        ("a wrong secret", vec![b"Bearer sgk_wrong".to_vec()]),
        ("one letter short", vec![format!("Bearer {}", &ADMIN_KEY[1..]).into_bytes()]),
        ("one letter more", vec![format!("Bearer {}x", reader.key).into_bytes()]),
        ("another case", vec![format!("Bearer {}", reader.key.to_uppercase()).into_bytes()]),
        ("no text", vec![b"Bearer \xff\xfe".to_vec()]),
        ("two", vec![format!("Bearer {ADMIN_KEY}").into(), format!("Bearer {ADMIN_KEY}").into()]),
        ("a long one", vec![format!("Bearer {}", "x".repeat(8_000)).into_bytes()]),
    ];
    for (what, values) in odd {
        for (method, path, body, _) in routes() {
            let mut request = world.api.http.request(method.clone(), world.api.url(path));
            for value in &values {
                request =
                    request.header("Authorization", reqwest::header::HeaderValue::from_bytes(value).unwrap());
            }
            let reply = ask(if let Some(body) = body { request.json(&body) } else { request }).await;
            reply.must_be(401, "unauthorized", &format!("{what}: {method} {path}"));
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}: {reply:?}");
        }
    }
    assert_eq!(world.rows("transfers").await, 0);
}

#[tokio::test]
async fn a_secret_is_told_once_and_only_its_hash_is_kept() {
    let world = World::start().await;
    let body = json!({"name": "ledger service", "scope": "operate"});
    let (status, made) = world.api.post("/v1/keys", "once", &body).await;
    let secret = made["secret"].as_str().unwrap();
    assert_eq!((status, secret.starts_with("sgk_"), secret.len()), (201, true, 47));
    let (status, again) = world.api.post("/v1/keys", "once", &body).await;
    let mut without = made.clone();
    without.as_object_mut().unwrap().remove("secret");
    assert_eq!((status, &again), (201, &without), "the same key, its secret not told again");
    assert_eq!(world.rows("api_keys").await, 1);
    let (status, problem) = world.api.post("/v1/keys", "once", &json!({"name": "x", "scope": "admin"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_reused")));
    let listed = world.api.get("/v1/keys").await.1;
    assert_eq!(listed["data"], json!([without]));
    // Nowhere in the database, as text or as bytes.
    let hash: Vec<u8> =
        sqlx::query_scalar("select secret_hash from api_keys").fetch_one(world.pool()).await.unwrap();
    assert_eq!(hash, Sha256::digest(secret.as_bytes()).to_vec());
    let kept: Vec<String> =
        sqlx::query_scalar("select t::text from api_keys t union all select t::text from idempotency_keys t")
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(kept.len(), 2);
    let as_bytes = hex::encode(secret);
    assert!(kept.iter().all(|row| !row.contains(secret) && !row.contains(&as_bytes)), "{kept:?}");
    for (body, pointer) in [
        (json!({"name": "", "scope": "read"}), "/name"),
        (json!({"name": "n".repeat(101), "scope": "read"}), "/name"),
        (json!({"scope": "read"}), "/name"),
        (json!({"name": "n", "scope": "Admin"}), "/scope"),
        (json!({"name": "n"}), "/scope"),
        (json!({"name": "n", "scope": "read", "secret": "mine"}), "/secret"),
    ] {
        let reply = call(&world.api, &Method::POST, "/v1/keys", Some(&body)).await;
        assert_eq!((reply.status, reply.pointers()), (422, vec![pointer]), "{body}");
    }
    assert_eq!(world.rows("api_keys").await, 1);
}

#[tokio::test]
async fn the_last_use_is_noted_and_a_key_taken_back_stays_so() {
    let world = World::start().await;
    let (id, api) = key(&world, "read").await;
    let shown = async || world.api.get("/v1/keys").await.1["data"][0].clone();
    let fresh = shown().await;
    assert_eq!((&fresh["last_used_at"], &fresh["created_by"]), (&json!(null), &json!("admin")));
    api.get("/v1/funds").await;
    let first = shown().await["last_used_at"].clone();
    assert!(first.is_string());
    api.get("/v1/funds").await;
    assert_eq!(shown().await["last_used_at"], first, "to the minute");
    world.clock.advance(Duration::seconds(61));
    api.get("/v1/funds").await;
    let second = shown().await["last_used_at"].clone();
    assert!(second.as_str() > first.as_str(), "{second}");
    let (status, revoked) = world.api.delete(&format!("/v1/keys/{id}")).await;
    assert_eq!((status, revoked["revoked_at"].is_string()), (200, true));
    assert_eq!(api.get("/v1/funds").await.0, 401);
    world.clock.advance(Duration::minutes(5));
    assert_eq!(
        world.api.delete(&format!("/v1/keys/{id}")).await,
        (200, revoked.clone()),
        "it keeps its date"
    );
    assert_eq!(shown().await, revoked, "what was refused is no use");
    let reply = call(&world.api, &Method::DELETE, "/v1/keys/key_unknown", None).await;
    reply.must_be(404, "key_unknown", "a key that never was");
}

#[tokio::test]
async fn an_answer_belongs_to_the_key_that_asked_but_a_transfer_to_all() {
    let world = World::start().await;
    let ((_, one), (_, other)) = (key(&world, "operate").await, key(&world, "operate").await);
    let body = json!({"destination": "acct_1", "amount": 5, "currency": "usd"});
    let (first, second) =
        (one.post("/v1/transfers", "k", &body).await, other.post("/v1/transfers", "k", &body).await);
    assert_eq!(first, second, "money moves once, whoever asks again");
    assert_eq!(world.rows("transfers").await, 1);
    let (status, _) = other
        .post("/v1/transfers", "k", &json!({"destination": "acct_2", "amount": 5, "currency": "usd"}))
        .await;
    assert_eq!(status, 409);
    let pause = |api: &Api, reason: &str| {
        let (api, body) = (api.clone(), json!({"reason": reason}));
        async move { api.post("/v1/releases/pause", "p", &body).await }
    };
    let paused = pause(&one, "one").await;
    assert_eq!((paused.0, &paused.1["reason"], &paused.1["paused"]), (200, &json!("one"), &json!(true)));
    let (status, go) = world.api.post("/v1/releases/resume", "go", &json!({})).await;
    assert_eq!((status, &go["paused"]), (200, &json!(false)));
    assert_eq!(pause(&one, "one").await, paused, "as it was answered before, and nothing is done again");
    assert_eq!(pause(&other, "other").await.1["reason"], json!("other"), "the other's key is another");
    world.clock.advance(Duration::hours(25));
    assert_eq!(one.post("/v1/transfers", "k", &body).await, first, "after a day as well");
    assert_eq!(world.rows("transfers").await, 1);
    world.api.post("/v1/releases/resume", "go again", &json!({})).await;
    assert_eq!(pause(&one, "anew").await.1["reason"], json!("anew"), "after a day it is a new order");
}

#[tokio::test]
async fn probes_and_metrics_need_no_key_and_tell_what_waits() {
    let world = World::start().await;
    let public = |path: &str| ask(world.api.http.get(world.api.url(path)));
    assert_eq!(public("/healthz").await.body, json!({"status": "ok"}));
    let mut ready = public("/readyz").await;
    assert!(ready.body.as_object_mut().unwrap().remove("details").is_some());
    assert_eq!(
        (ready.status, ready.body),
        (200, json!({"status": "ok", "database": "ok", "migrations": "ok"}))
    );
    let account = world.ready_account().await;
    world.settled_topup("chf", 700).await;
    let id = world.transfer(&account, 900, json!({"currency": "chf"})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    // Currencies of this test alone: the recorder belongs to the whole process.
    let wanted = [
        ("sluicegate_database_up", vec![], Some(1.0)),
        ("sluicegate_event_lag_seconds", vec![], None),
        ("sluicegate_dead_letters", vec![], None),
        ("sluicegate_tasks", vec!["kind=\"", "state=\""], None),
        (
            "sluicegate_transfers_waiting",
            vec!["reason=\"funds_insufficient\"", "currency=\"chf\""],
            Some(1.0),
        ),
        (
            "sluicegate_transfers_waiting_minor_units",
            vec!["reason=\"funds_insufficient\"", "currency=\"chf\""],
            Some(900.0),
        ),
        ("sluicegate_funds_minor_units", vec!["currency=\"chf\"", "state=\"settled\""], Some(700.0)),
        ("sluicegate_funds_minor_units", vec!["currency=\"chf\"", "state=\"available\""], Some(700.0)),
        ("sluicegate_funds_minor_units", vec!["currency=\"chf\"", "state=\"reserved\""], Some(0.0)),
        ("sluicegate_pool_connections", vec!["state=\"idle\""], None),
        ("sluicegate_intake_events_total", vec!["outcome=\"stored\""], None),
    ];
    // Another world's scrape may set its own values in between.
    let mut missing = Vec::new();
    for _ in 0..50 {
        let reply = public("/metrics").await;
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"), "{reply:?}");
        let text = reply.body.as_str().unwrap().to_owned();
        let has = |(name, labels, value): &(&str, Vec<&str>, Option<f64>)| {
            text.lines().any(|line| {
                let (series, number) = line.rsplit_once(' ').unwrap_or_default();
                series.split('{').next() == Some(*name)
                    && labels.iter().all(|label| series.contains(label))
                    && value.is_none_or(|value| number.parse() == Ok(value))
            })
        };
        missing = wanted.iter().filter(|row| !has(row)).collect();
        if missing.is_empty() {
            break;
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
