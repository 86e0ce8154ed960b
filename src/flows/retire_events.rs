//! Old events go, a week's partition at a time, once nothing about them is due and what they said is kept.
//!
//! One transaction keeps the baselines and drops the partition, so that neither stands without the other.

use super::{Context, FlowError};
use crate::store::db;
use crate::store::retention::{self, Partition};

/// What became of the oldest week that is due to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retired {
    /// None is due.
    Nothing,
    /// It went; so many subjects are kept of it.
    Week(Partition, u64),
    /// Events of it still wait, or failed and were not replayed: it stays.
    Unsettled(Partition, i64),
}

/// Lets the oldest week go that ended before what is to be kept.
pub async fn run(ctx: &Context) -> Result<Retired, FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let Some(week) = retention::find_oldest(&mut tx, now - ctx.retention).await? else {
        return Ok(Retired::Nothing);
    };
    let unsettled = retention::count_unsettled(&mut tx, &week).await?;
    if unsettled > 0 {
        return Ok(Retired::Unsettled(week, unsettled));
    }
    let last_seq = retention::last_seq_in(&mut tx, &week).await?;
    let kept = retention::keep_baselines(&mut tx, &week, now).await?;
    retention::lock_partitions(&mut tx).await?;
    // From here on nothing comes in. What came or was raised again meanwhile is not in the baselines: next time.
    let unsettled = retention::count_unsettled(&mut tx, &week).await?;
    if unsettled > 0 || retention::last_seq_in(&mut tx, &week).await? != last_seq {
        return Ok(Retired::Unsettled(week, unsettled));
    }
    retention::drop_partition(&mut tx, &week).await?;
    tx.commit().await?;
    Ok(Retired::Week(week, kept))
}
