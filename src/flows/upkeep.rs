//! What keeps the installation in order: first start, who is alive, partitions ahead, expired answers gone.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Context, FlowError};
use crate::domain::event::{BALANCE_SUBJECT, Ourselves};
use crate::domain::ids::AccountId;
use crate::domain::limits::day_of;
use crate::domain::task::{EVENTS, Kind, RECONCILED};
use crate::store::{caps, claims, controls, db, idempotency, outbox, platforms, statistics, tasks};

/// A process not heard of for this long is gone.
pub const ALIVE_FOR: Duration = Duration::seconds(35);
/// Answers to POSTs that do not move money are kept this long.
pub const ANSWERS_KEPT: Duration = Duration::hours(24);
/// What was reserved in a day is kept this long, since it may still be given back.
const USE_KEPT: Duration = Duration::days(40);
/// Without a configured date, money that arrived this long before the first start still counts.
const DEFAULT_FUNDS_SINCE: Duration = Duration::hours(1);

/// At the start: the rows everything else relies on, and one look at every open transfer, since the rules
/// may have changed while nothing ran.
pub async fn begin(ctx: &Context, funds_since: Option<OffsetDateTime>) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    // Where somebody holds the table in use for long, the default partition takes what has none of its own, and the
    // hourly upkeep tries again.
    if let Err(error) = ensure_partitions(ctx, now).await {
        tracing::warn!(%error, "the outbox's partitions have to wait");
    }
    let mut tx = db::begin(&ctx.pool).await?;
    controls::ensure_installation(&mut tx, now, now - DEFAULT_FUNDS_SINCE, funds_since).await?;
    controls::ensure_release_controls(&mut tx, ctx.livemode, now).await?;
    // Transfers last: everybody who rings several kinds does it in this order.
    for currency in controls::list_currencies(&mut tx, ctx.livemode).await? {
        tasks::ring(&mut tx, Kind::Funds, ctx.livemode, &[currency.as_str()], now).await?;
    }
    tasks::ring(&mut tx, Kind::Balance, ctx.livemode, &[BALANCE_SUBJECT], now).await?;
    if ctx.backfill_every.is_some() {
        tasks::ring(&mut tx, Kind::Backfill, ctx.livemode, &[EVENTS], now).await?;
    }
    if ctx.reconcile_every.is_some() {
        tasks::ring(&mut tx, Kind::Reconcile, ctx.livemode, &RECONCILED, now).await?;
    }
    tasks::ring_open_transfers(&mut tx, ctx.livemode, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Who the platform is, as far as an earlier run learned it.
pub async fn ourselves(ctx: &Context) -> Result<Ourselves, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let held = platforms::get(&mut conn, ctx.livemode).await?;
    ctx.home.learn(held.country.as_deref());
    let platform = held.account.and_then(|id| AccountId::parse(&id).ok());
    Ok(Ourselves { livemode: ctx.livemode, platform })
}

/// Says that this process is alive, and takes its share of the call rate.
pub async fn beat(ctx: &Context, replica: Uuid) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    let mut conn = ctx.pool.acquire().await?;
    let alive = controls::beat(&mut conn, replica, now, now - ALIVE_FOR).await?;
    ctx.stripe.set_share(u32::try_from(alive).unwrap_or(u32::MAX));
    Ok(())
}

/// Takes over what processes that died were working on.
pub async fn take_over(ctx: &Context) -> Result<u64, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(tasks::void_orphans(&mut conn, ctx.clock.now()).await?)
}

/// Lets Postgres know of tables that outgrew what it knows of them. Its own autovacuum looks once a minute, which for a
/// young installation under load is long: plans made for empty tables are kept until then.
pub async fn get_to_know_tables(ctx: &Context) -> Result<(), FlowError> {
    let outgrown = statistics::list_outgrown(&mut *ctx.pool.acquire().await?).await?;
    for table in outgrown {
        let mut tx = db::begin(&ctx.pool).await?;
        statistics::analyze(&mut tx, &table).await?;
        tx.commit().await?;
        tracing::debug!(table, "analyzed");
    }
    Ok(())
}

/// Says that this process leaves.
pub async fn leave(ctx: &Context, replica: Uuid) -> Result<(), FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(controls::leave(&mut conn, replica).await?)
}

async fn ensure_partitions(ctx: &Context, now: OffsetDateTime) -> Result<(), FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    outbox::ensure_partitions(&mut tx, now).await?;
    Ok(tx.commit().await?)
}

/// Partitions for the weeks ahead, and room where answers have expired.
pub async fn tidy(ctx: &Context) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    ensure_partitions(ctx, now).await?;
    let mut conn = ctx.pool.acquire().await?;
    while idempotency::delete_expired(&mut conn, now - ANSWERS_KEPT).await? > 0 {}
    claims::delete_expired(&mut conn, now).await?;
    while caps::delete_before(&mut conn, day_of(now - USE_KEPT)).await? > 0 {}
    Ok(())
}
