//! How those who apply fresh events share them out.

use crate::domain::task::Kind;

/// Whose events one who applies them takes. Accounts are locked apart from money: two who share the events like this
/// never wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Those about accounts.
    Accounts,
    /// All others.
    Others,
}

impl Share {
    /// All events.
    pub const ALL: [Self; 2] = [Self::Accounts, Self::Others];

    /// How a backlog of it is parted. Top-ups of one currency are booked one after another: parts would only wait.
    pub fn parts_of_backlog(self) -> impl Iterator<Item = Part> {
        let of = match self {
            Self::Accounts => 2,
            Self::Others => 1,
        };
        (0..of).map(move |nth| Part { nth, of })
    }

    /// Whose an event of this kind is.
    pub fn of(kind: Option<&str>) -> Self {
        if kind == Some(Kind::Account.as_str()) { Self::Accounts } else { Self::Others }
    }

    /// The kinds it is made of. One that this version does not know is in none, and waits for one that does.
    pub fn kinds(self) -> Vec<&'static str> {
        Kind::ALL.into_iter().map(Kind::as_str).filter(|kind| Self::of(Some(kind)) == self).collect()
    }
}

/// A part of a share, by subject: all events of one subject are in the same, so that those who take a part each apply
/// them in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which one, from 0 on.
    pub nth: i32,
    /// Of how many.
    pub of: i32,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { nth: 0, of: 1 };
}
