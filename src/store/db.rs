//! The connection pool, migrations, and what a database error means for the caller.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres, Transaction};

use crate::domain::checkup::database::Way;

/// The migrations, embedded in the binary.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// What went wrong, by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, restarting, out of resources, being changed, or chose this transaction as a victim:
    /// try again.
    #[error("the database is not reachable or busy: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused the values: a constraint, a range. Trying again gives the same.
    #[error("the database refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// A stored value can't be read as what it must be.
    #[error("the database holds something unreadable: {0}")]
    Unreadable(String),
}

impl StoreError {
    /// The name of the violated constraint, if that is what happened.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Refused(sqlx::Error::Database(error)) => error.constraint(),
            Self::Refused(_) | Self::Unavailable(_) | Self::Unreadable(_) => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let refused = match &error {
            sqlx::Error::Database(database) => database.code().is_none_or(|code| is_of_the_values(&code)),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => false,
            _ => true,
        };
        if refused { Self::Refused(error) } else { Self::Unavailable(error) }
    }
}

/// SQLSTATE classes 22 and 23: the values themselves can't be stored. Everything else (connection, deadlock,
/// resources, permissions, a table being migrated, a bug) is not an event's fault and may be mended.
fn is_of_the_values(sqlstate: &str) -> bool {
    ["22", "23"].iter().any(|class| sqlstate.starts_with(class))
}

/// One column of many rows, as a parameter.
pub(super) fn column<'a, R, C>(rows: &'a [R], of: impl Fn(&'a R) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

/// Values as the texts of their JSON.
pub(super) fn json_of<'a, T: serde::Serialize + 'a>(
    values: impl Iterator<Item = &'a T>,
) -> Result<Vec<String>, StoreError> {
    let text =
        |value| serde_json::to_string(value).map_err(|error| StoreError::Unreadable(error.to_string()));
    values.map(text).collect()
}

/// Opens a pool of at most `size` connections, once the database has answered.
pub async fn connect(url: &str, size: u32) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.parse::<PgConnectOptions>()?.application_name("sluicegate");
    // On its own first: a pool only says that it ran out of time, not why.
    let probe = PgConnection::connect_with(&options).await?;
    probe.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(5))
        // A ping before each use would cost a quarter of a small request; a dead connection shows itself.
        .test_before_acquire(false)
        .after_connect(|conn, _| Box::pin(set_up(conn)))
        // A connection keeps buffers as large as the largest that ever went through it, and all take their turn.
        .after_release(|conn, _| {
            conn.shrink_buffers();
            Box::pin(std::future::ready(Ok(true)))
        })
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Sets a connection of the pool up for what this service asks: little at a time, always by an index.
///
/// Plans are kept, and the first ones are made while the tables are empty and nothing is known about them. Walking
/// through such a table looks cheap, and a plan that does so would stay until Postgres first analyzes it, a minute or
/// more after it began to fill. Compiling a plan to machine code takes longer than any statement of ours may.
///
/// What is committed is durable, whatever the server, the database or the user is set to: Stripe is answered, and sent
/// money by, what was written.
async fn set_up(conn: &mut PgConnection) -> sqlx::Result<()> {
    const SQL: &str = "-- set_up_connection
        select set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
            set_config('synchronous_commit', case current_setting('synchronous_commit') when 'off' then 'on'
                else current_setting('synchronous_commit') end, false)";
    conn.execute(SQL).await?;
    Ok(())
}

/// How the way to this database is protected.
pub fn way(url: &str) -> Result<Way, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let host = options.get_host();
    let bare = host.trim_matches(['[', ']']);
    let here = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    Ok(match options.get_ssl_mode() {
        _ if here => Way::Local,
        PgSslMode::VerifyFull => Way::Verified,
        PgSslMode::VerifyCa => Way::OfAnyHost,
        PgSslMode::Require => Way::Unverified,
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => Way::Clear,
    })
}

/// Which database it is, for people: its host, port and name, without who connects and how.
pub fn place(url: &str) -> Result<String, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    // Postgres takes the user's name where none is given.
    let name = options.get_database().unwrap_or(options.get_username());
    let host = options.get_socket().map_or(options.get_host().into(), |socket| socket.to_string_lossy());
    Ok(format!("{host}:{}/{name}", options.get_port()))
}

/// Begins a transaction.
///
/// On a task of its own: a caller who goes away while the server is told to begin would otherwise give a connection back
/// to the pool that is within a transaction without knowing it. What the next one wrote and took for committed would be
/// gone with the connection.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    begin_with(pool, "begin").await
}

/// The same, for one that takes rows in the order of an index, from somewhere on: nothing else is as cheap, whatever is
/// known about the table. Where nothing is, Postgres takes the rest of it to hold few rows that fit, gathers them
/// all and sorts them.
pub async fn begin_in_order(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    begin_with(pool, "begin; set local enable_bitmapscan = off").await
}

/// The same, by a statement of one's own.
pub async fn begin_with(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, StoreError> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
    Ok(begun.map_err(|_| sqlx::Error::WorkerCrashed)??)
}

/// Opens one connection.
pub async fn connect_one(url: &str) -> Result<PgConnection, StoreError> {
    Ok(PgConnection::connect_with(&url.parse::<PgConnectOptions>()?).await?)
}

/// Applies what is missing, under an advisory lock: several replicas may start at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATIONS.run(pool).await
}

/// Whether the database answers and has every migration of this binary.
pub async fn is_ready(pool: &PgPool) -> Result<bool, StoreError> {
    const SQL: &str = "-- is_ready
        select version from _sqlx_migrations where success";
    let applied: Vec<i64> = sqlx::query_scalar(SQL).fetch_all(pool).await?;
    Ok(MIGRATIONS.iter().all(|migration| applied.contains(&migration.version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_checked_certificate_protects_the_way_to_another_machine() {
        for (url, expected) in [
            ("postgres://u@localhost/d", Way::Local),
            ("postgres://u@127.0.0.1/d?sslmode=disable", Way::Local),
            ("postgres://u@[::1]/d", Way::Local),
            ("postgres://u@localhost/d?host=/run/postgresql", Way::Local),
            ("postgres://u@db/d?sslmode=verify-full", Way::Verified),
            ("postgres://u@db/d?sslmode=verify-ca", Way::OfAnyHost),
            ("postgres://u@db/d?sslmode=require", Way::Unverified),
            ("postgres://u@db/d?sslmode=prefer", Way::Clear),
            ("postgres://u@10.0.0.1/d?sslmode=disable", Way::Clear),
        ] {
            assert_eq!(way(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn a_database_is_named_without_its_secrets() {
        for (url, expected) in [
            ("postgres://u:secret@db.example.com:6432/pay?sslmode=require", "db.example.com:6432/pay"),
            ("postgres://pay:secret@10.0.0.1:5432", "10.0.0.1:5432/pay"),
            ("postgres://u:secret@localhost:5433/d?host=/run/postgresql", "/run/postgresql:5433/d"),
        ] {
            assert_eq!(place(url).unwrap(), expected);
        }
    }
}
