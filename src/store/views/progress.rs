//! How far the service has caught up with Stripe, for probes and operators.

use sqlx::PgPool;

use super::StoreError;
use crate::store::heartbeats::{self, CatchUp};

/// What is under way.
#[derive(Clone, Debug)]
pub struct Progress {
    /// A catch-up after a restore; nothing is released before its end.
    pub catch_up: Option<CatchUp>,
}

/// Reads it.
pub async fn progress(pool: &PgPool, livemode: bool) -> Result<Progress, StoreError> {
    let mut conn = pool.acquire().await?;
    Ok(Progress { catch_up: heartbeats::find_catch_up(&mut conn, livemode).await? })
}
