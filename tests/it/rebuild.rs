//! What the tables hold follows from what was kept; what does not is found.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluicegate::domain::limits::Limits;
use sluicegate::domain::money::Currency;
use sluicegate::sandbox::AccountChange;

use crate::support::world::World;
use crate::transfers::reverse as reverse_by_hand;

/// Runs `rebuild --check` on a world's database: its exit code, its result, and what it told.
async fn check(world: &World) -> (i32, Value, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(["rebuild", "--check", "--output", "json"]).env_clear();
    let ended = command.env("DATABASE_URL", &world.db.url).output().await.unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    let result = serde_json::from_str(&told).unwrap_or_default();
    (ended.status.code().unwrap(), result, String::from_utf8_lossy(&ended.stderr).into_owned())
}

/// A bit of everything: accounts that rise and fall, money that settles and is taken back, transfers out, back,
/// called off and waiting.
async fn story() -> World {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let bounced = world.settled_topup("usd", 300).await;
    let out = world.transfer(&account, 700, json!({"metadata": {"order": "17"}, "priority": 3})).await;
    let released = world.until_status(&out, "released").await;
    reverse_by_hand(&world, released["stripe_transfer"].as_str().unwrap(), 200).await;
    world.until_status(&out, "partially_reversed").await;
    world.stripe.reverse_topup(&bounced).unwrap();
    world.api.until(&format!("/v1/topups/{bounced}"), |t| t["status"] == json!("reversed")).await;
    let body = json!({"currency": "usd", "amount": 50, "reason": "opening balance"});
    world.api.post("/v1/funds/adjustments", "a", &body).await;
    let off = world.transfer(&account, 10_000, json!({})).await;
    world.api.post(&format!("/v1/transfers/{off}/cancel"), "c", &json!({})).await;
    world.transfer(&account, 20_000, json!({"transfer_group": "g"})).await;
    let restricted = AccountChange { charges_enabled: Some(false), ..AccountChange::default() };
    let second = world.ready_account().await;
    world.stripe.change_account(&second, &restricted).unwrap();
    let path = format!("/v1/accounts/{second}/readiness");
    world.api.until(&path, |readiness| readiness["ready"] == json!(false)).await;
    world.until_idle().await;
    world
}

#[tokio::test]
async fn all_that_is_held_follows_from_what_was_kept() {
    let world = story().await;
    let (code, told, errors) = check(&world).await;
    assert_eq!((code, &told["differences"]), (0, &json!(0)), "{errors}");
    assert_eq!((&told["accounts"], &told["topups"], &told["transfers"]), (&json!(2), &json!(2), &json!(3)));
    assert_eq!(told["left_out"], json!(0));
}

#[tokio::test]
async fn whatever_was_changed_by_another_hand_is_found() {
    let world = story().await;
    let steps: [(&str, &str, &str); 11] = [
        ("accounts", "update accounts set charges_enabled = false where charges_enabled", "readiness"),
        ("topups", "update topups set status = 'succeeded' where status = 'reversed'", "status"),
        (
            "topups",
            "update topups set booked_amount = booked_amount + 1, booked_currency = 'usd' where settled",
            "booked",
        ),
        (
            "transfers",
            "update transfers set amount_reversed = 300 where amount_reversed = 200",
            "amount_reversed",
        ),
        ("transfers", "update transfers set status = 'waiting' where status = 'canceled'", "canceled"),
        ("transfers", "update transfers set amount = 20001 where amount = 20000", "amount"),
        ("transfers", "update transfers set metadata = '{\"order\": \"18\"}' where priority = 3", "metadata"),
        (
            "transfers",
            "update transfers set status = 'canceled', waiting_on = '{}', fundable = false where amount = 20000",
            "the order to cancel it",
        ),
        (
            "ledger_accounts",
            "update ledger_accounts set balance = balance + 1 where kind = 'available' and balance > 0",
            "balance",
        ),
        (
            "ledger_postings",
            "update ledger_postings set amount = amount + 1 where ctid = (select max(ctid) from ledger_postings)",
            "sum",
        ),
        ("audit_log", "delete from audit_log where action = 'transfer.requested'", "the request"),
    ];
    for (table, change, field) in steps {
        let errors = check_after(&world, table, change).await;
        assert!(errors.contains(&format!(": {field} is ")), "{change}: {errors}");
    }
    let (code, _, errors) = check(&world).await;
    assert_eq!(code, 0, "all was put back: {errors}");
}

/// What is told after a change by another hand, which is then put back.
async fn check_after(world: &World, table: &str, change: &str) -> String {
    let mut tx = world.pool().begin().await.unwrap();
    let before = save(&mut tx, table).await;
    run(&mut tx, "set local session_replication_role = replica".to_owned()).await;
    assert!(run(&mut tx, change.to_owned()).await > 0, "{change}");
    tx.commit().await.unwrap();
    let (code, told, errors) = check(world).await;
    assert_eq!(code, 1, "{change}: {told} {errors}");
    restore(world, table, &before).await;
    errors
}

/// Transfers that wait: one that was approved and is held, and one that is neither, although both was ordered.
async fn decided() -> (World, String, String) {
    let usd = Currency::parse("usd").unwrap();
    let limits = Limits { approval_above: BTreeMap::from([(usd, 1_000)]), ..Limits::default() };
    let world = World::with(|setting| setting.plan.limits = limits).await;
    let later = json!({"release_after": "2099-01-01T00:00:00.123456Z", "priority": 7});
    let kept = world.transfer("acct_1", 5_000, later).await;
    let plain = world.transfer("acct_1", 100, json!({})).await;
    let (_, made) = world.api.post("/v1/keys", "k", &json!({"name": "k", "scope": "operate"})).await;
    let other = world.api.with_key(made["secret"].as_str().unwrap());
    // Each is ordered twice: the second time nothing is left to change.
    for (id, order) in [(&kept, "approve"), (&plain, "approve"), (&plain, "hold"), (&plain, "resume")] {
        for key in ["first", "second"] {
            let key = format!("{key} {id} {order}");
            let (status, answer) = other.post(&format!("/v1/transfers/{id}/{order}"), &key, &json!({})).await;
            assert_eq!(status, 200, "{order}: {answer}");
        }
    }
    for order in ["hold", "resume", "hold", "hold"] {
        world.run(&["transfers", order, &kept]).await.json();
    }
    world.until_idle().await;
    (world, kept, plain)
}

#[tokio::test]
async fn each_column_that_was_ordered_is_compared_with_the_order() {
    let (world, kept, plain) = decided().await;
    let (code, told, errors) = check(&world).await;
    assert_eq!((code, &told["transfers"]), (0, &json!(2)), "{errors}");
    let changes: [(&str, &str, &[&str]); 15] = [
        (&kept, "release_after = null", &["release_after"]),
        (&kept, "release_after = release_after - interval '1 microsecond'", &["release_after"]),
        (&plain, "release_after = now()", &["release_after"]),
        (&plain, "idempotency_key = 'another'", &["idempotency_key"]),
        (&plain, "created_by = 'another'", &["created_by"]),
        (&plain, "created_at = created_at - interval '1 hour'", &["created_at"]),
        (&plain, "livemode = true", &["livemode"]),
        (&kept, "approved_at = null, approved_by = null", &["approved_at", "approved_by"]),
        (&kept, "approved_by = 'another'", &["approved_by"]),
        (&plain, "approved_at = now()", &["approved_at"]),
        (&plain, "approved_at = now(), approved_by = 'another'", &["approved_at", "approved_by"]),
        (&kept, "held_at = null, held_by = null", &["held_at", "held_by"]),
        (&kept, "held_by = 'another'", &["held_by"]),
        (&plain, "held_at = now()", &["held_at"]),
        (&plain, "held_at = now(), held_by = 'another'", &["held_at", "held_by"]),
    ];
    for (id, change, fields) in changes {
        let sql = format!("update transfers set {change} where id = '{id}'");
        let errors = check_after(&world, "transfers", &sql).await;
        let told = errors.lines().filter_map(|line| line.split_once(&format!(" transfer {id}: ")));
        let told: Vec<&str> = told.filter_map(|(_, of)| of.split(' ').next()).collect();
        assert_eq!(told, fields, "{change}: {errors}");
    }
    let (code, _, errors) = check(&world).await;
    assert_eq!(code, 0, "all was put back: {errors}");
}

/// Runs a statement that is made up here.
async fn run(conn: &mut sqlx::PgConnection, statement: String) -> u64 {
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(conn).await.unwrap().rows_affected()
}

/// Keeps a copy of a table's rows.
async fn save(tx: &mut sqlx::PgConnection, table: &str) -> String {
    let copy = format!("copy_of_{table}");
    run(tx, format!("drop table if exists {copy}")).await;
    run(tx, format!("create table {copy} as select * from {table}")).await;
    copy
}

/// Puts a table's rows back as they were.
async fn restore(world: &World, table: &str, copy: &str) {
    let mut tx = world.pool().begin().await.unwrap();
    run(&mut tx, "set local session_replication_role = replica".to_owned()).await;
    run(&mut tx, format!("delete from {table}")).await;
    run(&mut tx, format!("insert into {table} overriding system value select * from {copy}")).await;
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn evidence_that_was_lost_is_missed() {
    let world = story().await;
    for kind in ["account", "topup", "stripe_transfer"] {
        sqlx::query("delete from outbox where subject_kind = $1")
            .bind(kind)
            .execute(world.pool())
            .await
            .unwrap();
    }
    let (code, told, errors) = check(&world).await;
    assert_eq!((code, &told["differences"]), (1, &json!(5)), "{errors}");
    assert_eq!(errors.matches("none was kept").count(), 4, "{errors}");
    assert!(errors.contains("no evidence was kept"), "{errors}");
}
