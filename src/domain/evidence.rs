//! Which of two pieces of evidence about one subject is believed.
//!
//! Stripe's events come in any order and date themselves in whole seconds; a fetch is true from the moment
//! it began. Everything is folded into a [`Standing`], and where two pieces have no order the answer is
//! [`Verdict::Doubt`]: show the more cautious one, and fetch.

use time::{Duration, OffsetDateTime};

/// An event this much older than a fetch's start is a straggler; a younger one may tell of a change that
/// the fetch just missed, since our clock and Stripe's differ and events are dated in whole seconds.
pub const STRAGGLER: Duration = Duration::minutes(5);

/// What kind of evidence the latest one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A webhook or a backfilled event.
    Event,
    /// An answer of Stripe's API about the object itself.
    Fetch,
}

/// A fetch that was folded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// When the call began.
    pub at: OffsetDateTime,
    /// The last sequence number handed out before the call began.
    pub after_seq: i64,
}

/// How far the evidence about a subject reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Evidence strictly newer than this is believed without a fetch.
    pub at: OffsetDateTime,
    /// What set `at`.
    pub by: By,
    /// The highest sequence number of an event that took part.
    pub seq: i64,
    /// The latest fetch.
    pub fetched: Option<Fetched>,
    /// Something has no order yet: a fetch is needed.
    pub doubted: bool,
}

/// What to do with a piece of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is newer: its content replaces what is held.
    Apply,
    /// It is older or the same: what is held stays.
    Keep,
    /// It has no order to what is held: show the more cautious of the two, and fetch.
    Doubt,
}

/// An event about the subject.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The event's `created`.
    pub at: OffsetDateTime,
    /// When it was received, as a sequence number.
    pub seq: i64,
    /// What its content says about what is held.
    pub content: Content,
}

/// How an event's content compares with what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The same.
    Same,
    /// Readable, and different.
    Other,
    /// It only says that something may have changed: a thin event, an unreadable version or shape.
    Unread,
}

impl Standing {
    /// The standing after a first event.
    pub fn of_event(told: Told) -> Self {
        let doubted = told.content == Content::Unread;
        Self { at: told.at, by: By::Event, seq: told.seq, fetched: None, doubted }
    }

    /// The standing after a first fetch.
    pub fn of_fetch(fetched: Fetched) -> Self {
        Self { at: fetched.at, by: By::Fetch, seq: fetched.after_seq, fetched: Some(fetched), doubted: false }
    }

    /// Folds an event in.
    pub fn hear(&mut self, told: Told) -> Verdict {
        if self.fetched.is_some_and(|fetch| told.seq <= fetch.after_seq) {
            return Verdict::Keep;
        }
        let newer = told.at > self.at;
        let verdict = match (self.by, told.content) {
            (_, Content::Unread) if newer => Verdict::Doubt,
            (_, _) if newer => Verdict::Apply,
            // Behind something that could not be read, the last that could be is still worth heeding.
            (By::Event, Content::Other) if told.at < self.at && self.doubted => Verdict::Doubt,
            (By::Event, _) if told.at < self.at => Verdict::Keep,
            (By::Event, Content::Same) => Verdict::Keep,
            (By::Event, Content::Other | Content::Unread) => Verdict::Doubt,
            (By::Fetch, _) if told.at < self.at - STRAGGLER => Verdict::Keep,
            (By::Fetch, _) => Verdict::Doubt,
        };
        match verdict {
            Verdict::Keep => {}
            Verdict::Apply => {
                *self =
                    Self { at: told.at, by: By::Event, seq: self.seq.max(told.seq), doubted: false, ..*self };
            }
            Verdict::Doubt => {
                self.doubted = true;
                self.seq = self.seq.max(told.seq);
                if newer {
                    (self.at, self.by) = (told.at, By::Event);
                }
            }
        }
        verdict
    }

    /// Whether a fetch that was folded in is later than this one.
    pub fn outranks(&self, fetch: Fetched) -> bool {
        // By receipt before time: the clock may have gone back between two fetches.
        self.fetched.is_some_and(|held| (held.after_seq, held.at) > (fetch.after_seq, fetch.at))
    }

    /// Folds a finished fetch in.
    pub fn see(&mut self, fetch: Fetched) -> Verdict {
        if self.outranks(fetch) {
            return Verdict::Keep;
        }
        let overtaken = self.seq > fetch.after_seq && self.by == By::Event;
        if overtaken && self.at > fetch.at {
            // Told of a later moment while the call was under way: the event stands, and so does a doubt.
            self.fetched = Some(fetch);
            return Verdict::Keep;
        }
        let news_under_way = self.seq > fetch.after_seq
            && (self.doubted || self.by == By::Event)
            && self.at >= fetch.at - STRAGGLER;
        *self = Self {
            at: fetch.at,
            by: By::Fetch,
            seq: self.seq.max(fetch.after_seq),
            fetched: Some(fetch),
            doubted: news_under_way,
        };
        if news_under_way { Verdict::Doubt } else { Verdict::Apply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(1_000_000 + second)
    }

    fn told(second: i64, seq: i64, content: Content) -> Told {
        Told { at: at(second), seq, content }
    }

    #[test]
    fn of_two_events_the_newer_is_believed_and_a_tie_is_a_doubt() {
        let held = Standing::of_event(told(10, 1, Content::Other));
        let hear = |t: Told| held.clone().hear(t);
        assert_eq!(hear(told(11, 2, Content::Other)), Verdict::Apply);
        assert_eq!(hear(told(11, 2, Content::Unread)), Verdict::Doubt);
        assert_eq!(hear(told(9, 2, Content::Other)), Verdict::Keep);
        assert_eq!(hear(told(9, 2, Content::Unread)), Verdict::Keep);
        assert_eq!(hear(told(10, 2, Content::Same)), Verdict::Keep);
        assert_eq!(hear(told(10, 2, Content::Other)), Verdict::Doubt);
        let mut doubted = held.clone();
        doubted.hear(told(20, 2, Content::Unread));
        assert_eq!(
            doubted.hear(told(15, 3, Content::Other)),
            Verdict::Doubt,
            "behind one that can't be read"
        );
    }

    #[test]
    fn a_fetch_outranks_only_what_was_received_before_it_began() {
        let held = Standing::of_fetch(Fetched { at: at(100), after_seq: 5 });
        let hear = |t: Told| held.clone().hear(t);
        assert_eq!(hear(told(200, 5, Content::Other)), Verdict::Keep, "received before");
        assert_eq!(hear(told(101, 6, Content::Other)), Verdict::Apply, "received after, newer");
        assert_eq!(hear(told(100, 6, Content::Same)), Verdict::Doubt, "received after, same moment");
        assert_eq!(hear(told(-200, 6, Content::Other)), Verdict::Doubt, "five minutes old");
        assert_eq!(hear(told(-201, 6, Content::Other)), Verdict::Keep, "a straggler");
    }

    #[test]
    fn a_slow_fetch_does_not_undo_what_was_told_while_it_was_under_way() {
        let mut held = Standing::of_event(told(101, 6, Content::Other));
        assert_eq!(held.see(Fetched { at: at(100), after_seq: 5 }), Verdict::Keep);
        let mut held = Standing::of_event(told(99, 6, Content::Other));
        assert_eq!(held.see(Fetched { at: at(100), after_seq: 5 }), Verdict::Doubt);
        assert!(held.doubted);
        assert_eq!(held.see(Fetched { at: at(102), after_seq: 6 }), Verdict::Apply);
        assert_eq!(
            held.see(Fetched { at: at(101), after_seq: 5 }),
            Verdict::Keep,
            "an older fetch ends later"
        );
        assert!(!held.doubted);
    }

    /// A world whose state changes at known half-seconds; each change sends one event.
    fn end_state(changes: &[i64], order: &[usize], repeats: &[usize]) -> usize {
        let truth = changes.len();
        let deliveries = order.iter().chain(repeats.iter().filter(|i| **i < changes.len()));
        let mut held: Option<(Standing, usize)> = None;
        let fetch_at = changes.iter().max().copied().unwrap_or(0) / 2 + 1;
        for (seq, index) in deliveries.enumerate() {
            let (second, value) = (changes[*index].div_euclid(2), index + 1);
            match &mut held {
                None => {
                    held = Some((Standing::of_event(told(second, seq as i64 + 1, Content::Other)), value))
                }
                Some((standing, shown)) => {
                    let content = if *shown == value { Content::Same } else { Content::Other };
                    if standing.hear(told(second, seq as i64 + 1, content)) == Verdict::Apply {
                        *shown = value;
                    }
                }
            }
        }
        let after_seq = (order.len() + repeats.len()) as i64;
        match held {
            Some((mut standing, shown)) if standing.doubted => {
                match standing.see(Fetched { at: at(fetch_at), after_seq }) {
                    Verdict::Apply => truth,
                    Verdict::Keep | Verdict::Doubt => shown,
                }
            }
            Some((_, shown)) => shown,
            None => 0,
        }
    }

    proptest! {
        #[test]
        fn any_order_with_any_duplicates_ends_in_the_truth(
            gaps in proptest::collection::vec(1_i64..5, 1..8),
            seed in proptest::collection::vec(any::<u32>(), 8),
            repeats in proptest::collection::vec(0_usize..8, 0..6),
        ) {
            let changes: Vec<i64> = gaps.iter().scan(0, |t, gap| { *t += gap; Some(*t) }).collect();
            let mut order: Vec<usize> = (0..changes.len()).collect();
            order.sort_by_key(|i| seed[*i]);
            prop_assert_eq!(end_state(&changes, &order, &repeats), changes.len());
        }
    }
}
