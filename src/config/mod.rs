//! What an operator can set: read once at the start, checked whole, and typed from then on.
//!
//! Flags outrank the environment, which outranks the file of `--config`, which outranks the defaults. Nothing
//! here opens a connection or builds a part of the service. Every problem is told at once, by the name of its
//! variable, and no secret is ever shown.

mod corridors;
mod names;
mod secrets;
mod settings;
mod sources;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use time::Duration;

pub use names::Flags;
pub use secrets::{Mode, StripeKey, WebhookSecret};
pub use settings::{LogFormat, Role, Settings, SourceType};
pub use sources::{Problem, Source, Warning};

use settings::{DATA_DIR, LISTEN, STRIPE_API_BASE};
use sources::Given;

/// Reads the settings from flags, environment and the file that `--config` names.
///
/// `env` is `std::env::vars_os()`; `read` opens the settings file and the files that hold secrets,
/// `|path| std::fs::read_to_string(path)`. Fails with every problem found, each with its mend.
pub fn load(
    flags: &Flags,
    env: impl Iterator<Item = (OsString, OsString)>,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<(Settings, Vec<Warning>), Vec<Problem>> {
    let Examined { settings, warnings, problems } = examine(flags, env, read);
    if problems.is_empty() { Ok((settings, warnings)) } else { Err(problems) }
}

/// The settings with everything that is to be said about them.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Each value that is well formed; the default in place of any other.
    pub settings: Settings,
    /// What is probably a mistake.
    pub warnings: Vec<Warning>,
    /// Why the service can't start with them.
    pub problems: Vec<Problem>,
}

/// The same for who wants to know more than that it can't be: [`load`] fails where there is a problem.
pub fn examine(
    flags: &Flags,
    env: impl Iterator<Item = (OsString, OsString)>,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Examined {
    let mut given = Given::gather(flags, env, &read);
    let settings = typed(&mut given, &read);
    check(&settings, &mut given);
    Examined { settings, warnings: given.warnings, problems: given.problems }
}

/// Each value by its own rules. Where one is refused its default stands in, and `load` fails.
fn typed(given: &mut Given, read: &dyn Fn(&Path) -> io::Result<String>) -> Settings {
    Settings {
        database_url: given.take("DATABASE_URL", secrets::database_url),
        data_dir: given.take("SLUICEGATE_DATA_DIR", values::path).unwrap_or_else(|| PathBuf::from(DATA_DIR)),
        pg_bin_dir: given.take("PG_BIN_DIR", values::path),
        listen: given.take("SLUICEGATE_LISTEN", values::address).unwrap_or(LISTEN),
        ops_listen: given.take("SLUICEGATE_OPS_LISTEN", values::address),
        trusted_proxies: given.take("SLUICEGATE_TRUSTED_PROXIES", values::networks).unwrap_or_default(),
        tls_cert: given.take("SLUICEGATE_TLS_CERT", values::path),
        tls_key: given.take("SLUICEGATE_TLS_KEY", values::path),
        public_url: given.take("SLUICEGATE_PUBLIC_URL", values::base_url),
        roles: given.take("SLUICEGATE_ROLES", values::roles).unwrap_or_else(|| Role::ALL.into()),
        admin_key: given.take("SLUICEGATE_ADMIN_KEY", secrets::admin_key),
        stripe_key: given.take("STRIPE_SECRET_KEY", secrets::stripe_key),
        webhook_secrets: given.take("STRIPE_WEBHOOK_SECRETS", secrets::webhook_secrets).unwrap_or_default(),
        stripe_api_base: given
            .take("STRIPE_API_BASE", values::base_url)
            .unwrap_or_else(|| STRIPE_API_BASE.to_owned()),
        stripe_rate: given.take("SLUICEGATE_STRIPE_RATE", values::rate),
        signature_tolerance: given
            .take("SLUICEGATE_SIGNATURE_TOLERANCE", values::span)
            .unwrap_or(Duration::seconds(300)),
        readiness: given.take("SLUICEGATE_READINESS", values::policy).unwrap_or_default(),
        readiness_max_age: given
            .take("SLUICEGATE_READINESS_MAX_AGE", values::span)
            .unwrap_or(Duration::hours(24)),
        source_type: given.take("SLUICEGATE_SOURCE_TYPE", values::source_type),
        settlement: given.take("SLUICEGATE_SETTLEMENT", values::settlement).unwrap_or_default(),
        funds_since: given.take("SLUICEGATE_FUNDS_SINCE", values::instant),
        release_order: given.take("SLUICEGATE_RELEASE_ORDER", values::release_order).unwrap_or_default(),
        approval_above: given.take("SLUICEGATE_APPROVAL_ABOVE", values::amounts).unwrap_or_default(),
        daily_cap: given.take("SLUICEGATE_DAILY_CAP", values::amounts).unwrap_or_default(),
        daily_cap_per_destination: given
            .take("SLUICEGATE_DAILY_CAP_PER_DESTINATION", values::amounts)
            .unwrap_or_default(),
        corridors: given.take("SLUICEGATE_CORRIDORS", |path| corridors::load(path, read)).unwrap_or_default(),
        unknown_outcome_grace: given
            .take("SLUICEGATE_UNKNOWN_OUTCOME_GRACE", values::span)
            .unwrap_or(Duration::minutes(10)),
        reconcile_every: given
            .take("SLUICEGATE_RECONCILE_EVERY", values::period)
            .unwrap_or(Some(Duration::minutes(5))),
        backfill_every: given
            .take("SLUICEGATE_BACKFILL_EVERY", values::period)
            .unwrap_or(Some(Duration::minutes(10))),
        retention: given.take("SLUICEGATE_RETENTION", values::retention).unwrap_or(Duration::days(90)),
        log_filter: given.take("RUST_LOG", values::log_filter),
        log_format: given.take("SLUICEGATE_LOG_FORMAT", values::log_format),
        otlp_endpoint: given.take("OTEL_EXPORTER_OTLP_ENDPOINT", values::base_url),
    }
}

/// What holds between settings.
fn check(settings: &Settings, given: &mut Given) {
    if settings.database_url.as_ref().is_some_and(secrets::holds_password)
        && matches!(given.origin("DATABASE_URL"), Source::Flag(_))
    {
        let advice = "its password shows in the process list: set DATABASE_URL or DATABASE_URL_FILE instead";
        given.warn("--database-url", advice.to_owned());
    }
    let live = settings.mode() == Some(Mode::Live);
    if live && settings.public_url.as_ref().is_some_and(|url| !url.starts_with("https://")) {
        let mend = "must be https:// with a live key: Stripe refuses other links in live mode";
        given.refuse("SLUICEGATE_PUBLIC_URL", mend.to_owned());
    }
    if live && values::in_clear(&settings.stripe_api_base) {
        given.refuse("STRIPE_API_BASE", "would send a live key in clear: use https://".to_owned());
    }
    for (one, other, name) in [
        (&settings.tls_cert, &settings.tls_key, "SLUICEGATE_TLS_KEY"),
        (&settings.tls_key, &settings.tls_cert, "SLUICEGATE_TLS_CERT"),
    ] {
        if one.is_some() && other.is_none() {
            given.refuse(name, "a certificate and its key are set together: set both, or none".to_owned());
        }
    }
    if settings.ops_listen == Some(settings.listen) && settings.listen.port() != 0 {
        let mend = "is the address of SLUICEGATE_LISTEN: write another, or unset it to serve all on one";
        given.refuse("SLUICEGATE_OPS_LISTEN", mend.to_owned());
    }
}
