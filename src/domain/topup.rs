//! When a top-up's money may be released.
//!
//! `succeeded` alone is not proof: Stripe documents the money as transferable once the top-up's balance
//! transaction is `available`. Sources: Stripe's Top-up and Balance Transaction objects.

use time::{Duration, OffsetDateTime};

use super::evidence::{By, Content, Fetched, Standing, Told, Verdict};
use super::money::Currency;
use super::reason::Reason;

pub mod intent;
pub mod story;
pub mod words;

/// A top-up's status at Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The bank has been asked.
    Pending,
    /// The bank has paid.
    Succeeded,
    /// The bank refused.
    Failed,
    /// Called off before the bank paid.
    Canceled,
    /// The bank took it back after it had paid.
    Reversed,
    /// A status this version does not know, or nothing heard but the id.
    Unknown,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 6] =
        [Self::Pending, Self::Succeeded, Self::Failed, Self::Canceled, Self::Reversed, Self::Unknown];

    /// Reads Stripe's word; one that is new reads as [`Status::Unknown`].
    pub fn parse(word: &str) -> Self {
        match word {
            "pending" => Self::Pending,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            "reversed" => Self::Reversed,
            _ => Self::Unknown,
        }
    }

    /// Stripe's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Reversed => "reversed",
            Self::Unknown => "unknown",
        }
    }

    /// A top-up never moves to a lower rank, so rank outweighs any date.
    fn rank(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Pending => 1,
            Self::Succeeded | Self::Failed | Self::Canceled => 2,
            Self::Reversed => 3,
        }
    }
}

/// Which of two statuses is believed: the higher rank; within a rank, the evidence.
pub fn hear(held: Status, standing: &mut Standing, heard: Status, told: Told) -> Verdict {
    let before = (standing.doubted, standing.at);
    let by_evidence = standing.hear(told);
    if heard == Status::Unknown || told.content == Content::Unread {
        return by_evidence;
    }
    match heard.rank().cmp(&held.rank()) {
        std::cmp::Ordering::Greater => {
            *standing = Standing {
                at: told.at.max(standing.at),
                by: if told.at >= standing.at { By::Event } else { standing.by },
                // A doubt that is newer than this news is not settled by it.
                doubted: before.0 && told.at <= before.1,
                ..standing.clone()
            };
            Verdict::Apply
        }
        std::cmp::Ordering::Less => Verdict::Keep,
        std::cmp::Ordering::Equal => by_evidence,
    }
}

/// The same for a fetch.
pub fn see(held: Status, standing: &mut Standing, seen: Status, fetch: Fetched) -> Verdict {
    let by_evidence = standing.see(fetch);
    match seen.rank().cmp(&held.rank()) {
        std::cmp::Ordering::Greater => Verdict::Apply,
        std::cmp::Ordering::Less => Verdict::Keep,
        std::cmp::Ordering::Equal => by_evidence,
    }
}

/// The balance transaction of a top-up, as last fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// `available`, and in the balance that transfers draw on.
    pub available: bool,
    /// When Stripe makes, or made, it available.
    pub available_on: Option<OffsetDateTime>,
    /// What it adds to the balance, fee taken off, in minor units.
    pub amount_minor: i64,
    /// The currency it landed in.
    pub currency: Currency,
}

/// When money counts as settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rule {
    /// Succeeded, and its balance transaction is available.
    #[default]
    BalanceAvailable,
    /// Succeeded.
    TopupSucceeded,
}

/// What is known about a top-up when it is decided upon.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its status.
    pub status: Status,
    /// Its gross amount, in minor units.
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// Its balance transaction, once looked at.
    pub proof: Option<Proof>,
    /// The latest moment at which its money was seen to be still on its way.
    pub on_its_way_at: Option<OffsetDateTime>,
    /// What was decided when it settled: that its money does not count. A date that moves later changes nothing.
    pub excluded: Option<bool>,
    /// When the evidence for its status is from.
    pub as_of: OffsetDateTime,
}

/// What should stand in the ledger for a top-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The rule holds.
    pub settled: bool,
    /// It holds, but the money was available before the service was to count it.
    pub excluded: bool,
    /// What the ledger should hold as settled for it, in minor units of `currency`; 0 unless it counts.
    pub booked_minor: i64,
    /// The currency the money is in.
    pub currency: Currency,
}

impl Known {
    /// Decides whether its money has settled and counts.
    pub fn settlement(&self, rule: Rule, funds_since: OffsetDateTime) -> Settlement {
        let available = self.proof.as_ref().filter(|proof| proof.available);
        let settled = self.status == Status::Succeeded
            && match rule {
                Rule::BalanceAvailable => available.is_some(),
                Rule::TopupSucceeded => true,
            };
        let (amount, currency) = match &self.proof {
            Some(proof) => (proof.amount_minor, proof.currency),
            None => (self.amount_minor, self.currency),
        };
        let excluded =
            settled && self.excluded.unwrap_or_else(|| self.available_since(available) < funds_since);
        let booked_minor = if settled && !excluded { amount.max(0) } else { 0 };
        Settlement { settled, excluded, booked_minor, currency }
    }

    /// When its money became available, as near as is known: Stripe's `available_on` is a forecast, often a
    /// midnight, so whatever was seen on its way after it became available later.
    fn available_since(&self, available: Option<&Proof>) -> OffsetDateTime {
        let dated = available.and_then(|proof| proof.available_on).unwrap_or(self.as_of);
        self.on_its_way_at.map_or(dated, |seen| seen.max(dated))
    }

    /// Why a transfer tied to it waits; `None` once its money is there.
    pub fn waiting(&self, settled: bool) -> Option<Reason> {
        match self.status {
            Status::Unknown => Some(Reason::TopupUnknown),
            Status::Pending => Some(Reason::TopupPending),
            Status::Succeeded => (!settled).then_some(Reason::TopupNotSettled),
            Status::Failed | Status::Canceled | Status::Reversed => Some(Reason::TopupFailed),
        }
    }
}

/// When to look at a top-up's money again: often at first, then ever slower, and at the forecast moment.
///
/// `watched` is how long it has been watched. Stripe announces neither a changed forecast nor, reliably,
/// the moment itself, and reads are budgeted: about 120 looks at a five-day settlement.
pub fn next_look(watched: Duration, forecast_in: Option<Duration>) -> Duration {
    const SOONEST: Duration = Duration::seconds(2);
    const LATEST: Duration = Duration::hours(1);
    let regular = (watched / 4_i32).clamp(SOONEST, LATEST);
    match forecast_in {
        Some(forecast) if forecast > Duration::ZERO => regular.min(forecast + Duration::seconds(1)),
        _ => regular,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: OffsetDateTime = time::macros::datetime!(2026-11-22 12:00 UTC);

    fn known(status: Status, proof: Option<Proof>) -> Known {
        let usd = Currency::parse("usd").unwrap();
        Known {
            status,
            amount_minor: 1_000,
            currency: usd,
            proof,
            on_its_way_at: None,
            excluded: None,
            as_of: NOON,
        }
    }

    fn proof(available: bool, on: OffsetDateTime) -> Option<Proof> {
        let currency = Currency::parse("usd").unwrap();
        Some(Proof { available, available_on: Some(on), amount_minor: 990, currency })
    }

    #[test]
    fn money_settles_by_the_rule_and_counts_from_a_date() {
        let since = NOON - Duration::HOUR;
        let decide = |known: &Known, rule| {
            let settlement = known.settlement(rule, since);
            (settlement.settled, settlement.excluded, settlement.booked_minor)
        };
        let (strict, lax) = (Rule::BalanceAvailable, Rule::TopupSucceeded);
        let early = since - Duration::SECOND;
        let rows = [
            (known(Status::Pending, proof(true, NOON)), (false, false, 0), (false, false, 0)),
            (known(Status::Succeeded, None), (false, false, 0), (true, false, 1_000)),
            (known(Status::Succeeded, proof(false, NOON)), (false, false, 0), (true, false, 990)),
            (known(Status::Succeeded, proof(true, NOON)), (true, false, 990), (true, false, 990)),
            (known(Status::Succeeded, proof(true, early)), (true, true, 0), (true, true, 0)),
            (known(Status::Succeeded, proof(false, early)), (false, false, 0), (true, false, 990)),
            (known(Status::Failed, proof(true, NOON)), (false, false, 0), (false, false, 0)),
            (known(Status::Reversed, proof(true, NOON)), (false, false, 0), (false, false, 0)),
        ];
        for (known, by_balance, by_success) in rows {
            assert_eq!(decide(&known, strict), by_balance, "{known:?}");
            assert_eq!(decide(&known, lax), by_success, "{known:?}");
        }
    }

    #[test]
    fn money_that_was_seen_on_its_way_counts_whatever_its_date_and_a_decision_stays() {
        let since = NOON - Duration::HOUR;
        let midnight = NOON - Duration::hours(12);
        let early = known(Status::Succeeded, proof(true, midnight));
        let excluded = |known: &Known| known.settlement(Rule::BalanceAvailable, since).excluded;
        assert!(excluded(&early));
        assert!(!excluded(&Known { on_its_way_at: Some(NOON), ..early.clone() }));
        assert!(!excluded(&Known { excluded: Some(false), ..early.clone() }));
        let late = known(Status::Succeeded, proof(true, NOON));
        assert!(excluded(&Known { excluded: Some(true), ..late }));
    }

    #[test]
    fn each_status_keeps_a_tied_transfer_for_its_own_reason() {
        let rows = [
            (Status::Unknown, false, Some(Reason::TopupUnknown)),
            (Status::Pending, false, Some(Reason::TopupPending)),
            (Status::Succeeded, false, Some(Reason::TopupNotSettled)),
            (Status::Succeeded, true, None),
            (Status::Failed, false, Some(Reason::TopupFailed)),
            (Status::Canceled, false, Some(Reason::TopupFailed)),
            (Status::Reversed, false, Some(Reason::TopupFailed)),
        ];
        for (status, settled, reason) in rows {
            assert_eq!(known(status, None).waiting(settled), reason);
        }
    }

    #[test]
    fn a_higher_rank_outweighs_any_date_and_within_a_rank_the_evidence_decides() {
        let told = |s: i64, seq| Told { at: NOON + Duration::seconds(s), seq, content: Content::Other };
        let verdict = |held, heard, at| {
            let mut standing = Standing::of_event(told(0, 1));
            (hear(held, &mut standing, heard, told(at, 2)), standing.doubted)
        };
        assert_eq!(verdict(Status::Pending, Status::Succeeded, -60), (Verdict::Apply, false));
        assert_eq!(verdict(Status::Pending, Status::Succeeded, 0), (Verdict::Apply, false));
        assert_eq!(verdict(Status::Succeeded, Status::Pending, 60).0, Verdict::Keep);
        assert_eq!(verdict(Status::Succeeded, Status::Failed, 0), (Verdict::Doubt, true));
        assert_eq!(verdict(Status::Succeeded, Status::Failed, 1), (Verdict::Apply, false));
        assert_eq!(verdict(Status::Succeeded, Status::Reversed, -1), (Verdict::Apply, false));
        assert_eq!(verdict(Status::Reversed, Status::Succeeded, 1).0, Verdict::Keep);
        assert_eq!(verdict(Status::Succeeded, Status::Unknown, 1), (Verdict::Apply, false));
        let mut standing = Standing::of_event(told(0, 1));
        standing.hear(Told { content: Content::Unread, ..told(20, 2) });
        assert_eq!(hear(Status::Pending, &mut standing, Status::Succeeded, told(10, 3)), Verdict::Apply);
        assert!(standing.doubted, "what was told at 20 is still to be fetched");
    }

    #[test]
    fn looks_grow_rarer_but_meet_the_forecast() {
        assert_eq!(next_look(Duration::ZERO, None), Duration::seconds(2));
        assert_eq!(next_look(Duration::minutes(4), None), Duration::minutes(1));
        assert_eq!(next_look(Duration::days(9), None), Duration::hours(1));
        assert_eq!(next_look(Duration::days(9), Some(Duration::minutes(3))), Duration::seconds(181));
        assert_eq!(next_look(Duration::ZERO, Some(-Duration::DAY)), Duration::seconds(2));
    }

    #[test]
    fn statuses_are_read_back_and_new_ones_are_unknown() {
        for word in ["pending", "succeeded", "failed", "canceled", "reversed", "unknown"] {
            assert_eq!(Status::parse(word).as_str(), word);
        }
        assert_eq!(Status::parse("paused"), Status::Unknown);
    }
}
