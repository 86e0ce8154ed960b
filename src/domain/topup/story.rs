//! What happened to a top-up: the steps by which what is held of it became what it is.
//!
//! Evidence may come late and all at once, so one change can hold several steps, and any of them may be missing.

use time::OffsetDateTime;

use super::Status;
use crate::domain::money::Currency;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $code:literal $words:literal,)*) => {
        /// What became of a top-up; in the order of its life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $name,)*
        }

        impl Step {
            /// Every step.
            pub const ALL: &'static [Step] = &[$(Step::$name,)*];

            /// The code of the API and the database.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The same in words.
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

steps! {
    /// It was heard of.
    Created = "created" "the bank has been asked for the money",
    /// What was taken for its amount or currency was wrong.
    Corrected = "corrected" "its amount or currency is another than was told before",
    /// Stripe gave another date for its money.
    Expected = "expected" "its money is expected at another time",
    /// The bank has paid.
    Succeeded = "succeeded" "the bank has paid",
    /// The bank refused.
    Failed = "failed" "the bank refused to pay",
    /// It was called off.
    Canceled = "canceled" "it was called off before the bank paid",
    /// Its balance transaction became available.
    Available = "available" "its money is available at Stripe",
    /// The settlement rule holds.
    Settled = "settled" "its money may be released",
    /// It settled, and does not count.
    Excluded = "excluded" "its money had arrived before Sluicegate was to count it, and is not released",
    /// The settlement rule no longer holds, though the bank has paid.
    Unsettled = "unsettled" "its money may not be released any more",
    /// The bank took it back.
    Reversed = "reversed" "the bank took the money back",
    /// Stripe shows a status that this version does not know.
    Unclear = "unclear" "Stripe shows a status that is not known here",
}

/// The code with which a history begins that was begun in the middle of a life.
pub const FOUND: &str = "found";

/// A top-up as its history shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// Its status.
    pub status: Status,
    /// Its balance transaction is available.
    pub available: bool,
    /// The settlement rule holds.
    pub settled: bool,
    /// It holds, and the money does not count.
    pub excluded: bool,
    /// Gross, in minor units.
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// When its money should be there.
    pub expected_at: Option<OffsetDateTime>,
}

/// The steps from one state to the next, in the order of life; none where the history has nothing to tell.
/// `before` is `None` while nothing had described it.
pub fn steps(before: Option<&Face>, after: &Face) -> Vec<Step> {
    let mut steps = Vec::new();
    match before {
        None => steps.push(Step::Created),
        Some(before) => {
            if (before.amount_minor, before.currency) != (after.amount_minor, after.currency) {
                steps.push(Step::Corrected);
            }
            let open = !after.available && matches!(after.status, Status::Pending | Status::Succeeded);
            if open && before.expected_at != after.expected_at && after.expected_at.is_some() {
                steps.push(Step::Expected);
            }
        }
    }
    let was = |of: fn(&Face) -> bool| before.is_some_and(of);
    if before.map(|before| before.status) != Some(after.status) {
        steps.extend(step_of(after.status, before.is_none()));
    }
    if after.available && !was(|before| before.available) {
        steps.push(Step::Available);
    }
    if after.settled && !was(|before| before.settled) {
        steps.push(if after.excluded { Step::Excluded } else { Step::Settled });
    }
    if was(|before| before.settled) && !after.settled && after.status == Status::Succeeded {
        steps.push(Step::Unsettled);
    }
    steps
}

fn step_of(status: Status, first: bool) -> Option<Step> {
    match status {
        // A top-up begins so; one that was believed to be further never goes back to it.
        Status::Pending => None,
        Status::Succeeded => Some(Step::Succeeded),
        Status::Failed => Some(Step::Failed),
        Status::Canceled => Some(Step::Canceled),
        Status::Reversed => Some(Step::Reversed),
        Status::Unknown => (!first).then_some(Step::Unclear),
    }
}

/// Several steps as one sentence.
pub fn in_words(steps: &[Step]) -> String {
    steps.iter().map(|step| step.words()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    const SOON: OffsetDateTime = time::macros::datetime!(2026-11-28 0:00 UTC);

    fn face(status: Status) -> Face {
        Face {
            status,
            available: false,
            settled: false,
            excluded: false,
            amount_minor: 1_000,
            currency: Currency::parse("usd").unwrap(),
            expected_at: Some(SOON),
        }
    }

    fn there() -> Face {
        Face { available: true, settled: true, ..face(Status::Succeeded) }
    }

    #[test]
    fn each_change_is_told_by_its_steps() {
        let pending = face(Status::Pending);
        let paid = face(Status::Succeeded);
        let later = Face { expected_at: Some(SOON + Duration::DAY), ..paid.clone() };
        let excluded = Face { excluded: true, ..there() };
        let odd = face(Status::Unknown);
        let back = face(Status::Reversed);
        let corrected = Face { amount_minor: 900, ..pending.clone() };
        let rows: [(Option<&Face>, &Face, &[Step]); 15] = [
            (None, &pending, &[Step::Created]),
            (None, &odd, &[Step::Created]),
            (None, &there(), &[Step::Created, Step::Succeeded, Step::Available, Step::Settled]),
            (Some(&pending), &pending, &[]),
            (Some(&pending), &paid, &[Step::Succeeded]),
            (Some(&pending), &corrected, &[Step::Corrected]),
            (Some(&pending), &face(Status::Failed), &[Step::Failed]),
            (Some(&pending), &face(Status::Canceled), &[Step::Canceled]),
            (Some(&paid), &later, &[Step::Expected]),
            (Some(&paid), &there(), &[Step::Available, Step::Settled]),
            (Some(&paid), &excluded, &[Step::Available, Step::Excluded]),
            (Some(&paid), &odd, &[Step::Unclear]),
            (Some(&there()), &back, &[Step::Reversed]),
            (Some(&there()), &paid, &[Step::Unsettled]),
            (Some(&odd), &paid, &[Step::Succeeded]),
        ];
        for (before, after, expected) in rows {
            assert_eq!(steps(before, after), expected, "{before:?} -> {after:?}");
        }
    }

    #[test]
    fn a_date_that_is_dropped_or_no_longer_matters_is_no_news() {
        let paid = face(Status::Succeeded);
        let undated = Face { expected_at: None, ..paid.clone() };
        assert_eq!(steps(Some(&paid), &undated), []);
        let failed = Face { expected_at: Some(SOON + Duration::DAY), ..face(Status::Failed) };
        assert_eq!(steps(Some(&face(Status::Failed)), &failed), []);
    }

    #[test]
    fn no_two_steps_share_a_code_and_several_make_a_sentence() {
        let mut codes: Vec<&str> = Step::ALL.iter().map(|step| step.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Step::ALL.len());
        let words = in_words(&[Step::Available, Step::Settled]);
        assert_eq!(words, "its money is available at Stripe; its money may be released");
    }
}
