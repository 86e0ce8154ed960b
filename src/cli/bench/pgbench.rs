//! The yardstick: pgbench, which comes with Postgres, inserts the same payloads one row a transaction.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use super::payload;
use super::proc;
use crate::embedded::{die_with_caller, tool};

/// How much longer than told a run may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// More threads than this take cores from the server.
const THREADS: usize = 2;

/// pgbench on one database.
pub struct Pgbench {
    program: PathBuf,
    url: String,
    folder: PathBuf,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Transactions a second, connecting left out.
    pub per_s: f64,
    /// Transactions.
    pub count: u64,
    /// Ascending, in microseconds.
    pub latencies: Vec<u32>,
    /// What pgbench itself used.
    pub cpu: Option<Duration>,
}

/// Where it is; an error tells how to get it.
pub fn find(pg_bin_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    found("pgbench", pg_bin_dir)
}

fn found(name: &str, pg_bin_dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    tool(name, pg_bin_dir).with_context(|| {
        format!(
            "{name} was found neither beside the server programs nor on PATH: install Postgres's own package (on \
             Debian and Ubuntu `postgresql`, elsewhere often `postgresql-contrib`), name its folder with --pg-bin-dir, \
             or leave --against out"
        )
    })
}

impl Pgbench {
    /// Writes its scripts into `folder`.
    pub fn prepare(program: PathBuf, url: &str, folder: &Path) -> anyhow::Result<Self> {
        for (name, _, _) in payload::samples()? {
            let script = format!(
                "\\set id random(1, 9000000000000000000)\n\
                 insert into yardstick (id, payload) values ('evt_' || :id::text, :{name}::bytea);\n"
            );
            std::fs::write(folder.join(format!("{name}.sql")), script)?;
        }
        Ok(Self { program, url: url.to_owned(), folder: folder.to_owned() })
    }

    /// Inserts of the same mix of payloads, each a transaction, prepared, the payload sent as a parameter.
    pub async fn inserts(&self, clients: usize, length: Duration) -> anyhow::Result<Run> {
        let mut arguments = vec!["-n".to_owned(), "-M".to_owned(), "prepared".to_owned()];
        for (name, body, share) in payload::samples()? {
            let script = self.folder.join(format!("{name}.sql"));
            arguments.extend(["-D".to_owned(), format!("{name}={body}")]);
            arguments.extend(["-f".to_owned(), format!("{}@{share}", script.display())]);
        }
        self.run(&arguments, clients, length).await
    }

    /// Makes the hundred thousand rows that `selects` reads.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args(["-i", "-q", "-s", "1"]);
        self.finish(command, PATIENCE).await.map(drop)
    }

    /// `pgbench -S`: reads of one row by its key, plain or prepared.
    pub async fn selects(&self, clients: usize, length: Duration, prepared: bool) -> anyhow::Result<Run> {
        let mode = if prepared { "prepared" } else { "simple" };
        let arguments = ["-n", "-S", "-M", mode].map(str::to_owned);
        self.run(&arguments, clients, length).await
    }

    async fn run(&self, arguments: &[String], clients: usize, length: Duration) -> anyhow::Result<Run> {
        let logs = self.folder.join("pgbench-log");
        self.forget(&logs)?;
        let mut command = self.command();
        command.args(arguments).args(["-c", &clients.to_string(), "-j", &clients.min(THREADS).to_string()]);
        command.args(["-T", &length.as_secs().max(1).to_string()]);
        command.arg("-l").arg(format!("--log-prefix={}", logs.display()));
        let before = proc::cpu_of_reaped();
        let said = self.finish(command, length + PATIENCE).await?;
        let cpu = proc::cpu_of_reaped().zip(before).map(|(after, before)| after.saturating_sub(before));
        let mut latencies = self.latencies(&logs)?;
        latencies.sort_unstable();
        Ok(Run { per_s: per_s(&said)?, count: latencies.len() as u64, latencies, cpu })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).env("LC_ALL", "C");
        command
    }

    /// Runs it to its end; what it said.
    async fn finish(&self, mut command: Command, patience: Duration) -> anyhow::Result<String> {
        command.arg(&self.url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        die_with_caller(command.as_std_mut());
        let ended = tokio::time::timeout(patience, command.output()).await;
        let ended = ended.context("pgbench did not end in time")?.context("pgbench could not be run")?;
        let problem = String::from_utf8_lossy(&ended.stderr).into_owned();
        anyhow::ensure!(ended.status.success(), "pgbench failed: {}", problem.trim());
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    }

    fn logs(&self, prefix: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let entries = std::fs::read_dir(&self.folder)?.collect::<Result<Vec<_>, _>>()?;
        let named = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&prefix);
        Ok(entries.into_iter().filter(named).map(|entry| entry.path()).collect())
    }

    fn forget(&self, prefix: &Path) -> anyhow::Result<()> {
        self.logs(prefix)?.iter().try_for_each(std::fs::remove_file).context("an old log of pgbench's")
    }

    /// The third column of each line is the transaction's time in microseconds.
    fn latencies(&self, prefix: &Path) -> anyhow::Result<Vec<u32>> {
        let mut all = Vec::new();
        for log in self.logs(prefix)? {
            let text = std::fs::read_to_string(&log)?;
            all.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
        }
        anyhow::ensure!(!all.is_empty(), "pgbench logged no transaction");
        Ok(all)
    }
}

/// Reads `tps = 6412.345678 (without initial connection time)`.
fn per_s(said: &str) -> anyhow::Result<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("pgbench told no rate: {said}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_program_is_told_with_the_mend() {
        let told = super::found("no-such-pgbench", None).unwrap_err().to_string();
        assert!(
            told.contains("no-such-pgbench was found neither") && told.contains("--pg-bin-dir"),
            "{told}"
        );
    }

    #[test]
    fn the_rate_is_read_from_what_pgbench_says() {
        let said = "latency average = 9.98 ms\ninitial connection time = 73.2 ms\n\
                    tps = 6412.345678 (without initial connection time)\n";
        assert_eq!(super::per_s(said).unwrap(), 6412.345678);
        assert!(super::per_s("pgbench: error").is_err());
    }
}
