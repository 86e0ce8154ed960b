//! Every setting by its name: its flag, whether it is a secret, whether it is a list.
//!
//! One table, from which the flags, the variables, the file's keys and the hints for a misspelt name all
//! follow. What a value means is not known here.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// The settings as flags; each names the environment variable of the same meaning.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct Flags {
    /// TOML file of settings, its keys named like the variables; below flags and environment
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Postgres 14 or newer, `postgres://…`; absent: an embedded cluster under the data directory. It shows in
    /// the process list: prefer DATABASE_URL or DATABASE_URL_FILE for one with a password [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<SecretString>,
    /// Where the embedded cluster lives; default `.sluicegate` [env: SLUICEGATE_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Server binaries for the embedded cluster; absent: found, else fetched [env: PG_BIN_DIR]
    #[arg(long, value_name = "DIR")]
    pub pg_bin_dir: Option<String>,
    /// Address to listen on, port 0 picks a free one; default `127.0.0.1:8080` [env: SLUICEGATE_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Second address, for the API, metrics and the console; the first then keeps only what Stripe and browsers
    /// need [env: SLUICEGATE_OPS_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub ops_listen: Option<String>,
    /// Proxies whose X-Forwarded-For is believed, as addresses and networks: `10.0.0.0/8,2001:db8::1`; default:
    /// none [env: SLUICEGATE_TRUSTED_PROXIES]
    #[arg(long, value_name = "LIST")]
    pub trusted_proxies: Option<String>,
    /// PEM file of the certificate and its chain, to serve HTTPS; read again when it changes [env:
    /// SLUICEGATE_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// PEM file of its private key [env: SLUICEGATE_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Base of onboarding return and refresh links; HTTPS in live mode [env: SLUICEGATE_PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Base of Stripe's API; default `https://api.stripe.com` [env: STRIPE_API_BASE]
    #[arg(long, value_name = "URL")]
    pub stripe_api_base: Option<String>,
    /// How far a webhook's signature time may be from now, both ways; default `300s` [env:
    /// SLUICEGATE_SIGNATURE_TOLERANCE]
    #[arg(long, value_name = "DURATION")]
    pub signature_tolerance: Option<String>,
    /// What must all hold before an account is paid: details_submitted, charges_enabled, payouts_enabled,
    /// transfers_active, no_past_due; default `details_submitted,charges_enabled,transfers_active` [env:
    /// SLUICEGATE_READINESS]
    #[arg(long, value_name = "LIST")]
    pub readiness: Option<String>,
    /// An account last confirmed longer ago is fetched before it is paid; default `24h` [env:
    /// SLUICEGATE_READINESS_MAX_AGE]
    #[arg(long, value_name = "DURATION")]
    pub readiness_max_age: Option<String>,
    /// `source_type` sent with transfers (card, bank_account, fpx); unset: not sent [env:
    /// SLUICEGATE_SOURCE_TYPE]
    #[arg(long, value_name = "TYPE")]
    pub source_type: Option<String>,
    /// When a top-up's money counts: `balance_available` (default) or `topup_succeeded` [env:
    /// SLUICEGATE_SETTLEMENT]
    #[arg(long, value_name = "RULE")]
    pub settlement: Option<String>,
    /// Top-ups whose money was available before this RFC 3339 time are shown but not released; default: one
    /// hour before the first start [env: SLUICEGATE_FUNDS_SINCE]
    #[arg(long, value_name = "TIME")]
    pub funds_since: Option<String>,
    /// `fifo` (default) or `best_fit` [env: SLUICEGATE_RELEASE_ORDER]
    #[arg(long, value_name = "ORDER")]
    pub release_order: Option<String>,
    /// Larger transfers wait for an approval, minor units: `usd:500000,jpy:1000000` [env:
    /// SLUICEGATE_APPROVAL_ABOVE]
    #[arg(long, value_name = "AMOUNTS")]
    pub approval_above: Option<String>,
    /// Most that is released in a UTC day, minor units: `usd:500000,jpy:1000000` [env: SLUICEGATE_DAILY_CAP]
    #[arg(long, value_name = "AMOUNTS")]
    pub daily_cap: Option<String>,
    /// The same for each destination account [env: SLUICEGATE_DAILY_CAP_PER_DESTINATION]
    #[arg(long, value_name = "AMOUNTS")]
    pub daily_cap_per_destination: Option<String>,
    /// TOML file of payable country and currency pairs; default: a built-in table [env: SLUICEGATE_CORRIDORS]
    #[arg(long, value_name = "FILE")]
    pub corridors: Option<String>,
    /// Stripe calls a second, of all replicas together; default 25 in test mode, 80 in live mode; 0 is off
    /// [env: SLUICEGATE_STRIPE_RATE]
    #[arg(long, value_name = "N")]
    pub stripe_rate: Option<String>,
    /// How long after an unclear answer a transfer is looked up at Stripe; default `10m` [env:
    /// SLUICEGATE_UNKNOWN_OUTCOME_GRACE]
    #[arg(long, value_name = "DURATION")]
    pub unknown_outcome_grace: Option<String>,
    /// How often stale objects are compared with Stripe; default `5m`; 0 is off [env:
    /// SLUICEGATE_RECONCILE_EVERY]
    #[arg(long, value_name = "DURATION")]
    pub reconcile_every: Option<String>,
    /// How often Stripe's event list is searched for events never received; default `10m`; 0 is off [env:
    /// SLUICEGATE_BACKFILL_EVERY]
    #[arg(long, value_name = "DURATION")]
    pub backfill_every: Option<String>,
    /// How long settled events are kept, `35d` or more; default `90d` [env: SLUICEGATE_RETENTION]
    #[arg(long, value_name = "DURATION")]
    pub retention: Option<String>,
    /// What this process runs: intake, worker, api, console; default all [env: SLUICEGATE_ROLES]
    #[arg(long, value_name = "LIST")]
    pub roles: Option<String>,
    /// What is logged, like `info,sluicegate=debug` [env: RUST_LOG]
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// `pretty` or `json`; default: pretty on a terminal [env: SLUICEGATE_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Where traces are exported to; unset: nowhere [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// One setting that can be given.
pub(super) struct Variable {
    /// Its environment variable; lower-cased also its key in the file.
    pub name: &'static str,
    /// Never shown; may come from a file that `{name}_FILE` names.
    pub secret: bool,
    /// Takes several values, so an array in the file.
    pub list: bool,
    /// Its flag, with dashes, unless it has none.
    pub flag: Option<&'static str>,
    /// What the flag was given.
    pub flagged: fn(&Flags) -> Option<&str>,
}

impl Variable {
    /// The variable that names the file with the value, for a secret.
    pub fn file_name(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.name))
    }
}

const fn one(name: &'static str, flag: &'static str, flagged: fn(&Flags) -> Option<&str>) -> Variable {
    Variable { name, secret: false, list: false, flag: Some(flag), flagged }
}

const fn many(name: &'static str, flag: &'static str, flagged: fn(&Flags) -> Option<&str>) -> Variable {
    Variable { name, secret: false, list: true, flag: Some(flag), flagged }
}

const fn secret(name: &'static str, list: bool) -> Variable {
    Variable { name, secret: true, list, flag: None, flagged: |_| None }
}

/// Every setting there is.
pub(super) const VARIABLES: &[Variable] = &[
    Variable {
        name: "DATABASE_URL",
        secret: true,
        list: false,
        flag: Some("--database-url"),
        flagged: |flags| flags.database_url.as_ref().map(|url| url.expose_secret()),
    },
    secret("SLUICEGATE_ADMIN_KEY", false),
    secret("STRIPE_SECRET_KEY", false),
    secret("STRIPE_WEBHOOK_SECRETS", true),
    one("SLUICEGATE_DATA_DIR", "--data-dir", |flags| flags.data_dir.as_deref()),
    one("PG_BIN_DIR", "--pg-bin-dir", |flags| flags.pg_bin_dir.as_deref()),
    one("SLUICEGATE_LISTEN", "--listen", |flags| flags.listen.as_deref()),
    one("SLUICEGATE_OPS_LISTEN", "--ops-listen", |flags| flags.ops_listen.as_deref()),
    many("SLUICEGATE_TRUSTED_PROXIES", "--trusted-proxies", |flags| flags.trusted_proxies.as_deref()),
    one("SLUICEGATE_TLS_CERT", "--tls-cert", |flags| flags.tls_cert.as_deref()),
    one("SLUICEGATE_TLS_KEY", "--tls-key", |flags| flags.tls_key.as_deref()),
    one("SLUICEGATE_PUBLIC_URL", "--public-url", |flags| flags.public_url.as_deref()),
    one("STRIPE_API_BASE", "--stripe-api-base", |flags| flags.stripe_api_base.as_deref()),
    one("SLUICEGATE_SIGNATURE_TOLERANCE", "--signature-tolerance", |flags| {
        flags.signature_tolerance.as_deref()
    }),
    many("SLUICEGATE_READINESS", "--readiness", |flags| flags.readiness.as_deref()),
    one("SLUICEGATE_READINESS_MAX_AGE", "--readiness-max-age", |flags| flags.readiness_max_age.as_deref()),
    one("SLUICEGATE_SOURCE_TYPE", "--source-type", |flags| flags.source_type.as_deref()),
    one("SLUICEGATE_SETTLEMENT", "--settlement", |flags| flags.settlement.as_deref()),
    one("SLUICEGATE_FUNDS_SINCE", "--funds-since", |flags| flags.funds_since.as_deref()),
    one("SLUICEGATE_RELEASE_ORDER", "--release-order", |flags| flags.release_order.as_deref()),
    many("SLUICEGATE_APPROVAL_ABOVE", "--approval-above", |flags| flags.approval_above.as_deref()),
    many("SLUICEGATE_DAILY_CAP", "--daily-cap", |flags| flags.daily_cap.as_deref()),
    many("SLUICEGATE_DAILY_CAP_PER_DESTINATION", "--daily-cap-per-destination", |flags| {
        flags.daily_cap_per_destination.as_deref()
    }),
    one("SLUICEGATE_CORRIDORS", "--corridors", |flags| flags.corridors.as_deref()),
    one("SLUICEGATE_STRIPE_RATE", "--stripe-rate", |flags| flags.stripe_rate.as_deref()),
    one("SLUICEGATE_UNKNOWN_OUTCOME_GRACE", "--unknown-outcome-grace", |flags| {
        flags.unknown_outcome_grace.as_deref()
    }),
    one("SLUICEGATE_RECONCILE_EVERY", "--reconcile-every", |flags| flags.reconcile_every.as_deref()),
    one("SLUICEGATE_BACKFILL_EVERY", "--backfill-every", |flags| flags.backfill_every.as_deref()),
    one("SLUICEGATE_RETENTION", "--retention", |flags| flags.retention.as_deref()),
    many("SLUICEGATE_ROLES", "--roles", |flags| flags.roles.as_deref()),
    one("RUST_LOG", "--log-filter", |flags| flags.log_filter.as_deref()),
    one("SLUICEGATE_LOG_FORMAT", "--log-format", |flags| flags.log_format.as_deref()),
    one("OTEL_EXPORTER_OTLP_ENDPOINT", "--otlp-endpoint", |flags| flags.otlp_endpoint.as_deref()),
];

/// Everything that may be set: the variables, and for secrets the variables that name their files.
pub(super) fn known_names() -> impl Iterator<Item = String> {
    VARIABLES.iter().flat_map(|variable| [Some(variable.name.to_owned()), variable.file_name()]).flatten()
}

/// The known name nearest to a misspelt one, and how many edits lie between.
///
/// The prefix is left out of the comparison, so that a forgotten or a superfluous one costs nothing.
pub(super) fn nearest(name: &str) -> Option<(usize, String)> {
    let bare = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("SLUICEGATE_").unwrap_or(&name).to_owned()
    };
    let wanted = bare(name);
    known_names().map(|known| (edits(&wanted, &bare(&known)), known)).min_by_key(|(edits, _)| *edits)
}

/// Levenshtein's distance.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, from) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, to) in row.iter_mut().skip(1).zip(&other) {
            let swapped = diagonal + usize::from(from != *to);
            diagonal = *above;
            left = swapped.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Whether Kubernetes made this variable, for a Service whose name starts with `sluicegate`.
///
/// It injects `{SVC}_SERVICE_HOST`, `{SVC}_SERVICE_PORT[_{NAME}]`, `{SVC}_PORT` (a URL, unlike a port that a
/// person would write) and `{SVC}_PORT_{N}_{PROTOCOL}[_PROTO|_PORT|_ADDR]`.
pub(super) fn injected_by_kubernetes(name: &str, value: &str) -> bool {
    let service_port = |rest: &str| rest.is_empty() || rest.starts_with('_');
    name.ends_with("_SERVICE_HOST")
        || name.match_indices("_SERVICE_PORT").any(|(at, found)| service_port(&name[at + found.len()..]))
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.match_indices("_PORT_").any(|(at, found)| is_port_of(&name[at + found.len()..]))
}

/// `{N}_{PROTOCOL}[_PROTO|_PORT|_ADDR]`
fn is_port_of(rest: &str) -> bool {
    let mut parts = rest.split('_');
    parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
        && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
        && parts.next().is_none()
}
