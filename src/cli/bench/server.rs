//! A server under measure: this same program as a child process, as an operator would start it, or the naive handler.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::payload::SECRET;
use super::proc;
use crate::embedded::die_with_caller;

/// The key for the API.
pub const ADMIN_KEY: &str = "bench-admin-key-of-more-than-thirty-two-characters";
/// The key that it calls the stand-in with.
const STRIPE_KEY: &str = "sk_test_bench";
/// How long a server may take to listen.
const START: Duration = Duration::from_secs(60);
/// How long it may take to finish what is under way.
const STOP: Duration = Duration::from_secs(45);

/// What runs in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `serve` with these roles.
    Serve(&'static str),
    /// `serve` with every role and no limit to the calls to Stripe.
    Unlimited,
    /// The naive handler.
    Naive,
}

/// A running child.
pub struct Server {
    child: Child,
    pid: u32,
    log: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Kept: who prints into a pipe that nobody reads from dies of it.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts it and waits until it listens. What it logs goes to a file in `folder`.
    pub async fn start(
        program: Program,
        database_url: &str,
        stripe: &str,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join("server.log");
        let mut command = Command::new(std::env::current_exe()?);
        command.env_clear().env("DATABASE_URL", database_url).env("STRIPE_WEBHOOK_SECRETS", SECRET);
        match program {
            Program::Naive => {
                command.arg("naive");
            }
            Program::Serve(roles) => {
                command.args(["serve", "--listen", "127.0.0.1:0", "--roles", roles]);
            }
            Program::Unlimited => {
                command.args(["serve", "--listen", "127.0.0.1:0", "--stripe-rate", "0"]);
            }
        }
        // What it does by the clock alone would be measured by accident.
        command.env("SLUICEGATE_RECONCILE_EVERY", "0").env("SLUICEGATE_BACKFILL_EVERY", "0");
        command.env("STRIPE_SECRET_KEY", STRIPE_KEY).env("STRIPE_API_BASE", stripe);
        command.env("SLUICEGATE_ADMIN_KEY", ADMIN_KEY).env("RUST_LOG", "warn");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?).kill_on_drop(true);
        die_with_caller(command.as_std_mut());
        let mut child = command.spawn().context("the server could not be started")?;
        let pid = child.id().context("the server ended at once")?;
        let mut lines = BufReader::new(child.stdout.take().context("the server has no output")?).lines();
        let address = tokio::time::timeout(START, listening(&mut lines)).await;
        let address = address.ok().flatten();
        let address = address.with_context(|| format!("the server does not listen: {}", tail(&log)))?;
        Ok(Self { child, pid, log, address, _stdout: lines })
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has used so far.
    pub fn cpu(&self) -> Option<Duration> {
        proc::cpu(self.pid)
    }

    /// The most memory it has held at once, in MiB.
    pub fn peak_mib(&self) -> Option<f64> {
        proc::peak_mib(self.pid)
    }

    /// Ends it in order; fails where it had ended by itself.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("the server ended by itself ({status}): {}", tail(&self.log));
        }
        let signaled = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await;
        anyhow::ensure!(signaled.context("kill could not be run")?.success(), "the server took no signal");
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            self.child.kill().await.context("the server could not be killed")?;
        }
        Ok(())
    }
}

/// The address that a server says it listens on.
async fn listening(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<SocketAddr> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.strip_prefix("listening on http://") {
            return address.parse().ok();
        }
    }
    None
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
