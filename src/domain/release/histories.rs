//! Whole histories of one transfer against a Stripe that answers, forgets, stores errors and lets calls arrive
//! late: whatever happens, one transfer at most; and once Stripe behaves, exactly one.

use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use super::{Attempt, Step};

const LONGEST_CALL: Duration = Duration::seconds(30);

/// What becomes of one call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fine,
    LostBefore,
    LostAfter,
    Kept500Before,
    Kept500After,
    Gateway,
    Busy,
    Limited,
    /// Our process dies; the call arrives at Stripe this many seconds later, or never.
    Died(Option<i64>),
    /// A look-up that gets no list; a send that never leaves.
    NotSent,
}

/// What happens at one step: how late it is taken, whether the controls allow a send, and the call's fate.
type Moment = (i64, bool, Fate);

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Fine),
        Just(Fate::LostBefore),
        Just(Fate::LostAfter),
        Just(Fate::Kept500Before),
        Just(Fate::Kept500After),
        Just(Fate::Gateway),
        Just(Fate::Busy),
        Just(Fate::Limited),
        proptest::option::of(0..30_i64).prop_map(Fate::Died),
        Just(Fate::NotSent),
    ]
}

fn moment() -> impl Strategy<Value = Moment> {
    let late = prop_oneof![4 => 0..5_i64, 2 => 0..2_000_i64, 1 => 0..100_000_i64];
    (late, proptest::bool::weighted(0.8), fate())
}

/// What Stripe keeps for a key: the first answer, until it forgets it.
#[derive(Clone, Copy, Debug)]
struct KeptAnswer {
    n: i32,
    at: OffsetDateTime,
    created: bool,
}

#[derive(Debug)]
struct Stripe {
    transfers: usize,
    kept: Vec<KeptAnswer>,
    /// Calls of dead processes that are still on their way: when, and with which key.
    late: Vec<(OffsetDateTime, i32)>,
    /// How long after 24 hours it keeps keys.
    keeps_longer: Duration,
}

impl Stripe {
    fn arrivals(&mut self, now: OffsetDateTime) {
        let (due, later): (Vec<_>, Vec<_>) = self.late.drain(..).partition(|(at, _)| *at <= now);
        self.late = later;
        for (at, n) in due {
            self.create(n, at, true);
        }
    }

    /// A call that executes, or is answered from what is kept. True: the answer is a transfer.
    fn create(&mut self, n: i32, now: OffsetDateTime, answers_well: bool) -> bool {
        let lifetime = Duration::hours(24) + self.keeps_longer;
        self.kept.retain(|kept| now - kept.at < lifetime);
        if let Some(kept) = self.kept.iter().find(|kept| kept.n == n) {
            return kept.created;
        }
        self.transfers += 1;
        self.kept.push(KeptAnswer { n, at: now, created: answers_well });
        answers_well
    }

    fn keep_500(&mut self, n: i32, now: OffsetDateTime) -> bool {
        let lifetime = Duration::hours(24) + self.keeps_longer;
        self.kept.retain(|kept| now - kept.at < lifetime);
        if let Some(kept) = self.kept.iter().find(|kept| kept.n == n) {
            return kept.created;
        }
        self.kept.push(KeptAnswer { n, at: now, created: false });
        false
    }
}

fn fresh(n: i32) -> Attempt {
    Attempt {
        n,
        sends: 0,
        first_sent_at: None,
        quiet_since: None,
        ended_at: None,
        not_before: None,
        answered: false,
        look_up_due: false,
        made_another: false,
        empty_look_ups: 0,
        last_look_up_at: None,
    }
}

/// The worker and its row.
#[derive(Debug)]
struct Run {
    stripe: Stripe,
    attempt: Attempt,
    grace: Duration,
    now: OffsetDateTime,
    done: bool,
}

impl Run {
    fn new(keeps_longer: Duration, grace: Duration) -> Self {
        let stripe = Stripe { transfers: 0, kept: Vec::new(), late: Vec::new(), keeps_longer };
        Self { stripe, attempt: fresh(1), grace, now: OffsetDateTime::UNIX_EPOCH, done: false }
    }

    /// Takes the next step; false when the transfer is settled.
    fn step(&mut self, (late_s, clear, fate): Moment) {
        self.now += Duration::seconds(late_s);
        self.stripe.arrivals(self.now);
        match self.attempt.next_step(clear, self.grace, self.now) {
            Step::Wait(until) => self.now = self.now.max(until),
            Step::Withdraw => self.now += Duration::SECOND,
            Step::NextKey => self.attempt = fresh(self.attempt.n + 1),
            Step::LookUp => self.look_up(fate),
            Step::Send => self.send(fate),
        }
    }

    fn look_up(&mut self, fate: Fate) {
        match fate {
            Fate::Fine | Fate::LostAfter | Fate::Kept500After if self.stripe.transfers > 0 => {
                self.done = true
            }
            Fate::Fine | Fate::LostAfter | Fate::Kept500After => {
                self.attempt.empty_look_ups += 1;
                self.attempt.last_look_up_at = Some(self.now);
                self.attempt.not_before = None;
            }
            _ => self.attempt.not_before = Some(self.now + Duration::seconds(10)),
        }
    }

    fn send(&mut self, fate: Fate) {
        let (n, sent_at) = (self.attempt.n, self.now);
        self.attempt.sends += 1;
        self.attempt.first_sent_at.get_or_insert(sent_at);
        (self.attempt.empty_look_ups, self.attempt.last_look_up_at) = (0, None);
        self.attempt.not_before = None;
        let mut ended_at = sent_at + Duration::seconds(1);
        match fate {
            Fate::Fine => {
                self.done = self.stripe.create(n, sent_at, true);
                self.attempt.answered |= !self.done;
            }
            Fate::LostBefore | Fate::Gateway | Fate::Busy | Fate::Limited | Fate::NotSent => {}
            Fate::LostAfter => {
                self.stripe.create(n, sent_at, true);
            }
            Fate::Kept500Before => {
                self.done = self.stripe.keep_500(n, sent_at);
                self.attempt.answered |= !self.done;
            }
            Fate::Kept500After => {
                self.done = self.stripe.create(n, sent_at, false);
                self.attempt.answered |= !self.done;
            }
            Fate::Died(arrives) => {
                self.stripe.late.extend(arrives.map(|s| (sent_at + Duration::seconds(s), n)));
                ended_at = sent_at + LONGEST_CALL;
            }
        }
        let died = matches!(fate, Fate::Died(_));
        self.attempt.ended_at = Some(ended_at);
        self.attempt.quiet_since = Some(if died { sent_at } else { ended_at });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_there_is_one_transfer_at_most_and_in_the_end_exactly_one(
        moments in proptest::collection::vec(moment(), 0..60), keeps_longer_s in 0..200_000_i64,
        grace_s in prop_oneof![1..5_i64, Just(600_i64), 1_000..200_000_i64],
    ) {
        let mut run = Run::new(Duration::seconds(keeps_longer_s), Duration::seconds(grace_s));
        for moment in moments.iter().chain(&[(0, true, Fate::Fine); 200]) {
            if run.done {
                break;
            }
            run.step(*moment);
            prop_assert!(run.stripe.transfers <= 1, "paid twice: {run:?}");
        }
        run.stripe.arrivals(run.now + Duration::days(2));
        prop_assert!(run.done, "never settled: {run:?}");
        prop_assert_eq!(run.stripe.transfers, 1);
    }
}
