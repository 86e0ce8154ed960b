//! Runs the upkeep on its times until stopped.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::event::Ourselves;
use crate::flows::{Context, upkeep};

const BEAT: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(60 * 60);
const LEARN_AGAIN: Duration = Duration::from_secs(5);

/// Beats, tidies, and learns who the platform is, each at its own pace.
pub async fn run(ctx: Context, ourselves: Arc<RwLock<Ourselves>>, stop: CancellationToken) {
    let replica = Uuid::now_v7();
    let beats = async {
        loop {
            if let Err(error) = upkeep::beat(&ctx, replica).await {
                tracing::warn!(%error, "this process could not say that it is alive");
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    let tidies = async {
        loop {
            tokio::time::sleep(TIDY).await;
            if let Err(error) = upkeep::tidy(&ctx).await {
                tracing::warn!(%error, "the upkeep of the tables has to wait");
            }
        }
    };
    let learns = async {
        while let Err(error) = upkeep::learn_platform(&ctx, &ourselves).await {
            tracing::debug!(%error, "Stripe did not yet say which account is the platform's");
            tokio::time::sleep(LEARN_AGAIN).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = beats => {}
        () = tidies => {}
        () = learns => {}
    }
    if let Err(error) = upkeep::leave(&ctx, replica).await {
        tracing::debug!(%error, "this process could not say that it leaves");
    }
}
