//! A top-up that was ordered here: what may be asked of the bank, and the next step while the outcome is not known.
//!
//! The rules about keys are those of transfers (`release`): the same key within 23 hours can't debit the bank twice,
//! and a new one is used only once two look-ups proved that the old one made nothing and never will.

use time::{Duration, OffsetDateTime};

use crate::domain::release::{Attempt, REPEAT_WITHIN, Step};

/// The pair in a top-up's metadata at Stripe that names the intent it was made for.
pub const METADATA_KEY: &str = "sluicegate_topup";
/// What a bank statement can show of a top-up, in characters.
pub const LONGEST_DESCRIPTOR: usize = 15;
/// Characters that Stripe takes in no statement descriptor.
const FORBIDDEN: [char; 6] = ['<', '>', '\\', '\'', '"', '*'];
/// Looks for a top-up grow no rarer than this.
const RAREST_LOOK: Duration = Duration::hours(1);

/// What it means that an order's outcome is not known.
pub const UNKNOWN: &str = "Stripe has not said yet whether it made this top-up. Repeat the order with the same \
    Idempotency-Key: it goes on where it stopped, and the bank is debited once.";
/// What it means that nothing was made.
pub const ABSENT: &str = "Stripe's list was looked through twice: this top-up was never made, and the bank was not \
    debited. Repeat the order with the same Idempotency-Key to have it made.";

/// What came of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not known yet.
    Open,
    /// Look-ups proved that nothing was made.
    Absent,
    /// Stripe refused.
    Refused,
    /// It is a top-up at Stripe.
    Created,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 4] = [Self::Open, Self::Absent, Self::Refused, Self::Created];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Absent => "absent",
            Self::Refused => "refused",
            Self::Created => "created",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether an intent may go from this status to another. What exists at Stripe exists, whatever was believed.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Open => true,
            Self::Absent => next != Self::Refused,
            Self::Refused => matches!(next, Self::Refused | Self::Created),
            Self::Created => next == Self::Created,
        }
    }

    /// Whether its outcome is still to be found out, or to be tried for again.
    pub fn is_unsettled(self) -> bool {
        matches!(self, Self::Open | Self::Absent)
    }
}

/// Takes a text as a statement descriptor, by Stripe's rules for top-ups.
pub fn statement_descriptor(text: &str) -> Result<String, String> {
    let fits = (1..=LONGEST_DESCRIPTOR).contains(&text.len());
    let allowed = text.chars().all(|c| (' '..='~').contains(&c) && !FORBIDDEN.contains(&c));
    if fits && allowed && text.chars().any(|c| c.is_ascii_alphabetic()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "must have 1 to {LONGEST_DESCRIPTOR} ASCII characters, at least one of them a letter, and none of < > \\ ' \" *"
    ))
}

/// The next step for a caller who repeats the order and waits: nothing is put off that can be done now.
pub fn demanded(attempt: &Attempt, grace: Duration, now: OffsetDateTime) -> Step {
    let step = attempt.next_step(true, grace, now);
    let (Step::Wait(until), Some(first_sent_at)) = (step, attempt.first_sent_at) else { return step };
    if attempt.made_another || attempt.not_before.is_some_and(|at| at > now) {
        return Step::Wait(until);
    }
    // What Stripe keeps for the key it would only say again.
    let told = attempt.answered || attempt.look_up_due;
    if !told && now < first_sent_at + REPEAT_WITHIN { Step::Send } else { Step::LookUp }
}

/// What a look at an intent may do that nobody waits for. It never sends: whoever ordered may have gone another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// List Stripe's top-ups and look for ours.
    LookUp,
    /// Nothing before this.
    Wait(OffsetDateTime),
    /// Look-ups proved that nothing was made.
    Absent,
    /// Nothing more can be found out this way.
    Rest,
}

/// Decides on it.
pub fn watch(attempt: &Attempt, grace: Duration, now: OffsetDateTime) -> Watch {
    let (Some(_), Some(ended_at)) = (attempt.first_sent_at, attempt.ended_at) else { return Watch::Rest };
    if attempt.made_another {
        return Watch::Rest;
    }
    if now < ended_at + grace {
        return Watch::Wait(ended_at + grace);
    }
    match attempt.next_step(true, grace, now) {
        Step::LookUp => Watch::LookUp,
        Step::NextKey => Watch::Absent,
        Step::Wait(until) => Watch::Wait(until),
        // The key is alive, and only its owner uses it; meanwhile Stripe may show what it made, ever more rarely.
        Step::Send | Step::Withdraw => {
            let doublings = u32::try_from(attempt.empty_look_ups).unwrap_or(0).min(8);
            let pause = (grace * 2_i32.saturating_pow(doublings)).min(RAREST_LOOK.max(grace));
            let again_at = attempt.last_look_up_at.unwrap_or(ended_at) + pause;
            if now >= again_at { Watch::LookUp } else { Watch::Wait(again_at) }
        }
    }
}

/// Whether a look that began then and found nothing counts as proof: the last call must have ended a grace before it,
/// and the look before it that counted must lie half a grace back.
pub fn is_proof(attempt: &Attempt, grace: Duration, began_at: OffsetDateTime) -> bool {
    let ended = attempt.ended_at.is_some_and(|ended_at| began_at >= ended_at + grace);
    ended && attempt.last_look_up_at.is_none_or(|looked_at| began_at >= looked_at + grace / 2_i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const GRACE: Duration = Duration::minutes(10);
    const H23: i64 = 23 * 3_600;
    const H24: i64 = 24 * 3_600;

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

    fn unsent() -> Attempt {
        Attempt { sends: 0, first_sent_at: None, quiet_since: None, ended_at: None, ..sent() }
    }

    fn looked(times: i32, last: OffsetDateTime) -> Attempt {
        Attempt { empty_look_ups: times, last_look_up_at: Some(last), ..sent() }
    }

    #[test]
    fn a_caller_who_repeats_the_order_is_not_put_off() {
        let answered = Attempt { answered: true, ..sent() };
        let told_not_to = Attempt { look_up_due: true, ..sent() };
        let rows = [
            ("never sent", unsent(), T0, Step::Send),
            ("just sent, no answer", sent(), T0, Step::Send),
            ("a minute later", sent(), s(60), Step::Send),
            ("after the grace it is proven first", sent(), s(600), Step::LookUp),
            ("looked", looked(1, s(600)), s(601), Step::Send),
            ("answered 500: it would only say so again", answered.clone(), T0, Step::LookUp),
            ("told not to repeat", told_not_to, s(1), Step::LookUp),
            ("asked for patience", Attempt { not_before: Some(s(30)), ..sent() }, s(1), Step::Wait(s(30))),
            (
                "answered 500, proven twice",
                Attempt { answered: true, ..looked(2, s(900)) },
                s(901),
                Step::NextKey,
            ),
            (
                "answered 500, looked once",
                Attempt { answered: true, ..looked(1, s(600)) },
                s(601),
                Step::LookUp,
            ),
            ("nearly 23 hours old", looked(1, s(H23 - 10)), s(H23 - 1), Step::Send),
            ("23 hours old", looked(1, s(H23 - 10)), s(H23), Step::LookUp),
            ("24 hours old, proven twice", looked(2, s(H24 - 10)), s(H24), Step::NextKey),
            ("it made something else", Attempt { made_another: true, ..sent() }, s(1), Step::Wait(s(600))),
        ];
        for (name, attempt, now, step) in rows {
            assert_eq!(demanded(&attempt, GRACE, now), step, "{name}");
        }
    }

    #[test]
    fn a_look_that_nobody_waits_for_never_sends_and_ends_with_proof() {
        let rows = [
            ("never sent", unsent(), T0, Watch::Rest),
            ("just sent", sent(), s(1), Watch::Wait(s(600))),
            ("the grace is over", sent(), s(600), Watch::LookUp),
            ("looked: twice as long", looked(1, s(600)), s(601), Watch::Wait(s(1_800))),
            ("looked: again", looked(1, s(600)), s(1_800), Watch::LookUp),
            ("looked for hours: hourly", looked(9, s(9_000)), s(9_001), Watch::Wait(s(12_600))),
            ("23 hours old: not before it is dead", looked(1, s(H23 - 10)), s(H23), Watch::Wait(s(H24))),
            ("24 hours old, looked once", looked(1, s(H24 - 600)), s(H24), Watch::LookUp),
            ("24 hours old, proven twice", looked(2, s(H24 - 10)), s(H24), Watch::Absent),
            (
                "answered 500, looked once",
                Attempt { answered: true, ..looked(1, s(600)) },
                s(601),
                Watch::Wait(s(900)),
            ),
            (
                "answered 500, proven twice",
                Attempt { answered: true, ..looked(2, s(900)) },
                s(901),
                Watch::Absent,
            ),
            ("it made something else", Attempt { made_another: true, ..sent() }, s(H24), Watch::Rest),
        ];
        for (name, attempt, now, watched) in rows {
            assert_eq!(watch(&attempt, GRACE, now), watched, "{name}");
        }
    }

    #[test]
    fn a_look_proves_only_what_ended_a_grace_before_it_and_no_two_looks_are_one() {
        assert!(!is_proof(&unsent(), GRACE, s(H24)));
        assert!(!is_proof(&sent(), GRACE, s(599)));
        assert!(is_proof(&sent(), GRACE, s(600)));
        assert!(!is_proof(&looked(1, s(600)), GRACE, s(899)));
        assert!(is_proof(&looked(1, s(600)), GRACE, s(900)));
    }

    #[test]
    fn a_statement_descriptor_is_short_plain_and_has_a_letter() {
        for good in ["Top-up", "A", "PAYROLL 11/26", "123456789012345".replace('1', "a").as_str()] {
            assert_eq!(statement_descriptor(good), Ok(good.to_owned()));
        }
        for bad in
            ["", "1234", "ABCDEFGHIJKLMNOP", "Grüße", "a<b", "a>b", "a\\b", "a'b", "a\"b", "a*b", "a\nb"]
        {
            assert!(statement_descriptor(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_status_is_followed_by_these_and_no_others() {
        // Rows: from; columns: open, absent, refused, created.
        let rows = [
            (Status::Open, "1111"),
            (Status::Absent, "1101"),
            (Status::Refused, "0011"),
            (Status::Created, "0001"),
        ];
        for (from, may) in rows {
            let found: String =
                Status::ALL.iter().map(|to| if from.may_become(*to) { '1' } else { '0' }).collect();
            assert_eq!(found, may, "{from:?}");
            assert_eq!(Status::parse(from.as_str()), Some(from));
        }
    }
}
