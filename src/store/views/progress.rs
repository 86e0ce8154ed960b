//! How far the service has caught up with Stripe, for probes and operators.

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;

use super::StoreError;
use crate::domain::task::EVENTS;
use crate::store::heartbeats::{self, CatchUp};
use crate::store::sweeps::{self, Sweep};

/// What is under way.
#[derive(Clone, Debug)]
pub struct Progress {
    /// A catch-up after a restore; nothing is released before its end.
    pub catch_up: Option<CatchUp>,
    /// The walks through Stripe's lists.
    pub sweeps: Vec<Sweep>,
}

impl Progress {
    /// Every event that Stripe created up to then has been received or searched for.
    pub fn events_complete_to(&self) -> Option<OffsetDateTime> {
        self.sweeps.iter().find(|sweep| sweep.name == EVENTS)?.complete_to
    }
}

/// Reads it.
pub async fn progress(pool: &PgPool, livemode: bool) -> Result<Progress, StoreError> {
    let mut conn = pool.acquire().await?;
    Ok(Progress {
        catch_up: heartbeats::find_catch_up(&mut conn, livemode).await?,
        sweeps: sweeps::list(&mut conn, livemode).await?,
    })
}
