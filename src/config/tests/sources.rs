//! Where values come from: precedence, the settings file, secret files, names that nobody knows.

use std::ffi::OsString;

use secrecy::ExposeSecret;

use super::{env, refused, run, settings, warned};
use crate::config::{Flags, Mode, Problem, load};
use crate::domain::account::Policy;

#[test]
fn flag_outranks_environment_outranks_file_outranks_default() {
    let file = [("c.toml", "sluicegate_listen = '127.0.0.1:1'\nSLUICEGATE_STRIPE_RATE = 1\n")];
    let variables = [("SLUICEGATE_LISTEN", "127.0.0.1:2")];
    let port = |flags: &[&str], env| settings(run(flags, env, &file)).listen.port();
    assert_eq!(port(&["--config", "c.toml", "--listen", "127.0.0.1:3"], &variables), 3);
    assert_eq!(port(&["--config", "c.toml"], &variables), 2);
    assert_eq!(port(&["--config", "c.toml"], &[]), 1);
    assert_eq!(port(&[], &[]), 8080);
    // What is outranked is not read, so a bad value below does no harm; empty is a value, and a bad one.
    assert_eq!(port(&["--listen", "127.0.0.1:3"], &[("SLUICEGATE_LISTEN", "bad")]), 3);
    assert!(refused(run(&["--config", "c.toml"], &[("SLUICEGATE_LISTEN", "")], &file)).contains("empty"));
    assert_eq!(settings(env(&[("RUST_LOG", ""), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")])).log_filter, None);
}

#[test]
fn a_file_may_hold_all_settings_in_toml() {
    let text = "
        database_url = 'postgres://db/pay'
        STRIPE_SECRET_KEY_FILE = '/run/secrets/stripe'
        stripe_webhook_secrets = ['a=whsec_1', 'whsec_2']
        sluicegate_readiness = ['payouts_enabled']
        sluicegate_daily_cap = 'usd:5'
        sluicegate_funds_since = 2026-11-22T10:00:00Z
        sluicegate_reconcile_every = 0
        sluicegate_stripe_rate = 9
    ";
    let files = [("c.toml", text), ("/run/secrets/stripe", "sk_test_1\n")];
    let settings = settings(run(&["--config", "c.toml"], &[], &files));
    assert_eq!(settings.mode(), Some(Mode::Test));
    assert_eq!(settings.webhook_secrets.len(), 2);
    assert_eq!(settings.readiness, Policy::parse("payouts_enabled").unwrap());
    assert_eq!(settings.funds_since, Some(time::macros::datetime!(2026-11-22 10:00 UTC)));
    assert_eq!((settings.reconcile_every, settings.stripe_rate), (None, Some(9)));
}

#[test]
fn a_bad_file_stops_the_start_and_its_secrets_stay_inside() {
    let rows = [
        ("listen = 'x'", "listen (from c.toml): is an unknown key; the nearest known is sluicegate_listen"),
        ("[sluicegate]\nlisten = 'x'", "sluicegate (from c.toml): is an unknown key"),
        ("sluicegate_listen = 5.5", "SLUICEGATE_LISTEN (from c.toml): must be a string"),
        ("sluicegate_listen = ['127.0.0.1:1']", "SLUICEGATE_LISTEN (from c.toml): must be a string"),
        ("sluicegate_roles = [1]", "SLUICEGATE_ROLES (from c.toml): an array here holds only strings"),
        (
            "sluicegate_listen='1'\nSLUICEGATE_LISTEN='2'",
            "sluicegate_listen (from c.toml): SLUICEGATE_LISTEN is there twice",
        ),
        ("\nstripe_secret_key = sk_live_hidden", "--config (from c.toml): is not TOML, line 2"),
        ("stripe_secret_key = 'sk_live_hidden", "--config (from c.toml): is not TOML, line 1"),
        ("stripe_secret_key = 'sk_hidden'", "STRIPE_SECRET_KEY (from c.toml): is not a Stripe key"),
    ];
    for (text, start) in rows {
        let problems = run(&["--config", "c.toml"], &[], &[("c.toml", text)]).unwrap_err();
        let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert!(texts.iter().any(|text| text.starts_with(start)), "{texts:#?}");
        assert!(!format!("{problems:?}{texts:?}").contains("hidden"), "{texts:#?}");
    }
    assert!(
        refused(run(&["--config", "none"], &[], &[]))
            .starts_with("--config (from none): the file can't be read")
    );
}

#[test]
fn a_secret_may_come_from_a_file() {
    let files =
        [("/s/key", "sk_test_1\r\n"), ("/s/hooks", "a=whsec_1,whsec_2\n"), ("/s/db", "postgres://db/x\n")];
    let variables = [
        ("STRIPE_SECRET_KEY_FILE", "/s/key"),
        ("STRIPE_WEBHOOK_SECRETS_FILE", "/s/hooks"),
        ("DATABASE_URL_FILE", "/s/db"),
    ];
    let settings = settings(run(&[], &variables, &files));
    assert_eq!(settings.required_stripe_key().unwrap().expose(), "sk_test_1");
    assert_eq!(settings.webhook_secrets.len(), 2);
    assert_eq!(settings.database_url.unwrap().expose_secret(), "postgres://db/x");

    let both = [("STRIPE_SECRET_KEY", "sk_test_1"), ("STRIPE_SECRET_KEY_FILE", "/s/key")];
    assert!(refused(run(&[], &both, &files)).contains("STRIPE_SECRET_KEY_FILE is set as well"));
    let absent = refused(env(&[("SLUICEGATE_ADMIN_KEY_FILE", "/s/none")]));
    assert!(
        absent.starts_with("SLUICEGATE_ADMIN_KEY_FILE (from the environment): the file can't be read"),
        "{absent}"
    );
    let malformed = refused(run(&[], &[("STRIPE_SECRET_KEY_FILE", "/s/db")], &files));
    assert!(malformed.starts_with("STRIPE_SECRET_KEY (from the secret file /s/db): is not"), "{malformed}");
    // A flag is nearer than a file that the environment names.
    let flagged = run(&["--database-url", "postgres://db/flag"], &variables, &files).unwrap().0;
    assert_eq!(flagged.database_url.unwrap().expose_secret(), "postgres://db/flag");
}

#[test]
fn an_unknown_variable_is_warned_about_with_the_nearest_name() {
    let rows = [
        ("SLUICEGATE_LISTN", "SLUICEGATE_LISTEN"),
        ("SLUICEGATE_DATABASE_URL", "DATABASE_URL"),
        ("SLUICEGATE_STRIPE_SECRET_KEY", "STRIPE_SECRET_KEY"),
        ("SLUICEGATE_DAILY_CAPS", "SLUICEGATE_DAILY_CAP"),
        ("SLUICEGATE_LISTEN_FILE", "SLUICEGATE_LISTEN"),
        ("STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRETS"),
    ];
    for (name, nearest) in rows {
        let warnings = warned(env(&[(name, "1")]));
        assert_eq!(warnings, [format!("{name}: unknown, so without effect; the nearest known is {nearest}")]);
    }
    let others = [("HOME", "/"), ("PATH", ""), ("STRIPE_PUBLISHABLE_KEY", "pk_1"), ("LISTEN", "1")];
    assert!(warned(env(&others)).is_empty());
}

#[test]
fn what_kubernetes_injects_is_passed_over() {
    let injected = [
        ("SLUICEGATE_SERVICE_HOST", "10.0.0.1"),
        ("SLUICEGATE_SERVICE_PORT", "8080"),
        ("SLUICEGATE_SERVICE_PORT_HTTP", "8080"),
        ("SLUICEGATE_PORT", "tcp://10.0.0.1:8080"),
        ("SLUICEGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("SLUICEGATE_PORT_8080_TCP_PROTO", "tcp"),
        ("SLUICEGATE_PORT_8080_TCP_PORT", "8080"),
        ("SLUICEGATE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SLUICEGATE_OPS_SERVICE_HOST", "10.0.0.1"),
        ("SLUICEGATE_OPS_SERVICE_PORT_METRICS_V2", "9090"),
        ("SLUICEGATE_OPS_PORT", "udp://10.0.0.1:9090"),
        ("SLUICEGATE_OPS_PORT_9090_UDP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(warned(env(&injected)), Vec::<String>::new());
    let written =
        [("SLUICEGATE_PORT", "8080"), ("SLUICEGATE_PORT_HTTP", "80"), ("SLUICEGATE_SERVICE_PORTS", "1")];
    assert_eq!(warned(env(&written)).len(), 3);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![b'a', 0xff]);
    let env =
        [("SLUICEGATE_DATA_DIR", value.clone()), ("LS_COLORS", value)].map(|(name, v)| (name.into(), v));
    let problems = load(&Flags::default(), env.into_iter(), |_| unreachable!()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("SLUICEGATE_DATA_DIR (from the environment): is not UTF-8"));
}
