//! `doctor`: each finding is shown by the program itself, on a world where it is so.

use serde_json::{Value, json};
use sluicegate::sandbox::{self, AccountChange};

use crate::support::program::{Ended, bare, ended};
use crate::support::world::{STRIPE_KEY, World};

const ADMIN: &str = "7d1f0c3b9e8a4f6d5c2b1a0987654321";
const SECRETS: &str =
    "platform=whsec_AbCdEfGhIjKlMnOpQrStUvWxYz012345,connect=whsec_ZyXwVuTsRqPoNmLkJiHgFeDcBa543210";
const PUBLIC: &str = "https://pay.example.com";

/// What doctor says in a world, with these variables beside the usual ones.
async fn doctor(world: &World, variables: &[(&str, &str)]) -> Examined {
    let mut command = world.program(&["doctor"]);
    command.env("STRIPE_WEBHOOK_SECRETS", SECRETS).env("SLUICEGATE_ADMIN_KEY", ADMIN);
    command.env("SLUICEGATE_PUBLIC_URL", PUBLIC).envs(variables.iter().copied());
    Examined::of(&ended(command).await)
}

struct Examined {
    code: i32,
    told: Value,
}

impl Examined {
    fn of(run: &Ended) -> Self {
        let told = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"));
        Self { code: run.code, told }
    }

    fn about(&self, check: &str) -> Vec<&Value> {
        let all = self.told["data"].as_array().unwrap().iter();
        all.filter(|finding| finding["check"] == *check).collect()
    }

    /// The one finding of a check has this verdict and says this.
    fn assert(&self, check: &str, verdict: &str, says: &str) {
        let [finding] = self.about(check)[..] else { panic!("{check}: {:?}", self.told) };
        assert_eq!(finding["verdict"], json!(verdict), "{finding}");
        assert!(finding["found"].as_str().unwrap().contains(says), "{says}: {finding}");
        assert_eq!(finding["mend"].is_string(), verdict != "ok", "{finding}");
        if verdict == "fail" {
            assert_eq!(self.code, 1);
        }
    }
}

async fn run_sql(world: &World, sql: &'static str) {
    sqlx::raw_sql(sql).execute(world.pool()).await.unwrap();
}

async fn set_up(world: &World) {
    world.run(&["setup-webhooks", "--url", PUBLIC]).await.json();
}

#[tokio::test]
async fn where_all_is_well_it_says_so_and_ends_with_0() {
    let stripe = sandbox::start(sandbox::Config::default()).await.unwrap();
    let manual = json!({"settings": {"payouts": {"schedule": {"interval": "manual"}}}});
    let change = AccountChange { other: Some(manual), ..AccountChange::default() };
    stripe.control().change_account(&stripe.control().platform(), &change).unwrap();
    let dir = std::env::temp_dir().join(format!("sgt-doctor-{}", std::process::id()));
    let program = |words: &[&str]| {
        let mut command = bare(words);
        command.env("SLUICEGATE_DATA_DIR", &dir).env("SLUICEGATE_PUBLIC_URL", PUBLIC);
        command.env("STRIPE_SECRET_KEY", STRIPE_KEY).env("STRIPE_API_BASE", stripe.url());
        command.env("STRIPE_WEBHOOK_SECRETS", SECRETS).env("SLUICEGATE_ADMIN_KEY", ADMIN);
        command
    };
    let before = Examined::of(&ended(program(&["doctor"])).await);
    before.assert("private_cluster", "ok", "the first start makes one");
    before.assert("database", "warn", "not checked: there is none yet");
    assert!(!dir.exists(), "nothing was made");
    let made = ended(program(&["setup-webhooks"])).await.json();
    let secrets = made["STRIPE_WEBHOOK_SECRETS"].as_str().unwrap();
    assert_eq!(ended(program(&["migrate"])).await.code, 0);
    let mut with_theirs = program(&["doctor"]);
    with_theirs.env("STRIPE_WEBHOOK_SECRETS", secrets);
    let run = ended(with_theirs).await;
    let well = Examined::of(&run);
    assert_eq!((well.code, &well.told["verdict"]), (0, &json!("ok")), "{run:?}");
    well.assert("private_cluster", "ok", "stopped; started for this look");
    for check in ["durability", "migrations", "permissions", "clock", "endpoint_platform", "endpoint_connect"]
    {
        assert_eq!(well.about(check)[0]["verdict"], json!("ok"), "{check}");
    }
    let table = ended(program(&["doctor", "--output", "table"])).await;
    assert!(
        table.out.lines().any(|line| line.trim().starts_with("ok") && line.contains("durability")),
        "{table:?}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_configuration_is_told_of_whole_and_keeps_nothing_else_from_being_checked() {
    let world = World::start().await;
    let bad =
        [("STRIPE_SECRET_KEY", "pk_test_1"), ("SLUICEGATE_LISTN", "x"), ("SLUICEGATE_STRIPE_RATE", "fast")];
    let found = doctor(&world, &bad).await;
    let told: Vec<&str> =
        found.about("configuration").iter().map(|one| one["found"].as_str().unwrap()).collect();
    for says in ["STRIPE_SECRET_KEY", "SLUICEGATE_STRIPE_RATE", "SLUICEGATE_LISTN"] {
        assert!(told.iter().any(|one| one.contains(says)), "{says}: {told:?}");
    }
    assert!(found.about("stripe_key").is_empty(), "told once");
    found.assert("stripe", "warn", "not checked");
    found.assert("database", "ok", "Postgres");
    found.assert("service", "warn", "the key says which is meant");

    let mut nothing = bare(&["doctor"]);
    nothing.env("DATABASE_URL", &world.db.url);
    let found = Examined::of(&ended(nothing).await);
    found.assert("stripe_key", "fail", "not set");
    found.assert("webhook_secrets", "fail", "not set");
    found.assert("admin_key", "warn", "nobody can call the API");

    let weak = [
        ("STRIPE_WEBHOOK_SECRETS", "whsec_short"),
        ("SLUICEGATE_ADMIN_KEY", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("SLUICEGATE_PUBLIC_URL", "http://localhost:8080"),
    ];
    let found = doctor(&world, &weak).await;
    found.assert("webhook_secrets", "fail", "guessed");
    found.assert("admin_key", "fail", "easily guessed");
    found.assert("public_url", "warn", "leads nowhere");
    let real = doctor(&world, &[("STRIPE_API_BASE", "https://stripe.invalid")]).await;
    real.assert("stripe_key", "fail", "shorter than any");
    real.assert("stripe", "fail", "does not answer");
    assert!(!real.told.to_string().contains(STRIPE_KEY), "no secret is shown");
}

#[tokio::test]
async fn what_is_wrong_at_stripe_is_found() {
    let world = World::start().await;
    let found = doctor(&world, &[]).await;
    found.assert("endpoint_platform", "fail", "there is none for the platform's own account");
    set_up(&world).await;
    let found = doctor(&world, &[]).await;
    found.assert("stripe", "ok", "the key belongs to acct_");
    found.assert("permissions", "ok", "may do all");
    found.assert("endpoint_platform", "ok", "sends all that is needed");
    found.assert("endpoint_connect", "ok", PUBLIC);
    found.assert("endpoint_secrets", "ok", "2 endpoints deliver here, and 2 secrets");
    found.assert("platform", "ok", "acct_");
    let one = SECRETS.split(',').next().unwrap();
    doctor(&world, &[("STRIPE_WEBHOOK_SECRETS", one)]).await.assert(
        "endpoint_secrets",
        "fail",
        "and 1 secret is",
    );
    let moved = doctor(&world, &[("SLUICEGATE_PUBLIC_URL", "https://new.example.com")]).await;
    moved.assert("endpoint_connect", "warn", "https://new.example.com/webhooks/stripe");
    doctor(&world, &[("STRIPE_SECRET_KEY", "sk_test_other")]).await.assert(
        "stripe",
        "fail",
        "Invalid API Key",
    );
    let away = doctor(&world, &[("STRIPE_API_BASE", "http://127.0.0.1:1")]).await;
    away.assert("stripe", "fail", "does not answer");
    assert!(away.about("permissions").is_empty(), "one fault, one finding");

    let daily = json!({"settings": {"payouts": {"schedule": {"interval": "daily"}}}});
    let change = AccountChange { other: Some(daily), ..AccountChange::default() };
    world.stripe.change_account(&world.stripe.platform(), &change).unwrap();
    world.stripe.advance(std::time::Duration::from_secs(60));
    let found = doctor(&world, &[]).await;
    found.assert("payout_schedule", "warn", "daily");
    found.assert("clock", "warn", "s behind Stripe's");
    world.stripe.advance(std::time::Duration::from_secs(400));
    doctor(&world, &[]).await.assert("clock", "fail", "every delivery is refused");
}

#[tokio::test]
async fn what_a_restricted_key_lacks_is_named() {
    let world = World::start().await;
    set_up(&world).await;
    let with = async |lacks: &[&str]| {
        world.stripe.restrict_key("rk_test_1", lacks);
        doctor(&world, &[("STRIPE_SECRET_KEY", "rk_test_1")]).await
    };
    let found = with(&["transfers:read", "balance_transactions:read"]).await;
    found.assert("permissions", "fail", "may not read: Transfers, Balance transactions");
    with(&["webhook_endpoints:read"]).await.assert("permissions", "warn", "the endpoints can't be looked at");
    with(&[]).await.assert("permissions", "warn", "events of v2 accounts can't be read");
    with(&[]).await.assert("permissions", "warn", "can't be tried without effect");
    let blind = with(&["webhook_endpoints:read", "account:read"]).await;
    blind.assert("endpoints", "warn", "not checked");
    blind.assert("stripe", "warn", "does not show the account");
    blind.assert("payout_schedule", "warn", "does not show");
}

#[tokio::test]
async fn what_the_service_left_is_told() {
    let world = World::start().await;
    world.until_none_due().await;
    let found = doctor(&world, &[]).await;
    found.assert("service", "ok", "runs");
    found.assert("releases", "ok", "not stopped");
    found.assert("restore_guard", "ok", "nothing to catch up with");
    found.assert("dead_letters", "ok", "none");
    world.run(&["releases", "pause", "--reason", "month end"]).await.json();
    run_sql(
        &world,
        "update heartbeats set catch_up_from = now() - interval '1 day', catch_up_seen = 7;
         update platforms set account = 'acct_another';",
    )
    .await;
    let found = doctor(&world, &[]).await;
    found.assert("releases", "warn", "month end");
    found.assert("restore_guard", "warn", "7 were so far");
    found.assert("platform", "fail", "acct_another");
    let other_mode = doctor(&world, &[("STRIPE_SECRET_KEY", "sk_live_1")]).await;
    other_mode.assert("releases", "ok", "not stopped");
}

#[tokio::test]
async fn a_database_that_endangers_money_or_work_is_found() {
    let world = World::start().await;
    // Test servers force nothing to disk.
    doctor(&world, &[]).await.assert("durability", "fail", "fsync, full_page_writes");
    run_sql(
        &world,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                     values (9999, 'later', true, '', 0)",
    )
    .await;
    doctor(&world, &[]).await.assert("migrations", "fail", "newer version");
    run_sql(&world, "delete from _sqlx_migrations where version >= 9999 or version = 1").await;
    let found = doctor(&world, &[]).await;
    found.assert("migrations", "warn", "1 of ");
    found.assert("service", "warn", "not checked");
    run_sql(
        &world,
        "do $$ begin create role sluicegate_doctor login connection limit 10; exception when duplicate_object then end $$;
         grant usage on schema public to sluicegate_doctor; revoke create on schema public from public;",
    )
    .await;
    let as_stranger = world.db.url.replace("postgres@", "sluicegate_doctor@");
    let found = doctor(&world, &[("DATABASE_URL", &as_stranger)]).await;
    found.assert("privileges", "fail", "may not create");
    found.assert("connections", "fail", "10 for this user");
    found.assert("migrations", "fail", "permission denied");
    let gone = doctor(&world, &[("DATABASE_URL", "postgres://127.0.0.1:1/x")]).await;
    gone.assert("database", "fail", "not reachable");
    gone.assert("stripe", "ok", "answers");
}
