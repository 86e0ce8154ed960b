//! Waiting for an account: one look a moment for all who wait in this process.
//!
//! Whoever waits holds no connection. The look asks for the accounts that changed since the last one; it comes with
//! every signal that something was written, and twice a second without one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::Problem;
use crate::domain::ids::AccountId;
use crate::flows::Context;
use crate::store::views::{self, Account, StoreError};

/// The most who wait in one process.
const MOST_WAITING: usize = 10_000;
/// Accounts asked for in one statement.
const TOGETHER: usize = 1_000;
/// A change that no signal told of is seen within this time.
const POLL: Duration = Duration::from_millis(500);
/// Signals that come closer together than this make one look.
const AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// An account as it was last seen, once it was.
type Seen = Option<Arc<Account>>;

/// Those who wait in one process.
#[derive(Clone, Debug)]
pub(super) struct Waits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ctx: Context,
    signals: watch::Receiver<u64>,
    watched: Mutex<Watches>,
    somebody: watch::Sender<u64>,
}

/// The accounts that are waited for.
#[derive(Debug, Default)]
struct Watches {
    by_id: HashMap<String, Watched>,
    waiting: usize,
}

/// An account that somebody waits for.
#[derive(Debug)]
struct Watched {
    waiting: usize,
    /// The version that was seen last.
    seen: Option<OffsetDateTime>,
    account: watch::Sender<Seen>,
}

/// One who waits; the account is forgotten with the last of them.
struct Wait<'a> {
    waits: &'a Waits,
    id: String,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut watched = self.waits.watched();
        watched.waiting -= 1;
        metrics::gauge!("sluicegate_waiting_callers").decrement(1.0);
        if let Some(of) = watched.by_id.get_mut(&self.id) {
            of.waiting -= 1;
            if of.waiting == 0 {
                watched.by_id.remove(&self.id);
            }
        }
    }
}

impl Waits {
    /// Nobody waits yet. `signals` changes when something was written.
    pub(super) fn new(ctx: Context, signals: watch::Receiver<u64>) -> Self {
        let somebody = watch::Sender::new(0);
        Self(Arc::new(Inner { ctx, signals, watched: Mutex::default(), somebody }))
    }

    // Nothing panics while it holds this lock between two steps that belong together.
    fn watched(&self) -> MutexGuard<'_, Watches> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the account is as it should be; for ever, where it never is.
    pub(super) async fn until(
        &self,
        id: &AccountId,
        as_it_should_be: impl Fn(&Account) -> bool,
    ) -> Result<(), Problem> {
        let (_wait, mut account) = self.register(id)?;
        let fits = |account: &Seen| account.as_deref().is_some_and(&as_it_should_be);
        // The sender is there as long as somebody waits.
        account.wait_for(fits).await.map(drop).map_err(|_| Problem::unavailable())
    }

    fn register(&self, id: &AccountId) -> Result<(Wait<'_>, watch::Receiver<Seen>), Problem> {
        let mut watched = self.watched();
        if watched.waiting >= MOST_WAITING {
            return Err(Problem::unavailable());
        }
        watched.waiting += 1;
        metrics::gauge!("sluicegate_waiting_callers").increment(1.0);
        let of = watched.by_id.entry(id.to_string()).or_insert_with(|| Watched {
            waiting: 0,
            seen: None,
            account: watch::Sender::new(None),
        });
        of.waiting += 1;
        let account = of.account.subscribe();
        drop(watched);
        self.0.somebody.send_modify(|arrivals| *arrivals += 1);
        Ok((Wait { waits: self, id: id.to_string() }, account))
    }

    /// Looks whenever somebody waits, until stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        let (mut signals, mut somebody) = (self.0.signals.clone(), self.0.somebody.subscribe());
        let looks = async {
            loop {
                if self.watched().waiting == 0 && somebody.changed().await.is_err() {
                    return;
                }
                if let Err(error) = self.look().await {
                    tracing::warn!(%error, "the accounts that are waited for could not be read; trying again");
                }
                tokio::time::sleep(AT_MOST_EVERY).await;
                tokio::select! {
                    _ = signals.changed() => {}
                    _ = somebody.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = looks => {}
        }
    }

    /// Reads what changed of the accounts that are waited for, and tells those who wait.
    async fn look(&self) -> Result<(), StoreError> {
        let watched: Vec<(String, Option<OffsetDateTime>)> =
            self.watched().by_id.iter().map(|(id, of)| (id.clone(), of.seen)).collect();
        for some in watched.chunks(TOGETHER) {
            let ids: Vec<&str> = some.iter().map(|(id, _)| id.as_str()).collect();
            let seen: Vec<Option<OffsetDateTime>> = some.iter().map(|(_, seen)| *seen).collect();
            let mut conn = views::connect(&self.0.ctx.pool).await?;
            let changed = views::list_accounts_changed(&mut conn, self.0.ctx.livemode, &ids, &seen).await?;
            drop(conn);
            let mut watched = self.watched();
            for account in changed {
                if let Some(of) = watched.by_id.get_mut(&account.id) {
                    of.seen = Some(account.updated_at);
                    of.account.send_replace(Some(Arc::new(account)));
                }
            }
        }
        Ok(())
    }
}
