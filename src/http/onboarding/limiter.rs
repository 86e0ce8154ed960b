//! How often one account's doors lead to a call to Stripe: a door that got into the wrong hands must not hammer it.
//!
//! Kept in memory: each process bounds for itself, and a restart begins anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

/// A person who clicks, comes back and clicks again needs a few.
const MOST: u32 = 6;
/// Within this.
const WITHIN: Duration = Duration::MINUTE;
/// Beyond so many accounts at once, those whose time is over are let go.
const MANY: usize = 10_000;

/// Counts by account.
#[derive(Debug, Default)]
pub struct Limiter {
    windows: Mutex<HashMap<String, Window>>,
}

#[derive(Debug)]
struct Window {
    since: OffsetDateTime,
    count: u32,
}

impl Limiter {
    /// Whether one more is let through now.
    pub(super) fn admits(&self, account: &str, now: OffsetDateTime) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |window: &Window| !(window.since..window.since + WITHIN).contains(&now);
        if windows.len() >= MANY {
            windows.retain(|_, window| !over(window));
        }
        let window = windows.entry(account.to_owned()).or_insert(Window { since: now, count: 0 });
        if over(window) {
            *window = Window { since: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_minute_for_each_account() {
        let (limiter, now) = (Limiter::default(), OffsetDateTime::UNIX_EPOCH);
        for _ in 0..MOST {
            assert!(limiter.admits("acct_1", now));
        }
        assert!(!limiter.admits("acct_1", now));
        assert!(limiter.admits("acct_2", now), "each for itself");
        assert!(!limiter.admits("acct_1", now + WITHIN - Duration::SECOND));
        assert!(limiter.admits("acct_1", now + WITHIN));
        assert!(limiter.admits("acct_1", now - Duration::DAY), "a clock that went back");
    }

    #[test]
    fn what_is_over_takes_no_room() {
        let (limiter, now) = (Limiter::default(), OffsetDateTime::UNIX_EPOCH);
        for n in 0..MANY {
            limiter.admits(&n.to_string(), now);
        }
        limiter.admits("one", now + WITHIN);
        assert_eq!(limiter.windows.lock().unwrap().len(), 1);
    }
}
