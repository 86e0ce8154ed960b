//! How money, times and states are written for people.

use time::OffsetDateTime;

use crate::domain::ids::{AccountId, EventId, TopupId, TopupIntentId, TransferId};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::topup;
use crate::domain::transfer::Status;
use crate::store::views::EventStatus;

/// An amount with its currency: `1,234.50 USD`.
pub(super) fn money(amount_minor: i64, currency: &str) -> String {
    let code = currency.to_uppercase();
    match Currency::parse(currency) {
        Ok(currency) => format!("{} {code}", currency.written(amount_minor)),
        // Of a currency that we don't know we don't know the point either.
        Err(_) => format!("{amount_minor} minor units of {code}"),
    }
}

/// A moment: `2026-11-25 10:04:09`, in UTC, which the page says once.
pub(super) fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02}:{:02}", at.date(), at.hour(), at.minute(), at.second())
}

/// Words that begin a sentence.
pub(super) fn sentence(words: &str) -> String {
    let mut rest = words.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

/// How long: the two largest units that tell.
pub(super) fn length(of: time::Duration) -> String {
    let s = of.whole_seconds().max(0);
    match s {
        0..=59 => format!("{s} s"),
        60..=3_599 => format!("{} min", s / 60),
        3_600..=86_399 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A state as a page shows it: in words, with a tone that repeats what the words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The words.
    pub(super) words: &'static str,
    /// `good`, `wait`, `bad` or `over`.
    pub(super) tone: &'static str,
}

/// One of a list to choose from.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// As the address says it.
    pub(super) value: &'static str,
    /// As the page says it.
    pub(super) words: String,
    /// It is the present one.
    pub(super) chosen: bool,
}

impl Choice {
    /// A choice, in view of what was chosen.
    pub(super) fn of(value: &'static str, words: &str, chosen: &str) -> Self {
        Self { value, words: sentence(words), chosen: value == chosen }
    }
}

/// A name and a value; where there is a page about it, its address.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    /// The name.
    pub(super) name: &'static str,
    /// The value.
    pub(super) value: String,
    /// The page.
    pub(super) href: Option<String>,
}

impl Fact {
    /// A fact; an id that has a page leads to it.
    pub(super) fn of(name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self { href: page_about(&value), name, value }
    }

    /// Whether it is an id, which is written like all ids.
    pub(super) fn is_id(&self) -> bool {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        self.value.contains('_') && self.value.bytes().all(letter)
    }

    /// The same with a page.
    pub(super) fn at(self, href: String) -> Self {
        Self { href: Some(href), ..self }
    }
}

/// The page of what has this id.
pub(super) fn page_about(id: &str) -> Option<String> {
    let list = match id.split_once('_')? {
        ("xfer", _) if TransferId::parse(id).is_ok() => "transfers",
        ("acct", _) if AccountId::parse(id).is_ok() => "accounts",
        ("tu", _) if TopupId::parse(id).is_ok() => "topups",
        ("tpi", _) if TopupIntentId::parse(id).is_ok() => "topups",
        ("evt", _) if EventId::parse(id).is_ok() => "events",
        _ => return None,
    };
    Some(format!("/console/{list}/{id}"))
}

/// A reason's code in words.
pub(super) fn reason(code: &str) -> String {
    Reason::parse(code).map_or_else(|| code.to_owned(), |reason| reason.words().to_owned())
}

/// Who or what told something: an id, or the two that have none.
pub(super) fn source(told: &str) -> String {
    match told {
        "api" => "Stripe's API".to_owned(),
        setting if setting.starts_with("SLUICEGATE_") => format!("set by {setting}"),
        other => other.to_owned(),
    }
}

/// Whether an account may be paid.
pub(super) fn readiness(ready: bool) -> State {
    if ready {
        State { words: "May be paid", tone: "good" }
    } else {
        State { words: "Not ready", tone: "wait" }
    }
}

/// A top-up's; `settled` says that its money is there.
pub(super) fn topup(status: topup::Status, settled: bool) -> State {
    let (words, tone) = match status {
        topup::Status::Pending => ("Asked of the bank", "wait"),
        topup::Status::Succeeded if settled => ("Money is there", "good"),
        topup::Status::Succeeded => ("Bank has paid", "wait"),
        topup::Status::Failed => ("Bank did not pay", "bad"),
        topup::Status::Canceled => ("Called off", "over"),
        topup::Status::Reversed => ("Taken back by the bank", "bad"),
        topup::Status::Unknown => ("Not known", "over"),
    };
    State { words, tone }
}

/// A transfer's.
pub(super) fn transfer(status: Status) -> State {
    let (words, tone) = match status {
        Status::Waiting => ("Waiting", "wait"),
        Status::Releasing => ("Going out", "wait"),
        Status::Released => ("Paid out", "good"),
        Status::PartiallyReversed => ("Partly taken back", "over"),
        Status::Reversed => ("Taken back", "over"),
        Status::Failed => ("Refused by Stripe", "bad"),
        Status::Canceled => ("Called off", "over"),
    };
    State { words, tone }
}

/// An event's.
pub(super) fn event(status: EventStatus) -> State {
    let (words, tone) = match status {
        EventStatus::Pending => ("Waits for its turn", "wait"),
        EventStatus::Processed => ("Took effect", "good"),
        EventStatus::Ignored => ("Ignored", "over"),
        EventStatus::Failed => ("Dead letter", "bad"),
    };
    State { words, tone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_page_and_nothing_else_does() {
        assert_eq!(page_about("acct_1").as_deref(), Some("/console/accounts/acct_1"));
        assert_eq!(page_about("tpi_1").as_deref(), Some("/console/topups/tpi_1"));
        assert_eq!(page_about("evt_1").as_deref(), Some("/console/events/evt_1"));
        for text in ["releases", "evt_1/replay", "acct_", "acct_1/../x", "POST /v1/keys", ""] {
            assert_eq!(page_about(text), None, "{text}");
        }
    }

    #[test]
    fn money_and_times_are_written_for_people() {
        assert_eq!(money(123_450, "usd"), "1,234.50 USD");
        assert_eq!(money(500, "jpy"), "500 JPY");
        assert_eq!(money(500, "xxx"), "500 minor units of XXX");
        let at = OffsetDateTime::from_unix_timestamp(1_764_065_049).unwrap();
        assert_eq!(moment(at), "2025-11-25 10:04:09");
        for (s, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(length(time::Duration::seconds(s)), text);
        }
    }
}
