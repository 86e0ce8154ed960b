//! Whom an event is about, and whether anything is done with it.
//!
//! Stripe's `object` field, not the type's prefix, tells a snapshot from a thin event; a thin one names its
//! object and carries none of it. Sources: Stripe's Event object and its v2 thin events.

use super::ids::{AccountId, StripeTransferId, TopupId};
use super::task::Kind;

/// What kind of evidence an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Carries the object.
    Snapshot,
    /// Only names it.
    Thin,
}

/// The part of an event that routing looks at.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// Stripe's id.
    pub id: &'a str,
    /// Snapshot or thin.
    pub shape: Shape,
    /// Stripe's type, like `account.updated` or `v1.topup.succeeded`.
    pub event_type: &'a str,
    /// The connected account it came from, if any.
    pub account: Option<&'a str>,
    /// The id of the object it carries or names.
    pub object_id: Option<&'a str>,
    /// Live or test mode.
    pub livemode: bool,
}

/// Who we are.
#[derive(Clone, Debug, Default)]
pub struct Ourselves {
    /// The key's mode.
    pub livemode: bool,
    /// The platform's own account, once Stripe told.
    pub platform: Option<AccountId>,
}

/// What is done with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Ring this subject's bell.
    Handle(Kind, String),
    /// Of a type that is handled, but it names no object of that type: only a person can tell why.
    Unreadable(Kind),
    /// Keep it and do nothing.
    Ignore(Ignored),
}

/// Why nothing is done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Nothing handles this type.
    UnhandledType,
    /// It is of the other mode.
    LivemodeMismatch,
    /// It is about a connected account's own money.
    ConnectedAccount,
    /// It is about the platform's own account.
    PlatformAccount,
}

impl Ignored {
    /// The word of the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnhandledType => "unhandled_type",
            Self::LivemodeMismatch => "livemode_mismatch",
            Self::ConnectedAccount => "connected_account",
            Self::PlatformAccount => "platform_account",
        }
    }
}

/// Every type that is acted on, in full: a list of Stripe's events can be narrowed to them.
pub const HANDLED: [&str; 15] = [
    "account.updated",
    "account.application.authorized",
    "account.application.deauthorized",
    "capability.updated",
    "balance.available",
    "balance_settings.updated",
    "payout.created",
    "topup.canceled",
    "topup.created",
    "topup.failed",
    "topup.reversed",
    "topup.succeeded",
    "transfer.created",
    "transfer.reversed",
    "transfer.updated",
];

/// The balance has no id; all its events ring one bell.
pub const BALANCE_SUBJECT: &str = "platform";
/// The platform's own account is one; whatever tells of it rings one bell.
pub const PLATFORM_SUBJECT: &str = "platform";

/// A person came back from an account link of v2.
const LINK_RETURNED: &str = "v2.core.account_link.returned";

/// Whether a type tells of an account of v2 itself, as `v2.core.account.closed` and
/// `v2.core.account[requirements].updated` do; those of its links and persons name other objects.
pub fn is_of_v2(event_type: &str) -> bool {
    event_type.strip_prefix("v2.core.account").is_some_and(|rest| rest.starts_with(['.', '[']))
}

impl Envelope<'_> {
    /// Decides what is done with the event.
    pub fn route(&self, ourselves: &Ourselves) -> Route {
        let Some(kind) = self.kind() else { return self.ignore_unhandled(ourselves) };
        if self.livemode != ourselves.livemode {
            return Route::Ignore(Ignored::LivemodeMismatch);
        }
        let own = |id: &str| ourselves.platform.as_ref().is_some_and(|platform| platform.as_str() == id);
        match kind {
            Kind::Account => match self.account_id() {
                None if self.shape == Shape::Snapshot && self.account.is_none() && !self.names_account() => {
                    Route::Unreadable(kind)
                }
                None => self.of_the_platform(),
                Some(id) if own(id.as_str()) => self.of_the_platform(),
                Some(id) => Route::Handle(kind, id.to_string()),
            },
            Kind::Topup | Kind::StripeTransfer | Kind::Balance | Kind::Platform => {
                if self.account.is_some_and(|account| !own(account)) {
                    return Route::Ignore(Ignored::ConnectedAccount);
                }
                self.money_subject(kind)
            }
            Kind::LinkReturn => Route::Handle(kind, self.id.to_owned()),
            // No type of Stripe's rings these bells.
            _ => Route::Unreadable(kind),
        }
    }

    /// An account event about the platform's own account: its settings may have changed, and nothing else matters.
    fn of_the_platform(&self) -> Route {
        if self.event_type.strip_prefix("v1.").unwrap_or(self.event_type) == "account.updated" {
            return Route::Handle(Kind::Platform, PLATFORM_SUBJECT.to_owned());
        }
        Route::Ignore(Ignored::PlatformAccount)
    }

    fn money_subject(&self, kind: Kind) -> Route {
        let id = self.object_id.unwrap_or_default();
        let named = match kind {
            Kind::Topup => TopupId::parse(id).is_ok(),
            Kind::StripeTransfer => StripeTransferId::parse(id).is_ok(),
            Kind::Balance => return Route::Handle(kind, BALANCE_SUBJECT.to_owned()),
            Kind::Platform => return Route::Handle(kind, PLATFORM_SUBJECT.to_owned()),
            _ => false,
        };
        if named { Route::Handle(kind, id.to_owned()) } else { Route::Unreadable(kind) }
    }

    /// Even of a type nobody handles, an event of the other mode or of a connected account's money says so.
    fn ignore_unhandled(&self, ourselves: &Ourselves) -> Route {
        let bare = self.event_type.strip_prefix("v1.").unwrap_or(self.event_type);
        let money = ["topup.", "transfer.", "balance.", "payout."].iter().any(|p| bare.starts_with(p));
        let own = |id: &str| ourselves.platform.as_ref().is_some_and(|platform| platform.as_str() == id);
        if self.livemode != ourselves.livemode {
            Route::Ignore(Ignored::LivemodeMismatch)
        } else if money && self.account.is_some_and(|account| !own(account)) {
            Route::Ignore(Ignored::ConnectedAccount)
        } else {
            Route::Ignore(Ignored::UnhandledType)
        }
    }

    /// Which subjects an event of this type rings for.
    fn kind(&self) -> Option<Kind> {
        let bare = match self.shape {
            Shape::Snapshot => self.event_type,
            Shape::Thin => match self.event_type.strip_prefix("v1.") {
                Some(bare) => bare,
                None if is_of_v2(self.event_type) && self.names_account() => return Some(Kind::Account),
                // It names nobody: only its data, which must be fetched, says whose link it was.
                None if self.event_type == LINK_RETURNED => return Some(Kind::LinkReturn),
                None => return None,
            },
        };
        match bare {
            "account.updated"
            | "capability.updated"
            | "account.application.authorized"
            | "account.application.deauthorized" => Some(Kind::Account),
            "transfer.created" | "transfer.updated" | "transfer.reversed" => Some(Kind::StripeTransfer),
            "balance.available" => Some(Kind::Balance),
            "payout.created" | "balance_settings.updated" => Some(Kind::Platform),
            topup if topup.starts_with("topup.") => Some(Kind::Topup),
            _ => None,
        }
    }

    fn names_account(&self) -> bool {
        self.object_id.is_some_and(|id| AccountId::parse(id).is_ok())
    }

    /// The connected account an account event is about. A snapshot without `account` is the platform's own;
    /// a thin event from the platform's own stream names the connected account as its object.
    fn account_id(&self) -> Option<AccountId> {
        let named = match self.shape {
            Shape::Snapshot => self.account,
            Shape::Thin if self.names_account() => self.object_id,
            Shape::Thin => self.account,
        };
        named.and_then(|id| AccountId::parse(id).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot<'a>(event_type: &'a str, account: Option<&'a str>, object_id: &'a str) -> Envelope<'a> {
        Envelope {
            id: "evt_1",
            shape: Shape::Snapshot,
            event_type,
            account,
            object_id: Some(object_id),
            livemode: false,
        }
    }

    fn thin<'a>(event_type: &'a str, object_id: Option<&'a str>) -> Envelope<'a> {
        Envelope { id: "evt_1", shape: Shape::Thin, event_type, account: None, object_id, livemode: false }
    }

    #[test]
    fn each_event_finds_its_subject_or_the_reason_it_has_none() {
        let ourselves = Ourselves { livemode: false, platform: AccountId::parse("acct_us").ok() };
        let handle = |kind, subject: &str| Route::Handle(kind, subject.to_owned());
        let ignore = Route::Ignore;
        let rows = [
            (snapshot("account.updated", Some("acct_1"), "acct_1"), handle(Kind::Account, "acct_1")),
            (snapshot("account.updated", None, "acct_us"), handle(Kind::Platform, PLATFORM_SUBJECT)),
            (
                snapshot("account.updated", Some("acct_us"), "acct_us"),
                handle(Kind::Platform, PLATFORM_SUBJECT),
            ),
            (snapshot("capability.updated", Some("acct_us"), "transfers"), ignore(Ignored::PlatformAccount)),
            (
                snapshot("account.application.deauthorized", Some("acct_1"), "ca_1"),
                handle(Kind::Account, "acct_1"),
            ),
            (snapshot("account.application.deauthorized", None, "ca_1"), Route::Unreadable(Kind::Account)),
            (snapshot("capability.updated", Some("acct_1"), "transfers"), handle(Kind::Account, "acct_1")),
            (snapshot("topup.succeeded", None, "tu_1"), handle(Kind::Topup, "tu_1")),
            (snapshot("topup.invented", None, "tu_1"), handle(Kind::Topup, "tu_1")),
            (snapshot("topup.succeeded", Some("acct_us"), "tu_1"), handle(Kind::Topup, "tu_1")),
            (snapshot("topup.succeeded", Some("acct_1"), "tu_1"), ignore(Ignored::ConnectedAccount)),
            (snapshot("topup.succeeded", None, "nonsense"), Route::Unreadable(Kind::Topup)),
            (snapshot("transfer.created", None, "tr_1"), handle(Kind::StripeTransfer, "tr_1")),
            (snapshot("transfer.paid", None, "tr_1"), ignore(Ignored::UnhandledType)),
            (snapshot("balance.available", None, ""), handle(Kind::Balance, BALANCE_SUBJECT)),
            (snapshot("balance.available", Some("acct_1"), ""), ignore(Ignored::ConnectedAccount)),
            (snapshot("payout.created", Some("acct_1"), "po_1"), ignore(Ignored::ConnectedAccount)),
            (snapshot("payout.created", None, "po_1"), handle(Kind::Platform, PLATFORM_SUBJECT)),
            (snapshot("payout.paid", None, "po_1"), ignore(Ignored::UnhandledType)),
            (snapshot("balance_settings.updated", None, ""), handle(Kind::Platform, PLATFORM_SUBJECT)),
            (snapshot("balance_settings.updated", Some("acct_1"), ""), ignore(Ignored::ConnectedAccount)),
            (snapshot("customer.updated", None, "cus_1"), ignore(Ignored::UnhandledType)),
            (
                Envelope { livemode: true, ..snapshot("topup.succeeded", None, "tu_1") },
                ignore(Ignored::LivemodeMismatch),
            ),
            (
                Envelope { livemode: true, ..snapshot("customer.updated", None, "c") },
                ignore(Ignored::LivemodeMismatch),
            ),
            (thin("v1.topup.succeeded", Some("tu_1")), handle(Kind::Topup, "tu_1")),
            (thin("v1.account.updated", Some("acct_1")), handle(Kind::Account, "acct_1")),
            (thin("v1.account.updated", Some("acct_us")), handle(Kind::Platform, PLATFORM_SUBJECT)),
            (
                thin("v2.core.account[requirements].updated", Some("acct_us")),
                ignore(Ignored::PlatformAccount),
            ),
            (thin("v1.payout.created", Some("po_1")), handle(Kind::Platform, PLATFORM_SUBJECT)),
            (
                Envelope { account: Some("acct_1"), ..thin("v1.account.application.deauthorized", None) },
                handle(Kind::Account, "acct_1"),
            ),
            (thin("v2.core.account[requirements].updated", Some("acct_1")), handle(Kind::Account, "acct_1")),
            (thin("v2.core.account.closed", Some("acct_1")), handle(Kind::Account, "acct_1")),
            (thin("v2.core.account.updated", None), ignore(Ignored::UnhandledType)),
            (thin("v2.core.account_person.updated", Some("acct_1")), ignore(Ignored::UnhandledType)),
            (thin("v2.core.account_link.returned", None), handle(Kind::LinkReturn, "evt_1")),
            (
                Envelope { livemode: true, ..thin("v2.core.account_link.returned", None) },
                ignore(Ignored::LivemodeMismatch),
            ),
            (snapshot("v2.core.account_link.returned", None, ""), ignore(Ignored::UnhandledType)),
            (thin("v2.core.event_destination.ping", Some("ed_1")), ignore(Ignored::UnhandledType)),
        ];
        for (envelope, route) in rows {
            assert_eq!(envelope.route(&ourselves), route, "{envelope:?}");
        }
    }
}
