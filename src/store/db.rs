//! The connection pool, migrations, and what a database error means for the caller.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// The migrations, embedded in the binary.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// What went wrong, by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, restarting, out of resources, or chose this transaction as a victim: try again.
    #[error("the database is not reachable or busy: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused the statement: a constraint, a type, a bug. Trying again gives the same.
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
        use sqlx::Error as E;
        let passing = match &error {
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                true
            }
            E::Database(database) => database.code().is_some_and(|code| passes(&code)),
            _ => false,
        };
        if passing { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

/// SQLSTATE classes: connection, rollback (deadlock, serialization), resources, operator intervention;
/// then lock not available, and read-only after a failover.
fn passes(sqlstate: &str) -> bool {
    ["08", "40", "53", "57"].iter().any(|class| sqlstate.starts_with(class))
        || ["55P03", "25006"].contains(&sqlstate)
}

/// Opens a pool of at most `size` connections; the first connection is made at once.
pub async fn connect(url: &str, size: u32) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.parse::<PgConnectOptions>()?.application_name("sluicegate");
    let pool = PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(5))
        // A ping before each use would cost a quarter of a small request; a dead connection shows itself.
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Applies what is missing, under an advisory lock: several replicas may start at once.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATIONS.run(pool).await
}

/// Whether the database answers and has every migration of this binary.
pub async fn is_ready(pool: &PgPool) -> Result<bool, StoreError> {
    const SQL: &str = "-- is_ready
        select coalesce(max(version), 0) from _sqlx_migrations where success";
    let newest: i64 = sqlx::query_scalar(SQL).fetch_one(pool).await?;
    Ok(MIGRATIONS.iter().all(|migration| migration.version <= newest))
}
