//! What runs beside the handlers of one process: who answers questions together, who looks for those that wait,
//! and who reads the changes for those that listen.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feed::Feed;
use super::lookups::Lookups;
use super::waits::Waits;
use crate::flows::Context;

/// All of it; clones share it.
#[derive(Clone, Debug)]
pub struct Live {
    pub(super) lookups: Lookups,
    pub(super) waits: Waits,
    pub(super) feed: Feed,
}

impl Live {
    /// Starts it among `parts`, until `stop`; questions are answered until the last who can ask is gone. `signals`
    /// changes when something was written, here or by another process.
    pub fn start(
        ctx: &Context,
        signals: &watch::Receiver<u64>,
        stop: &CancellationToken,
        parts: &TaskTracker,
    ) -> Self {
        let (lookups, answers) = Lookups::open(ctx.clone());
        let waits = Waits::new(ctx.clone(), signals.clone());
        let feed = Feed::new(ctx.clone(), signals.clone());
        parts.spawn(answers);
        parts.spawn(waits.clone().run(stop.clone()));
        parts.spawn(feed.clone().run(stop.clone()));
        Self { lookups, waits, feed }
    }
}
