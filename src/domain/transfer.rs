//! Why a transfer waits.
//!
//! One decision over a snapshot of the controls, the account and the top-up; whether there is money is the
//! funding line's question (`funds`), asked only of transfers for which nothing here applies.

use time::OffsetDateTime;

use super::account;
use super::money::Currency;
use super::reason::Reason;

/// A transfer's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not reserved, nothing sent.
    Waiting,
    /// Its money is reserved and its outcome at Stripe is not yet known.
    Releasing,
    /// It exists at Stripe.
    Released,
    /// Part of it came back.
    PartiallyReversed,
    /// All of it came back.
    Reversed,
    /// Stripe refused it for good.
    Failed,
    /// Called off before it went out.
    Canceled,
}

impl Status {
    /// Every status, in the order of life.
    pub const ALL: [Status; 7] = [
        Self::Waiting,
        Self::Releasing,
        Self::Released,
        Self::PartiallyReversed,
        Self::Reversed,
        Self::Failed,
        Self::Canceled,
    ];

    /// The word of the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::PartiallyReversed => "partially_reversed",
            Self::Reversed => "reversed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether a transfer may go from this status to another. What exists at Stripe is money gone out, whatever
    /// was believed before; it never becomes less than it was.
    pub fn may_become(self, next: Self) -> bool {
        use Status::{Canceled, Failed, PartiallyReversed, Released, Releasing, Reversed, Waiting};
        match self {
            Waiting => next != Failed,
            Releasing => next != Canceled,
            Failed => !matches!(next, Releasing | Canceled),
            Canceled => matches!(next, Canceled | Released | PartiallyReversed | Reversed),
            Released => matches!(next, Released | PartiallyReversed | Reversed),
            PartiallyReversed => matches!(next, PartiallyReversed | Reversed),
            Reversed => next == Reversed,
        }
    }

    /// The status of a transfer at Stripe of which this much came back.
    pub fn after_reversal(amount_minor: i64, reversed_minor: i64) -> Self {
        match reversed_minor {
            0 => Self::Released,
            back if back < amount_minor => Self::PartiallyReversed,
            _ => Self::Reversed,
        }
    }
}

/// What operators and the caller decided about a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controls {
    /// All releases are stopped.
    pub paused: bool,
    /// This one is held.
    pub held: bool,
    /// It needs an approval and has none.
    pub unapproved: bool,
    /// The day's cap leaves no room for it.
    pub capped: bool,
    /// Not before this.
    pub release_after: Option<OffsetDateTime>,
}

/// Everything but money that a release depends on.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// What operators and the caller decided.
    pub controls: Controls,
    /// The destination; `None` where no event or call has shown it.
    pub account: Option<&'a account::Known>,
    /// The transfer's own.
    pub currency: Currency,
    /// Why the top-up it is tied to keeps it, if it is tied and does.
    pub topup: Option<Reason>,
}

impl Circumstances<'_> {
    /// Every reason to wait that comes before money, in order.
    pub fn reasons(&self, policy: &account::Policy, now: OffsetDateTime) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.controls.paused {
            reasons.push(Reason::ReleasesPaused);
        }
        if self.controls.held {
            reasons.push(Reason::OnHold);
        }
        if self.controls.unapproved {
            reasons.push(Reason::ApprovalRequired);
        }
        if self.controls.release_after.is_some_and(|at| now < at) {
            reasons.push(Reason::Scheduled);
        }
        if self.controls.capped {
            reasons.push(Reason::DailyCapReached);
        }
        match self.account {
            Some(known) => reasons.extend(known.reasons_in(policy, self.currency)),
            None => reasons.push(Reason::AccountUnknown),
        }
        reasons.extend(self.topup);
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::{Flags, Known, Policy};
    use time::Duration;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn ready() -> Known {
        let flags = Flags {
            details_submitted: Some(true),
            charges_enabled: Some(true),
            transfers_capability: Some("active".into()),
            ..Flags::default()
        };
        Known { flags: Some(flags), deauthorized_at: None, confirmed_at: None, closed_at: None }
    }

    fn free() -> Controls {
        Controls { paused: false, held: false, unapproved: false, capped: false, release_after: None }
    }

    #[test]
    fn each_circumstance_has_its_reason_and_none_means_none() {
        let account = ready();
        let currency = Currency::parse("usd").unwrap();
        let base = || Circumstances { controls: free(), account: Some(&account), currency, topup: None };
        let rows = [
            (base(), vec![]),
            (
                Circumstances { controls: Controls { paused: true, ..free() }, ..base() },
                vec![Reason::ReleasesPaused],
            ),
            (Circumstances { controls: Controls { held: true, ..free() }, ..base() }, vec![Reason::OnHold]),
            (
                Circumstances { controls: Controls { unapproved: true, ..free() }, ..base() },
                vec![Reason::ApprovalRequired],
            ),
            (
                Circumstances { controls: Controls { capped: true, ..free() }, ..base() },
                vec![Reason::DailyCapReached],
            ),
            (
                Circumstances {
                    controls: Controls { release_after: Some(NOW + Duration::SECOND), ..free() },
                    ..base()
                },
                vec![Reason::Scheduled],
            ),
            (Circumstances { controls: Controls { release_after: Some(NOW), ..free() }, ..base() }, vec![]),
            (Circumstances { account: None, ..base() }, vec![Reason::AccountUnknown]),
            (Circumstances { topup: Some(Reason::TopupPending), ..base() }, vec![Reason::TopupPending]),
        ];
        for (circumstances, reasons) in rows {
            assert_eq!(circumstances.reasons(&Policy::default(), NOW), reasons, "{circumstances:?}");
        }
    }

    #[test]
    fn all_reasons_that_apply_are_named_in_order() {
        let circumstances = Circumstances {
            controls: Controls {
                paused: true,
                held: true,
                unapproved: true,
                capped: true,
                release_after: Some(NOW + Duration::DAY),
            },
            account: None,
            currency: Currency::parse("usd").unwrap(),
            topup: Some(Reason::TopupUnknown),
        };
        let reasons = circumstances.reasons(&Policy::default(), NOW);
        assert_eq!(
            reasons,
            [
                Reason::ReleasesPaused,
                Reason::OnHold,
                Reason::ApprovalRequired,
                Reason::Scheduled,
                Reason::DailyCapReached,
                Reason::AccountUnknown,
                Reason::TopupUnknown
            ]
        );
    }

    #[test]
    fn each_status_is_followed_by_these_and_no_others() {
        // Rows: from; columns: to, in the order of life.
        let rows = [
            (Status::Waiting, "1111101"),
            (Status::Releasing, "1111110"),
            (Status::Released, "0011100"),
            (Status::PartiallyReversed, "0001100"),
            (Status::Reversed, "0000100"),
            (Status::Failed, "1011110"),
            (Status::Canceled, "0011101"),
        ];
        assert_eq!(rows.len(), Status::ALL.len());
        for (from, may) in rows {
            let found: String =
                Status::ALL.iter().map(|to| if from.may_become(*to) { '1' } else { '0' }).collect();
            assert_eq!(found, may, "{from:?}");
        }
    }

    #[test]
    fn what_came_back_tells_the_status() {
        assert_eq!(Status::after_reversal(100, 0), Status::Released);
        assert_eq!(Status::after_reversal(100, 99), Status::PartiallyReversed);
        assert_eq!(Status::after_reversal(100, 100), Status::Reversed);
        assert!(Status::ALL.iter().all(|status| Status::parse(status.as_str()) == Some(*status)));
    }
}
