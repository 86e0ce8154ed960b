//! The pace of calls to Stripe, with releases before sweeps.
//!
//! All live replicas share one allowance in equal parts, so each is told how many there are. Knows nothing of
//! what is called; Stripe's own limits are <https://docs.stripe.com/rate-limits>.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// Who goes first when calls have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What moves money, or what someone waits for.
    Release,
    /// What repairs in the background: it waits while any release does.
    Sweep,
}

/// A turn to call that was taken before the call.
#[derive(Debug)]
pub struct Turn {
    /// When the call must have ended.
    pub(super) deadline: Instant,
    /// How long it was waited for.
    pub waited: Duration,
}

/// Hands out turns at a bounded rate.
#[derive(Debug)]
pub struct Pace {
    fleet_rate_per_s: u32,
    current: RwLock<Current>,
    releases_waiting: watch::Sender<usize>,
    // One caller a lane asks the limiter, the others queue in order: no crowd wakes for one turn.
    release_queue: Mutex<()>,
    sweep_queue: Mutex<()>,
}

#[derive(Debug)]
struct Current {
    replicas: u32,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Pace {
    /// A pace of so many calls a second for all replicas together; 0 sets no bound. Starts as the only replica.
    pub fn new(fleet_rate_per_s: u32) -> Self {
        Self {
            fleet_rate_per_s,
            current: RwLock::new(Current { replicas: 1, limiter: limiter(fleet_rate_per_s, 1) }),
            releases_waiting: watch::Sender::new(0),
            release_queue: Mutex::new(()),
            sweep_queue: Mutex::new(()),
        }
    }

    /// Divides the rate by the number of live replicas, this one included (0 counts as 1).
    pub fn set_share(&self, live_replicas: u32) {
        let replicas = live_replicas.max(1);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // A new limiter grants a burst, so an unchanged number must not make one.
        if current.replicas != replicas {
            *current = Current { replicas, limiter: limiter(self.fleet_rate_per_s, replicas) };
        }
    }

    /// Waits for a turn. Dropping the future gives up the place in the queue and no more.
    pub async fn turn(&self, lane: Lane) {
        let (_waiting, _place) = match lane {
            Lane::Release => (Some(Waiting::enter(&self.releases_waiting)), self.release_queue.lock().await),
            Lane::Sweep => (None, self.sweep_queue.lock().await),
        };
        loop {
            if lane == Lane::Sweep {
                // The sender is our own and outlives the wait, so this can't fail.
                let _ = self.releases_waiting.subscribe().wait_for(|waiting| *waiting == 0).await;
            }
            let Some(limiter) = self.limiter() else { return };
            let Err(not_until) = limiter.check() else { return };
            tokio::time::sleep(not_until.wait_time_from(DefaultClock::default().now())).await;
        }
    }

    fn limiter(&self) -> Option<Arc<DefaultDirectRateLimiter>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).limiter.clone()
    }
}

/// One replica's limiter: evenly spaced, with a burst of a fifth of a second's worth, so that a restart or a
/// change of shares can't pass the fleet's rate by much.
fn limiter(fleet_rate_per_s: u32, replicas: u32) -> Option<Arc<DefaultDirectRateLimiter>> {
    let rate = NonZeroU32::new(fleet_rate_per_s)?;
    let between = Duration::from_secs(1).checked_mul(replicas)?.checked_div(rate.get())?;
    let burst = NonZeroU32::new(fleet_rate_per_s / replicas / 5).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(between).map(|quota| Arc::new(RateLimiter::direct(quota.allow_burst(burst))))
}

/// Counts a waiting release for as long as it lives.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn enter(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|waiting| *waiting += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_release_overtakes_waiting_sweeps() {
        let pace = Arc::new(Pace::new(4));
        pace.turn(Lane::Sweep).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for lane in [Lane::Sweep, Lane::Sweep, Lane::Release] {
            let (pace, done) = (pace.clone(), done.clone());
            tokio::spawn(async move {
                pace.turn(lane).await;
                let _ = done.send(lane);
            });
            tokio::task::yield_now().await;
        }
        // The first sweep was asking the limiter already when the release came: still it lets it by.
        assert_eq!(order.recv().await, Some(Lane::Release));
        assert_eq!(order.recv().await, Some(Lane::Sweep));
        assert_eq!(order.recv().await, Some(Lane::Sweep));
    }

    #[tokio::test]
    async fn a_release_that_gives_up_holds_no_sweep_back() {
        let pace = Pace::new(10);
        pace.turn(Lane::Release).await;
        pace.turn(Lane::Release).await;
        let gone = tokio::time::timeout(Duration::from_millis(1), pace.turn(Lane::Release)).await;
        assert!(gone.is_err());
        tokio::time::timeout(Duration::from_secs(5), pace.turn(Lane::Sweep)).await.unwrap();
    }

    #[tokio::test]
    async fn the_rate_is_shared_and_zero_is_off() {
        let pace = Pace::new(0);
        for _ in 0..10_000 {
            pace.turn(Lane::Sweep).await;
        }
        let pace = Pace::new(40);
        pace.set_share(2);
        let start = Instant::now();
        // A burst of four, then one every 50 ms.
        for _ in 0..8 {
            pace.set_share(2);
            pace.turn(Lane::Release).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(190), "{:?}", start.elapsed());
    }
}
