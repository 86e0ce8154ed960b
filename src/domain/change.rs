//! How far somebody who follows the changes has come, and whether they can go on from there.
//!
//! Changes are told in the order of the transactions that wrote them, and only once no older transaction is left
//! that could still write one: so a place in that order says exactly what was told and what was not.

use std::fmt;

use time::{Duration, OffsetDateTime};

/// A place older than this is not gone on from.
pub const KEPT_FOR: Duration = Duration::days(7);
/// How far the clocks of two processes may be apart.
const SLACK: Duration = Duration::minutes(1);

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// Whether an account may be paid, or what that rests on.
    Readiness,
    /// A top-up.
    Topup,
    /// A transfer.
    Transfer,
}

impl Noun {
    /// Every noun, in the order in which those of one transaction are told.
    pub const ALL: [Noun; 3] = [Self::Readiness, Self::Topup, Self::Transfer];

    /// The name of its events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readiness => "readiness",
            Self::Topup => "topup",
            Self::Transfer => "transfer",
        }
    }

    /// Reads the name back.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|noun| noun.as_str() == name)
    }
}

/// A place in the order of all changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The transaction.
    pub xid: u64,
    /// What was changed by it.
    pub noun: Noun,
    /// The line of that noun's history.
    pub row: i64,
}

impl Place {
    /// Before the first change.
    pub const START: Place = Place { xid: 0, noun: Noun::Readiness, row: 0 };
}

/// A place as a listener keeps it: in which database, and when it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The database, by [`mark`].
    pub database: u32,
    /// When everything up to there had been told.
    pub at: OffsetDateTime,
    /// How far that was.
    pub place: Place,
}

/// What tells one database from another: when the service first started on it.
pub fn mark(first_started: OffsetDateTime) -> u32 {
    let us = first_started.unix_timestamp_nanos() / 1_000;
    // The low half: what differs.
    u32::try_from(us.rem_euclid(1 << 32)).unwrap_or(u32::MAX)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_us = self.at.unix_timestamp_nanos() / 1_000;
        let Place { xid, noun, row } = self.place;
        write!(f, "{:08x}.{at_us}.{xid}.{}.{row}", self.database, noun.as_str())
    }
}

impl Position {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let [database, at_us, xid, noun, row] = parts.as_slice() else { return None };
        let at_ns = at_us.parse::<i64>().ok().map(i128::from)?.checked_mul(1_000)?;
        let read = Self {
            database: u32::from_str_radix(database, 16).ok()?,
            at: OffsetDateTime::from_unix_timestamp_nanos(at_ns).ok()?,
            place: Place { xid: xid.parse().ok()?, noun: Noun::parse(noun)?, row: row.parse().ok()? },
        };
        (read.to_string() == text).then_some(read)
    }
}

/// The database as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Now.
    pub now: OffsetDateTime,
    /// Its mark.
    pub database: u32,
    /// The change at the place in question is there.
    pub is_there: bool,
    /// When the last change before that place was written, if there is one.
    pub last_before: Option<OffsetDateTime>,
}

/// Why a listener can't go on where they stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It is no place of this service's.
    Unknown,
    /// It is of another database.
    Foreign,
    /// It is older than [`KEPT_FOR`].
    TooOld,
    /// The database was put back to a moment before it: what came after that is not what was told.
    Undone,
}

impl Gap {
    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Foreign => "foreign",
            Self::TooOld => "too_old",
            Self::Undone => "undone",
        }
    }
}

/// Whether a listener who stopped at `kept` missed nothing but what follows it.
pub fn gap(kept: &Position, present: &Present) -> Option<Gap> {
    if kept.database != present.database {
        return Some(Gap::Foreign);
    }
    if kept.at < present.now - KEPT_FOR {
        return Some(Gap::TooOld);
    }
    let told = present.is_there || kept.place == Place::START;
    // All that stood before the place had been told by then; what was written later stands before it only in a
    // database that was put back, and counted on from an older transaction.
    let rewritten = present.last_before.is_some_and(|at| at - SLACK > kept.at);
    (!told || rewritten || kept.at > present.now + SLACK).then_some(Gap::Undone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-22 10:00:00.000001 UTC);

    fn kept() -> Position {
        let place = Place { xid: 1_000, noun: Noun::Topup, row: 17 };
        Position { database: 7, at: NOW - Duration::HOUR, place }
    }

    fn present() -> Present {
        Present { now: NOW, database: 7, is_there: true, last_before: Some(NOW - Duration::HOUR) }
    }

    #[test]
    fn a_position_is_read_back_and_nothing_else_is() {
        let text = kept().to_string();
        assert_eq!(text, "00000007.1795338000000001.1000.topup.17");
        assert_eq!(Position::parse(&text), Some(kept()));
        for odd in [
            "",
            "7",
            "00000007.1795338000000001.1000.topup",
            "00000007.1795338000000001.1000.topup.17.",
            "00000007.1795338000000001.1000.event.17",
            "00000007.1795338000000001.+1000.topup.17",
            "00000007.9999999999999999999.1000.topup.17",
            "7.1795338000000001.1000.topup.17",
            "00000007.1795338000000001.-1.topup.17",
        ] {
            assert_eq!(Position::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn places_are_ordered_by_transaction_then_noun_then_line() {
        let place = |xid, noun, row| Place { xid, noun, row };
        let ordered = [
            Place::START,
            place(5, Noun::Readiness, 1),
            place(5, Noun::Topup, 1),
            place(5, Noun::Transfer, 1),
            place(5, Noun::Transfer, 2),
            place(6, Noun::Readiness, 1),
        ];
        assert!(ordered.is_sorted());
    }

    #[test]
    fn each_gap_is_found_and_none_is_made_up() {
        let later = |by: Duration| NOW - Duration::HOUR + by;
        let rows = [
            (kept(), present(), None),
            (kept(), Present { last_before: None, ..present() }, None),
            (Position { place: Place::START, ..kept() }, Present { is_there: false, ..present() }, None),
            (kept(), Present { last_before: Some(later(Duration::MINUTE)), ..present() }, None),
            (Position { database: 8, ..kept() }, present(), Some(Gap::Foreign)),
            (Position { at: NOW - KEPT_FOR, ..kept() }, Present { last_before: None, ..present() }, None),
            (Position { at: NOW - KEPT_FOR - Duration::MICROSECOND, ..kept() }, present(), Some(Gap::TooOld)),
            (kept(), Present { is_there: false, ..present() }, Some(Gap::Undone)),
            (
                kept(),
                Present { last_before: Some(later(Duration::seconds(61))), ..present() },
                Some(Gap::Undone),
            ),
            (Position { at: NOW + Duration::HOUR, ..kept() }, present(), Some(Gap::Undone)),
            (Position { at: datetime!(9999-12-31 23:59:59 UTC), ..kept() }, present(), Some(Gap::Undone)),
            (Position { at: datetime!(-9999-01-01 0:00 UTC), ..kept() }, present(), Some(Gap::TooOld)),
        ];
        for (kept, present, expected) in rows {
            assert_eq!(gap(&kept, &present), expected, "{kept:?} {present:?}");
        }
    }

    #[test]
    fn databases_that_began_in_different_moments_have_different_marks() {
        assert_ne!(mark(NOW), mark(NOW + Duration::MICROSECOND));
        assert_eq!(mark(NOW), mark(NOW));
    }
}
