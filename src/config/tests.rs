//! The configuration's promises, read from the outside: `load` with made-up flags, environment and files.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use secrecy::ExposeSecret;

use super::names::VARIABLES;
use super::*;
use crate::domain::account::Policy;
use crate::domain::corridors::{Corridor, Corridors, Country};
use crate::domain::limits::ReleaseOrder;
use crate::domain::money::Currency;
use crate::domain::topup::Rule;

mod sources;

type Loaded = Result<(Settings, Vec<Warning>), Vec<Problem>>;

const WHSEC: &str = "whsec_vectorAcctEndpoint0000000000000001";
const ADMIN_KEY: &str = "0123456789abcdef0123456789abcdef";

fn run(flags: &[&str], env: &[(&str, &str)], files: &[(&str, &str)]) -> Loaded {
    let command = Flags::augment_args(clap::Command::new("sluicegate").no_binary_name(true));
    let flags = Flags::from_arg_matches(&command.get_matches_from(flags)).unwrap();
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let files: BTreeMap<_, _> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
    let read =
        |path: &Path| files.get(path).map(|text| (*text).to_owned()).ok_or(io::ErrorKind::NotFound.into());
    load(&flags, env, read)
}

fn env(env: &[(&str, &str)]) -> Loaded {
    run(&[], env, &[])
}

fn settings(loaded: Loaded) -> Settings {
    loaded.unwrap().0
}

/// The only problem, as the operator reads it.
fn refused(loaded: Loaded) -> String {
    let problems = loaded.unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

fn warned(loaded: Loaded) -> Vec<String> {
    loaded.unwrap().1.iter().map(Warning::to_string).collect()
}

#[test]
fn nothing_given_means_the_defaults() {
    let (settings, warnings) = env(&[]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.data_dir, Path::new(".sluicegate"));
    assert_eq!(settings.stripe_api_base, "https://api.stripe.com");
    assert_eq!(settings.signature_tolerance, Duration::seconds(300));
    assert_eq!(settings.readiness, Policy::default());
    assert_eq!(settings.corridors, Corridors::BuiltIn);
    assert_eq!(settings.readiness_max_age, Duration::hours(24));
    assert_eq!((settings.settlement, settings.release_order), (Rule::BalanceAvailable, ReleaseOrder::Fifo));
    assert_eq!(settings.unknown_outcome_grace, Duration::minutes(10));
    assert_eq!(settings.reconcile_every, Some(Duration::minutes(5)));
    assert_eq!(settings.backfill_every, Some(Duration::minutes(10)));
    assert_eq!(settings.retention, Duration::days(90));
    assert!(Role::ALL.iter().all(|role| settings.runs(*role)));
    assert!(
        settings.daily_cap.is_empty() && settings.webhook_secrets.is_empty() && settings.mode().is_none()
    );
    assert!(
        settings
            .required_stripe_key()
            .unwrap_err()
            .to_string()
            .starts_with("STRIPE_SECRET_KEY (not set): set")
    );
    assert!(settings.required_webhook_secrets().unwrap_err().to_string().contains("setup-webhooks"));
}

#[test]
fn each_variable_arrives_typed() {
    let usd = |amount| BTreeMap::from([(Currency::parse("usd").unwrap(), amount)]);
    let given = [
        ("DATABASE_URL", "postgres://me:secret@db/pay"),
        ("SLUICEGATE_DATA_DIR", "/var/lib/sluicegate"),
        ("PG_BIN_DIR", "/usr/lib/postgresql/16/bin"),
        ("SLUICEGATE_LISTEN", "0.0.0.0:0"),
        ("SLUICEGATE_OPS_LISTEN", "[::1]:9090"),
        ("SLUICEGATE_PUBLIC_URL", "https://pay.example.com/gate/"),
        ("SLUICEGATE_ADMIN_KEY", ADMIN_KEY),
        ("STRIPE_SECRET_KEY", "rk_live_51abc"),
        ("STRIPE_WEBHOOK_SECRETS", &format!("platform={WHSEC},whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==")),
        ("STRIPE_API_BASE", "http://127.0.0.1:12111"),
        ("SLUICEGATE_SIGNATURE_TOLERANCE", "10m"),
        ("SLUICEGATE_READINESS", "payouts_enabled, no_past_due"),
        ("SLUICEGATE_READINESS_MAX_AGE", "2d"),
        ("SLUICEGATE_SOURCE_TYPE", "bank_account"),
        ("SLUICEGATE_SETTLEMENT", "topup_succeeded"),
        ("SLUICEGATE_FUNDS_SINCE", "2026-11-22T10:00:00+01:00"),
        ("SLUICEGATE_RELEASE_ORDER", "best_fit"),
        ("SLUICEGATE_APPROVAL_ABOVE", "usd:500000, jpy:0"),
        ("SLUICEGATE_DAILY_CAP", "usd:7"),
        ("SLUICEGATE_DAILY_CAP_PER_DESTINATION", "usd:3"),
        ("SLUICEGATE_CORRIDORS", "corridors.toml"),
        ("SLUICEGATE_STRIPE_RATE", "12"),
        ("SLUICEGATE_UNKNOWN_OUTCOME_GRACE", "1s"),
        ("SLUICEGATE_RECONCILE_EVERY", "0"),
        ("SLUICEGATE_BACKFILL_EVERY", "0s"),
        ("SLUICEGATE_RETENTION", "35d"),
        ("SLUICEGATE_ROLES", "intake,api"),
        ("RUST_LOG", "info,sluicegate=debug"),
        ("SLUICEGATE_LOG_FORMAT", "json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
    ];
    let table = "[[corridor]]\nto = [\"JP\"]";
    let settings = settings(run(&[], &given, &[("corridors.toml", table)]));
    assert_eq!(settings.database_url.as_ref().unwrap().expose_secret(), "postgres://me:secret@db/pay");
    assert_eq!((settings.listen.port(), settings.ops_listen.unwrap().port()), (0, 9090));
    assert_eq!(settings.public_url.as_deref(), Some("https://pay.example.com/gate"));
    assert_eq!(settings.admin_key.as_ref().unwrap().expose_secret(), ADMIN_KEY);
    assert_eq!(settings.mode(), Some(Mode::Live));
    assert_eq!(settings.required_stripe_key().unwrap().expose(), "rk_live_51abc");
    let [platform, other] = settings.required_webhook_secrets().unwrap() else { panic!("two secrets") };
    assert_eq!((platform.label.as_deref(), platform.secret.expose_secret()), (Some("platform"), WHSEC));
    assert!(other.label.is_none() && other.secret.expose_secret().ends_with("Sw=="));
    assert_eq!(settings.stripe_api_base, "http://127.0.0.1:12111");
    assert_eq!(settings.signature_tolerance, Duration::minutes(10));
    assert_eq!(Ok(&settings.readiness), Policy::parse("payouts_enabled,no_past_due").as_ref());
    assert_eq!(settings.readiness_max_age, Duration::days(2));
    assert_eq!(settings.source_type.unwrap().as_str(), "bank_account");
    assert_eq!((settings.settlement, settings.release_order), (Rule::TopupSucceeded, ReleaseOrder::BestFit));
    assert_eq!(settings.funds_since, Some(time::macros::datetime!(2026-11-22 09:00 UTC)));
    let approval: Vec<_> = settings.approval_above.iter().map(|(c, amount)| (c.as_str(), *amount)).collect();
    assert_eq!(approval, [("jpy", 0), ("usd", 500_000)]);
    assert_eq!((settings.daily_cap, settings.daily_cap_per_destination), (usd(7), usd(3)));
    let japan = Corridor { from: vec![], to: vec![Country::parse("JP").unwrap()], currencies: vec![] };
    assert_eq!(settings.corridors, Corridors::Table(vec![japan]));
    assert_eq!(settings.stripe_rate, Some(12));
    assert_eq!(settings.unknown_outcome_grace, Duration::seconds(1));
    assert_eq!((settings.reconcile_every, settings.backfill_every), (None, None));
    assert_eq!(settings.retention, Duration::days(35));
    assert_eq!(settings.roles, [Role::Intake, Role::Api].into());
    assert_eq!(settings.log_filter.as_deref(), Some("info,sluicegate=debug"));
    assert_eq!(settings.log_format, Some(LogFormat::Json));
    assert_eq!(settings.otlp_endpoint.as_deref(), Some("http://collector:4318"));
}

#[test]
fn the_rate_follows_the_mode_unless_given() {
    let rate = |key, rate: Option<&str>| {
        let mut given = vec![("STRIPE_SECRET_KEY", key)];
        given.extend(rate.map(|rate| ("SLUICEGATE_STRIPE_RATE", rate)));
        settings(env(&given)).stripe_calls_per_second().map(NonZeroU32::get)
    };
    assert_eq!(rate("sk_test_1", None), Some(25));
    assert_eq!(rate("sk_live_1", None), Some(80));
    assert_eq!(rate("sk_live_1", Some("3")), Some(3));
    assert_eq!(rate("sk_test_1", Some("0")), None);
}

#[test]
fn each_malformed_value_is_refused_by_name_with_the_mend() {
    let whitespace = format!("a={WHSEC}, {WHSEC}");
    let rows: &[(&str, &[&str], &str)] = &[
        ("DATABASE_URL", &["", "db:5432", "mysql://db/x", "postgres://u:p#/x@db"], "postgres://USER"),
        ("SLUICEGATE_DATA_DIR", &[""], "empty"),
        ("PG_BIN_DIR", &[""], "empty"),
        ("SLUICEGATE_LISTEN", &["", "8080", ":8080", "localhost:8080", "0.0.0.0:70000"], "127.0.0.1:8080"),
        ("SLUICEGATE_OPS_LISTEN", &["nine", "127.0.0.1:8080"], "write"),
        ("SLUICEGATE_PUBLIC_URL", &["pay.example.com", "ftp://a", "https://a?b=c", "https://u@a"], "URL"),
        (
            "SLUICEGATE_TRUSTED_PROXIES",
            &["", "proxy", "10.0.0.1/8", "10.0.0.0/8,", "0.0.0.0/0", "10.0.0.0/40"],
            "",
        ),
        ("SLUICEGATE_TLS_CERT", &[""], "empty"),
        ("SLUICEGATE_TLS_KEY", &[""], "empty"),
        ("STRIPE_API_BASE", &["api.stripe.com", "https://"], "https://pay.example.com"),
        ("SLUICEGATE_ADMIN_KEY", &["", "short", "0123456789abcdef 123456789abcdef"], "openssl"),
        ("STRIPE_SECRET_KEY", &["pk_test_1", "sk_1", "sk_test_", "sk_test_a b", " sk_test_1"], ""),
        (
            "STRIPE_WEBHOOK_SECRETS",
            &["", " ", ",", &whitespace, WHSEC.split_at(6).1, "whsec_", "a b=whsec_1"],
            "",
        ),
        (
            "STRIPE_WEBHOOK_SECRETS",
            &["a=", "=whsec_1", "a=whsec_1,", "a= whsec_1", "whsec_1\nwhsec_2"],
            "entry",
        ),
        (
            "SLUICEGATE_SIGNATURE_TOLERANCE",
            &["300", "5 m", "1h30m", "-5s", "s", "1.5h", "٣s", "+1s"],
            "`300s`",
        ),
        ("SLUICEGATE_SIGNATURE_TOLERANCE", &["0", "0s"], "longer than 0"),
        ("SLUICEGATE_READINESS", &["", "charges", "charges_enabled,,"], ""),
        ("SLUICEGATE_READINESS_MAX_AGE", &["24", "99999999999999999999d", "36501d"], ""),
        ("SLUICEGATE_READINESS_MAX_AGE", &["0", "0s"], "longer than 0"),
        ("SLUICEGATE_SOURCE_TYPE", &["cash"], "`card`, `bank_account`, `fpx`"),
        ("SLUICEGATE_SETTLEMENT", &["available", "Balance_Available"], "`topup_succeeded`"),
        (
            "SLUICEGATE_FUNDS_SINCE",
            &["2026-11-22", "yesterday", "2026-11-22T10:00:00"],
            "2026-11-22T10:00:00Z",
        ),
        ("SLUICEGATE_RELEASE_ORDER", &["lifo"], "`best_fit`"),
        ("SLUICEGATE_APPROVAL_ABOVE", &["500000", "usd:", "usd:1.5", "usd:-1", "usd:1,"], "usd:500000"),
        ("SLUICEGATE_DAILY_CAP", &["USD:1", "xxx:1"], "currency"),
        ("SLUICEGATE_DAILY_CAP_PER_DESTINATION", &["usd:1,usd:2"], "twice"),
        ("SLUICEGATE_CORRIDORS", &["", "nowhere.toml"], "can't be read"),
        ("SLUICEGATE_STRIPE_RATE", &["fast", "-1", "2.5", "99999999999"], "`25`"),
        ("SLUICEGATE_UNKNOWN_OUTCOME_GRACE", &["ten minutes", "0"], "`10m`"),
        ("SLUICEGATE_RECONCILE_EVERY", &["never", "5"], "`300s`"),
        ("SLUICEGATE_BACKFILL_EVERY", &["off"], "`300s`"),
        ("SLUICEGATE_RETENTION", &["34d", "0", "839h"], "`35d`"),
        ("SLUICEGATE_ROLES", &["intake,cook", ""], ""),
        ("RUST_LOG", &["sluicegate=shout"], "`info"),
        ("SLUICEGATE_LOG_FORMAT", &["xml"], "`pretty`, `json`"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &["collector:4318"], "URL"),
    ];
    for (name, values, mend) in rows {
        for value in *values {
            let text = refused(env(&[(name, value)]));
            assert!(text.starts_with(&format!("{name} (from the environment)")), "{text}");
            assert!(text.contains(mend) || value.is_empty() && text.contains("empty"), "{text}");
        }
    }
    for variable in VARIABLES {
        assert!(rows.iter().any(|(name, ..)| *name == variable.name), "no row for {}", variable.name);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = run(
        &["--listen", "x", "--config", "c.toml"],
        &[("SLUICEGATE_RETENTION", "1d")],
        &[("c.toml", "sluicegate_setlement = 'x'\nsluicegate_stripe_rate = 'x'")],
    );
    let texts: Vec<_> = problems.unwrap_err().iter().map(Problem::to_string).collect();
    assert_eq!(texts.len(), 4, "{texts:#?}");
    for start in [
        "sluicegate_setlement (from c.toml): is an unknown key; the nearest known is sluicegate_settlement",
        "SLUICEGATE_LISTEN (from --listen) is \"x\": write an IP address",
        "SLUICEGATE_STRIPE_RATE (from c.toml) is \"x\": ",
        "SLUICEGATE_RETENTION (from the environment) is \"1d\": must be `35d`",
    ] {
        assert!(texts.iter().any(|text| text.starts_with(start)), "{start}: {texts:#?}");
    }
}

#[test]
fn live_mode_wants_https() {
    let with = |key, url| env(&[("STRIPE_SECRET_KEY", key), ("SLUICEGATE_PUBLIC_URL", url)]);
    assert!(refused(with("sk_live_1", "http://localhost:8080")).starts_with("SLUICEGATE_PUBLIC_URL"));
    settings(with("sk_live_1", "https://pay.example.com"));
    settings(with("sk_test_1", "http://localhost:8080"));
    let at = |key, base| env(&[("STRIPE_SECRET_KEY", key), ("STRIPE_API_BASE", base)]);
    assert!(refused(at("sk_live_1", "http://proxy:8080")).starts_with("STRIPE_API_BASE"));
    for base in ["http://[::1]:8080", "http://localhost", "https://proxy"] {
        settings(at("sk_live_1", base));
    }
    settings(at("sk_test_1", "http://proxy:8080"));
}

#[test]
fn a_password_in_a_flag_is_warned_of() {
    let flagged = |url| warned(run(&["--database-url", url], &[], &[]));
    assert!(flagged("postgres://me:secret@db/pay")[0].starts_with("--database-url: its password shows"));
    assert!(flagged("postgres://me@db/pay").is_empty());
    assert!(warned(env(&[("DATABASE_URL", "postgres://me:secret@db/pay")])).is_empty());
}

#[test]
fn a_certificate_comes_with_its_key() {
    let both = settings(env(&[("SLUICEGATE_TLS_CERT", "c.pem"), ("SLUICEGATE_TLS_KEY", "k.pem")]));
    assert_eq!((both.tls_cert, both.tls_key), (Some("c.pem".into()), Some("k.pem".into())));
    assert!(refused(env(&[("SLUICEGATE_TLS_CERT", "c.pem")])).starts_with("SLUICEGATE_TLS_KEY"));
    assert!(refused(env(&[("SLUICEGATE_TLS_KEY", "k.pem")])).starts_with("SLUICEGATE_TLS_CERT"));
}

#[test]
fn no_secret_is_ever_shown() {
    let flags = ["--database-url", "postgres://me:hidden@db/pay"];
    let good = [
        ("SLUICEGATE_ADMIN_KEY", "hidden-hidden-hidden-hidden-hidden"),
        ("STRIPE_SECRET_KEY", "sk_live_hidden"),
        ("STRIPE_WEBHOOK_SECRETS", "a=whsec_hidden,whsec_hidden"),
    ];
    let shown = format!("{:?}", run(&flags, &good, &[]).unwrap());
    assert!(shown.contains("REDACTED") && !shown.contains("hidden"), "{shown}");
    let parsed = Flags { database_url: Some("postgres://hidden".into()), ..Flags::default() };
    assert!(!format!("{parsed:?}").contains("hidden"));

    let bad = [
        ("DATABASE_URL", "hidden"),
        ("SLUICEGATE_ADMIN_KEY", "hidden"),
        ("STRIPE_SECRET_KEY", "hidden"),
        ("STRIPE_WEBHOOK_SECRETS", "hidden,hidden=whsec_1,hidden =whsec_1,whsec_hidden "),
        ("SLUICEGATE_PUBLIC_URL", "https://me:hidden@example.com"),
        ("SLUICEGATE_SOURCE_TYPE", "sk_live_hidden"),
        ("SLUICEGATE_READINESS", "sk_live_hidden"),
    ];
    let problems = env(&bad).unwrap_err();
    assert_eq!(problems.len(), bad.len());
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    assert!(!format!("{problems:?}{texts:?}").contains("hidden"), "{texts:#?}");
    let misplaced = refused(env(&[("STRIPE_SECRET_KEY_FILE", "sk_live_hidden")]));
    assert!(!misplaced.contains("hidden"), "{misplaced}");
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

#[test]
fn each_variable_but_the_secrets_has_a_flag_that_names_it() {
    let command = Program::command();
    command.clone().debug_assert();
    for variable in VARIABLES {
        let help = |arg: &clap::Arg| arg.get_help().map(ToString::to_string).unwrap_or_default();
        let mention = format!("[env: {}]", variable.name);
        let flag = command.get_arguments().find(|arg| help(arg).ends_with(&mention));
        let long = flag.and_then(clap::Arg::get_long).map(|long| format!("--{long}"));
        assert_eq!(long.as_deref(), variable.flag, "{}", variable.name);
        if let Some(flag) = variable.flag {
            let program = Program::parse_from(["sluicegate", flag, "given"]);
            assert_eq!((variable.flagged)(&program.flags), Some("given"), "{flag}");
        }
    }
    assert_eq!(command.get_arguments().count(), 1 + VARIABLES.iter().filter(|v| v.flag.is_some()).count());
}
