//! How the intake goes is noted once a minute, for the console's charts.

use time::Duration;

use super::{Context, FlowError};
use crate::store::pulses;

/// What was received longer ago is no news of this minute: the service was away.
const NEWS: Duration = Duration::minutes(5);
/// How long a minute is kept.
const KEPT: Duration = Duration::days(2);

/// Notes this minute, unless another process did.
pub async fn run(ctx: &Context) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    let minute = now.truncate_to_minute();
    let mut conn = ctx.pool.acquire().await?;
    pulses::note_once(&mut conn, ctx.livemode, minute, now - NEWS, now).await?;
    pulses::delete_before(&mut conn, now - KEPT).await?;
    Ok(())
}
