//! What a run takes place on: a private Postgres, which outlives the runs, and a database for each of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::embedded::{self, Cluster, Durability, Options};
use crate::store::{db, inspect};

/// The migrated database that every run's is a copy of.
const TEMPLATE: &str = "simulated";

/// A Postgres for one run after another.
pub struct Stage {
    number: usize,
    data_dir: PathBuf,
    bin_dir: Option<PathBuf>,
    cluster: Option<Cluster>,
    runs: usize,
}

impl Stage {
    /// Starts a Postgres and makes the template.
    pub async fn open(number: usize, bin_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let data_dir = std::env::temp_dir().join(format!("sg-sim-{}-{number}", std::process::id()));
        let mut stage = Self { number, data_dir, bin_dir, cluster: None, runs: 0 };
        stage.start().await?;
        let mut admin = db::connect_one(&stage.url("postgres")?).await?;
        inspect::create_database(&mut admin, TEMPLATE, "template1").await?;
        let pool = db::connect(&stage.url(TEMPLATE)?, 1).await?;
        db::migrate(&pool).await.context("the migrations could not be applied")?;
        pool.close().await;
        Ok(stage)
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let options = Options {
            data_dir: self.data_dir.clone(),
            pg_bin_dir: self.bin_dir.clone(),
            durability: Durability::ServerOnly,
            allow_fetch: true,
            say: Box::new(|line| eprintln!("{line}")),
        };
        self.cluster = Some(tokio::task::spawn_blocking(move || embedded::start(options)).await??);
        Ok(())
    }

    fn url(&self, database: &str) -> anyhow::Result<String> {
        Ok(self.cluster.as_ref().context("Postgres is down")?.url(database))
    }

    /// A fresh, migrated database; the one before goes.
    pub async fn database(&mut self) -> anyhow::Result<String> {
        let mut admin = db::connect_one(&self.url("postgres")?).await?;
        inspect::drop_database(&mut admin, &self.name()).await?;
        self.runs += 1;
        inspect::create_database(&mut admin, &self.name(), TEMPLATE).await?;
        self.url(&self.name())
    }

    fn name(&self) -> String {
        format!("run_{}_{}", self.number, self.runs)
    }

    /// Kills the server without a chance to tidy up, and starts it again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let cluster = self.cluster.take().context("Postgres is down")?;
        let pid = cluster.server_pid().to_string();
        let killed = tokio::task::spawn_blocking(move || {
            let killed = Command::new("kill").args(["-QUIT", &pid]).status();
            // Waits for its end.
            cluster.stop();
            killed
        });
        killed.await?.context("kill could not be run")?;
        self.start().await
    }

    /// Ends the server and removes its data.
    pub async fn close(mut self) {
        let (cluster, data_dir) = (self.cluster.take(), self.data_dir);
        let closed = tokio::task::spawn_blocking(move || {
            drop(cluster);
            remove(&data_dir);
        });
        let _ = closed.await;
    }
}

fn remove(data_dir: &Path) {
    if let Err(error) = embedded::remove_unused(data_dir) {
        eprintln!("warning: {} could not be removed: {error}", data_dir.display());
    }
}
