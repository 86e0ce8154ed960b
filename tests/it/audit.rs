//! Who ordered what: each order leaves one row in the audit log, and the chain shows any change to it.

use reqwest::Method;
use serde_json::{Value, json};
use sluicegate::domain::audit::{Broken, Head, Row};
use sluicegate::store::audit;

use crate::support::reply::ask;
use crate::support::world::World;

/// The log from its start, verified.
pub async fn log(world: &World) -> Vec<Row> {
    let mut conn = world.pool().acquire().await.unwrap();
    let rows = audit::list(&mut conn, 0, 10_000).await.unwrap();
    let mut head = Head::default();
    for row in &rows {
        head.follow(row).unwrap();
    }
    assert_eq!(audit::get_head(&mut conn).await.unwrap(), head, "the head is the last row");
    rows
}

/// What was logged, as (actor, action, subject).
pub fn said(rows: &[Row]) -> Vec<(&str, &str, &str)> {
    rows.iter().map(|row| (&*row.entry.actor, &*row.entry.action, &*row.entry.subject)).collect()
}

#[tokio::test]
async fn each_order_leaves_one_row_with_who_what_and_why() {
    let world = World::start().await;
    let transfer = world.transfer("acct_1", 100, json!({"metadata": {"a": "b"}, "priority": 3})).await;
    let path = |order: &str| format!("/v1/transfers/{transfer}/{order}");
    let why = json!({"reason": "asked by finance"});
    for (path, body) in [
        (path("hold"), why.clone()),
        (path("resume"), json!({})),
        (path("cancel"), why.clone()),
        ("/v1/releases/pause".to_owned(), why.clone()),
        ("/v1/releases/resume".to_owned(), why.clone()),
    ] {
        let (status, answer) = world.api.post(&path, &path, &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        // Repeated with the same key it is one order, not two.
        assert_eq!(world.api.post(&path, &path, &body).await, (status, answer));
    }
    let (_, key) = world.api.post("/v1/keys", "k", &json!({"name": "n", "scope": "read"})).await;
    let key = key["id"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(world.api.delete(&format!("/v1/keys/{key}")).await.0, 200);
    }
    let rows = log(&world).await;
    assert_eq!(
        said(&rows),
        [
            ("admin", "transfer.requested", transfer.as_str()),
            ("admin", "transfer.held", &transfer),
            ("admin", "transfer.resumed", &transfer),
            ("admin", "transfer.canceled", &transfer),
            ("admin", "releases.paused", "releases"),
            ("admin", "releases.resumed", "releases"),
            ("admin", "key.created", key),
            ("admin", "key.revoked", key),
        ]
    );
    let details = |at: usize| serde_json::from_str::<Value>(&rows[at].entry.details).unwrap();
    assert_eq!(details(0)["amount"], json!(100));
    assert_eq!(details(0)["metadata"], json!({"a": "b"}));
    assert_eq!(details(0)["priority"], json!(3));
    assert_eq!(details(1)["reason"], json!("asked by finance"));
    assert_eq!(details(4)["reason"], json!("asked by finance"));
}

#[tokio::test]
async fn an_order_that_is_refused_leaves_none() {
    let world = World::start().await;
    let transfer = world.transfer("acct_1", 100, json!({})).await;
    let cancel = format!("/v1/transfers/{transfer}/cancel");
    assert_eq!(world.api.post(&cancel, "a", &json!({})).await.0, 200);
    let before = log(&world).await.len();
    assert_eq!(world.api.post(&cancel, "b", &json!({})).await.0, 409);
    assert_eq!(world.api.post("/v1/transfers/xfer_0/hold", "c", &json!({})).await.0, 404);
    let unsigned = ask(world.api.http.request(Method::POST, world.api.url(&cancel))).await;
    assert_eq!(unsigned.status, 401);
    assert_eq!(log(&world).await.len(), before);
}

#[tokio::test]
async fn the_database_refuses_a_change_and_the_chain_shows_one_made_around_it() {
    let world = World::start().await;
    for _ in 0..3 {
        world.transfer("acct_1", 100, json!({})).await;
    }
    for sql in ["update audit_log set actor = 'x'", "delete from audit_log", "truncate audit_log"] {
        let refused = sqlx::query(sql).execute(world.pool()).await.unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    sqlx::query("alter table audit_log disable trigger all").execute(world.pool()).await.unwrap();
    sqlx::query("update audit_log set actor = 'x' where id = 2").execute(world.pool()).await.unwrap();
    let mut conn = world.pool().acquire().await.unwrap();
    let mut head = Head::default();
    let rows = audit::list(&mut conn, 0, 10).await.unwrap();
    assert_eq!(rows.iter().try_for_each(|row| head.follow(row)), Err(Broken::Changed(2)));
}

/// What only ever grows, for as long as the database stands, and a column of each.
const APPEND_ONLY: [(&str, &str); 6] = [
    ("audit_log", "actor"),
    ("ledger_entries", "kind"),
    ("ledger_postings", "amount"),
    ("transfer_history", "cause"),
    ("topup_changes", "reason"),
    ("adjustments", "amount"),
];

#[tokio::test]
async fn what_is_append_only_is_neither_changed_nor_emptied() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let counted = json!({"currency": "usd", "amount": 50, "reason": "opening balance"});
    world.api.post("/v1/funds/adjustments", "a", &counted).await;
    let out = world.transfer(&account, 700, json!({})).await;
    world.until_status(&out, "released").await;
    world.until_idle().await;
    for (table, column) in APPEND_ONLY {
        let before = world.rows(table).await;
        assert!(before > 0, "{table} holds something");
        for sql in [
            format!("update {table} set {column} = {column}"),
            format!("delete from {table}"),
            format!("truncate {table} cascade"),
        ] {
            let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.as_str())).execute(world.pool()).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("is append-only"), "{sql}: {refused}");
        }
        assert_eq!(world.rows(table).await, before, "{table}");
    }
    // Nor by way of what they refer to.
    for table in ["transfers", "funds"] {
        let sql = format!("truncate {table} cascade");
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(world.pool()).await;
        assert!(refused.unwrap_err().to_string().contains("is append-only"), "{table}");
    }
}

/// Runs `audit verify` on a world's database; returns its exit code and its result.
async fn verify(world: &World, more: &[&str]) -> (i32, Value) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(["audit", "verify", "--output", "json"]).args(more).env_clear();
    let ended = command.env("DATABASE_URL", &world.db.url).output().await.unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    (ended.status.code().unwrap(), serde_json::from_str(&told).unwrap_or_default())
}

#[tokio::test]
async fn the_program_verifies_the_chain_and_finds_what_was_done_to_it() {
    let world = World::start().await;
    for _ in 0..3 {
        world.transfer("acct_1", 100, json!({})).await;
    }
    let (code, told) = verify(&world, &[]).await;
    assert_eq!((code, &told["verified"], &told["rows"]), (0, &json!(true), &json!(3)));
    let noted = told["last"].as_str().unwrap().to_owned();
    world.transfer("acct_1", 100, json!({})).await;
    assert_eq!(verify(&world, &["--expect", &noted]).await.0, 0, "what was noted is still in it");
    let other = format!("2:{}", noted.split_once(':').unwrap().1);
    let (code, told) = verify(&world, &["--expect", &other]).await;
    assert_eq!((code, &told["problem"]), (1, &json!("row 2 is not the one that was noted")));
    assert_eq!(verify(&world, &["--expect", "2"]).await.0, 2, "wrong usage");
    let tampered = [
        ("delete from audit_log where id = 4", "the log ends at row 3 and should end at row 4"),
        ("update audit_log set details = '{}' where id = 3", "row 3 was changed"),
        ("delete from audit_log where id = 2", "row 3 follows row 1"),
    ];
    sqlx::query("alter table audit_log disable trigger all").execute(world.pool()).await.unwrap();
    for (sql, problem) in tampered {
        sqlx::query(sql).execute(world.pool()).await.unwrap();
        let (code, told) = verify(&world, &[]).await;
        let found = told["problem"].as_str().unwrap_or_default().to_owned();
        assert!(code == 1 && found.starts_with(problem), "{sql}: {told}");
    }
}
