//! How often somebody may fail to sign in: so many a minute from one address, and so many from all together.
//!
//! Kept in memory: each process bounds for itself, and a restart begins anew.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

/// From one address. A person who mistypes needs a few.
const MOST: u32 = 5;
/// From all addresses.
const MOST_OF_ALL: u32 = 60;
/// Within this.
const WITHIN: Duration = Duration::MINUTE;
/// Beyond so many addresses, those whose time is over are let go; `MOST_OF_ALL` bounds how many are not.
const MANY: usize = 1_000;

/// Counts by address.
#[derive(Debug, Default)]
pub struct Gate {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: Option<Window>,
    by_address: HashMap<IpAddr, Window>,
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
}

impl Gate {
    /// Whether somebody at this address may try now.
    pub(super) fn admits(&self, address: IpAddr, now: OffsetDateTime) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let below = |window: Option<&Window>, most: u32| {
            window.is_none_or(|window| window.is_over(now) || window.count < most)
        };
        below(counts.all.as_ref(), MOST_OF_ALL) && below(counts.by_address.get(&block(address)), MOST)
    }

    /// Counts a failure.
    pub(super) fn failed(&self, address: IpAddr, now: OffsetDateTime) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_address.len() >= MANY {
            counts.by_address.retain(|_, window| !window.is_over(now));
        }
        let fresh = Window { since: now, count: 0 };
        let counts = &mut *counts;
        for window in
            [counts.all.get_or_insert(fresh), counts.by_address.entry(block(address)).or_insert(fresh)]
        {
            if window.is_over(now) {
                *window = fresh;
            }
            window.count = window.count.saturating_add(1);
        }
    }
}

/// Who has one address of the newer kind has a whole block of them.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
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
    fn all_addresses_together_are_bounded_and_take_no_room_for_ever() {
        let gate = Gate::default();
        for n in 0..MOST_OF_ALL {
            gate.failed(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), NOW);
        }
        assert!(!gate.admits(address("192.0.2.1"), NOW));
        assert!(gate.admits(address("192.0.2.1"), NOW + WITHIN));
        for n in 0..MANY {
            gate.failed(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()), NOW);
        }
        gate.failed(address("192.0.2.1"), NOW + WITHIN);
        assert_eq!(gate.counts.lock().unwrap().by_address.len(), 1);
    }
}
