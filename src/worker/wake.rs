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
use uuid::Uuid;

use crate::flows::apply_events::Share;
use crate::store::{db::StoreError, tasks};

/// The longest time a due task can go unnoticed when every signal was lost.
pub const POLL: Duration = Duration::from_millis(500);
/// At most one notification per this time leaves a process, or reaches those in it who look at more than deliveries.
const COALESCE: Duration = Duration::from_millis(5);

/// A bell between the parts of one process and, through Postgres, between processes.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Tells this process's notifications from those of others.
    ourselves: Arc<str>,
    due: Arc<Notify>,
    fresh: Arc<[Notify; Share::ALL.len()]>,
    rung: Arc<Notify>,
    outgoing: Arc<Notify>,
    signals: watch::Sender<u64>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            ourselves: Uuid::new_v4().simple().to_string().into(),
            due: Arc::default(),
            fresh: Arc::default(),
            rung: Arc::default(),
            outgoing: Arc::default(),
            signals: watch::Sender::default(),
        }
    }
}

impl Wake {
    /// What a writer signals after it has committed something due.
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.rung)
    }

    /// Changes with every signal, from this process or another: for those who only look.
    pub fn signals(&self) -> watch::Receiver<u64> {
        self.signals.subscribe()
    }

    /// Signals that something is due.
    pub fn ring(&self) {
        self.rung.notify_one();
    }

    /// Signals that something may be due, but no fresh events: who applies those would find nothing new.
    pub fn ring_due(&self) {
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
        self.signals.send_modify(|signals| *signals = signals.wrapping_add(1));
    }

    fn pass_on_fresh(&self) {
        self.fresh.iter().for_each(Notify::notify_one);
    }

    /// Passes signals on until cancelled: from this process to its own worker and to others, and from
    /// others to this one's. A lost connection is made again; polling covers the gap.
    pub async fn run(self, pool: PgPool, stop: CancellationToken) {
        // Deliveries are applied at once, whatever came a moment ago.
        let inside = async {
            loop {
                self.rung.notified().await;
                self.pass_on_fresh();
                self.outgoing.notify_one();
            }
        };
        let outward = async {
            loop {
                self.outgoing.notified().await;
                self.pass_on();
                if let Err(error) = self.announce(&pool).await {
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
            () = inside => {}
            () = outward => {}
            () = inward => {}
        }
    }

    async fn listen(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(tasks::CHANNEL).await?;
        // Whatever was due before the listener was armed is looked for now.
        loop {
            self.pass_on();
            self.pass_on_fresh();
            while listener.recv().await?.payload() == &*self.ourselves {}
        }
    }

    async fn announce(&self, pool: &PgPool) -> Result<(), StoreError> {
        let mut conn = pool.acquire().await?;
        tasks::announce_from(&mut conn, &self.ourselves).await
    }
}
