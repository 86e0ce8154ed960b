//! The bound on connections, and who must go when it is reached or when a caller takes too long.
//!
//! Knows what each connection waits for, and nothing of what is said on it. A caller who owes the next byte may be
//! sent away for others; one who waits for us never is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::domain::network;

/// A first request's head, and a TLS handshake before it.
const HEAD: Duration = Duration::from_secs(10);
/// Between requests; longer than the minute for which proxies keep their connections.
const IDLE: Duration = Duration::from_secs(75);
/// A body. The handler's own bound is shorter, so this is for whom nobody listens to any more.
const BODY: Duration = Duration::from_secs(35);
/// An answer of which not one byte is taken.
const STALLED: Duration = Duration::from_secs(30);
/// Where the service is ending, callers get no longer than this for their part.
const ENDING: Duration = Duration::from_secs(5);
/// An answer stuck for so long is its reader's fault.
const SLOW: Duration = Duration::from_secs(1);
/// Of a full house, this part is sent away at once: finding whom costs a look at everybody.
const AT_ONCE: usize = 16;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was sent yet.
    Fresh,
    /// The head of a request has begun.
    Head,
    /// The head is there, its body is not.
    Body,
    /// The request is ours to answer.
    Working,
    /// The answer is on its way.
    Answering,
    /// Answered; the next request may come.
    Idle,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    phase: Phase,
    since: Instant,
    /// Since when not one byte of an answer could be written.
    stalled: Option<Instant>,
}

impl Standing {
    /// Since when the caller owes us the next byte; none where we owe it.
    fn owing_since(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Fresh | Phase::Head | Phase::Body | Phase::Idle => Some(self.since),
            Phase::Working => None,
            Phase::Answering => self.stalled.filter(|stalled| now - *stalled >= SLOW),
        }
    }

    fn is_overdue(&self, now: Instant, ending: bool) -> bool {
        let (since, most) = match self.phase {
            Phase::Fresh => (self.since, if ending { Duration::ZERO } else { HEAD }),
            Phase::Idle => (self.since, if ending { Duration::ZERO } else { IDLE }),
            Phase::Head => (self.since, HEAD),
            Phase::Body => (self.since, BODY),
            Phase::Working => return false,
            Phase::Answering => match self.stalled {
                Some(stalled) => (stalled, STALLED),
                None => return false,
            },
        };
        now - since >= if ending { most.min(ENDING) } else { most }
    }
}

/// What the house knows of one connection.
#[derive(Debug)]
struct Guest {
    from: u128,
    standing: Mutex<Standing>,
    leave: CancellationToken,
}

/// All seats of one listening address.
#[derive(Clone, Debug)]
pub(super) struct Seats(Arc<House>);

#[derive(Debug)]
struct House {
    most: usize,
    guests: Mutex<HashMap<u64, Arc<Guest>>>,
    next: AtomicU64,
}

/// One connection's seat, free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    guest: Arc<Guest>,
    house: Arc<House>,
}

impl Seats {
    /// So many seats, one at least.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(House { most: most.max(1), guests: Mutex::default(), next: AtomicU64::new(0) }))
    }

    /// A seat, for which others may have to leave; none where everybody here waits for us.
    pub(super) fn take(&self, from: IpAddr, now: Instant) -> Option<Seat> {
        let mut guests = lock(&self.0.guests);
        if guests.len() >= self.0.most {
            make_room(&mut guests, self.0.most.div_ceil(AT_ONCE), now);
        }
        if guests.len() >= self.0.most {
            count("refused", 1);
            return None;
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let standing = Standing { phase: Phase::Fresh, since: now, stalled: None };
        let guest = Arc::new(Guest {
            from: network::subscriber(from),
            standing: Mutex::new(standing),
            leave: CancellationToken::new(),
        });
        guests.insert(number, Arc::clone(&guest));
        Some(Seat { number, guest, house: Arc::clone(&self.0) })
    }

    /// Sends away who takes too long.
    pub(super) fn sweep(&self, now: Instant, ending: bool) {
        let mut sent = 0;
        lock(&self.0.guests).retain(|_, guest| {
            let overdue = lock(&guest.standing).is_overdue(now, ending);
            if overdue {
                guest.leave.cancel();
                sent += 1;
            }
            !overdue
        });
        count("overdue", sent);
    }
}

/// Of those who owe us the next byte, first those of the address with most connections, the longest owing first.
fn make_room(guests: &mut HashMap<u64, Arc<Guest>>, wanted: usize, now: Instant) {
    let mut crowd: HashMap<u128, usize> = HashMap::new();
    for guest in guests.values() {
        *crowd.entry(guest.from).or_default() += 1;
    }
    let owing = |guest: &Guest| lock(&guest.standing).owing_since(now);
    let mut leaving: Vec<_> = guests
        .iter()
        .filter_map(|(number, guest)| {
            let of_them = crowd.get(&guest.from).copied().unwrap_or_default();
            owing(guest).map(|since| (std::cmp::Reverse(of_them), since, *number))
        })
        .collect();
    leaving.sort_unstable();
    leaving.truncate(wanted);
    count("crowded", leaving.len() as u64);
    for (_, _, number) in leaving {
        if let Some(guest) = guests.remove(&number) {
            guest.leave.cancel();
        }
    }
}

fn count(reason: &'static str, connections: u64) {
    if connections > 0 {
        metrics::counter!("sluicegate_connections_closed_total", "reason" => reason).increment(connections);
    }
}

impl Seat {
    /// Ends when the connection is to be left.
    pub(super) fn leave(&self) -> CancellationToken {
        self.guest.leave.clone()
    }

    /// What the connection is at from now on.
    pub(super) fn enter(&self, phase: Phase, now: Instant) {
        *lock(&self.guest.standing) = Standing { phase, since: now, stalled: None };
    }

    /// Bytes came in: a request begins where none was under way.
    pub(super) fn heard(&self, now: Instant) {
        let mut standing = lock(&self.guest.standing);
        if matches!(standing.phase, Phase::Fresh | Phase::Idle) {
            // The time of a fresh connection runs on: a byte before each deadline must not buy another one.
            let since = if standing.phase == Phase::Fresh { standing.since } else { now };
            *standing = Standing { phase: Phase::Head, since, stalled: None };
        }
    }

    /// Whether bytes of the answer can be written.
    pub(super) fn writes(&self, moving: bool, now: Instant) {
        let mut standing = lock(&self.guest.standing);
        if moving {
            standing.stalled = None;
        } else if standing.stalled.is_none() {
            standing.stalled = Some(now);
        }
    }

    /// The phase, if it is still the one it was taken for, becomes the next.
    pub(super) fn turn(&self, from: Phase, to: Phase, now: Instant) {
        let mut standing = lock(&self.guest.standing);
        if standing.phase == from {
            *standing = Standing { phase: to, since: now, stalled: standing.stalled };
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.house.guests).remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is guarded here can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn gone(seat: &Seat) -> bool {
        seat.leave().is_cancelled()
    }

    #[test]
    fn of_a_full_house_the_longest_owing_of_the_largest_crowd_leaves() {
        let (seats, now) = (Seats::new(4), Instant::now());
        let alone = seats.take(at(1), now).unwrap();
        let crowd = [1, 2, 3].map(|second| seats.take(at(2), now + SECOND * second).unwrap());
        crowd[0].enter(Phase::Working, now);
        crowd[1].enter(Phase::Head, now + 4 * SECOND);
        let guest = seats.take(at(3), now + 5 * SECOND).unwrap();
        assert!(gone(&crowd[2]), "it owes the longest of its address");
        assert!(![&alone, &crowd[0], &crowd[1], &guest].into_iter().any(gone));
    }

    #[test]
    fn nobody_leaves_who_waits_for_us() {
        let (seats, now) = (Seats::new(3), Instant::now());
        let here = [Phase::Working, Phase::Answering, Phase::Answering].map(|phase| {
            let seat = seats.take(at(1), now).unwrap();
            seat.enter(phase, now);
            seat
        });
        here[2].writes(false, now);
        assert!(seats.take(at(2), now).is_none());
        assert!(seats.take(at(2), now + SLOW).is_some(), "the third takes nothing of its answer");
        assert!(gone(&here[2]) && !gone(&here[0]) && !gone(&here[1]));
    }

    #[test]
    fn whoever_takes_too_long_leaves() {
        let (seats, now) = (Seats::new(10), Instant::now());
        let cases = [
            (Phase::Fresh, HEAD),
            (Phase::Head, HEAD),
            (Phase::Idle, IDLE),
            (Phase::Body, BODY),
            (Phase::Answering, STALLED),
        ];
        for (phase, most) in cases {
            let seat = seats.take(at(1), now).unwrap();
            seat.enter(phase, now);
            seat.writes(false, now);
            seats.sweep((now + most).checked_sub(SECOND).unwrap(), false);
            assert!(!gone(&seat), "{phase:?}");
            seats.sweep(now + most, false);
            assert!(gone(&seat), "{phase:?}");
        }
        let reading = seats.take(at(1), now).unwrap();
        reading.enter(Phase::Answering, now);
        let working = seats.take(at(1), now).unwrap();
        working.enter(Phase::Working, now);
        seats.sweep(now + 1_000 * SECOND, true);
        assert!(!gone(&working) && !gone(&reading));
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time() {
        let (seats, now) = (Seats::new(1), Instant::now());
        let seat = seats.take(at(1), now).unwrap();
        seat.heard(now + 9 * SECOND);
        seat.heard(now + 10 * SECOND);
        seats.sweep(now + 10 * SECOND, false);
        assert!(gone(&seat));
    }

    #[test]
    fn who_has_sent_nothing_yet_does_not_hold_up_the_end() {
        let (seats, now) = (Seats::new(2), Instant::now());
        let (fresh, begun) = (seats.take(at(1), now).unwrap(), seats.take(at(1), now).unwrap());
        begun.heard(now);
        seats.sweep(now, true);
        assert!(gone(&fresh) && !gone(&begun));
        seats.sweep(now + ENDING, true);
        assert!(gone(&begun));
    }

    #[test]
    fn a_seat_is_free_again_when_its_guest_has_gone() {
        let (seats, now) = (Seats::new(1), Instant::now());
        let seat = seats.take(at(1), now).unwrap();
        seat.enter(Phase::Working, now);
        assert!(seats.take(at(1), now).is_none());
        drop(seat);
        assert!(seats.take(at(1), now).is_some());
    }
}
