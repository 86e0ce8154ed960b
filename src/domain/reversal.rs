//! Money that went out and is to come back.

use time::Duration;

const FIRST_PAUSE: Duration = Duration::MINUTE;
const LONGEST_PAUSE: Duration = Duration::hours(6);

/// Where a reversal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits for an approval, for Stripe's answer, or for the next try.
    Pending,
    /// The money came back.
    Reversed,
    /// Stripe refused it for good.
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Reversed, Self::Failed];

    /// The word in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Reversed => "reversed",
            Self::Failed => "failed",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// How much of a transfer can still be asked back, in minor units: what has not come back and is not asked for
/// already. What came back of a pending reversal counts twice until that is settled; then less can be asked for,
/// never more.
pub fn left(amount_minor: i64, reversed_minor: i64, pending_minor: i64) -> i64 {
    amount_minor.saturating_sub(reversed_minor).saturating_sub(pending_minor).max(0)
}

/// How long to wait after Stripe refused the key number `n` for a cause that may pass: doubling from a minute to
/// six hours.
pub fn pause_after_refusal(n: i32) -> Duration {
    let doublings = u32::try_from(n.saturating_sub(1)).unwrap_or(0).min(16);
    (FIRST_PAUSE * 2_i32.saturating_pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_is_left_than_went_out() {
        assert_eq!(left(100, 0, 0), 100);
        assert_eq!(left(100, 30, 20), 50);
        assert_eq!(left(100, 60, 60), 0);
        assert_eq!(left(i64::MAX, 0, i64::MAX), 0);
    }

    #[test]
    fn pauses_double_up_to_six_hours() {
        let pauses: Vec<i64> =
            [1, 2, 9, 10, i32::MAX].map(|n| pause_after_refusal(n).whole_minutes()).to_vec();
        assert_eq!(pauses, [1, 2, 256, 360, 360]);
    }

    #[test]
    fn statuses_are_read_back() {
        assert!(Status::ALL.iter().all(|status| Status::parse(status.as_str()) == Some(*status)));
    }
}
