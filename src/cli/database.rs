//! Where the database is: the one that was named, or a private cluster, this process's own or that of a service
//! which runs on it already.

use std::path::PathBuf;

use anyhow::Context as _;
use secrecy::{ExposeSecret, SecretString};

use crate::embedded::{self, Cluster, DATABASE, Durability, Options, Reached, Survey};

/// A database to connect to, and the private server behind it, if it is ours.
pub struct Database {
    /// Where it is.
    pub url: String,
    cluster: Option<Cluster>,
}

/// Takes the named database, or starts a private cluster in `data_dir`, made where there is none.
pub async fn provide(
    named: Option<&SecretString>,
    data_dir: PathBuf,
    pg_bin_dir: Option<PathBuf>,
) -> anyhow::Result<Database> {
    if let Some(url) = named {
        return Ok(Database::named(url));
    }
    let options = options(data_dir, pg_bin_dir);
    let cluster = tokio::task::spawn_blocking(move || embedded::start(options))
        .await
        .context("the private Postgres could not be started")??;
    Ok(own(cluster))
}

/// Takes the named database, or the private cluster of `data_dir`, also while a service runs on it. A cluster is
/// not made: whoever forgot where the database is must not be shown an empty one.
pub async fn reach(
    named: Option<&SecretString>,
    data_dir: PathBuf,
    pg_bin_dir: Option<PathBuf>,
) -> anyhow::Result<Database> {
    if let Some(url) = named {
        return Ok(Database::named(url));
    }
    let shown = data_dir.display().to_string();
    let options = options(data_dir, pg_bin_dir);
    let reached = tokio::task::spawn_blocking(move || embedded::reach(&options))
        .await
        .context("the private Postgres could not be reached")??;
    match reached {
        Some(Reached::Own(cluster)) => Ok(own(cluster)),
        Some(Reached::Shared(attached)) => Ok(Database { url: attached.url(DATABASE), cluster: None }),
        None => anyhow::bail!(
            "DATABASE_URL is not set, and {shown} holds no private cluster: set DATABASE_URL, or \
             SLUICEGATE_DATA_DIR to the folder that the service has; `sluicegate migrate` makes a new one"
        ),
    }
}

/// What there is of a private cluster in `data_dir`; starts and makes nothing.
pub async fn survey(data_dir: PathBuf, pg_bin_dir: Option<PathBuf>) -> anyhow::Result<Survey> {
    let options = options(data_dir, pg_bin_dir);
    let looked = tokio::task::spawn_blocking(move || embedded::survey(&options)).await;
    Ok(looked.context("the private Postgres could not be looked at")??)
}

fn options(data_dir: PathBuf, pg_bin_dir: Option<PathBuf>) -> Options {
    Options {
        data_dir: data_dir.join("postgres"),
        pg_bin_dir,
        durability: Durability::Durable,
        allow_fetch: true,
        say: Box::new(|notice| eprintln!("{notice}")),
    }
}

fn own(cluster: Cluster) -> Database {
    tracing::info!(version = %cluster.server_version(), dir = %cluster.dir().display(), "a private Postgres runs");
    Database { url: cluster.url(DATABASE), cluster: Some(cluster) }
}

impl Database {
    /// One that somebody else runs.
    pub fn named(url: &SecretString) -> Self {
        Self { url: url.expose_secret().to_owned(), cluster: None }
    }

    /// Ends the private server, if there is one of ours.
    pub async fn stop(self) {
        if let Some(cluster) = self.cluster {
            // Stopping waits for the server; on a thread where that hinders nobody.
            let _ = tokio::task::spawn_blocking(move || cluster.stop()).await;
        }
    }
}
