//! When the waiting transfers should go out, and what will be missing on which day.
//!
//! Only dates that are known take part: when top-ups are expected, and from when a transfer may go out. A
//! transfer that waits for something nobody can date has no forecast, and stands in nobody's way.

use std::collections::BTreeMap;

use time::{Date, Duration, OffsetDateTime};

use super::funds::{Claim, Lot, Purse};
use super::limits::{ReleaseOrder, day_of};
use super::reason::Reason;

/// A forecast is made this long after what changed it, so that many changes make one.
pub const AFTER: Duration = Duration::SECOND;
/// The most days a forecast looks ahead, today included.
pub const DAYS: i64 = 31;

/// A top-up on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Its id, which is its lot's.
    pub topup: String,
    /// In minor units.
    pub amount_minor: i64,
    /// When its money should be there.
    pub at: OffsetDateTime,
}

/// A transfer that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// In minor units.
    pub amount_minor: i64,
    /// The top-up it must be paid from.
    pub topup: Option<String>,
    /// Not before this.
    pub not_before: Option<OffsetDateTime>,
    /// All it waits for has a date.
    pub foreseeable: bool,
    /// Since when later ones got money while it stayed.
    pub passed_over_at: Option<OffsetDateTime>,
}

/// Whether each of these reasons ends on a date that can be known.
pub fn is_foreseeable(reasons: &[Reason]) -> bool {
    use Reason::{DailyCapReached, FundsInsufficient, Scheduled, TopupNotSettled, TopupPending};
    reasons.iter().all(|reason| {
        matches!(reason, Scheduled | DailyCapReached | TopupPending | TopupNotSettled | FundsInsufficient)
    })
}

/// For each of a line (in release order) when it should go out: none where that can't be told, or is now.
pub fn expected(
    mut lots: Vec<Lot>,
    coming: &[Coming],
    line: &[Waiting],
    order: ReleaseOrder,
    now: OffsetDateTime,
) -> Vec<Option<OffsetDateTime>> {
    let mut claims: BTreeMap<&str, i64> = BTreeMap::new();
    for (topup, waiting) in line.iter().filter_map(|w| Some((w.topup.as_deref()?, w))) {
        *claims.entry(topup).or_default() += waiting.amount_minor;
    }
    let mut times: Vec<OffsetDateTime> = coming.iter().map(|c| c.at.max(now)).collect();
    times.extend(line.iter().filter(|w| w.foreseeable).filter_map(|w| w.not_before).filter(|at| *at > now));
    times.push(now);
    times.sort_unstable();
    times.dedup();
    let mut found = vec![None; line.len()];
    let mut served = vec![false; line.len()];
    for at in times {
        let arrived = coming.iter().filter(|c| c.at.max(now) == at);
        lots.extend(arrived.map(|c| Lot {
            name: c.topup.clone(),
            available_minor: c.amount_minor,
            claimed_minor: claims.get(c.topup.as_str()).copied().unwrap_or(0),
        }));
        let mut purse = Purse::new(lots);
        for (place, waiting) in line.iter().enumerate() {
            let due = waiting.foreseeable && waiting.not_before.is_none_or(|from| from <= at);
            if served[place] || !due {
                continue;
            }
            let blocks = order.blocks(waiting.passed_over_at, at);
            let claim = Claim { amount_minor: waiting.amount_minor, topup: waiting.topup.as_deref(), blocks };
            if purse.take(claim).is_some() {
                served[place] = true;
                found[place] = (at > now).then_some(at);
            }
        }
        lots = purse.into_lots();
    }
    found
}

/// One day of one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// UTC.
    pub day: Date,
    /// What should settle on it, in minor units.
    pub arrivals_minor: i64,
    /// The transfers that could go out from it on, in minor units.
    pub waiting_minor: i64,
    /// What is missing at its end for all that could go out by then, in minor units.
    pub shortfall_minor: i64,
}

/// The days from today to the last known date. `waiting` holds amounts and from when each may go out.
pub fn days(
    available_minor: i64,
    coming: &[Coming],
    waiting: &[(i64, Option<OffsetDateTime>)],
    now: OffsetDateTime,
) -> Vec<Day> {
    let today = day_of(now);
    let last = today.saturating_add(Duration::days(DAYS - 1));
    let mut by_day: BTreeMap<Date, (i64, i64)> = BTreeMap::from([(today, (0, 0))]);
    for coming in coming {
        by_day.entry(day_of(coming.at).max(today)).or_default().0 += coming.amount_minor;
    }
    for (amount_minor, from) in waiting {
        by_day.entry(from.map_or(today, day_of).max(today)).or_default().1 += amount_minor;
    }
    let end = by_day.keys().next_back().copied().unwrap_or(today).min(last);
    let (mut money_minor, mut wanted_minor) = (available_minor, 0);
    let mut days = Vec::new();
    let mut day = today;
    while day <= end {
        let (arrivals_minor, waiting_minor) = by_day.get(&day).copied().unwrap_or_default();
        money_minor += arrivals_minor;
        wanted_minor += waiting_minor;
        let shortfall_minor = (wanted_minor - money_minor).max(0);
        days.push(Day { day, arrivals_minor, waiting_minor, shortfall_minor });
        let Some(next) = day.next_day() else { break };
        day = next;
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    const NOW: OffsetDateTime = datetime!(2026-11-22 10:00 UTC);

    fn lot(name: &str, available_minor: i64) -> Lot {
        Lot { name: name.into(), available_minor, claimed_minor: 0 }
    }

    fn coming(topup: &str, amount_minor: i64, days: i64) -> Coming {
        Coming { topup: topup.into(), amount_minor, at: NOW + Duration::days(days) }
    }

    fn pooled(amount_minor: i64) -> Waiting {
        let (topup, not_before) = (None, None);
        Waiting { amount_minor, topup, not_before, foreseeable: true, passed_over_at: None }
    }

    fn tied(amount_minor: i64, topup: &str) -> Waiting {
        Waiting { topup: Some(topup.into()), ..pooled(amount_minor) }
    }

    fn in_days(days: i64) -> Option<OffsetDateTime> {
        Some(NOW + Duration::days(days))
    }

    #[test]
    fn each_waits_for_the_money_that_reaches_it_in_order() {
        let line = [pooled(50), pooled(100), pooled(10), tied(40, "tu_2"), tied(41, "tu_2"), pooled(10_000)];
        let coming = [coming("tu_1", 60, 2), coming("tu_2", 100, 5)];
        let found = expected(vec![lot("tu_0", 90)], &coming, &line, ReleaseOrder::Fifo, NOW);
        assert_eq!(found, [None, in_days(2), in_days(5), in_days(5), in_days(5), None]);
    }

    #[test]
    fn best_fit_passes_over_what_the_money_does_not_reach() {
        let line = [pooled(100), pooled(10)];
        let coming = [coming("tu_1", 15, 1), coming("tu_2", 95, 3)];
        let found = |order| expected(Vec::new(), &coming, &line, order, NOW);
        assert_eq!(found(ReleaseOrder::Fifo), [in_days(3), in_days(3)]);
        assert_eq!(found(ReleaseOrder::BestFit), [in_days(3), in_days(1)]);
    }

    #[test]
    fn a_date_of_its_own_counts_and_what_nobody_can_date_stands_in_nobodys_way() {
        let scheduled = Waiting { not_before: in_days(4), ..pooled(10) };
        let unforeseeable = Waiting { foreseeable: false, ..pooled(1_000) };
        let line = [unforeseeable, scheduled, pooled(10)];
        let found = expected(vec![lot("tu_0", 30)], &[], &line, ReleaseOrder::Fifo, NOW);
        assert_eq!(found, [None, in_days(4), None]);
        assert!(is_foreseeable(&[Reason::Scheduled, Reason::FundsInsufficient]));
        assert!(!is_foreseeable(&[Reason::Scheduled, Reason::OnHold]));
    }

    #[test]
    fn a_day_tells_what_comes_what_is_wanted_and_what_is_missing() {
        let waiting = [(150, None), (70, in_days(2)), (5, in_days(-3))];
        let coming = [coming("tu_1", 60, 1), coming("tu_late", 40, -2)];
        let found: Vec<(Date, i64, i64, i64)> = days(10, &coming, &waiting, NOW)
            .into_iter()
            .map(|d| (d.day, d.arrivals_minor, d.waiting_minor, d.shortfall_minor))
            .collect();
        assert_eq!(
            found,
            [
                (date!(2026 - 11 - 22), 40, 155, 105),
                (date!(2026 - 11 - 23), 60, 0, 45),
                (date!(2026 - 11 - 24), 0, 70, 115),
            ]
        );
        assert_eq!(days(0, &[coming_far()], &[], NOW).len(), 31);
    }

    fn coming_far() -> Coming {
        coming("tu_far", 1, 400)
    }
}
