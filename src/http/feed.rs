//! The changes, read once for all who listen to this process.
//!
//! While somebody listens, one reader follows the histories and tells everybody what is new; when the last one
//! leaves, it rests. Who comes late or falls behind reads the pages in between for themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::frames;
use crate::domain::change::{Gap, Place, Position, Present, gap, mark};
use crate::flows::Context;
use crate::store::views::{self, StoreError};

/// The most who listen to one process.
const MOST_LISTENERS: usize = 500;
/// How many changes are read at once.
const PAGE: i64 = 200;
/// How many events are held for those who are slow to take them.
const HELD: usize = 1_024;
/// How many of those who lag read pages at the same time.
const READERS: usize = 2;
/// A change that no signal told of is found within this time.
const POLL: Duration = Duration::from_millis(500);
/// Signals that come closer together than this make one look.
const AT_MOST_EVERY: Duration = Duration::from_millis(20);
/// So often a listener hears that the connection stands.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What everybody is told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// How far it reaches.
    pub(super) place: Place,
    /// The text, as it is sent.
    pub(super) frame: Bytes,
    /// It tells nothing new.
    pub(super) is_heartbeat: bool,
}

/// What follows a place.
#[derive(Debug)]
pub(super) struct Page {
    /// In order.
    pub(super) told: Vec<Told>,
    /// How far the page reaches, beyond the last event where that shows nothing.
    pub(super) end: Place,
    /// There is more.
    pub(super) more: bool,
}

/// The feed of one process.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ctx: Context,
    signals: watch::Receiver<u64>,
    listeners: Arc<Listeners>,
    /// Whether the reader follows; it comes to rest only under the lock of `listeners`.
    follows: watch::Sender<bool>,
    somebody: watch::Sender<u64>,
    told: broadcast::Sender<Told>,
    readers: Semaphore,
    database: OnceCell<u32>,
}

/// How many listen.
#[derive(Debug, Default)]
struct Listeners(Mutex<usize>);

impl Listeners {
    // Nothing panics while it holds this lock, and a number is whole at any time.
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the listeners, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Listeners>);

impl Seat {
    fn take(of: &Arc<Listeners>) -> Option<Self> {
        let mut taken = of.lock();
        if *taken >= MOST_LISTENERS {
            return None;
        }
        *taken += 1;
        metrics::gauge!("sluicegate_streams").increment(1.0);
        Some(Self(Arc::clone(of)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.0.lock();
        *taken -= 1;
        metrics::gauge!("sluicegate_streams").decrement(1.0);
    }
}

impl Feed {
    /// A feed that nobody listens to. `signals` changes when something was written.
    pub fn new(ctx: Context, signals: watch::Receiver<u64>) -> Self {
        Self(Arc::new(Inner {
            ctx,
            signals,
            listeners: Arc::default(),
            follows: watch::Sender::new(false),
            somebody: watch::Sender::new(0),
            told: broadcast::Sender::new(HELD),
            readers: Semaphore::new(READERS),
            database: OnceCell::new(),
        }))
    }

    /// A seat, unless all are taken.
    pub(super) fn seat(&self) -> Option<Seat> {
        let seat = Seat::take(&self.0.listeners)?;
        self.0.somebody.send_modify(|arrivals| *arrivals += 1);
        Some(seat)
    }

    /// Follows the changes whenever somebody listens, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut somebody = self.0.somebody.subscribe();
        let follow = async {
            loop {
                if *self.0.listeners.lock() == 0 && somebody.changed().await.is_err() {
                    return;
                }
                self.follow().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow => {}
        }
    }

    /// Tells what is new until nobody listens any more.
    async fn follow(&self) {
        let (mut signals, mut place) = (self.0.signals.clone(), None);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            match self.tell_news(&mut place).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the changes could not be read; trying again"),
            }
            if self.rest_if_alone() {
                return;
            }
            tokio::select! {
                _ = signals.changed() => {}
                () = tokio::time::sleep(POLL) => {}
                _ = heartbeat.tick() => self.beat(place),
            }
            tokio::time::sleep(AT_MOST_EVERY).await;
        }
    }

    /// Tells a page of news; whether there is more. Where it has no place yet, it begins at the end.
    async fn tell_news(&self, place: &mut Option<Place>) -> Result<bool, StoreError> {
        let after = match *place {
            Some(after) => after,
            None => self.last().await?,
        };
        *place = Some(after);
        self.0.follows.send_if_modified(|follows| !std::mem::replace(follows, true));
        let page = self.page(after).await?;
        *place = Some(page.end);
        for told in page.told {
            // Fails where nobody listens at this moment.
            let _ = self.0.told.send(told);
        }
        Ok(page.more)
    }

    /// Comes to rest where nobody listens; whoever comes afterwards waits until it follows again.
    fn rest_if_alone(&self) -> bool {
        let listeners = self.0.listeners.lock();
        if *listeners == 0 {
            self.0.follows.send_replace(false);
        }
        *listeners == 0
    }

    fn beat(&self, place: Option<Place>) {
        if let (Some(place), Some(database)) = (place, self.0.database.get()) {
            let position = Position { database: *database, at: self.0.ctx.clock.now(), place };
            let told = Told { place, frame: frames::heartbeat(&position), is_heartbeat: true };
            let _ = self.0.told.send(told);
        }
    }

    /// Waits until the reader follows, and returns what it tells from now on.
    pub(super) async fn listen(&self) -> broadcast::Receiver<Told> {
        let mut follows = self.0.follows.subscribe();
        // Ends only with the feed itself, which the caller holds.
        let _ = follows.wait_for(|follows| *follows).await;
        self.0.told.subscribe()
    }

    /// The place of the last change that can be told.
    pub(super) async fn last(&self) -> Result<Place, StoreError> {
        let mut conn = views::connect(&self.0.ctx.pool).await?;
        let last = views::last_change(&mut conn, self.0.ctx.livemode).await?;
        Ok(last.map_or(Place::START, |change| change.place))
    }

    /// Where somebody goes on who stopped at what this text says, or what they missed.
    pub(super) async fn resume(&self, kept: &str) -> Result<Result<Place, Gap>, StoreError> {
        let Some(kept) = Position::parse(kept) else { return Ok(Err(Gap::Unknown)) };
        let present = self.present(kept.place).await?;
        Ok(gap(&kept, &present).map_or(Ok(kept.place), Err))
    }

    async fn present(&self, place: Place) -> Result<Present, StoreError> {
        let mut conn = views::connect(&self.0.ctx.pool).await?;
        views::present(&mut conn, place, self.0.ctx.clock.now()).await
    }

    /// A place as a listener keeps it.
    pub(super) async fn position(&self, place: Place) -> Result<Position, StoreError> {
        Ok(Position { database: self.database().await?, at: self.0.ctx.clock.now(), place })
    }

    async fn database(&self) -> Result<u32, StoreError> {
        let read = || async {
            let mut conn = views::connect(&self.0.ctx.pool).await?;
            Ok(mark(views::first_started(&mut conn).await?))
        };
        self.0.database.get_or_try_init(read).await.copied()
    }

    /// What follows a place, for one who comes late or fell behind.
    pub(super) async fn catch_up(&self, after: Place) -> Result<Page, StoreError> {
        // Never closed.
        let _reader = self.0.readers.acquire().await.ok();
        self.page(after).await
    }

    async fn page(&self, after: Place) -> Result<Page, StoreError> {
        let (ctx, database) = (&self.0.ctx, self.database().await?);
        let mut conn = views::connect(&ctx.pool).await?;
        let changes = views::list_changes(&mut conn, ctx.livemode, after, PAGE).await?;
        let more = i64::try_from(changes.len()) == Ok(PAGE);
        let end = changes.last().map_or(after, |change| change.place);
        let at = |place| Position { database, at: ctx.clock.now(), place };
        let told = match changes.is_empty() {
            true => Vec::new(),
            false => frames::of(&mut conn, ctx, changes, at).await?,
        };
        Ok(Page { told, end, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_seats_and_one_that_is_left_is_free_again() {
        let listeners = Arc::default();
        let mut seats: Vec<Seat> = (0..MOST_LISTENERS).map(|_| Seat::take(&listeners).unwrap()).collect();
        assert!(Seat::take(&listeners).is_none());
        seats.pop();
        assert!(Seat::take(&listeners).is_some());
    }
}
