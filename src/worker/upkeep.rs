//! Runs the upkeep on its times until stopped, and holds the lock that says this process lives.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::wake::Wake;
use crate::domain::event::Ourselves;
use crate::flows::retire_events::Retired;
use crate::flows::{Context, catch_up, look_again, retire_events, take_pulse, upkeep, watch_platform};
use crate::store::db::StoreError;
use crate::store::tasks;

const BEAT: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(60);
/// More often than the minutes it notes, so that none is left out.
const PULSE: Duration = Duration::from_secs(20);
const TAKE_OVER: Duration = Duration::from_secs(3);
const TIDY: Duration = Duration::from_secs(60 * 60);
/// Plans for empty tables are not kept for longer than this once tables have grown.
const KNOW_TABLES: Duration = Duration::from_secs(5);
const LEARN_AGAIN: Duration = Duration::from_secs(5);

/// The connection that holds the lock; none while it has to be taken again.
pub struct Presence {
    conn: Option<PgConnection>,
}

/// Says that this process lives, under its number; from then on it may claim tasks.
pub async fn appear(pool: &PgPool, holder: i32) -> Result<Presence, StoreError> {
    // Apart from the pool: a connection that went back there would go on holding the lock.
    let mut conn = pool.acquire().await?.detach();
    if tasks::take_presence(&mut conn, holder).await? {
        return Ok(Presence { conn: Some(conn) });
    }
    // An earlier connection of this process, not yet ended by the server: it will be.
    close(conn).await;
    Ok(Presence { conn: None })
}

async fn close(conn: PgConnection) {
    let _ = conn.close().await;
}

/// Beats (`heartbeat` is this process's first), tidies, takes over from the dead, and learns who the platform is,
/// each at its own pace.
pub async fn run(
    ctx: Context,
    ourselves: Arc<RwLock<Ourselves>>,
    mut presence: Presence,
    holder: i32,
    heartbeat: OffsetDateTime,
    wake: Wake,
    stop: CancellationToken,
) {
    let replica = Uuid::now_v7();
    let beats = async {
        loop {
            if let Err(error) = upkeep::beat(&ctx, replica).await {
                tracing::warn!(%error, "this process could not say that it is alive");
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    let mut last = Some(heartbeat);
    let heart = async {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match catch_up::beat(&ctx, last).await {
                Ok(at) => last = Some(at),
                Err(error) => tracing::warn!(%error, "the heartbeat could not be kept"),
            }
        }
    };
    let pulse = async {
        loop {
            if let Err(error) = take_pulse::run(&ctx).await {
                tracing::debug!(%error, "how the intake goes could not be noted");
            }
            tokio::time::sleep(PULSE).await;
        }
    };
    let takes_over = async {
        loop {
            stay(&ctx.pool, &mut presence, holder).await;
            match upkeep::take_over(&ctx).await {
                Ok(0) => {}
                Ok(tasks) => {
                    tracing::info!(tasks, "took over from a process that died");
                    wake.ring();
                }
                Err(error) => tracing::debug!(%error, "could not look for tasks of dead processes"),
            }
            tokio::time::sleep(TAKE_OVER).await;
        }
    };
    let tidies = async {
        loop {
            // At the start for an upgrade, later for what a replica of the version before still took in.
            let known = ourselves.read().unwrap_or_else(PoisonError::into_inner).clone();
            match look_again::run(&ctx, &known).await {
                Ok(0) => {}
                Ok(events) => {
                    tracing::info!(events, "events that nobody handled before are applied now");
                    wake.ring();
                }
                Err(error) => tracing::warn!(%error, "what nobody handled before is looked at later"),
            }
            if let Err(error) = upkeep::tidy(&ctx).await {
                tracing::warn!(%error, "the upkeep of the tables has to wait");
            }
            retire(&ctx).await;
            tokio::time::sleep(TIDY).await;
        }
    };
    let knows_tables = async {
        loop {
            tokio::time::sleep(KNOW_TABLES).await;
            if let Err(error) = upkeep::get_to_know_tables(&ctx).await {
                tracing::debug!(%error, "Postgres could not be told to look at the tables that grew");
            }
        }
    };
    let learns = async {
        while let Err(error) = watch_platform::learn(&ctx, &ourselves).await {
            tracing::debug!(%error, "Stripe did not yet say which account is the platform's");
            tokio::time::sleep(LEARN_AGAIN).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = beats => {}
        () = heart => {}
        () = pulse => {}
        () = takes_over => {}
        () = tidies => {}
        () = knows_tables => {}
        () = learns => {}
    }
    if let Err(error) = upkeep::leave(&ctx, replica).await {
        tracing::debug!(%error, "this process could not say that it leaves");
    }
}

/// Lets old weeks go, one after the other.
async fn retire(ctx: &Context) {
    loop {
        match retire_events::run(ctx).await {
            Ok(Retired::Nothing) => return,
            Ok(Retired::Week(week, subjects)) => {
                tracing::info!(
                    partition = week.name,
                    subjects,
                    "old events were dropped; what they led to is kept"
                );
            }
            Ok(Retired::Unsettled(week, events)) => {
                tracing::warn!(
                    partition = week.name,
                    events,
                    "old events are kept, since some of them still wait or failed: replay the dead letters"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "old events are dropped later");
                return;
            }
        }
    }
}

/// Takes the lock again where the connection that held it is gone.
async fn stay(pool: &PgPool, presence: &mut Presence, holder: i32) {
    if let Some(mut conn) = presence.conn.take() {
        if tasks::keeps_presence(&mut conn, holder).await.unwrap_or(false) {
            presence.conn = Some(conn);
            return;
        }
        close(conn).await;
    }
    match appear(pool, holder).await {
        Ok(again) => *presence = again,
        Err(error) => {
            tracing::warn!(%error, "this process can't show that it lives; its work may be done by another")
        }
    }
}
