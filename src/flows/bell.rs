//! The signal between those who write something down and those who act on it, within one process.
//!
//! It may be lost, and says only where to look; what is due stands in the database.

use tokio::sync::Notify;

use crate::domain::share::Share;

/// A bell for each who acts on something else: nobody is woken to find nothing.
#[derive(Debug, Default)]
pub struct Bell {
    fresh: [Notify; Share::ALL.len()],
    stored: Notify,
    due: Notify,
}

impl Bell {
    /// Signals that fresh events of these shares were stored.
    pub fn ring_stored(&self, shares: impl IntoIterator<Item = Share>) {
        self.ring_fresh(shares);
        self.stored.notify_one();
    }

    /// The same, where other processes know it already.
    pub fn ring_fresh(&self, shares: impl IntoIterator<Item = Share>) {
        for share in shares {
            self.fresh[share as usize].notify_one();
        }
    }

    /// Signals that something may be due, but no fresh events.
    pub fn ring_due(&self) {
        self.due.notify_one();
    }

    /// Waits until fresh events of a share were stored.
    pub async fn fresh(&self, share: Share) {
        self.fresh[share as usize].notified().await;
    }

    /// Waits until fresh events of any share were stored.
    pub async fn stored(&self) {
        self.stored.notified().await;
    }

    /// Waits until something may be due.
    pub async fn due(&self) {
        self.due.notified().await;
    }
}
