//! `serve`: from settings to a running service, until told to stop.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{Failed, database, service, told_to_stop};
use crate::clock::Clock;
use crate::config::{Mode, Role, Settings, WebhookSecret};
use crate::domain::checkup::{self, Finding};
use crate::domain::limits::Limits;
use crate::http::{Serving, Tls};
use crate::store::db;
use crate::stripe::client::ClientConfig;
use crate::stripe::signature::SigningSecret;
use crate::worker::driver;

/// The longest a call to Stripe may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to Postgres of one process.
pub(super) const CONNECTIONS: u32 = 24;

/// Connections of callers at most; each costs some 40 KiB while a request is read.
const MOST_CONNECTIONS: usize = 8192;
/// Files for Postgres, Stripe, logs and the like.
const OWN_FILES: usize = 128;

/// Runs the service until it is told to stop.
pub async fn run(settings: Settings) -> Result<bool, Failed> {
    let (data_dir, bin_dir) = (settings.data_dir.clone(), settings.pg_bin_dir.clone());
    let intake = settings.runs(Role::Intake);
    let plan = plan(&settings, String::new(), intake)?;
    let database = database::provide(settings.database_url.as_ref(), data_dir, bin_dir).await?;
    let plan = service::Plan { database_url: database.url.clone(), ..plan };
    let service = service::start(plan, Clock::system()).await?;
    println!("listening on {}", service.url());
    tracing::info!(address = %service.address, "listening on {}", service.url());
    if let Some(address) = service.ops_address {
        println!("operations on {}://{address}", service.scheme());
    }
    if let Ok(Finding { mend: Some(mend), found, .. }) = db::way(&database.url).map(checkup::database::way) {
        tracing::warn!("DATABASE_URL: {found}: {mend}");
    }
    if settings.admin_key.is_none() {
        tracing::warn!("SLUICEGATE_ADMIN_KEY is not set: only keys that were made before can call the API");
    }
    told_to_stop().await;
    tracing::info!("stopping: finishing what is under way");
    service.stop().await;
    database.stop().await;
    Ok(true)
}

/// The plan that the settings make; `intake` says whether webhooks are received, which needs their secrets.
pub(super) fn plan(settings: &Settings, database_url: String, intake: bool) -> Result<service::Plan, Failed> {
    let needed = |problem| {
        eprintln!("error: {problem}");
        Failed::Usage
    };
    let key = settings.required_stripe_key().map_err(needed)?;
    let given =
        if intake { settings.required_webhook_secrets().map_err(needed)? } else { &settings.webhook_secrets };
    let stripe = ClientConfig {
        base: settings.stripe_api_base.clone(),
        secret_key: key.secret().clone(),
        rate_per_s: settings.stripe_calls_per_second().map_or(0, std::num::NonZeroU32::get),
        timeout: CALL_TIMEOUT,
        connect_timeout: CONNECT_TIMEOUT,
    };
    assemble(settings, database_url, stripe, key.mode() == Mode::Live, given)
}

/// The plan of a command that is the same in test and live mode and never calls Stripe. Its client leads nowhere:
/// a call would be refused on this machine, and show nobody a key.
pub(super) fn plan_without_stripe(settings: &Settings) -> Result<service::Plan, Failed> {
    let stripe = match &settings.stripe_key {
        Some(_) => return plan(settings, String::new(), false),
        None => ClientConfig {
            base: "http://127.0.0.1:0".to_owned(),
            secret_key: SecretString::from("none"),
            rate_per_s: 0,
            timeout: CALL_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        },
    };
    assemble(settings, String::new(), stripe, false, &[])
}

/// How connections are served: no more of them than the process may have files, less what it needs itself.
fn serving(settings: &Settings) -> Result<Serving, Failed> {
    let tls = match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => match Tls::load(cert, key) {
            Ok(tls) => Some(tls),
            Err(error) => {
                eprintln!("error: SLUICEGATE_TLS_CERT: {error}");
                return Err(Failed::Usage);
            }
        },
        _ => None,
    };
    let most = open_files().map(|files| files.saturating_sub(OWN_FILES).clamp(16, MOST_CONNECTIONS));
    let fallback = Serving::default();
    Ok(Serving { proxies: settings.trusted_proxies.clone().into(), tls, most: most.unwrap_or(fallback.most) })
}

/// How many files this process may have open, where that can be read.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        files => files.parse().ok(),
    }
}

fn assemble(
    settings: &Settings,
    database_url: String,
    stripe: ClientConfig,
    livemode: bool,
    secrets: &[WebhookSecret],
) -> Result<service::Plan, Failed> {
    let webhook_secrets = secrets
        .iter()
        .map(|given| {
            let secret = given.secret.expose_secret();
            SigningSecret::parse(
                &given.label.as_ref().map_or(secret.to_owned(), |label| format!("{label}={secret}")),
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let short = |length: time::Duration| Duration::try_from(length).unwrap_or_default();
    Ok(service::Plan {
        database_url,
        connections: CONNECTIONS,
        listen: settings.listen,
        ops_listen: settings.ops_listen,
        public_url: settings.public_url.clone(),
        admin_key: settings.admin_key.clone(),
        stripe,
        livemode,
        webhook_secrets,
        tolerance: short(settings.signature_tolerance),
        policy: settings.readiness.clone().with_corridors(settings.corridors.clone()),
        rule: settings.settlement,
        max_age: short(settings.readiness_max_age),
        grace: short(settings.unknown_outcome_grace),
        source_type: settings.source_type.map(|source| source.as_str().to_owned()),
        funds_since: settings.funds_since,
        limits: Limits {
            approval_above: settings.approval_above.clone(),
            daily_cap: settings.daily_cap.clone(),
            daily_cap_per_destination: settings.daily_cap_per_destination.clone(),
        },
        release_order: settings.release_order,
        reconcile_every: settings.reconcile_every.map(short),
        backfill_every: settings.backfill_every.map(short),
        retention: short(settings.retention),
        roles: service::Roles {
            intake: settings.runs(Role::Intake),
            worker: settings.runs(Role::Worker),
            api: settings.runs(Role::Api) || settings.runs(Role::Console),
            console: settings.runs(Role::Console),
        },
        serving: serving(settings)?,
        worker: driver::Settings::default(),
    })
}
