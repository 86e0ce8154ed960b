//! A migrated database of its own for every test that asks.
//!
//! The server is TEST_DATABASE_URL, else DATABASE_URL, else a private throwaway cluster that this process starts
//! once and that ends with it. Clusters are kept in numbered slots under the temporary folder and reused, so only
//! the first run pays for initdb, whether tests run in one process (`cargo test`) or in one each (nextest).
//! A test's database outlives the test, to be looked at, until no test process uses the server any more.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use sluicegate::embedded::{self, Cluster, Durability, EmbeddedError, Options};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::{OnceCell, oneshot};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Held shared by every test process that uses the server, exclusively while old databases are dropped.
const USERS_LOCK: i64 = 7_315_001;
/// Held while the template is made.
const TEMPLATE_LOCK: i64 = 7_315_002;
/// More slots than test processes that could sensibly run at once.
const SLOTS: u32 = 64;

/// A fresh, migrated database that no other test sees.
pub struct TestDatabase {
    /// For a second pool, or a process under test.
    pub url: String,
    /// Belongs to the test's own runtime.
    pub pool: PgPool,
}

/// Makes a fresh, migrated database; starts the server for the first one.
pub async fn database() -> TestDatabase {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = server().await;
    // The template of another schema must not be shared, nor the name of another process's database.
    let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("sluicegate_test_{pid}_{count}_{}", &unique[..8]);
    let mut admin = PgConnection::connect_with(&server.options.clone().database("postgres")).await.unwrap();
    let create = format!("create database {name} template {}", server.template);
    sqlx::query(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let url = with_database(&server.url, &name);
    let pool = PgPoolOptions::new().connect(&url).await.unwrap();
    TestDatabase { url, pool }
}

impl TestDatabase {
    /// A database on the same server in which nothing is yet; its address.
    pub async fn empty_beside(&self) -> String {
        let name = format!("sluicegate_test_empty_{}", uuid::Uuid::new_v4().simple());
        let create = format!("create database {name}");
        sqlx::query(AssertSqlSafe(create)).execute(&self.pool).await.unwrap();
        with_database(&self.url, &name)
    }
}

struct Server {
    url: String,
    options: PgConnectOptions,
    template: String,
}

/// Every test has a runtime of its own, and a connection dies with the runtime it was made on. What is to last
/// as long as the process (the lock, the cluster) therefore lives on a thread that never ends.
async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    let start = || async {
        let (ready, wait) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (cluster, url) = provide();
                let (server, lock) = prepare(url).await;
                drop(ready.send(server));
                std::future::pending::<()>().await;
                drop((cluster, lock));
            });
        });
        wait.await.expect("the test server starts")
    };
    SERVER.get_or_init(start).await
}

fn provide() -> (Option<Cluster>, String) {
    let given = ["TEST_DATABASE_URL", "DATABASE_URL"].iter().find_map(|name| std::env::var(name).ok());
    if let Some(url) = given.filter(|url| !url.is_empty()) {
        return (None, url);
    }
    for slot in 0..SLOTS {
        match start(slot) {
            Ok(cluster) => {
                let url = cluster.url("postgres");
                return (Some(cluster), url);
            }
            Err(EmbeddedError::InUse { .. }) => {}
            // Throwaway data does not survive a power cut, nor the removal of its Postgres: begin again, once.
            Err(error @ (EmbeddedError::Server { .. } | EmbeddedError::NoPostgres { .. })) => {
                let removed = embedded::remove_unused(&slot_dir(slot)).unwrap_or(false);
                let cluster = if removed { start(slot) } else { Err(error) };
                let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
                let url = cluster.url("postgres");
                return (Some(cluster), url);
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("all {SLOTS} test clusters are in use");
}

fn start(slot: u32) -> Result<Cluster, EmbeddedError> {
    embedded::start(Options {
        data_dir: slot_dir(slot),
        pg_bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::Throwaway,
        allow_fetch: true,
        say: Box::new(|line| eprintln!("{line}")),
    })
}

/// One set of slots for each user: one cannot open what another's server left.
fn slot_dir(slot: u32) -> PathBuf {
    let id = std::process::Command::new("id").arg("-u").output().unwrap();
    let user = String::from_utf8(id.stdout).unwrap();
    std::env::temp_dir().join(format!("sluicegate-tests-{}", user.trim())).join(slot.to_string())
}

/// Drops what earlier runs left, makes the template unless it is there, and answers with the lock to hold.
async fn prepare(url: String) -> (Server, PgConnection) {
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.database("postgres");
    let template = template_name();
    let mut admin = PgConnection::connect_with(&options).await.unwrap();

    let alone: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(USERS_LOCK)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    if alone {
        let old: Vec<String> = sqlx::query_scalar(
            r"select datname::text from pg_database where datname ~ '^sluicegate_(test|template)_' and datname <> $1",
        )
        .bind(&template)
        .fetch_all(&mut admin)
        .await
        .unwrap();
        for name in old {
            let drop = format!("drop database if exists {name} with (force)");
            sqlx::query(AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
        }
    }
    // Taking the shared lock before the exclusive one goes leaves no moment for another to sweep.
    sqlx::query("select pg_advisory_lock_shared($1)").bind(USERS_LOCK).execute(&mut admin).await.unwrap();
    if alone {
        sqlx::query("select pg_advisory_unlock($1)").bind(USERS_LOCK).execute(&mut admin).await.unwrap();
    }
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await.unwrap();
    make_template(&mut admin, &options, &template).await;
    sqlx::query("select pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await.unwrap();
    (Server { url, options, template }, admin)
}

/// Migrates under another name first, so that a killed run leaves no half-made template.
async fn make_template(admin: &mut PgConnection, options: &PgConnectOptions, template: &str) {
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(template)
        .fetch_one(&mut *admin)
        .await
        .unwrap();
    if exists {
        return;
    }
    let unfinished = format!("{template}_unfinished");
    for statement in [
        format!("drop database if exists {unfinished} with (force)"),
        format!("create database {unfinished}"),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *admin).await.unwrap();
    }
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options.clone().database(&unfinished))
        .await
        .unwrap();
    migrate(&pool).await;
    pool.close().await;
    let rename = format!("alter database {unfinished} rename to {template}");
    sqlx::query(AssertSqlSafe(rename)).execute(&mut *admin).await.unwrap();
}

async fn migrate(pool: &PgPool) {
    MIGRATIONS.run(pool).await.unwrap();
}

/// Named by what the migrations say, so that a changed one gets a template of its own.
fn template_name() -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for migration in MIGRATIONS.iter() {
        hash.update(migration.version.to_be_bytes());
        hash.update(&*migration.checksum);
    }
    format!("sluicegate_template_{}", hex::encode(&hash.finalize()[..6]))
}

/// The same address with another database: the path's only segment is replaced.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let server_end = address.find("://").map_or(0, |at| at + 3);
    let path = address[server_end..].find('/').map_or(address.len(), |at| server_end + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &address[..path])
}
