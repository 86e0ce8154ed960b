//! A replica: a process of its own, started with its orders on standard input, and killed without a word.

use std::fs::File;
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use super::schedule::{CALL, GRACE};
use crate::cli::service::{self, Plan, Roles};
use crate::clock::Clock;
use crate::domain::account::Policy;
use crate::domain::limits::{Limits, ReleaseOrder};
use crate::domain::topup::Rule;
use crate::stripe::client::ClientConfig;
use crate::stripe::signature::SigningSecret;
use crate::worker::driver;

/// The key for the API of every replica.
pub const ADMIN_KEY: &str = "simulated-admin-key-of-forty-characters!";
/// How often the lists of Stripe's are searched and compared.
const MEND_EVERY: Duration = Duration::from_secs(4);

/// What a replica is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Where Postgres is.
    pub database_url: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where Stripe is.
    pub stripe: String,
    /// The key to call it with; each replica has its own, so that Stripe's side can tell them apart.
    pub stripe_key: String,
    /// The secrets of the webhook endpoints.
    pub secrets: Vec<String>,
    /// How long a claim on a task holds.
    pub lease: Duration,
    /// How many calls a second all replicas make of Stripe together; 0: as many as they like.
    pub rate_per_s: u32,
}

/// The hidden command: serves as ordered until standard input ends, which it does with whoever ordered.
pub async fn run() -> anyhow::Result<()> {
    let (ended_out, ended) = tokio::sync::oneshot::channel();
    let (orders_out, orders) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock().lines();
        let _ = orders_out.send(lines.next());
        while let Some(Ok(_)) = lines.next() {}
        let _ = ended_out.send(());
    });
    let line = orders.await?.context("no orders on standard input")??;
    let orders: Orders = serde_json::from_str(&line)?;
    let service = service::start(plan(&orders)?, Clock::system()).await?;
    let _ = ended.await;
    service.stop().await;
    Ok(())
}

fn plan(orders: &Orders) -> anyhow::Result<Plan> {
    let (lease, call) = (time::Duration::try_from(orders.lease)?, time::Duration::try_from(CALL)?);
    let secrets = orders.secrets.iter().map(|secret| SigningSecret::parse(secret));
    Ok(Plan {
        database_url: orders.database_url.clone(),
        connections: 4,
        listen: orders.listen,
        ops_listen: None,
        public_url: None,
        admin_key: Some(SecretString::from(ADMIN_KEY)),
        stripe: ClientConfig {
            base: orders.stripe.clone(),
            secret_key: SecretString::from(orders.stripe_key.clone()),
            rate_per_s: orders.rate_per_s,
            timeout: CALL,
            connect_timeout: CALL,
        },
        livemode: false,
        webhook_secrets: secrets.collect::<Result<_, _>>()?,
        tolerance: Duration::from_secs(300),
        policy: Policy::default(),
        rule: Rule::BalanceAvailable,
        max_age: Duration::from_secs(24 * 60 * 60),
        grace: GRACE,
        source_type: None,
        funds_since: None,
        limits: Limits::default(),
        release_order: ReleaseOrder::Fifo,
        reconcile_every: Some(MEND_EVERY),
        backfill_every: Some(MEND_EVERY),
        retention: service::RETENTION,
        roles: Roles::ALL,
        serving: crate::http::Serving::default(),
        worker: driver::Settings { lease, lease_margin: lease / 2 - call, ..driver::Settings::default() },
    })
}

/// A replica as its keeper sees it.
pub struct Replica {
    orders: Orders,
    log: PathBuf,
    planted: Option<String>,
    running: Option<(Child, ChildStdin)>,
}

impl Replica {
    /// One that is not started yet; what it logs is added to `log`. `planted` names a bug to be planted in it.
    pub fn new(orders: Orders, log: &Path, planted: Option<&str>) -> Self {
        Self { orders, log: log.to_owned(), planted: planted.map(str::to_owned), running: None }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.orders.listen)
    }

    /// The key it calls Stripe with.
    pub fn stripe_key(&self) -> &str {
        &self.orders.stripe_key
    }

    /// Starts it; it listens a little later.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("replica").env_clear().env("RUST_LOG", "warn,sqlx=error").kill_on_drop(true);
        command.env("SLUICEGATE_LOG_FORMAT", "json");
        if let Some(planted) = &self.planted {
            command.env(crate::planted::VARIABLE, planted);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().context("a replica could not be started")?;
        let mut stdin = child.stdin.take().context("a replica has no standard input")?;
        stdin.write_all(format!("{}\n", serde_json::to_string(&self.orders)?).as_bytes()).await?;
        self.running = Some((child, stdin));
        Ok(())
    }

    /// Kills it (SIGKILL) where it stands.
    pub async fn kill(&mut self) {
        if let Some((mut child, _stdin)) = self.running.take() {
            // It may have ended by itself.
            let _ = child.kill().await;
        }
    }

    /// Whether it runs; false also where it ended by itself.
    pub fn runs(&mut self) -> bool {
        self.running.as_mut().is_some_and(|(child, _)| matches!(child.try_wait(), Ok(None)))
    }
}
