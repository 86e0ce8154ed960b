//! How often somebody may fail to sign in: so many times a minute from one address, and fewer while very many fail.
//!
//! Nobody is kept out for what others do: an address that has not failed may always try once, so that no stranger can
//! keep operators from the emergency stop. No key can be guessed at any rate; what is bounded is the work that
//! strangers make. Kept in memory: each process bounds for itself, and a restart begins anew.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

use crate::domain::network;

/// From one address. A person who mistypes needs a few.
const MOST: u32 = 5;
/// From one address while there is a crowd.
const MOST_IN_A_CROWD: u32 = 1;
/// More failures than this from all addresses are a crowd.
const CROWD: u32 = 60;
/// Within this.
const WITHIN: Duration = Duration::MINUTE;
/// From so many addresses on, those whose time is over are let go.
const MANY: usize = 1_000;
/// The most addresses remembered, some megabytes. Beyond them all begin anew: so large a crowd gains a few guesses.
const MOST_ADDRESSES: usize = 65_536;

/// Counts by address.
#[derive(Debug, Default)]
pub struct Gate {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: Option<Window>,
    by_address: HashMap<u128, Window>,
    /// How many addresses were left when they were last looked through.
    left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: OffsetDateTime,
    count: u32,
}

impl Window {
    fn is_over(&self, now: OffsetDateTime) -> bool {
        !(self.since..self.since + WITHIN).contains(&now)
    }

    /// One more than in the window, if it lasts.
    fn and_one(window: Option<Self>, now: OffsetDateTime) -> Self {
        let Self { since, count } =
            window.filter(|window| !window.is_over(now)).unwrap_or(Self { since: now, count: 0 });
        Self { since, count: count.saturating_add(1) }
    }
}

impl Counts {
    fn is_crowd(&self, now: OffsetDateTime) -> bool {
        self.all.is_some_and(|all| !all.is_over(now) && all.count >= CROWD)
    }

    /// Lets those go whose time is over. That is done when there are twice as many as were left, which costs little
    /// for each failure.
    fn tidy(&mut self, now: OffsetDateTime) {
        if self.by_address.len() >= MANY.max(2 * self.left) || self.by_address.len() >= MOST_ADDRESSES {
            self.by_address.retain(|_, window| !window.is_over(now));
            if self.by_address.len() >= MOST_ADDRESSES {
                self.by_address.clear();
            }
            self.left = self.by_address.len();
        }
    }
}

impl Gate {
    /// Whether somebody at this address may try now.
    pub(super) fn admits(&self, address: IpAddr, now: OffsetDateTime) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if counts.is_crowd(now) { MOST_IN_A_CROWD } else { MOST };
        let window = counts.by_address.get(&network::subscriber(address));
        window.is_none_or(|window| window.is_over(now) || window.count < most)
    }

    /// Counts a failure, and says whether it is one of a crowd's.
    pub(super) fn failed(&self, address: IpAddr, now: OffsetDateTime) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let crowd = counts.is_crowd(now);
        counts.tidy(now);
        counts.all = Some(Window::and_one(counts.all, now));
        let subscriber = network::subscriber(address);
        let window = Window::and_one(counts.by_address.get(&subscriber).copied(), now);
        counts.by_address.insert(subscriber, window);
        crowd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn so_many_failures_a_minute_from_each_address() {
        let (gate, here) = (Gate::default(), address("10.0.0.1"));
        for _ in 0..MOST {
            assert!(gate.admits(here, NOW));
            gate.failed(here, NOW);
        }
        assert!(!gate.admits(here, NOW + WITHIN - Duration::SECOND));
        assert!(!gate.admits(address("::ffff:10.0.0.1"), NOW), "the same address, written otherwise");
        assert!(gate.admits(address("10.0.0.2"), NOW));
        assert!(gate.admits(here, NOW + WITHIN));
    }

    #[test]
    fn neighbours_in_a_block_are_counted_as_one() {
        let gate = Gate::default();
        for n in 0..MOST {
            gate.failed(address(&format!("2001:db8:1:2::{n}")), NOW);
        }
        assert!(!gate.admits(address("2001:db8:1:2:ffff::1"), NOW));
        assert!(gate.admits(address("2001:db8:1:3::1"), NOW));
    }

    #[test]
    fn a_crowd_of_strangers_shuts_nobody_out_and_its_own_have_one_attempt() {
        let gate = Gate::default();
        for n in 0..CROWD {
            assert!(!gate.failed(of(n), NOW), "not a crowd yet");
        }
        assert!(gate.failed(of(CROWD), NOW));
        assert!(!gate.admits(of(7), NOW), "one attempt is what each of them has");
        let operator = address("192.0.2.1");
        assert!(gate.admits(operator, NOW), "who has not failed gets in");
        gate.failed(operator, NOW);
        assert!(!gate.admits(operator, NOW), "and mistypes once a minute");
        assert!(gate.admits(operator, NOW + WITHIN) && gate.admits(of(7), NOW + WITHIN));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut gate = Gate::default();
        let len = |gate: &Gate| gate.counts.lock().unwrap().by_address.len();
        for n in 0..u32::try_from(MOST_ADDRESSES).unwrap() {
            gate.failed(of(n), NOW);
        }
        assert_eq!(len(&gate), MOST_ADDRESSES);
        gate.failed(of(1 << 20), NOW);
        assert_eq!(len(&gate), 1, "all begin anew");
        gate = Gate::default();
        for n in 0..u32::try_from(MANY).unwrap() {
            gate.failed(of(n), NOW);
        }
        gate.failed(of(1 << 21), NOW + WITHIN);
        assert_eq!(len(&gate), 1, "whose time is over is let go");
    }
}
