//! How the worker learns that something is due: a signal in this process, a notification from others, and,
//! since both can be missed, a look at the clock.
//!
//! The notification goes out on its own, coalesced, and never inside a transaction that stores deliveries:
//! NOTIFY takes a lock that would make their commits wait for each other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::share::Share;
use crate::flows::bell::Bell;
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
    bell: Arc<Bell>,
    due: Arc<Notify>,
    signals: watch::Sender<u64>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            ourselves: Uuid::new_v4().simple().to_string().into(),
            bell: Arc::default(),
            due: Arc::default(),
            signals: watch::Sender::default(),
        }
    }
}

impl Wake {
    /// What a writer rings after it has committed something.
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Changes with every signal, from this process or another: for those who only look.
    pub fn signals(&self) -> watch::Receiver<u64> {
        self.signals.subscribe()
    }

    /// Signals that something is due, fresh events or else.
    pub fn ring(&self) {
        self.bell.ring_stored(Share::ALL);
        self.bell.ring_due();
    }

    /// Signals that something may be due, but no fresh events: who applies those would find nothing new.
    pub fn ring_due(&self) {
        self.bell.ring_due();
    }

    /// Waits for a signal that something may be due, at most `patience`.
    pub async fn wait(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience.min(POLL), self.due.notified()).await;
    }

    /// Waits for a signal that fresh events may be there, for the one who takes this share of them.
    pub async fn wait_fresh(&self, share: Share) {
        let _ = tokio::time::timeout(POLL, self.bell.fresh(share)).await;
    }

    /// Forgets the signal for fresh events of this share: whoever looks from now on sees what it was for.
    pub fn forget_fresh(&self, share: Share) {
        let _ = self.bell.fresh(share).now_or_never();
    }

    fn pass_on(&self) {
        self.due.notify_one();
        self.signals.send_modify(|signals| *signals = signals.wrapping_add(1));
    }

    /// Passes signals on until cancelled: from this process to its own worker and to others, and from
    /// others to this one's. A lost connection is made again; polling covers the gap.
    pub async fn run(self, pool: PgPool, stop: CancellationToken) {
        let outward = async {
            loop {
                tokio::select! {
                    // Here, those who apply deliveries have been told already, and nobody else has to do with them.
                    () = self.bell.stored() => {}
                    () = self.bell.due() => self.pass_on(),
                }
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
            self.bell.ring_fresh(Share::ALL);
            while listener.recv().await?.payload() == &*self.ourselves {}
        }
    }

    async fn announce(&self, pool: &PgPool) -> Result<(), StoreError> {
        let mut conn = pool.acquire().await?;
        tasks::announce_from(&mut conn, &self.ourselves).await
    }
}
