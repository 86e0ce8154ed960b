//! Accounts whose stored readiness is that of other borders are written anew: the platform's country has become known,
//! or its table of corridors was changed since.

use time::OffsetDateTime;

use crate::flows::account_record::{self, Changed};
use crate::flows::rings::Rings;
use crate::flows::{Context, FlowError};
use crate::store::{accounts, db};

/// Accounts written in one transaction.
const AT_ONCE: i64 = 200;

/// Walks through them once.
pub(super) async fn draw(ctx: &Context) -> Result<(), FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let countries = accounts::list_countries(&mut conn, ctx.livemode).await?;
    drop(conn);
    let policy = ctx.policy();
    let beyond: Vec<&str> =
        countries.iter().map(String::as_str).filter(|country| !policy.reaches(country)).collect();
    let mut after = String::new();
    loop {
        let now = ctx.clock.now();
        let Some(last) = draw_some(ctx, &beyond, &after, now).await? else { return Ok(()) };
        after = last;
    }
}

/// The first of them beyond `after`; the last of those, or none where there was none.
async fn draw_some(
    ctx: &Context,
    beyond: &[&str],
    after: &str,
    now: OffsetDateTime,
) -> Result<Option<String>, FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let ids = accounts::list_misplaced(&mut tx, ctx.livemode, beyond, after, AT_ONCE).await?;
    let Some(last) = ids.last().cloned() else { return Ok(None) };
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let held = accounts::list_for_update(&mut tx, ctx.livemode, &ids).await?;
    // Nothing new was told of them: what was held is taken for nothing, so that the change is in their history.
    let changed: Vec<Changed> =
        held.into_iter().map(|(id, after)| Changed { id, before: None, after }).collect();
    let mut rings = Rings::default();
    account_record::record(&mut tx, ctx, &changed, &mut rings, now).await?;
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    tracing::info!(accounts = changed.len(), "their readiness follows from other borders than before");
    Ok(Some(last))
}
