//! What the door remembers for a moment: whose a key is, and which refusals are already on record.
//!
//! A key's owner is asked of the database once a second, not with every request: a key that is taken back through
//! this process is forgotten at once, and elsewhere within that second. Of many refusals of one kind the first
//! in a minute is put on record, and with the next how many were not: whoever holds a key that reaches nowhere
//! can't fill the log with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use crate::flows::admit::Caller;

/// How long it is believed whose a key is.
const BELIEVED_FOR: Duration = Duration::SECOND;
/// The most keys remembered; there are not nearly so many callers.
const MOST_KEYS: usize = 1_000;
/// A refusal of one kind is put on record this often.
const RECORDED_EVERY: Duration = Duration::minutes(1);
/// The most kinds of refusals remembered; beyond them none is put on record until the minute is over.
const MOST_REFUSALS: usize = 2_000;

/// The door of one process.
#[derive(Clone, Debug, Default)]
pub struct Door(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    keys: Mutex<Keys>,
    refusals: Mutex<HashMap<(String, String), Refusals>>,
}

#[derive(Debug, Default)]
struct Keys {
    callers: HashMap<[u8; 32], (Caller, OffsetDateTime)>,
    /// Counts how often all were forgotten: what was asked before that is not kept after it.
    era: u64,
}

#[derive(Debug)]
struct Refusals {
    recorded_at: OffsetDateTime,
    unrecorded: u64,
}

/// What was asked of the database may be kept only as long as nothing was forgotten meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Era(u64);

// Nothing here panics while it holds a lock, and what a lock guards is whole between any two lines.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// Whose key this is, if that was found out within the last second.
    pub(super) fn recall(&self, hash: &[u8; 32], now: OffsetDateTime) -> Result<Caller, Era> {
        let keys = lock(&self.0.keys);
        match keys.callers.get(hash) {
            Some((caller, at)) if (*at..*at + BELIEVED_FOR).contains(&now) => Ok(caller.clone()),
            _ => Err(Era(keys.era)),
        }
    }

    /// Remembers whose key this is.
    pub(super) fn remember(&self, hash: [u8; 32], caller: &Caller, now: OffsetDateTime, era: Era) {
        let mut keys = lock(&self.0.keys);
        if keys.callers.len() >= MOST_KEYS {
            keys.callers.clear();
        }
        if keys.era == era.0 {
            keys.callers.insert(hash, (caller.clone(), now));
        }
    }

    /// Forgets whose the keys are: one was taken back.
    pub(super) fn forget_keys(&self) {
        let mut keys = lock(&self.0.keys);
        keys.callers.clear();
        keys.era += 1;
    }

    /// Whether this refusal is to be put on record: then how many of its kind were not since the last that was.
    pub(super) fn note_refusal(&self, key: &str, call: &str, now: OffsetDateTime) -> Option<u64> {
        let mut refusals = lock(&self.0.refusals);
        let kind = (key.to_owned(), call.to_owned());
        let over = |at: OffsetDateTime| !(at..at + RECORDED_EVERY).contains(&now);
        if let Some(seen) = refusals.get_mut(&kind) {
            if over(seen.recorded_at) {
                seen.recorded_at = now;
                return Some(std::mem::take(&mut seen.unrecorded));
            }
            seen.unrecorded += 1;
            return None;
        }
        if refusals.len() >= MOST_REFUSALS {
            refusals.retain(|_, seen| !over(seen.recorded_at));
        }
        if refusals.len() >= MOST_REFUSALS {
            return None;
        }
        refusals.insert(kind, Refusals { recorded_at: now, unrecorded: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Actor;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn caller() -> Caller {
        Caller::Revoked(Actor { id: "key_1".into() })
    }

    #[test]
    fn a_key_is_remembered_for_a_second_and_not_across_a_revocation() {
        let door = Door::default();
        let era = door.recall(&[1; 32], NOW).unwrap_err();
        door.remember([1; 32], &caller(), NOW, era);
        assert_eq!(door.recall(&[1; 32], NOW + Duration::milliseconds(999)).unwrap(), caller());
        assert!(door.recall(&[1; 32], NOW + Duration::SECOND).is_err());
        assert!(door.recall(&[1; 32], NOW - Duration::MICROSECOND).is_err(), "the clock went back");
        assert!(door.recall(&[2; 32], NOW).is_err());
        door.forget_keys();
        assert!(door.recall(&[1; 32], NOW).is_err());
        door.remember([1; 32], &caller(), NOW, era);
        assert!(door.recall(&[1; 32], NOW).is_err(), "it was asked before the revocation");
    }

    #[test]
    fn the_memory_of_keys_is_bounded() {
        let door = Door::default();
        for n in 0..2 * MOST_KEYS as u64 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            door.remember(hash, &caller(), NOW, Era(0));
        }
        assert!(lock(&door.0.keys).callers.len() <= MOST_KEYS);
    }

    #[test]
    fn of_a_flood_of_refusals_one_a_minute_is_recorded_with_the_number_of_the_others() {
        let door = Door::default();
        assert_eq!(door.note_refusal("key_1", "POST /a", NOW), Some(0));
        assert_eq!(door.note_refusal("key_1", "POST /b", NOW), Some(0));
        assert_eq!(door.note_refusal("key_2", "POST /a", NOW), Some(0));
        for _ in 0..5 {
            assert_eq!(door.note_refusal("key_1", "POST /a", NOW + Duration::seconds(59)), None);
        }
        assert_eq!(door.note_refusal("key_1", "POST /a", NOW + Duration::MINUTE), Some(5));
        assert_eq!(door.note_refusal("key_1", "POST /a", NOW + Duration::MINUTE), None);
        let recorded = (0..2 * MOST_REFUSALS)
            .filter_map(|n| door.note_refusal(&n.to_string(), "c", NOW + Duration::MINUTE))
            .count();
        assert_eq!(recorded, MOST_REFUSALS - 1, "those of the first minute made room");
        let later = NOW + Duration::HOUR;
        assert_eq!(door.note_refusal("new", "c", later), Some(0), "the minute is over");
    }
}
