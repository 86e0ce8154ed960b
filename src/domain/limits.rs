//! The limits an operator sets on what goes out, in minor units by currency; a currency that is not named has
//! none.

use std::collections::BTreeMap;

use time::{Date, Duration, OffsetDateTime, Time, UtcOffset};

use super::money::Currency;

/// Which transfers need a second person, and how much goes out in a UTC day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Larger transfers wait for an approval by another key than the creator's.
    pub approval_above: BTreeMap<Currency, i64>,
    /// The most that is reserved in a day.
    pub daily_cap: BTreeMap<Currency, i64>,
    /// The same for each destination.
    pub daily_cap_per_destination: BTreeMap<Currency, i64>,
}

/// Which transfer is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReleaseOrder {
    /// A ready transfer that the money does not reach makes later ones of its source wait.
    #[default]
    Fifo,
    /// The same order, passing over what the money does not reach; one passed over for 24 hours blocks.
    BestFit,
}

/// How long later ones may get money while one stays in the line.
pub const PASSED_OVER_FOR: Duration = Duration::hours(24);

impl ReleaseOrder {
    /// Whether one that the money does not reach keeps later ones of its source waiting.
    pub fn blocks(self, passed_over_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
        match self {
            Self::Fifo => true,
            Self::BestFit => passed_over_at.is_some_and(|since| since + PASSED_OVER_FOR <= now),
        }
    }
}

/// What was reserved in a day, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Of the whole currency.
    pub in_all_minor: i64,
    /// For one destination.
    pub for_destination_minor: i64,
}

/// A cap that an amount alone is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// The cap, in minor units.
    pub cap_minor: i64,
    /// It is the one for each destination.
    pub per_destination: bool,
}

impl Limits {
    /// Whether a transfer of this amount needs an approval.
    pub fn needs_approval(&self, currency: Currency, amount_minor: i64) -> bool {
        self.approval_above.get(&currency).is_some_and(|above| amount_minor > *above)
    }

    /// Whether any cap is set for a currency.
    pub fn caps(&self, currency: Currency) -> bool {
        self.daily_cap.contains_key(&currency) || self.daily_cap_per_destination.contains_key(&currency)
    }

    /// Whether this amount has to wait for another day.
    pub fn cap_reached(&self, currency: Currency, amount_minor: i64, used: Used) -> bool {
        let beyond = |caps: &BTreeMap<Currency, i64>, used_minor: i64| {
            caps.get(&currency).is_some_and(|cap| used_minor.saturating_add(amount_minor) > *cap)
        };
        beyond(&self.daily_cap, used.in_all_minor)
            || beyond(&self.daily_cap_per_destination, used.for_destination_minor)
    }

    /// The cap that this amount could not be released under on any day.
    pub fn beyond_alone(&self, currency: Currency, amount_minor: i64) -> Option<Beyond> {
        let cap = |caps: &BTreeMap<Currency, i64>, per_destination| {
            let cap_minor = caps.get(&currency).copied().filter(|cap| amount_minor > *cap)?;
            Some(Beyond { cap_minor, per_destination })
        };
        cap(&self.daily_cap, false).or_else(|| cap(&self.daily_cap_per_destination, true))
    }
}

/// The UTC day of an instant.
pub fn day_of(at: OffsetDateTime) -> Date {
    at.to_offset(UtcOffset::UTC).date()
}

/// When the next UTC day begins.
pub fn next_day(at: OffsetDateTime) -> OffsetDateTime {
    let day = day_of(at);
    // The calendar ends in the year 9999.
    day.next_day().unwrap_or(day).with_time(Time::MIDNIGHT).assume_utc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn usd() -> Currency {
        Currency::parse("usd").unwrap()
    }

    fn limits() -> Limits {
        let of = |minor| BTreeMap::from([(usd(), minor)]);
        Limits { approval_above: of(100), daily_cap: of(1_000), daily_cap_per_destination: of(300) }
    }

    #[test]
    fn an_approval_is_needed_above_the_limit_and_in_its_currency_alone() {
        let eur = Currency::parse("eur").unwrap();
        let rows = [(usd(), 100, false), (usd(), 101, true), (eur, 1_000_000, false)];
        for (currency, amount_minor, needed) in rows {
            assert_eq!(limits().needs_approval(currency, amount_minor), needed, "{currency} {amount_minor}");
        }
    }

    #[test]
    fn each_cap_is_reached_by_its_own_use() {
        let used = |in_all_minor, for_destination_minor| Used { in_all_minor, for_destination_minor };
        let rows = [
            (300, used(0, 0), false),
            (300, used(700, 0), false),
            (300, used(701, 0), true),
            (200, used(100, 100), false),
            (201, used(100, 100), true),
        ];
        for (amount_minor, used, reached) in rows {
            assert_eq!(limits().cap_reached(usd(), amount_minor, used), reached, "{amount_minor} {used:?}");
        }
        assert!(!Limits::default().cap_reached(usd(), i64::MAX, used(i64::MAX, 0)));
        assert!(limits().caps(usd()) && !Limits::default().caps(usd()));
    }

    #[test]
    fn an_amount_beyond_a_cap_alone_is_told_by_which() {
        assert_eq!(limits().beyond_alone(usd(), 300), None);
        let beyond = |cap_minor, per_destination| Some(Beyond { cap_minor, per_destination });
        assert_eq!(limits().beyond_alone(usd(), 301), beyond(300, true));
        assert_eq!(limits().beyond_alone(usd(), 1_001), beyond(1_000, false));
    }

    #[test]
    fn best_fit_blocks_for_one_that_was_passed_over_a_whole_day() {
        let now = datetime!(2026-11-22 10:00 UTC);
        let since = |hours| Some(now - Duration::hours(hours));
        for (passed_over_at, blocks) in [(None, false), (since(23), false), (since(24), true)] {
            assert_eq!(ReleaseOrder::BestFit.blocks(passed_over_at, now), blocks);
            assert!(ReleaseOrder::Fifo.blocks(passed_over_at, now));
        }
    }

    #[test]
    fn a_day_is_utc() {
        let late = datetime!(2026-11-22 23:59:59 -1);
        assert_eq!(day_of(late), time::macros::date!(2026 - 11 - 23));
        assert_eq!(next_day(late), datetime!(2026-11-24 0:00 UTC));
    }
}
