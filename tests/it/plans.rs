//! No statement that runs often walks through a large table from one end to the other.

use std::collections::BTreeMap;

use sluicegate::store::{self, statistics};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, SqlSafeStr as _};

use crate::statements::statements_of_the_store;
use crate::support::postgres::database;
use crate::support::world::eventually;

/// Tables that grow with the platform's traffic.
const LARGE: [&str; 16] = [
    "outbox",
    "tasks",
    "dead_letters",
    "accounts",
    "account_changes",
    "topups",
    "topup_changes",
    "transfers",
    "transfer_history",
    "attempts",
    "calls",
    "ledger_accounts",
    "ledger_entries",
    "ledger_postings",
    "audit_log",
    "idempotency_keys",
];

/// Statements that may read all of a table, and why. Those of the simulator (`inspect_…`) may too.
const MAY_SCAN: [(&str, &str); 28] = [
    ("open_evidence", "rebuild --check reads everything that was kept"),
    ("list_unexplained", "rebuild --check"),
    ("list_missing", "rebuild --check"),
    ("list_unrecorded", "rebuild --check"),
    ("list_wrong_sums", "rebuild --check adds everything up from zero"),
    ("page_transfers", "rebuild --check"),
    ("list_only_baselines", "rebuild --check"),
    ("list_modes", "rebuild --check"),
    ("keep_baselines", "once a week, of one partition"),
    ("count_unsettled", "once an hour, of what waits and failed"),
    ("list_countries", "once, when the borders of the platform became known or were drawn anew"),
    ("gauge_tasks", "counts what waits, which is little when all is well"),
    ("gauge_waiting", "adds up what waits"),
    ("gauge_lag", "counts the dead letters"),
    ("count_dead_letters", "the same, once a minute"),
    ("beat_heart", "looks at the transfers only where the service never ran before"),
    ("balances_of", "adds up the lots of a currency: a few rows a top-up"),
    ("view_funds", "adds up the lots"),
    ("outlook_available", "adds up the lots"),
    ("read_state", "doctor counts the dead letters"),
    ("has_unapplied", "the bench's"),
    ("count_unapplied_in_trial", "the bench's"),
    ("is_busy", "the bench's"),
    ("list_marks", "the bench's"),
    ("count_released", "the bench's"),
    ("look", "the bench's"),
    ("claim_due", "is planned by its values, below"),
    ("list_transfers", "is planned by its values, below"),
];

/// Statements whose parameters decide what they read: Postgres plans these anew each time, since a plan for all
/// values would be dearer.
const BY_VALUE: [(&str, &str); 8] = [
    ("claim_due", "now(), 128, gen_random_uuid(), now(), 1, false"),
    ("list_transfers", "false, null, null, null, 'acct_7', null, null, null, null, null, null, null, 21"),
    ("list_transfers", "false, null, 'waiting', null, null, null, null, null, null, null, null, null, 21"),
    ("list_transfers", "false, null, null, 'on_hold', null, null, null, null, null, null, null, null, 21"),
    ("list_transfers", "false, null, null, null, null, null, 'tu_7', null, null, null, null, null, 21"),
    ("list_transfers", "false, null, null, null, null, null, null, 'group-7', null, null, null, null, 21"),
    ("list_transfers", "false, null, null, null, null, null, null, null, 'tr_7', null, null, null, 21"),
    ("list_transfers", "false, null, null, null, null, null, null, null, null, 'key-7', null, null, 21"),
];

/// Rows enough for the planner to prefer an index wherever there is one.
const FILL: &str = "
    set session_replication_role = replica;
    insert into outbox (event_id, created, source, kind, type, account, subject_kind, subject, livemode, received_at,
            signature, payload)
        select 'evt_' || n, now() - n * interval '20 seconds', 'webhook', 'snapshot', 'account.updated', 'acct_' || n % 9000,
            'account', 'acct_' || n % 9000, false, now(), 't=1', repeat('x', 200)::bytea
        from generate_series(1, 60000) n;
    insert into tasks (id, kind, subject, livemode, event_id, event_created, received_at, run_at, alone)
        select 1000000 + n, 'account', 'acct_' || n, false, 'evt_' || n, now(), now(), now(), false
        from generate_series(1, 30000) n;
    insert into tasks (kind, subject, livemode, run_at)
        select 'account', 'acct_' || n, false, now() + n * interval '1 minute' from generate_series(1, 20000) n;
    insert into dead_letters select 2000000 + n, 'account', 'acct_' || n, false, 'evt_' || n, now(), 6, 'x', now()
        from generate_series(1, 20000) n;
    insert into accounts (account, livemode, known, requirements, as_of, source, standing_at, standing_by, standing_seq,
            doubted, ready, reasons, first_seen, updated_at)
        select 'acct_' || n, false, true, '{}', now(), 'evt_1', now(), 'event', n, false, n % 2 = 0,
            case when n % 2 = 0 then '{}' else array['charges_disabled'] end, now(), now()
        from generate_series(1, 30000) n;
    insert into account_changes (livemode, account, at, as_of, source, state, reasons)
        select false, 'acct_' || n % 30000, now(), now(), 'evt_1', '{}', '{}' from generate_series(1, 60000) n;
    insert into topups (topup, livemode, known, status, amount, currency, metadata, as_of, source, standing_at,
            standing_by, standing_seq, doubted, settled, settled_at, first_seen, updated_at)
        select 'tu_' || n, false, true, 'succeeded', 1000, 'usd', '{}', now(), 'evt_1', now(), 'event', n, false, true,
            now(), now() - n * interval '1 minute', now()
        from generate_series(1, 30000) n;
    insert into topup_changes (livemode, topup, at, as_of, source, status, available, settled, amount, currency, steps, reason)
        select false, 'tu_' || n % 30000, now(), now(), 'evt_1', 'succeeded', true, true, 1000, 'usd', '{created}', 'x'
        from generate_series(1, 60000) n;
    insert into transfers (id, livemode, status, destination, amount, currency, metadata, priority, created_by,
            idempotency_key, stripe_transfer, created_at, updated_at, transfer_group, topup)
        select 'xfer_' || lpad(n::text, 10, '0'), false, case when n % 20 = 0 then 'waiting' else 'released' end,
            'acct_' || n % 9000, 100, 'usd', '{}', 0, 'admin', 'key-' || n, case when n % 20 = 0 then null else 'tr_' || n end,
            now() - n * interval '1 minute', now(), 'group-' || n, 'tu_' || n % 900
        from generate_series(1, 40000) n;
    insert into transfer_history (transfer, at, status, waiting_on, cause)
        select 'xfer_' || lpad((n % 40000)::text, 10, '0'), now(), 'waiting', '{}', 'x' from generate_series(1, 80000) n;
    insert into attempts (subject, n, body, prepared_at)
        select 'xfer_' || lpad(n::text, 10, '0'), 1, 'x', now() from generate_series(1, 40000) n;
    insert into calls (subject, n, kind, started_at, ended_at, outcome)
        select 'xfer_' || lpad(n::text, 10, '0'), 1, 'create', now(), now(), 'created' from generate_series(1, 40000) n;
    insert into ledger_accounts (livemode, currency, kind, lot)
        select false, 'usd', kind, 'tu_' || n
        from generate_series(1, 10000) n, unnest(array['money_in', 'available', 'reserved', 'released']) as k (kind);
    insert into audit_log (id, at, livemode, actor, action, subject, details, previous, hash)
        select n, now(), false, 'admin', 'transfer.requested', 'xfer_' || n, '{}', sha256('x'), sha256(n::text::bytea)
        from generate_series(1, 40000) n;
    insert into idempotency_keys (owner, key, request_hash, status, response, created_at)
        select 'money', 'key-' || n, 'x', 201, '{}', now() from generate_series(1, 40000) n;
    set session_replication_role = origin;
    analyze;
    set plan_cache_mode = force_generic_plan";

/// Accounts alone.
const ACCOUNTS: &str = "
    insert into accounts (account, livemode, known, requirements, as_of, source, standing_at, standing_by, standing_seq,
            doubted, ready, reasons, first_seen, updated_at)
        select 'acct_' || n, false, true, '{}', now(), 'evt_1', now(), 'event', n, false, true, '{}', now(), now()
        from generate_series(1, 5000) n";

async fn run(conn: &mut PgConnection, name: &str, sql: String) {
    conn.execute(AssertSqlSafe(sql).into_sql_str()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// How Postgres goes about a statement with these arguments.
async fn plan_of(conn: &mut PgConnection, name: &str, statement: &str, arguments: &str) -> String {
    run(conn, name, format!("prepare planned as {statement}")).await;
    let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
    let explain = format!("explain execute planned{arguments}");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_all(&mut *conn)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    run(conn, name, "deallocate planned".to_owned()).await;
    lines.join("\n")
}

/// Nulls for all its parameters, where it is a query.
fn no_values(statement: &str) -> Option<String> {
    let head = statement.lines().nth(1).unwrap_or_default().trim_start();
    let is_query = ["select", "with", "insert", "update", "delete"].iter().any(|verb| head.starts_with(verb));
    let parameters = (1..=60).rev().find(|n| statement.contains(&format!("${n}"))).unwrap_or(0);
    is_query.then(|| vec!["null"; parameters].join(", "))
}

/// A line of a plan that walks through a large table, or a partition of one that is not empty.
fn is_scan(line: &str) -> bool {
    let Some((table, cost)) = line.split_once("Seq Scan on ").and_then(|(_, rest)| rest.split_once(' '))
    else {
        return false;
    };
    let partition =
        table.strip_prefix("outbox_").is_some_and(|week| week == "default" || week.starts_with('2'));
    (LARGE.contains(&table) || partition) && !cost.contains("(cost=0.00..0.00 ")
}

/// The plans of all statements that may not walk through a large table, whatever their arguments.
async fn plans_of_all(conn: &mut PgConnection, statements: &[String]) -> Vec<(String, String)> {
    let exempt: BTreeMap<&str, &str> = MAY_SCAN.into_iter().collect();
    let mut plans = Vec::new();
    for statement in statements {
        let name = named(statement);
        if exempt.contains_key(name.as_str()) || name.starts_with("inspect_") {
            continue;
        }
        let Some(arguments) = no_values(statement) else { continue };
        plans.push((name.clone(), plan_of(conn, &name, statement, &arguments).await));
    }
    assert!(plans.len() > 150, "only {} statements were planned", plans.len());
    plans
}

fn named(statement: &str) -> String {
    statement.lines().next().unwrap().trim_start_matches("-- ").to_owned()
}

/// Fails for plans that walk through a large table.
fn assert_no_scans(plans: &[(String, String)]) {
    let scans: Vec<String> = plans
        .iter()
        .filter(|(_, plan)| plan.lines().any(is_scan))
        .map(|(name, plan)| format!("{name}:\n{plan}"))
        .collect();
    assert!(scans.is_empty(), "{}", scans.join("\n\n"));
}

/// Kept plans are made when a connection first needs them, of a new installation while its tables are empty.
#[tokio::test]
async fn a_plan_made_while_the_tables_were_empty_goes_by_their_indexes_too() {
    let db = database().await;
    let pool = store::db::connect(&db.url, 1).await.unwrap();
    let statements = statements_of_the_store();
    let mut conn = pool.acquire().await.unwrap();
    run(&mut conn, "generic", "set plan_cache_mode = force_generic_plan".to_owned()).await;
    assert_no_scans(&plans_of_all(&mut conn, &statements).await);
    drop(conn);
    // What the worker lives on is read along its index until enough were found, not gathered and sorted.
    let claim = statements.iter().find(|statement| named(statement) == "claim_fresh").unwrap();
    let mut tx = store::db::begin_in_order(&pool).await.unwrap();
    let plan = plan_of(&mut tx, "claim_fresh", claim, "null, null, null, null, null, null, null").await;
    assert!(plan.contains("Index Scan using tasks_pkey") && !plan.contains("Sort"), "{plan}");
}

/// Nor does it depend on how many are asked for: of tables it knows nothing of, Postgres takes hundreds for most of it.
#[tokio::test]
async fn what_hundreds_are_read_by_is_their_ids() {
    let db = database().await;
    let pool = store::db::connect(&db.url, 1).await.unwrap();
    let mut tx = store::db::begin_in_order(&pool).await.unwrap();
    run(&mut tx, "fill", ACCOUNTS.to_owned()).await;
    run(&mut tx, "by value", "set local plan_cache_mode = force_custom_plan".to_owned()).await;
    let statements = statements_of_the_store();
    let ids: Vec<String> = (1..=400).map(|n| format!("'acct_{n}'")).collect();
    let ids = format!("false, array[{}]", ids.join(","));
    for name in ["hold_accounts", "list_accounts_for_update", "list_accounts_by_ids"] {
        let statement = statements.iter().find(|statement| named(statement) == name).expect(name);
        let plan = plan_of(&mut tx, name, statement, &ids).await;
        assert!(plan.contains("Index Cond: ((livemode = false) AND (account = ANY ("), "{name}: {plan}");
    }
}

#[tokio::test]
async fn accounts_that_are_not_ready_are_found_among_themselves() {
    let db = database().await;
    let mut conn = db.pool.acquire().await.unwrap();
    run(&mut conn, "fill", ACCOUNTS.to_owned()).await;
    const UNREADY: &str =
        "update accounts set ready = false, reasons = '{charges_disabled}' where account like 'acct_9%'";
    run(&mut conn, "some are not", UNREADY.to_owned()).await;
    run(&mut conn, "known", "analyze accounts".to_owned()).await;
    run(&mut conn, "by value", "set plan_cache_mode = force_custom_plan".to_owned()).await;
    let statements = statements_of_the_store();
    let list = statements.iter().find(|statement| named(statement) == "list_accounts").unwrap();
    for filters in ["false, null", "false, 'charges_disabled'", "null, 'charges_disabled'"] {
        let plan = plan_of(&mut conn, "list_accounts", list, &format!("false, {filters}, null, 21")).await;
        assert!(plan.contains("accounts_unready"), "{filters}: {plan}");
    }
}

#[tokio::test]
async fn postgres_gets_to_know_tables_that_have_grown() {
    let db = database().await;
    let mut conn = db.pool.acquire().await.unwrap();
    let mut outgrown = async || statistics::list_outgrown(&mut conn).await.unwrap();
    assert_eq!(outgrown().await, [""; 0], "nothing is there yet");
    run(&mut db.pool.acquire().await.unwrap(), "fill", ACCOUNTS.to_owned()).await;
    let grown = || async {
        let mut conn = db.pool.acquire().await.unwrap();
        let grown = statistics::list_outgrown(&mut conn).await.unwrap();
        (!grown.is_empty()).then_some(grown)
    };
    // What a connection did is counted within a second or so.
    assert_eq!(eventually(grown).await.expect("it grew"), ["public.accounts"]);
    statistics::analyze(&mut db.pool.acquire().await.unwrap(), "public.accounts").await.unwrap();
    assert_eq!(outgrown().await, [""; 0], "known now");
}

#[tokio::test]
async fn no_statement_walks_through_a_large_table() {
    let db = database().await;
    let mut conn = db.pool.acquire().await.unwrap();
    run(&mut conn, "partitions", "select outbox_ensure_partitions(now())".to_owned()).await;
    sqlx::raw_sql(FILL).execute(&mut *conn).await.unwrap();
    let statements = statements_of_the_store();
    let mut plans = plans_of_all(&mut conn, &statements).await;
    run(&mut conn, "by value", "set plan_cache_mode = force_custom_plan".to_owned()).await;
    for (name, arguments) in BY_VALUE {
        let statement = statements.iter().find(|statement| named(statement) == name).expect(name);
        plans.push((format!("{name} ({arguments})"), plan_of(&mut conn, name, statement, arguments).await));
    }
    assert_no_scans(&plans);
    // The check itself would see one.
    let scan = plan_of(&mut conn, "proof", "select * from accounts where source = $1", "'x'").await;
    assert!(scan.lines().any(is_scan), "{scan}");
}
