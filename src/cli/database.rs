//! Where the database is: the one that was named, or a private cluster that ends with this process.

use std::path::PathBuf;

use anyhow::Context as _;
use secrecy::{ExposeSecret, SecretString};

use crate::embedded::{self, Cluster, DATABASE, Durability, Options};

/// A database to connect to, and the private server behind it, if there is one.
pub struct Database {
    /// Where it is.
    pub url: String,
    cluster: Option<Cluster>,
}

/// Takes the named database, or starts a private cluster in `data_dir`.
pub async fn provide(
    named: Option<&SecretString>,
    data_dir: PathBuf,
    pg_bin_dir: Option<PathBuf>,
) -> anyhow::Result<Database> {
    if let Some(url) = named {
        return Ok(Database { url: url.expose_secret().to_owned(), cluster: None });
    }
    let options = Options {
        data_dir: data_dir.join("postgres"),
        pg_bin_dir,
        durability: Durability::Durable,
        allow_fetch: true,
        say: Box::new(|notice| eprintln!("{notice}")),
    };
    let cluster = tokio::task::spawn_blocking(move || embedded::start(options))
        .await
        .context("the private Postgres could not be started")??;
    tracing::info!(version = %cluster.server_version(), dir = %cluster.dir().display(), "a private Postgres runs");
    Ok(Database { url: cluster.url(DATABASE), cluster: Some(cluster) })
}

impl Database {
    /// Ends the private server, if there is one.
    pub async fn stop(self) {
        if let Some(cluster) = self.cluster {
            // Stopping waits for the server; on a thread where that hinders nobody.
            let _ = tokio::task::spawn_blocking(move || cluster.stop()).await;
        }
    }
}
