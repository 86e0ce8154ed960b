//! Work that is due: who it is about, and when to try again after it failed.

use time::Duration;

/// What a task is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A connected account: apply events, or fetch it.
    Account,
    /// A top-up: apply events, fetch it, look for its money.
    Topup,
    /// A transfer as Stripe names it: apply its events.
    StripeTransfer,
    /// A transfer of ours: decide, send, look up.
    Transfer,
    /// A reversal of ours: send, look up, book.
    Reversal,
    /// A currency: serve the line of transfers that wait for money only.
    Funds,
    /// The platform's balance at Stripe.
    Balance,
    /// A currency: when its waiting transfers should go out.
    Forecast,
    /// Stripe's events: search for those never received.
    Backfill,
    /// One of Stripe's lists: compare a page with what is held.
    Reconcile,
    /// Stripe's transfers, which a restored database may have forgotten.
    CatchUp,
    /// The platform's own account: what changed there, and a look at it now and then.
    Platform,
    /// A top-up that was ordered here: find out what came of it.
    TopupIntent,
    /// An event of a person who came back from a v2 account link: find out whose account that is, and fetch it.
    LinkReturn,
}

/// The one subject of [`Kind::Backfill`].
pub const EVENTS: &str = "events";
/// The subjects of [`Kind::Reconcile`]: Stripe's lists that are compared with what is held.
pub const RECONCILED: [&str; 3] = ["accounts", "topups", "transfers"];

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 14] = [
        Self::Account,
        Self::Topup,
        Self::StripeTransfer,
        Self::Transfer,
        Self::Reversal,
        Self::Funds,
        Self::Balance,
        Self::Forecast,
        Self::Backfill,
        Self::Reconcile,
        Self::CatchUp,
        Self::Platform,
        Self::TopupIntent,
        Self::LinkReturn,
    ];

    /// The word in the database and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Topup => "topup",
            Self::StripeTransfer => "stripe_transfer",
            Self::Transfer => "transfer",
            Self::Reversal => "reversal",
            Self::Funds => "funds",
            Self::Balance => "balance",
            Self::Forecast => "forecast",
            Self::Backfill => "backfill",
            Self::Reconcile => "reconcile",
            Self::CatchUp => "catch_up",
            Self::Platform => "platform",
            Self::TopupIntent => "topup_intent",
            Self::LinkReturn => "link_return",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Stripe or the database can't be reached, or is busy: try again without bound.
    Passing,
    /// The event itself can't be applied: try a bounded number of times, then keep it as a dead letter.
    Own,
}

/// How often an event with a fault of its own is tried.
pub const MAX_ATTEMPTS: i32 = 6;

/// What to do with a task that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Try again after this long.
    Retry(Duration),
    /// Give up and keep it for a person.
    DeadLetter,
}

/// Decides after the `attempts`-th failure in a row. `jitter` in 0..1 spreads the retries of many tasks
/// that failed together over the second half of the pause; `of_event` tells an event's task from a timer,
/// which is never given up.
pub fn after_failure(fault: Fault, attempts: i32, of_event: bool, jitter: f64) -> AfterFailure {
    if fault == Fault::Own && of_event && attempts >= MAX_ATTEMPTS {
        return AfterFailure::DeadLetter;
    }
    let (first, longest) = match fault {
        Fault::Passing => (Duration::milliseconds(250), Duration::minutes(1)),
        Fault::Own => (Duration::milliseconds(100), Duration::minutes(5)),
    };
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(20);
    let pause = (first * 2_i32.saturating_pow(doublings)).min(longest);
    AfterFailure::Retry(pause * (0.5 + jitter.clamp(0.0, 1.0) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_events_own_fault_ends_in_a_dead_letter() {
        for attempts in [1, MAX_ATTEMPTS, 1_000, i32::MAX] {
            assert!(matches!(after_failure(Fault::Passing, attempts, true, 0.0), AfterFailure::Retry(_)));
            assert!(matches!(after_failure(Fault::Own, attempts, false, 0.0), AfterFailure::Retry(_)));
        }
        assert!(matches!(after_failure(Fault::Own, MAX_ATTEMPTS - 1, true, 0.0), AfterFailure::Retry(_)));
        assert_eq!(after_failure(Fault::Own, MAX_ATTEMPTS, true, 0.0), AfterFailure::DeadLetter);
    }

    #[test]
    fn pauses_double_are_bounded_and_spread() {
        let pause = |attempts, jitter| match after_failure(Fault::Passing, attempts, true, jitter) {
            AfterFailure::Retry(pause) => pause.whole_milliseconds(),
            AfterFailure::DeadLetter => -1,
        };
        assert_eq!((pause(1, 0.0), pause(1, 1.0)), (125, 250));
        assert_eq!((pause(2, 1.0), pause(3, 1.0), pause(40, 1.0)), (500, 1_000, 60_000));
    }

    #[test]
    fn kinds_are_read_back() {
        assert!(Kind::ALL.iter().all(|kind| Kind::parse(kind.as_str()) == Some(*kind)));
    }
}
