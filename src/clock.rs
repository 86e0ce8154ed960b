//! The one place where the program reads the time.
//!
//! Everything that needs "now" is handed a [`Clock`] or an instant, so that a test can stand a day later
//! without waiting for it. Instants are whole microseconds, the finest Postgres keeps: a time read back
//! from the database equals the one that was written.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::{Duration, OffsetDateTime};

/// A source of the current time (UTC). Cheap to clone; clones share a manual clock's offset.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_us: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { offset_us: None }
    }

    /// The machine's clock plus an offset that [`Clock::advance`] moves.
    pub fn adjustable() -> Self {
        Self { offset_us: Some(Arc::new(AtomicI64::new(0))) }
    }

    /// The current instant in UTC, cut to whole microseconds.
    pub fn now(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        let whole = now - Duration::nanoseconds(i64::from(now.nanosecond() % 1_000));
        match &self.offset_us {
            Some(offset) => whole + Duration::microseconds(offset.load(Ordering::Relaxed)),
            None => whole,
        }
    }

    /// Moves an adjustable clock forward (or back). The machine's clock cannot be moved: returns false.
    pub fn advance(&self, by: Duration) -> bool {
        let Some(offset) = &self.offset_us else { return false };
        let us = i64::try_from(by.whole_microseconds()).unwrap_or(i64::MAX);
        offset.fetch_add(us, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adjusted_clock_moves_for_every_clone_and_the_machines_does_not() {
        let clock = Clock::adjustable();
        let twin = clock.clone();
        let before = twin.now();
        assert!(clock.advance(Duration::days(1)));
        assert!(twin.now() - before >= Duration::days(1));
        assert!(!Clock::system().advance(Duration::days(1)));
        assert_eq!(twin.now().nanosecond() % 1_000, 0);
    }
}
