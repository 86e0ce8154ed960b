//! What the API offers, from the shell: the program itself beside a running service.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::sandbox::{self, Fault, FaultKind};
use sqlx::postgres::PgListener;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::audit::{log, said};
use crate::support::events::{about_topup, id_of};
use crate::support::program::{bare, ended};
use crate::support::world::{STRIPE_KEY, World, eventually};

/// A JSON answer's list.
fn data(answer: &Value) -> &Vec<Value> {
    answer["data"].as_array().unwrap()
}

#[tokio::test]
async fn a_transfer_asked_for_in_the_shell_goes_out_once_and_is_on_record_under_a_persons_name() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 5_000).await;
    let asked = |amount: &'static str| {
        let mut words = vec!["transfers", "create", "--destination", &account, "--currency", "usd"];
        words.extend(["--amount", amount, "--metadata", "order=42", "--idempotency-key", "invoice-42"]);
        world.program(&words)
    };
    let first = ended(asked("1000")).await.json();
    assert_eq!((&first["amount"], &first["metadata"]), (&json!(1_000), &json!({"order": "42"})));
    let id = first["id"].as_str().unwrap();
    assert_eq!(ended(asked("1000")).await.json()["id"], json!(id), "the same order, the same answer");
    let other = ended(asked("1001")).await;
    other.assert_refused(1, &["The Idempotency-Key was used with another request", "--idempotency-key"]);
    world.until_status(id, "released").await;
    let shown = world.run(&["transfers", "show", id]).await.json();
    assert_eq!((&shown["status"], shown["history"].as_array().is_some()), (&json!("released"), true));
    assert_eq!(world.times_at_stripe(id), 1);
    let rows = log(&world).await;
    let (actor, ..) = *said(&rows).iter().find(|row| row.1 == "transfer.requested").unwrap();
    assert!(actor.starts_with("shell:") && actor.len() > "shell:".len(), "{actor}");
}

#[tokio::test]
async fn an_order_wakes_the_workers_of_other_processes() {
    let world = World::start().await;
    let account = world.ready_account().await;
    world.until_idle().await;
    let mut listener = PgListener::connect(&world.db.url).await.unwrap();
    listener.listen("sluicegate_tasks").await.unwrap();
    let words = ["transfers", "create", "--destination", &account, "--amount", "5", "--currency", "usd"];
    let told = world.run(&words).await;
    assert!(told.err.contains("--idempotency-key shell-"), "the key that was made is told: {told:?}");
    let rung = tokio::time::timeout(Duration::from_secs(5), listener.recv()).await;
    assert!(rung.is_ok_and(|rung| rung.is_ok()), "nobody was told");
}

#[tokio::test]
async fn a_wrong_order_is_wrong_usage_and_names_every_flag() {
    let world = World::start().await;
    let words = ["transfers", "create", "--destination", "tu_1", "--amount", "0", "--currency", "USD"];
    let more = ["--metadata", "a[b]=1", "--release-after", "tomorrow", "--priority", "-2000"];
    let refused = world.run(&[words.as_slice(), more.as_slice()].concat()).await;
    let flags =
        ["--destination ", "--amount ", "--currency ", "--metadata a[b] ", "--release-after ", "--priority "];
    refused.assert_refused(2, &flags);
    assert_eq!(refused.out, "");
    world
        .run(&["transfers", "list", "--waiting-on", "luck"])
        .await
        .assert_refused(2, &["--waiting-on must be"]);
    world.run(&["transfers", "list", "--limit", "0"]).await.assert_refused(2, &["--limit must be"]);
    world.run(&["transfers", "lost"]).await.assert_refused(2, &["unrecognized subcommand"]);
    let twice = ["--metadata", "a=1", "--metadata", "a=2"];
    world.run(&[words.as_slice(), &twice].concat()).await.assert_refused(2, &["a is given twice"]);
    let unknown = world.run(&["transfers", "show", "xfer_none"]).await;
    unknown.assert_refused(1, &["Unknown transfer", "`sluicegate transfers list`"]);
    let unheard = world.run(&["accounts", "show", "acct_unheard/../x"]).await;
    unheard.assert_refused(1, &["Unknown account", "--refresh"]);
}

#[tokio::test]
async fn every_decision_about_a_transfer_can_be_made_in_the_shell() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 700, json!({})).await;
    let held = world.run(&["transfers", "hold", &id, "--reason", "a question"]).await.json();
    assert_eq!(held["waiting_on"][0], json!("on_hold"));
    let list = world.run(&["transfers", "list", "--waiting-on", "on_hold", "--currency", "usd"]).await.json();
    assert_eq!(data(&list)[0]["id"], json!(id));
    world.run(&["transfers", "resume", &id]).await.json();
    let paused = world.run(&["releases", "pause", "--reason", "month end"]).await.json();
    assert_eq!((&paused["paused"], &paused["reason"]), (&json!(true), &json!("month end")));
    assert!(paused["by"].as_str().unwrap().starts_with("shell:"));
    world.settled_topup("usd", 1_000).await;
    world.until_waiting_on(&id, &["releases_paused"]).await;
    assert_eq!(world.run(&["releases", "resume"]).await.json()["paused"], json!(false));
    world.until_status(&id, "released").await;
    let back =
        world.run(&["transfers", "reverse", &id, "--amount", "200", "--reason", "too much"]).await.json();
    assert_eq!(back["reversals"][0]["amount"], json!(200));
    world.until_status(&id, "partially_reversed").await;
    world.run(&["transfers", "cancel", &id]).await.assert_refused(1, &["status does not allow it"]);
    world.run(&["transfers", "retry", &id]).await.assert_refused(1, &["status does not allow it"]);
    world.run(&["transfers", "approve", &id]).await.assert_refused(1, &["status does not allow it"]);
    let more = ["funds", "adjust", "--currency", "usd", "--amount", "-300", "--reason", "paid out by hand"];
    assert_eq!(world.run(&more).await.json()["amount"], json!(-300));
    let list = world.run(&["funds", "adjustments"]).await.json();
    assert_eq!(data(&list)[0]["reason"], json!("paid out by hand"));
    let funds = world.run(&["funds"]).await.json();
    assert_eq!((&data(&funds)[0]["settled"], &data(&funds)[0]["released"]), (&json!(700), &json!(500)));
    assert!(world.run(&["funds", "forecast"]).await.json()["data"].is_array());
}

#[tokio::test]
async fn a_batch_is_read_from_a_file_and_its_faults_are_named_by_their_place() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let file = std::env::temp_dir().join(format!("sgt-batch-{}.json", std::process::id()));
    let run = async |transfers: Value| {
        std::fs::write(&file, transfers.to_string()).unwrap();
        world.run(&["transfers", "batch", file.to_str().unwrap(), "--idempotency-key", "november"]).await
    };
    let one = |amount: i64| json!({"destination": account, "amount": amount, "currency": "usd"});
    run(json!([one(1), one(0)])).await.assert_refused(2, &["transfer 1.amount must be"]);
    let made = run(json!([one(1), one(2)])).await.json();
    let ids: Vec<&Value> = data(&made).iter().map(|transfer| &transfer["id"]).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(run(json!([one(1), one(2)])).await.json(), made, "the same order, the same answer");
    std::fs::write(&file, "[{").unwrap();
    let broken = world.run(&["transfers", "batch", file.to_str().unwrap()]).await;
    broken.assert_refused(2, &["is not JSON"]);
    world
        .run(&["transfers", "batch", "/nowhere.json"])
        .await
        .assert_refused(2, &["/nowhere.json: No such file"]);
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn keys_are_handed_out_and_taken_back_without_a_stripe_key() {
    let world = World::start().await;
    let run = |words: &'static [&'static str]| {
        let mut command = world.program(words);
        command.env_remove("STRIPE_SECRET_KEY");
        ended(command)
    };
    let words = &["keys", "create", "--name", "payroll", "--scope", "read", "--idempotency-key", "k"];
    let made = run(words).await;
    assert!(made.err.contains("the secret is shown this once"), "{made:?}");
    let (id, secret) = (made.json()["id"].clone(), made.json()["secret"].clone());
    let payroll = world.api.with_key(secret.as_str().unwrap());
    assert_eq!(payroll.get("/v1/funds").await.0, 200);
    assert_eq!(payroll.get("/v1/keys").await.0, 403);
    let again = run(words).await;
    assert_eq!((&again.json()["id"], again.json().get("secret")), (&id, None));
    assert!(again.err.contains("can't be shown again"), "{again:?}");
    let listed = run(&["keys", "list"]).await;
    assert!(listed.out.contains("payroll") && !listed.out.contains(secret.as_str().unwrap()));
    let revoked = world.run(&["keys", "revoke", id.as_str().unwrap()]).await.json();
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    // Another process took it back: here it is believed for a second.
    world.clock.advance(time::Duration::SECOND);
    let turned_away = || async { (payroll.get("/v1/funds").await.0 == 401).then_some(()) };
    assert!(eventually(turned_away).await.is_some(), "a key that was taken back counts no more");
    run(&["keys", "create", "--name", "x", "--scope", "god"]).await.assert_refused(2, &["--scope must be"]);
    run(&["keys", "revoke", "key_none"]).await.assert_refused(1, &["`sluicegate keys list`"]);
    run(&["events", "list"]).await.json();
    run(&["funds"]).await.assert_refused(2, &["STRIPE_SECRET_KEY", "set it to the platform's"]);
}

#[tokio::test]
async fn a_list_follows_its_pages_as_far_as_it_was_asked() {
    let world = World::start().await;
    sqlx::query(
        "insert into api_keys (id, name, scope, secret_hash, created_by, created_at)
         select 'key_' || replace(gen_random_uuid()::text, '-', ''), 'k' || n, 'read', sha256(n::text::bytea), 'test', now()
         from generate_series(1, 230) n",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let all = world.run(&["keys", "list", "--all"]).await;
    assert_eq!((data(&all.json()).len(), &all.json()["next"]), (230, &Value::Null));
    let part = world.run(&["keys", "list", "--limit", "150"]).await;
    let next = part.json()["next"].clone();
    assert_eq!(data(&part.json()).len(), 150);
    assert!(part.err.contains("--all shows them"), "{part:?}");
    let rest = world.run(&["keys", "list", "--all", "--after", next.as_str().unwrap()]).await.json();
    let ids = |answer: &Value| data(answer).iter().map(|key| key["id"].clone()).collect::<Vec<_>>();
    assert_eq!([ids(&part.json()), ids(&rest)].concat(), ids(&all.json()));
    assert_eq!(data(&world.run(&["keys", "list"]).await.json()).len(), 20);
}

#[tokio::test]
async fn accounts_and_topups_are_shown_and_an_unheard_account_is_asked_for() {
    let world = World::start().await;
    let topup = world.settled_topup("usd", 900).await;
    let shown = world.run(&["topups", "show", &topup]).await.json();
    assert_eq!((&shown["amount"], &shown["settled"]), (&json!(900), &json!(true)));
    assert_eq!(data(&world.run(&["topups", "list"]).await.json())[0]["id"], json!(topup));
    world.stripe.hold_events(true);
    let account = world.stripe.create_ready_account();
    world.run(&["accounts", "show", &account]).await.assert_refused(1, &["Unknown account"]);
    let shown = world.run(&["accounts", "show", &account, "--refresh"]).await.json();
    assert_eq!((&shown["ready"], shown["history"].is_array()), (&json!(true), true));
    assert_eq!(data(&world.run(&["accounts", "list", "--ready", "true"]).await.json()).len(), 1);
    assert_eq!(data(&world.run(&["accounts", "list", "--reason", "charges_disabled"]).await.json()).len(), 0);
}

#[tokio::test]
async fn every_dead_letter_is_raised_at_once_and_one_that_cannot_be_keeps_no_other_from_it() {
    let world = World::with(|setting| setting.plan.roles.worker = false).await;
    let events: Vec<Value> =
        (0..3).map(|n| about_topup("topup.created", &format!("tu_{n}"), world.second())).collect();
    for event in &events {
        world.tell(event).await;
    }
    sqlx::query(
        "with dead as (delete from tasks where event_id is not null returning *)
         insert into dead_letters (id, kind, subject, livemode, event_id, event_created, attempts, reason, died_at)
         select id, kind, subject, livemode, event_id, event_created, 6, 'a bug', now() from dead",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let listed = world.run(&["events", "list", "--status", "failed"]).await.json();
    assert_eq!(data(&listed).len(), 3);
    let some = world.run(&["replay", "evt_none", id_of(&events[0])]).await;
    some.assert_refused(1, &["evt_none: Unknown event", "`sluicegate events list`"]);
    assert!(some.out.contains(id_of(&events[0])), "{some:?}");
    let rest = world.run(&["replay", "--failed"]).await.json();
    assert_eq!((rest["replayed"].as_array().unwrap().len(), &rest["refused"]), (2, &json!(0)));
    assert_eq!(world.rows("dead_letters").await, 0);
    let shown = world.run(&["events", "show", id_of(&events[0])]).await.json();
    assert_eq!(shown["payload"]["type"], json!("topup.created"));
    world.run(&["replay"]).await.assert_refused(2, &["EVENT"]);
}

#[tokio::test]
async fn a_terminal_gets_a_table_and_a_pipe_json() {
    let world = World::start().await;
    let account = world.ready_account().await;
    let id = world.transfer(&account, 700, json!({"description": "a\u{2028}b"})).await;
    let table = world.run(&["transfers", "list", "--output", "table"]).await;
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].trim_start().starts_with("ID") && lines[0].contains("WAITS ON"), "{table:?}");
    assert!(lines[1].contains(&id) && lines[1].contains("700 usd"), "{table:?}");
    assert!(!table.out.contains('\u{1b}'), "no colour outside of a terminal: {table:?}");
    let one = world.run(&["transfers", "show", &id, "--output", "table"]).await;
    assert!(one.out.contains("history:"), "{one:?}");
    let why = world.run(&["transfers", "explain", &id, "--output", "table"]).await;
    assert!(why.out.contains("summary") && why.out.contains("GOES ON WHEN"), "{why:?}");
    assert!(world.run(&["transfers", "explain", &id]).await.json()["checks"].is_array());
    let none = world.run(&["topups", "list", "--output", "table"]).await;
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "nothing\n"));

    let on_a_terminal = |variables: &'static [(&'static str, &'static str)]| {
        let program = format!("{} transfers list", env!("CARGO_BIN_EXE_sluicegate"));
        let mut script = tokio::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &program, "/dev/null"]).env_clear();
        script.env("DATABASE_URL", &world.db.url).env("STRIPE_SECRET_KEY", STRIPE_KEY).env("TERM", "xterm");
        script.env("PATH", std::env::var_os("PATH").unwrap()).envs(variables.iter().copied());
        ended(script)
    };
    let seen = on_a_terminal(&[]).await;
    assert!(seen.out.contains("WAITS ON") && seen.out.contains("\u{1b}[1m"), "{seen:?}");
    let plain = on_a_terminal(&[("NO_COLOR", "1")]).await;
    assert!(plain.out.contains("WAITS ON") && !plain.out.contains("\u{1b}[1m"), "{plain:?}");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_command_is_told_with_its_mend() {
    let dir = std::env::temp_dir().join(format!("sgt-shell-{}", std::process::id()));
    let mut nowhere = bare(&["keys", "list"]);
    nowhere.env("SLUICEGATE_DATA_DIR", &dir);
    ended(nowhere).await.assert_refused(1, &["DATABASE_URL is not set", "holds no private cluster"]);
    assert!(!dir.exists(), "nothing was made");
    let mut away = bare(&["keys", "list"]);
    away.env("DATABASE_URL", "postgres://localhost:1/x");
    ended(away).await.assert_refused(1, &["can't connect to Postgres", "check DATABASE_URL"]);
    let world = World::start().await;
    let mut unmigrated = bare(&["keys", "list"]);
    unmigrated.env("DATABASE_URL", world.db.empty_beside().await);
    ended(unmigrated).await.assert_refused(1, &["run `sluicegate migrate`"]);
    let completions = ended(bare(&["completions", "bash"])).await;
    assert!(completions.code == 0 && completions.out.contains("transfers"), "{completions:?}");
}

#[tokio::test]
async fn the_shell_reaches_a_private_cluster_beside_the_service_and_without_it() {
    let stripe = sandbox::start(sandbox::Config::default()).await.unwrap();
    let dir = std::env::temp_dir().join(format!("sgt-beside-{}", std::process::id()));
    let program = |words: &[&str]| {
        let mut command = bare(words);
        command.env("SLUICEGATE_DATA_DIR", &dir).env("SLUICEGATE_LISTEN", "127.0.0.1:0");
        command.env("STRIPE_SECRET_KEY", STRIPE_KEY).env("STRIPE_API_BASE", stripe.url());
        command.env("STRIPE_WEBHOOK_SECRETS", "whsec_beside_0000000000000000000000000");
        command
    };
    let mut service = program(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(service.stdout.take().unwrap()).lines();
    let listening = said.next_line().await.unwrap().unwrap();
    assert!(listening.starts_with("listening on http://"), "{listening}");
    let made = ended(program(&["keys", "create", "--name", "beside", "--scope", "read"])).await.json();
    let base = listening.trim_start_matches("listening on ").to_owned();
    let http = reqwest::Client::new();
    let asked = http.get(format!("{base}/v1/funds")).bearer_auth(made["secret"].as_str().unwrap());
    assert_eq!(asked.send().await.unwrap().status(), 200, "it was made in the database of the service");
    let pid = service.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
    assert!(service.wait().await.unwrap().success());
    let listed = ended(program(&["keys", "list"])).await.json();
    assert_eq!(data(&listed)[0]["name"], json!("beside"), "without the service too");
    let paused = ended(program(&["releases", "pause"])).await;
    assert!(paused.code == 0 && paused.err.contains("no service runs on this database"), "{paused:?}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_top_up_is_ordered_once_and_called_off_in_the_shell() {
    let world = World::start().await;
    let words = ["topups", "create", "--amount", "5000", "--currency", "usd", "--description", "payroll"];
    let more =
        ["--statement-descriptor", "PAYROLL 11/26", "--metadata", "run=17", "--idempotency-key", "november"];
    let asked = [words.as_slice(), more.as_slice()].concat();
    let made = world.run(&asked).await.json();
    assert_eq!((&made["amount"], &made["statement_descriptor"]), (&json!(5_000), &json!("PAYROLL 11/26")));
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.run(&asked).await.json()["id"], json!(id), "the bank is debited once");
    let pending = world.run(&["topups", "list", "--status", "pending", "--currency", "usd"]).await.json();
    assert_eq!(data(&pending).len(), 1);
    let canceled = world.run(&["topups", "cancel", id, "--reason", "not needed"]).await.json();
    assert_eq!(canceled["status"], json!("canceled"));
    let wrong = ["topups", "create", "--amount", "0", "--currency", "usd", "--statement-descriptor", "12345"];
    world.run(&wrong).await.assert_refused(2, &["--amount must", "--statement-descriptor "]);
    world.run(&["topups", "list", "--status", "lost"]).await.assert_refused(2, &["--status must be"]);

    let lost = Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/topups").times(None);
    world.stripe.fault(lost);
    let unknown =
        ["topups", "create", "--amount", "700", "--currency", "usd", "--idempotency-key", "december"];
    let ended = world.run(&unknown).await;
    ended.assert_refused(1, &["not known yet", "same --idempotency-key"]);
    assert!(ended.out.contains("unknown"), "{ended:?}");
    world.stripe.clear_faults();
    world.run(&unknown).await.json();
}

#[tokio::test]
async fn an_account_is_created_with_what_is_known_and_sent_to_onboarding() {
    let world = World::start().await;
    let file = std::env::temp_dir().join(format!("sgt-account-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"country":"US","individual":{"last_name":"Lovelace"}}"#).unwrap();
    let words = ["accounts", "create", "--json", file.to_str().unwrap(), "--param", "email=ada@example.com"];
    let more = ["--param", "individual.first_name=Ada", "--idempotency-key", "writer-7"];
    let asked = [words.as_slice(), more.as_slice()].concat();
    let made = world.run(&asked).await.json();
    let id = made["account"].as_str().unwrap();
    assert_eq!(made["ready"], json!(false));
    assert_eq!(world.run(&asked).await.json()["account"], json!(id), "one account");
    let at_stripe = world.stripe.account(id).unwrap();
    assert_eq!((&at_stripe["email"], &at_stripe["country"]), (&json!("ada@example.com"), &json!("US")));
    let wrong = world.run(&["accounts", "create", "--param", "country=ZZ"]).await;
    wrong.assert_refused(2, &["--param country"]);
    let mut link = world.program(&["accounts", "link", id, "--return-url", "https://example.com/done"]);
    link.env("SLUICEGATE_PUBLIC_URL", "https://pay.example.com");
    let link = ended(link).await;
    assert!(link.json()["url"].as_str().unwrap().starts_with("http"), "{link:?}");
    assert!(link.err.contains("never mail or log it"), "{link:?}");
    std::fs::remove_file(&file).unwrap();
}
