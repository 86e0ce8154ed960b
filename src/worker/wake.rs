//! How the worker learns that something is due: a signal in this process, a notification from others, and,
//! since both can be missed, a look at the clock.
//!
//! The notification goes out on its own, coalesced, and never inside a transaction that stores deliveries:
//! NOTIFY takes a lock that would make their commits wait for each other.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::flows::apply_events::Share;
use crate::store::{db::StoreError, tasks};

/// The longest time a due task can go unnoticed when every signal was lost.
pub const POLL: Duration = Duration::from_millis(500);
/// At most one notification per this time leaves a process.
const COALESCE: Duration = Duration::from_millis(5);

/// A bell between the parts of one process and, through Postgres, between processes.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    due: Arc<Notify>,
    fresh: Arc<[Notify; Share::ALL.len()]>,
    outgoing: Arc<Notify>,
    signals: watch::Sender<u64>,
}

impl Wake {
    /// What a writer signals after it has committed something due.
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.outgoing)
    }

    /// Changes with every signal, from this process or another: for those who only look.
    pub fn signals(&self) -> watch::Receiver<u64> {
        self.signals.subscribe()
    }

    /// Signals that something is due.
    pub fn ring(&self) {
        self.outgoing.notify_one();
    }

    /// Waits for a signal that something may be due, at most `patience`.
    pub async fn wait(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience.min(POLL), self.due.notified()).await;
    }

    /// Waits for a signal that fresh events may be there, for the one who takes this share of them.
    pub async fn wait_fresh(&self, share: Share) {
        let _ = tokio::time::timeout(POLL, self.fresh[share as usize].notified()).await;
    }

    fn pass_on(&self) {
        self.due.notify_one();
        self.fresh.iter().for_each(Notify::notify_one);
        self.signals.send_modify(|signals| *signals = signals.wrapping_add(1));
    }

    /// Passes signals on until cancelled: from this process to its own worker and to others, and from
    /// others to this one's. A lost connection is made again; polling covers the gap.
    pub async fn run(self, pool: PgPool, stop: CancellationToken) {
        let outward = async {
            loop {
                self.outgoing.notified().await;
                self.pass_on();
                if let Err(error) = announce(&pool).await {
                    tracing::debug!(%error, "other processes were not notified");
                }
                tokio::time::sleep(COALESCE).await;
            }
        };
        let inward = async {
            loop {
                if let Err(error) = self.listen(&pool).await {
                    tracing::debug!(%error, "not listening to other processes; trying again");
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = outward => {}
            () = inward => {}
        }
    }

    async fn listen(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(tasks::CHANNEL).await?;
        // Whatever was due before the listener was armed is looked for now.
        self.pass_on();
        loop {
            listener.recv().await?;
            self.pass_on();
        }
    }
}

async fn announce(pool: &PgPool) -> Result<(), StoreError> {
    let mut conn = pool.acquire().await?;
    tasks::announce(&mut conn).await
}
