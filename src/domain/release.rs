//! What to do next about a transfer whose money is reserved.
//!
//! Stripe keeps the first answer of an idempotency key, refusals and 500s included, for at least 24 hours,
//! and forgets it some time after. So within 23 hours a repetition with the same key and body cannot pay
//! twice; and a new key is safe only once it is proven that the old one created nothing and never will.
//! Source: <https://docs.stripe.com/api/idempotent_requests>, <https://docs.stripe.com/error-low-level>.

use time::{Duration, OffsetDateTime};

/// A key this old is not used again: Stripe may have forgotten it while the call is under way.
pub const REPEAT_WITHIN: Duration = Duration::hours(23);
/// A key this old can be followed by a new one, once look-ups prove that it created nothing.
pub const KEY_LIFETIME: Duration = Duration::hours(24);
/// A prepared send older than this is dropped: what was checked before it may no longer be true.
pub const SEND_WITHIN: Duration = Duration::seconds(60);

const FIRST_PAUSE: Duration = Duration::seconds(1);
const LONGEST_PAUSE: Duration = Duration::hours(1);

/// What is known about the use of one idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// N of `xfer_….N`.
    pub n: i32,
    /// How often it was sent.
    pub sends: i32,
    /// When it was first sent.
    pub first_sent_at: Option<OffsetDateTime>,
    /// Since when no call of ours is known to be under way. After a crash that is the start of the last one: the
    /// same key and body may meet itself at Stripe at any time.
    pub quiet_since: Option<OffsetDateTime>,
    /// When the last call with it ended, or at the latest can have ended.
    pub ended_at: Option<OffsetDateTime>,
    /// Nothing at all before this: Stripe asked for patience, or a look-up just failed.
    pub not_before: Option<OffsetDateTime>,
    /// Stripe answered with a 5xx, which it keeps for the key and will replay.
    pub answered: bool,
    /// Stripe said not to repeat, or an earlier key ended in a failure: no more sends before a look-up.
    pub look_up_due: bool,
    /// Stripe showed that this key made something, but not what was asked for: nothing is sent any more, with
    /// this key or another, whatever look-ups find.
    pub made_another: bool,
    /// Complete look-ups since the last send, begun a grace or more after it ended, that found nothing.
    pub empty_look_ups: i32,
    /// When the last of them began.
    pub last_look_up_at: Option<OffsetDateTime>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the frozen body with this key.
    Send,
    /// List Stripe's transfers and look for ours.
    LookUp,
    /// This key is proven to have created nothing and never to: go on with the next.
    NextKey,
    /// Nothing was sent with this key and something speaks against it now: give the money back.
    Withdraw,
    /// Nothing to do before this.
    Wait(OffsetDateTime),
}

impl Attempt {
    /// Decides. `clear` says that the account and the controls allow a send at this moment; `grace` is how
    /// long after the last call a look-up counts as proof.
    pub fn next_step(&self, clear: bool, grace: Duration, now: OffsetDateTime) -> Step {
        let (Some(first_sent_at), Some(ended_at)) = (self.first_sent_at, self.ended_at) else {
            let first = self.look_up_due && self.empty_look_ups == 0;
            let step = if first { Step::LookUp } else { Step::Send };
            return if clear { self.no_sooner(step, now) } else { Step::Withdraw };
        };
        let look_up_at = ended_at + grace;
        let step = if now < look_up_at {
            self.repeat(clear, first_sent_at, self.quiet_since.unwrap_or(ended_at), look_up_at, now)
        } else {
            self.look(clear, first_sent_at, grace, now)
        };
        self.no_sooner(step, now)
    }

    /// While the last call is young: repeat it, ever more slowly, unless something speaks against it.
    fn repeat(
        &self,
        clear: bool,
        first_sent_at: OffsetDateTime,
        quiet_since: OffsetDateTime,
        look_up_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Step {
        let repeat_at = quiet_since + pause_after(self.sends);
        let too_old = repeat_at.max(now) >= first_sent_at + REPEAT_WITHIN;
        if !clear || self.made_another || self.look_up_due || too_old || repeat_at >= look_up_at {
            Step::Wait(look_up_at)
        } else if now < repeat_at {
            Step::Wait(repeat_at)
        } else {
            Step::Send
        }
    }

    /// After the grace: prove what happened.
    fn look(&self, clear: bool, first_sent_at: OffsetDateTime, grace: Duration, now: OffsetDateTime) -> Step {
        let Some(looked_at) = self.last_look_up_at.filter(|_| self.empty_look_ups > 0) else {
            return Step::LookUp;
        };
        let forgotten_at = first_sent_at + KEY_LIFETIME;
        let dead = self.answered || now >= forgotten_at;
        let again_at = looked_at + grace / 2_i32;
        if !clear || self.made_another {
            // Nothing may be sent, whatever is proven; a late creation would still be found.
            return if now >= looked_at + grace { Step::LookUp } else { Step::Wait(looked_at + grace) };
        }
        match dead {
            true if self.empty_look_ups >= 2 => Step::NextKey,
            true if now >= again_at => Step::LookUp,
            true => Step::Wait(again_at),
            false if now < first_sent_at + REPEAT_WITHIN => Step::Send,
            false => Step::Wait(forgotten_at),
        }
    }

    fn no_sooner(&self, step: Step, now: OffsetDateTime) -> Step {
        match (self.not_before, step) {
            (Some(at), Step::Wait(until)) if at > now => Step::Wait(until.max(at)),
            (Some(at), Step::Send | Step::LookUp) if at > now => Step::Wait(at),
            _ => step,
        }
    }
}

/// How long to wait before the next send after this many: doubling from one second to an hour.
pub fn pause_after(sends: i32) -> Duration {
    let doublings = u32::try_from(sends.saturating_sub(1)).unwrap_or(0).min(16);
    (FIRST_PAUSE * 2_i32.saturating_pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod histories;

#[cfg(test)]
mod tests {
    use super::*;

    const T0: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const GRACE: Duration = Duration::minutes(10);

    fn s(seconds: i64) -> OffsetDateTime {
        T0 + Duration::seconds(seconds)
    }

    fn sent() -> Attempt {
        Attempt {
            n: 1,
            sends: 1,
            first_sent_at: Some(T0),
            quiet_since: Some(T0),
            ended_at: Some(T0),
            not_before: None,
            answered: false,
            look_up_due: false,
            made_another: false,
            empty_look_ups: 0,
            last_look_up_at: None,
        }
    }

    fn looked(times: i32, last: OffsetDateTime) -> Attempt {
        Attempt { empty_look_ups: times, last_look_up_at: Some(last), ..sent() }
    }

    const H23: i64 = 23 * 3_600;
    const H24: i64 = 24 * 3_600;

    #[test]
    fn each_state_of_a_key_has_its_next_step() {
        let fresh = Attempt { sends: 0, first_sent_at: None, quiet_since: None, ended_at: None, ..sent() };
        let old = Attempt { quiet_since: Some(s(H23 - 300)), ended_at: Some(s(H23 - 300)), ..sent() };
        let crashed = Attempt { ended_at: Some(s(30)), ..sent() };
        let rows: Vec<(&str, Attempt, bool, OffsetDateTime, Step)> = vec![
            ("never sent", fresh.clone(), true, T0, Step::Send),
            ("never sent, not clear", fresh.clone(), false, T0, Step::Withdraw),
            ("to be looked up first", Attempt { look_up_due: true, ..fresh.clone() }, true, T0, Step::LookUp),
            (
                "looked up first",
                Attempt { look_up_due: true, empty_look_ups: 1, ..fresh },
                true,
                T0,
                Step::Send,
            ),
            ("just sent", sent(), true, T0, Step::Wait(s(1))),
            ("a second later", sent(), true, s(1), Step::Send),
            ("a second later, not clear", sent(), false, s(1), Step::Wait(s(600))),
            ("died in the call", crashed.clone(), true, s(1), Step::Send),
            ("died in the call, the grace counts from its latest end", crashed, true, s(629), Step::Send),
            ("told not to repeat", Attempt { look_up_due: true, ..sent() }, true, s(1), Step::Wait(s(600))),
            (
                "asked for patience",
                Attempt { not_before: Some(s(30)), ..sent() },
                true,
                s(1),
                Step::Wait(s(30)),
            ),
            (
                "the tenth pause is short of the grace",
                Attempt { sends: 10, ..sent() },
                true,
                s(1),
                Step::Wait(s(512)),
            ),
            ("the eleventh is not", Attempt { sends: 11, ..sent() }, true, s(1), Step::Wait(s(600))),
            ("the grace is over", sent(), true, s(600), Step::LookUp),
            ("the grace is over, not clear", sent(), false, s(600), Step::LookUp),
            ("looked, never answered", looked(1, s(600)), true, s(601), Step::Send),
            ("looked, not clear", looked(1, s(600)), false, s(601), Step::Wait(s(1_200))),
            (
                "looked twice, answered, not clear",
                Attempt { answered: true, ..looked(2, s(600)) },
                false,
                s(700),
                Step::Wait(s(1_200)),
            ),
            (
                "looked, answered",
                Attempt { answered: true, ..looked(1, s(600)) },
                true,
                s(601),
                Step::Wait(s(900)),
            ),
            (
                "half a grace later",
                Attempt { answered: true, ..looked(1, s(600)) },
                true,
                s(900),
                Step::LookUp,
            ),
            (
                "looked twice, answered",
                Attempt { answered: true, ..looked(2, s(900)) },
                true,
                s(901),
                Step::NextKey,
            ),
            ("looked twice, never answered", looked(2, s(900)), true, s(901), Step::Send),
            ("nearly 23 hours old", old.clone(), true, s(H23 - 1), Step::Send),
            ("23 hours old", old.clone(), true, s(H23), Step::Wait(s(H23 + 300))),
            ("23 hours old, looked", looked(1, s(H23 - 10)), true, s(H23), Step::Wait(s(H24))),
            ("24 hours old, looked once", looked(1, s(H24 - 10)), true, s(H24), Step::Wait(s(H24 + 290))),
            ("24 hours old, looked twice", looked(2, s(H24 - 10)), true, s(H24), Step::NextKey),
            (
                "made another, just sent",
                Attempt { made_another: true, ..sent() },
                true,
                s(1),
                Step::Wait(s(600)),
            ),
            (
                "made another, 24 hours old, looked twice",
                Attempt { made_another: true, answered: true, ..looked(2, s(H24 - 10)) },
                true,
                s(H24),
                Step::Wait(s(H24 + 590)),
            ),
            (
                "made another, looked a grace ago",
                Attempt { made_another: true, answered: true, ..looked(2, s(H24)) },
                true,
                s(H24 + 600),
                Step::LookUp,
            ),
        ];
        for (name, attempt, clear, now, step) in rows {
            assert_eq!(attempt.next_step(clear, GRACE, now), step, "{name}");
        }
    }

    #[test]
    fn a_clock_that_went_back_sends_nothing() {
        let attempt = sent();
        assert_eq!(attempt.next_step(true, GRACE, s(-3_600)), Step::Wait(s(1)));
    }

    #[test]
    fn with_a_short_grace_the_look_up_comes_before_the_next_repetition() {
        let attempt = Attempt { sends: 2, ..sent() };
        assert_eq!(attempt.next_step(true, Duration::seconds(2), s(1)), Step::Wait(s(2)));
        assert_eq!(attempt.next_step(true, Duration::seconds(2), s(2)), Step::LookUp);
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        let pauses: Vec<i64> = [1, 2, 3, 12, 13, i32::MAX].map(|n| pause_after(n).whole_seconds()).to_vec();
        assert_eq!(pauses, [1, 2, 4, 2_048, 3_600, 3_600]);
    }
}
