//! The settings themselves, typed: what every other part is built from.
//!
//! Which are needed is for the command to say: `migrate` wants no Stripe key, `serve` does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use secrecy::SecretString;
use time::{Duration, OffsetDateTime};

use super::secrets::{Mode, StripeKey, WebhookSecret};
use super::sources::{Problem, Source};
use crate::domain::account::Policy;
use crate::domain::corridors::Corridors;
use crate::domain::limits::ReleaseOrder;
use crate::domain::money::Currency;
use crate::domain::network::Network;
use crate::domain::topup::Rule;

pub(super) const DATA_DIR: &str = ".sluicegate";
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
pub(super) const STRIPE_API_BASE: &str = "https://api.stripe.com";

/// One line of work that a process takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Receives webhooks.
    Intake,
    /// Works off tasks, runs sweeps.
    Worker,
    /// Serves `/v1`.
    Api,
    /// Serves the operators' pages.
    Console,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Intake, Role::Worker, Role::Api, Role::Console];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Intake => "intake",
            Role::Worker => "worker",
            Role::Api => "api",
            Role::Console => "console",
        }
    }
}

/// Which of the platform's Stripe balances transfers draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceType {
    /// `card`
    Card,
    /// `bank_account`
    BankAccount,
    /// `fpx`
    Fpx,
}

impl SourceType {
    /// Every one that Stripe has.
    pub const ALL: [SourceType; 3] = [SourceType::Card, SourceType::BankAccount, SourceType::Fpx];

    /// Stripe's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceType::Card => "card",
            SourceType::BankAccount => "bank_account",
            SourceType::Fpx => "fpx",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Everything an operator can set. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Postgres is; may hold a password. `None`: an embedded cluster.
    pub database_url: Option<SecretString>,
    /// Where the embedded cluster lives.
    pub data_dir: PathBuf,
    /// Server binaries for the embedded cluster.
    pub pg_bin_dir: Option<PathBuf>,
    /// The first address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The second, for API, metrics and console.
    pub ops_listen: Option<SocketAddr>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Certificate with chain, to serve HTTPS; given with its key or not at all.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Base of onboarding links, without trailing slash.
    pub public_url: Option<String>,
    /// What this process runs; never empty.
    pub roles: BTreeSet<Role>,
    /// Bootstrap API key of scope `admin`.
    pub admin_key: Option<SecretString>,
    /// Stripe's API key.
    pub stripe_key: Option<StripeKey>,
    /// What webhooks may be signed with, in the order given.
    pub webhook_secrets: Vec<WebhookSecret>,
    /// Base of Stripe's API, without trailing slash.
    pub stripe_api_base: String,
    /// Stripe calls a second of all replicas together, as given: `None` by mode, `Some(0)` off. See
    /// [`Settings::stripe_calls_per_second`].
    pub stripe_rate: Option<u32>,
    /// How far a signature's time may be from now, both ways; longer than 0.
    pub signature_tolerance: Duration,
    /// What must hold before an account is paid.
    pub readiness: Policy,
    /// An account last confirmed longer ago is fetched first; two minutes or longer.
    pub readiness_max_age: Duration,
    /// Sent with transfers; `None`: not sent.
    pub source_type: Option<SourceType>,
    /// When a top-up's money counts.
    pub settlement: Rule,
    /// Since when settled money counts, in UTC; `None`: one hour before the first start, kept in the database.
    pub funds_since: Option<OffsetDateTime>,
    /// Which transfer goes first.
    pub release_order: ReleaseOrder,
    /// Larger transfers wait for an approval; minor units.
    pub approval_above: BTreeMap<Currency, i64>,
    /// Most that is released in a UTC day; minor units.
    pub daily_cap: BTreeMap<Currency, i64>,
    /// The same for each destination.
    pub daily_cap_per_destination: BTreeMap<Currency, i64>,
    /// Which pairs of countries, and in which currencies, can be paid.
    pub corridors: Corridors,
    /// When an unclear outcome is looked up; longer than 0.
    pub unknown_outcome_grace: Duration,
    /// Period of the sweep over stale objects; `None`: off.
    pub reconcile_every: Option<Duration>,
    /// Period of the sweep over Stripe's event list; `None`: off.
    pub backfill_every: Option<Duration>,
    /// How long settled events are kept; 35 days or more.
    pub retention: Duration,
    /// Directives of the log's filter, well formed.
    pub log_filter: Option<String>,
    /// `None`: pretty on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// Where traces go, without trailing slash.
    pub otlp_endpoint: Option<String>,
}

impl Settings {
    /// Test or live, where a Stripe key is set.
    pub fn mode(&self) -> Option<Mode> {
        self.stripe_key.as_ref().map(StripeKey::mode)
    }

    /// Whether this process takes a role on.
    pub fn runs(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Stripe calls a second of all replicas together; `None`: unlimited.
    pub fn stripe_calls_per_second(&self) -> Option<NonZeroU32> {
        let by_mode = match self.mode() {
            Some(Mode::Live) => 80,
            Some(Mode::Test) | None => 25,
        };
        NonZeroU32::new(self.stripe_rate.unwrap_or(by_mode))
    }

    /// The Stripe key, for a command that can't do without.
    pub fn required_stripe_key(&self) -> Result<&StripeKey, Problem> {
        let mend =
            "set it to the platform's `sk_…` or `rk_…` key, or STRIPE_SECRET_KEY_FILE to a file with it";
        self.stripe_key.as_ref().ok_or_else(|| absent("STRIPE_SECRET_KEY", mend))
    }

    /// The webhook secrets, at least one, for a command that can't do without.
    pub fn required_webhook_secrets(&self) -> Result<&[WebhookSecret], Problem> {
        let mend = "set it to the endpoints' `whsec_…`, comma-separated; `sluicegate setup-webhooks --url URL` \
                    makes the endpoints and prints them";
        if self.webhook_secrets.is_empty() {
            return Err(absent("STRIPE_WEBHOOK_SECRETS", mend));
        }
        Ok(&self.webhook_secrets)
    }
}

fn absent(variable: &str, mend: &str) -> Problem {
    Problem { variable: variable.to_owned(), origin: Source::Absent, shown: None, mend: mend.to_owned() }
}
