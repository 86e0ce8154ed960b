//! Where measures take place: a Postgres, databases of the bench's own on it, and a stand-in for Stripe.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{Connection as _, PgPool};

use super::server::{Program, Server};
use super::{Args, proc};
use crate::embedded::{self, Cluster, Durability, Options};
use crate::sandbox::{self, Sandbox};
use crate::store::{admin, db, inspect, trial};

/// What the private server is set to; all else are Postgres's own defaults.
const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "1GB"), ("max_connections", "400")];
/// Connections that the service and the bench itself take beside those of pgbench.
const BESIDE: usize = 40;

/// A Postgres, its databases, and a stand-in for Stripe.
pub struct Stand {
    cluster: Option<Cluster>,
    admin_url: String,
    /// Its version and settings.
    pub server: trial::Server,
    postmaster: Option<u32>,
    /// A folder for scripts and logs.
    pub folder: PathBuf,
    made: Mutex<Vec<String>>,
    /// The stand-in that most measures use; none of them should need it.
    pub stripe: Sandbox,
}

/// A database of the bench's own.
pub struct Database {
    /// Where it is.
    pub url: String,
    /// For what the bench itself asks.
    pub pool: PgPool,
}

impl Stand {
    /// Starts a private Postgres, or takes the named one.
    pub async fn open(args: &Args) -> anyhow::Result<Self> {
        let folder = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let folder = folder.join(format!("sg-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
        let (cluster, admin_url) = match &args.database_url {
            Some(url) => (None, url.clone()),
            None => {
                let cluster = private(&folder, args).await?;
                let url = cluster.url("postgres");
                (Some(cluster), url)
            }
        };
        let mut conn = db::connect_one(&admin_url).await.context("the Postgres can't be reached")?;
        let server = trial::get_server(&mut conn).await?;
        let backend = u32::try_from(server.backend).ok();
        let postmaster = match &cluster {
            Some(cluster) => u32::try_from(cluster.server_pid()).ok(),
            None => backend.filter(|_| is_local(&admin_url)).and_then(postmaster_of),
        };
        conn.close().await?;
        let most = args.connections.iter().max().copied().unwrap_or(0) + BESIDE;
        let lets_in = usize::try_from(server.max_connections).unwrap_or(0);
        anyhow::ensure!(
            lets_in >= most,
            "the server lets {lets_in} connections in and {most} are needed: raise its max_connections, or measure \
             fewer --connections"
        );
        // A seed of its own: a database must never meet another Stripe that gives out the same ids.
        let config = sandbox::Config { seed: fastrand::u64(..), ..sandbox::Config::default() };
        let stripe = sandbox::start(config).await?;
        Ok(Self { cluster, admin_url, server, postmaster, folder, made: Mutex::default(), stripe })
    }

    /// A fresh database with every migration.
    pub async fn database(&self, name: &str) -> anyhow::Result<Database> {
        let url = self.empty_database(name).await?;
        let pool = db::connect(&url, 4).await?;
        db::migrate(&pool).await.context("the migrations could not be applied")?;
        Ok(Database { url, pool })
    }

    /// A fresh database with nothing in it.
    pub async fn empty_database(&self, name: &str) -> anyhow::Result<String> {
        let name = format!("sg_bench_{}_{name}", std::process::id());
        let mut conn = db::connect_one(&self.admin_url).await?;
        let made = inspect::create_database(&mut conn, &name, "template1").await;
        made.context("the bench needs databases of its own: let its user create some")?;
        conn.close().await?;
        let url = admin::with_database(&self.admin_url, &name);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        Ok(url)
    }

    /// Drops a database that was made here.
    pub async fn drop(&self, database: Database) -> anyhow::Result<()> {
        database.pool.close().await;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        made.retain(|name| database.url == admin::with_database(&self.admin_url, name));
        for name in made {
            self.drop_named(&name).await?;
            self.made.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != name);
        }
        Ok(())
    }

    async fn drop_named(&self, name: &str) -> anyhow::Result<()> {
        let mut conn = db::connect_one(&self.admin_url).await?;
        inspect::drop_database(&mut conn, name).await?;
        conn.close().await?;
        Ok(())
    }

    /// Starts a server on a database.
    pub async fn serve(&self, program: Program, database_url: &str) -> anyhow::Result<Server> {
        Server::start(program, database_url, &self.stripe.url(), &self.folder).await
    }

    /// What Postgres as a whole has used so far.
    pub fn postgres_cpu(&self) -> Option<Duration> {
        self.postmaster.and_then(proc::cpu_of_family)
    }

    /// Objects that were fetched from the stand-in so far: what doubts and missing proofs lead to.
    pub fn fetches(&self) -> usize {
        const OBJECTS: [&str; 4] =
            ["/v1/accounts/", "/v1/topups/", "/v1/transfers/", "/v1/balance_transactions/"];
        let calls = self.stripe.control().calls();
        calls.iter().filter(|call| OBJECTS.iter().any(|object| call.path.starts_with(object))).count()
    }

    /// Bytes free where the private server keeps its data; `None` where that is not known.
    pub fn free_bytes(&self) -> Option<u64> {
        self.cluster.as_ref()?;
        let said = Command::new("df").arg("-Pk").arg(&self.folder).output().ok()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Ends the private server, or drops the databases on the named one; nothing is left behind.
    pub async fn close(self) {
        self.stripe.stop().await;
        let made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.cluster.is_none() {
            for name in made {
                let dropped = async {
                    let mut conn = db::connect_one(&self.admin_url).await?;
                    inspect::drop_database(&mut conn, &name).await
                };
                if let Err(error) = dropped.await {
                    eprintln!("warning: the database {name} could not be dropped: {error}");
                }
            }
        }
        let (cluster, folder) = (self.cluster, self.folder);
        let removed = tokio::task::spawn_blocking(move || {
            let data = cluster.as_ref().map(|cluster| cluster.dir().to_owned());
            drop(cluster);
            if let Some(data) = data {
                embedded::remove_unused(&data)?;
            }
            if folder.exists() { std::fs::remove_dir_all(folder) } else { Ok(()) }
        });
        if let Ok(Err(error)) = removed.await {
            eprintln!("warning: the bench's folder could not be removed: {error}");
        }
    }
}

/// A private server with its own defaults and the settings above, which need a second start.
async fn private(folder: &Path, args: &Args) -> anyhow::Result<Cluster> {
    let cluster = start(folder, args).await?;
    let mut conn = db::connect_one(&cluster.url("postgres")).await?;
    for (name, value) in SETTINGS {
        trial::set_server(&mut conn, name, value).await?;
    }
    conn.close().await?;
    tokio::task::spawn_blocking(move || cluster.stop()).await?;
    start(folder, args).await
}

async fn start(folder: &Path, args: &Args) -> anyhow::Result<Cluster> {
    let options = Options {
        data_dir: folder.join("postgres"),
        pg_bin_dir: args.bin_dir(),
        durability: Durability::Durable,
        allow_fetch: true,
        say: Box::new(|line| eprintln!("{line}")),
    };
    Ok(tokio::task::spawn_blocking(move || embedded::start(options)).await??)
}

/// Whether the server of this URL runs on this machine, as far as the URL tells.
fn is_local(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    let host = host.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    url.contains("host=/")
        || host.is_empty()
        || ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .any(|local| host == *local || host.strip_prefix(local).is_some_and(|rest| rest.starts_with(':')))
}

/// The server behind one of its backends, unless that pid belongs to something else here (a container's).
fn postmaster_of(backend: u32) -> Option<u32> {
    let is_postgres = |pid: &u32| proc::name(*pid).is_some_and(|name| name.starts_with("postgres"));
    Some(backend).filter(is_postgres).and_then(proc::parent).filter(is_postgres)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_server_of_this_machine_is_known_by_its_url() {
        for local in ["postgres://localhost/x", "postgres://u:p@127.0.0.1:5433", "postgresql:///x?host=/run"]
        {
            assert!(super::is_local(local), "{local}");
        }
        for remote in ["postgres://db/x", "postgres://localhost.example.com/x", "postgres://u@10.0.0.1/x"] {
            assert!(!super::is_local(remote), "{remote}");
        }
    }
}
