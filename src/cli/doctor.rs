//! `doctor`: what is wrong with the configuration, the database and the account at Stripe, and what to do about it.
//!
//! It reads and changes nothing. What can be asked at once is; what is missing keeps nothing else from being checked.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::database::{self, Database};
use super::output::{Column, Output, Show, say};
use super::shell::Shown;
use super::{Failed, serve};
use crate::clock::Clock;
use crate::config::{self, Examined, Mode, Settings};
use crate::domain::checkup::{Finding, Verdict, secrets, service, worst};
use crate::domain::endpoint::PATH;
use crate::embedded::{Programs, Survey};
use crate::flows::examine::{self, AtStripe, Expected, InDatabase, Served};
use crate::flows::upkeep;
use crate::stripe::client::{Client, ClientConfig};
use crate::telemetry;

/// A call to Stripe that takes longer is no answer.
const CALL: Duration = Duration::from_secs(10);
/// Starting a private cluster that is there already.
const START: Duration = Duration::from_secs(30);
/// The connection that holds a process's presence, beside its pool.
const PRESENCE: i64 = 1;

const COLUMNS: &[Column] = &[
    Column("", Show::State("/verdict")),
    Column("CHECK", Show::Text("/check")),
    Column("FOUND", Show::Text("/line")),
];

/// Checks; false where anything failed.
pub async fn run(shown: &Shown) -> Result<bool, Failed> {
    let examined = config::examine(&shown.flags, std::env::vars_os(), |path| std::fs::read_to_string(path));
    let settings = &examined.settings;
    telemetry::init(settings.log_format, Some(settings.log_filter.as_deref().unwrap_or("off")));
    let (stripe, database) = tokio::join!(at_stripe(settings), in_database(settings));
    let mut findings = configuration(&examined);
    findings.extend(of_secrets(&examined, database.state.as_ref().map(|state| state.keys)));
    findings.extend(database.findings);
    match (&database.state, settings.mode()) {
        (Some(state), Some(_)) => {
            findings.extend(service::state(state, stripe.platform.as_deref(), Clock::system().now()));
        }
        (Some(_), None) => findings.push(Finding::unchecked(
            "service",
            "test and live mode are apart, and the key says which is meant",
            "set STRIPE_SECRET_KEY",
        )),
        (None, _) => findings.push(Finding::unchecked(
            "service",
            "it left nothing, or it can't be read yet",
            "look again once the database is there with every table",
        )),
    }
    findings.extend(stripe.findings);
    show(shown.form(), &findings);
    Ok(worst(&findings) != Verdict::Fail)
}

fn show(form: Output, findings: &[Finding]) {
    let rows = findings.iter().map(|finding| {
        let mend = finding.mend.as_ref().map(|mend| format!(" → {mend}")).unwrap_or_default();
        json!({
            "check": finding.check, "verdict": finding.verdict.as_str(), "found": finding.found,
            "mend": finding.mend, "line": format!("{}{mend}", finding.found),
        })
    });
    let mut rows: Vec<Value> = rows.collect();
    match form {
        Output::Table => form.whole(&json!({"data": rows}).to_string(), COLUMNS),
        Output::Json => {
            for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                row.remove("line");
            }
            say(&json!({"verdict": worst(findings).as_str(), "data": rows}).to_string());
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    eprintln!(
        "{} ok, {} to look at, {} failed",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail)
    );
}

/// What is malformed, and what has no effect.
fn configuration(examined: &Examined) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let problems = examined.problems.iter().map(|problem| {
        let shown = problem.shown.as_ref().map(|value| format!(" is {value:?}")).unwrap_or_default();
        Finding::fail(CHECK, format!("{} ({}){shown}", problem.variable, problem.origin), &problem.mend)
    });
    let warnings =
        examined.warnings.iter().map(|warning| Finding::warn(CHECK, &warning.variable, &warning.advice));
    let findings: Vec<Finding> = problems.chain(warnings).collect();
    if findings.is_empty() { vec![Finding::ok(CHECK, "every setting is well formed")] } else { findings }
}

/// The secrets by their form. One that was refused already is not told of twice.
fn of_secrets(examined: &Examined, keys: Option<i64>) -> Vec<Finding> {
    let settings = &examined.settings;
    let refused = |name: &str| examined.problems.iter().any(|problem| problem.variable.starts_with(name));
    let mut findings = Vec::new();
    let key = settings.stripe_key.as_ref().map(|key| key.expose());
    let webhooks: Vec<&str> =
        settings.webhook_secrets.iter().map(|given| given.secret.expose_secret()).collect();
    if !refused("STRIPE_SECRET_KEY") {
        findings.push(secrets::stripe_key(
            key,
            host_of(&settings.stripe_api_base).is_some_and(|(_, host)| secrets::is_local(&host)),
        ));
    }
    if !refused("STRIPE_WEBHOOK_SECRETS") {
        findings.push(secrets::webhook_secrets(&webhooks));
    }
    if !refused("SLUICEGATE_ADMIN_KEY") {
        let others: Vec<&str> = webhooks.iter().copied().chain(key).collect();
        let admin = settings.admin_key.as_ref().map(|key| key.expose_secret());
        findings.push(secrets::admin_key(admin, &others, keys));
    }
    if !refused("SLUICEGATE_PUBLIC_URL") {
        let url = settings.public_url.as_deref().and_then(host_of);
        let parts = url.as_ref().map(|(scheme, host)| (scheme.as_str(), host.as_str()));
        findings.push(secrets::public_url(parts, settings.mode() == Some(Mode::Live)));
    }
    findings
}

fn host_of(url: &str) -> Option<(String, String)> {
    let url = reqwest::Url::parse(url).ok()?;
    Some((url.scheme().to_owned(), url.host_str()?.to_owned()))
}

/// The account at Stripe, as far as there is a key.
async fn at_stripe(settings: &Settings) -> AtStripe {
    let unchecked = |why: &str, mend: &str| AtStripe {
        findings: vec![Finding::unchecked(
            "stripe",
            format!("{why}; neither are permissions, endpoints, clock and payout schedule"),
            mend,
        )],
        platform: None,
    };
    let Some(key) = &settings.stripe_key else {
        return unchecked("there is no well formed key", "set STRIPE_SECRET_KEY");
    };
    let config = ClientConfig {
        base: settings.stripe_api_base.clone(),
        secret_key: key.secret().clone(),
        rate_per_s: settings.stripe_calls_per_second().map_or(0, std::num::NonZeroU32::get),
        timeout: CALL,
        connect_timeout: CALL / 2,
    };
    let expected = Expected {
        livemode: key.mode() == Mode::Live,
        restricted: key.expose().starts_with("rk_"),
        url: settings.public_url.as_ref().map(|base| format!("{base}{PATH}")),
        secrets: settings.webhook_secrets.len(),
        tolerance: settings.signature_tolerance,
    };
    match Client::new(config) {
        Ok(client) => examine::at_stripe(&client, &Clock::system(), &expected).await,
        Err(error) => unchecked(&error.to_string(), "mend STRIPE_API_BASE"),
    }
}

/// The database: the one that is named, or the private cluster where there is one.
async fn in_database(settings: &Settings) -> InDatabase {
    let (mut findings, database) = match &settings.database_url {
        Some(url) => (Vec::new(), Ok(Database::named(url))),
        None => private(settings).await,
    };
    let nothing = |findings| InDatabase { findings, state: None };
    let database = match database {
        Ok(database) => database,
        Err(finding) => {
            findings.push(finding);
            return nothing(findings);
        }
    };
    let served = Served {
        livemode: settings.mode().map(|mode| mode == Mode::Live),
        connections: i64::from(serve::CONNECTIONS) + PRESENCE,
        alive_for: upkeep::ALIVE_FOR,
    };
    let found = examine::in_database(&database.url, &Clock::system(), served).await;
    database.stop().await;
    findings.extend(found.findings);
    InDatabase { findings, state: found.state }
}

/// The private cluster, and the finding instead of its database where there is none to look into.
async fn private(settings: &Settings) -> (Vec<Finding>, Result<Database, Finding>) {
    const CHECK: &str = "private_cluster";
    let (data_dir, bin_dir) = (settings.data_dir.clone(), settings.pg_bin_dir.clone());
    let Survey { cluster, running, programs } =
        match database::survey(data_dir.clone(), bin_dir.clone()).await {
            Ok(survey) => survey,
            Err(error) => {
                return (Vec::new(), Err(Finding::fail(CHECK, format!("{error:#}"), "or set DATABASE_URL")));
            }
        };
    let programs = match programs {
        Ok(Programs::Found { version, bin }) => format!("Postgres {version} in {}", bin.display()),
        Ok(Programs::Fetchable(client)) => format!("no Postgres here, which is fetched through {client}"),
        Err(error) => {
            let mend = "install Postgres, or set PG_BIN_DIR or DATABASE_URL";
            return (Vec::new(), Err(Finding::fail(CHECK, error.to_string(), mend)));
        }
    };
    let Some(dir) = cluster else {
        let found = format!(
            "DATABASE_URL is not set; the first start makes one in {}: {programs}",
            data_dir.display()
        );
        let nothing =
            Finding::unchecked("database", "there is none yet", "start the service, or `sluicegate migrate`");
        return (vec![Finding::ok(CHECK, found)], Err(nothing));
    };
    let how =
        if running.is_some() { "in use by a running process" } else { "stopped; started for this look" };
    let seen = Finding::ok(CHECK, format!("{}, {how}: {programs}", dir.display()));
    let reached = timeout(START, database::reach(None, data_dir, bin_dir)).await;
    let database = match reached {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => {
            Err(Finding::fail("database", format!("{error:#}"), "mend what it says, or set DATABASE_URL"))
        }
        Err(_) => {
            let found = format!("the private cluster was not up within {} s", START.as_secs());
            Err(Finding::fail("database", found, "see server.log in its folder"))
        }
    };
    (vec![seen], database)
}
