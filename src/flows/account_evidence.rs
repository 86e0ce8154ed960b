//! What is held of a connected account after one more piece of evidence: an event, or what a fetch showed.
//!
//! The same folding projects accounts as evidence comes in and rebuilds them from what was kept.

use time::OffsetDateTime;

use super::account_view::{Shown, View};
use super::{FlowError, instant};
use crate::domain::account::{Flags, Known, Policy, Requirements, is_final, less_ready};
use crate::domain::event;
use crate::domain::evidence::{Content, Fetched, Standing, Told, Verdict};
use crate::store::accounts::Account;
use crate::store::outbox::StoredEvent;
use crate::stripe::wire::{self, Object};

/// Folds a kept piece of evidence into what is held: an event, or an answer of Stripe's API.
pub fn fold_kept(
    account: &mut Option<Account>,
    kept: &StoredEvent,
    policy: &Policy,
) -> Result<(), FlowError> {
    match kept.fetched() {
        Some(fetch) => *account = Some(fold_fetch(account.take(), seen(kept)?, fetch, policy)),
        None => hear(account, kept, read(kept)?, policy),
    }
    Ok(())
}

fn hear(account: &mut Option<Account>, event: &StoredEvent, news: News, policy: &Policy) {
    fold(account, event, news, policy);
    if let Some(account) = account.as_mut().filter(|_| event::is_of_v2(&event.event_type)) {
        learn_v2(account, event.seq);
    }
}

/// An event shows that the account is one of v2. Where only v1 was asked so far, what it lacked is to be fetched.
fn learn_v2(account: &mut Account, seq: i64) {
    let lacks = account.known.flags.as_ref().is_none_or(|flags| flags.transfers_capability.is_none());
    if !std::mem::replace(&mut account.v2, true) && lacks {
        account.standing.doubted = true;
        account.standing.seq = account.standing.seq.max(seq);
    }
}

/// What one event says about an account.
enum News {
    /// All its flags.
    Flags(Box<Flags>),
    /// One capability's status.
    Transfers(String),
    /// It may have changed.
    Changed,
    /// It left the platform.
    Left,
    /// It was closed, for good.
    Closed,
}

/// What an event says; an error where it is no event at all.
fn read(event: &StoredEvent) -> Result<News, FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", event.event_id));
    let envelope = wire::Envelope::parse(&event.payload).map_err(|error| unreadable(&error))?;
    let bare = event.event_type.strip_prefix("v1.").unwrap_or(&event.event_type);
    if bare == "account.application.deauthorized" {
        return Ok(News::Left);
    }
    if bare == "v2.core.account.closed" {
        return Ok(News::Closed);
    }
    let Some(object) = envelope.data_object.filter(|_| wire::readable(event.api_version.as_deref())) else {
        return Ok(News::Changed);
    };
    Ok(match bare {
        "account.updated" => match wire::Account::from_json(object.get()) {
            Ok(account) => flags(&account).map_or(News::Changed, |flags| News::Flags(Box::new(flags))),
            Err(_) => News::Changed,
        },
        "capability.updated" => match wire::Capability::from_json(object.get()) {
            Ok(capability) if capability.id == "transfers" => News::Transfers(capability.status),
            Ok(_) | Err(_) => News::Changed,
        },
        _ => News::Changed,
    })
}

/// The flags of a whole account; `None` where a part that readiness rests on is missing.
fn flags(account: &wire::Account) -> Option<Flags> {
    account.capabilities.as_ref()?;
    account.requirements.as_ref()?;
    (account.charges_enabled.is_some() && account.details_submitted.is_some())
        .then(|| flags_as_they_are(account))
}

/// The flags as a fetch shows them, absent ones included.
pub fn flags_as_they_are(account: &wire::Account) -> Flags {
    let due = account.requirements.clone().unwrap_or_default();
    Flags {
        details_submitted: account.details_submitted,
        charges_enabled: account.charges_enabled,
        payouts_enabled: account.payouts_enabled,
        transfers_capability: account.capabilities.as_ref().and_then(|c| c.get("transfers").cloned()),
        requirements: Requirements {
            currently_due: due.currently_due.unwrap_or_default(),
            past_due: due.past_due.unwrap_or_default(),
            eventually_due: due.eventually_due.unwrap_or_default(),
            pending_verification: due.pending_verification.unwrap_or_default(),
            disabled_reason: due.disabled_reason,
            current_deadline: instant(due.current_deadline),
        },
        country: account.country.clone(),
        default_currency: account.default_currency.clone(),
    }
}

/// An account of which only one piece of evidence is known.
fn first(standing: Standing, flags: Option<Flags>, source: &str) -> Account {
    let as_of = standing.at;
    let known = Known { flags, ..Known::default() };
    Account { known, v2: false, standing, as_of, source: source.to_owned() }
}

fn fold(account: &mut Option<Account>, event: &StoredEvent, news: News, policy: &Policy) {
    let told = |content| Told { at: event.created, seq: event.seq, content };
    let source = &event.event_id;
    let news = match (news, account.as_ref()) {
        (News::Flags(heard), Some(held)) if is_for_v2_to_say(held, &heard) => News::Changed,
        (news, _) => news,
    };
    match (news, account.as_mut()) {
        (News::Left, None) => {
            // It tells nothing about the flags, so any event that does, however old, is news.
            let nothing = Told { at: OffsetDateTime::UNIX_EPOCH, ..told(Content::Other) };
            let mut new = first(Standing::of_event(nothing), None, source);
            (new.known.deauthorized_at, new.as_of) = (Some(event.created), event.created);
            *account = Some(new);
        }
        (News::Left, Some(account)) => {
            account.known.deauthorized_at = account.known.deauthorized_at.max(Some(event.created));
            if event.created >= account.as_of {
                (account.as_of, account.source) = (event.created, source.clone());
            }
        }
        (News::Closed, None) => {
            let mut new = first(Standing::of_event(told(Content::Unread)), None, source);
            new.known.close(event.created);
            *account = Some(new);
        }
        (News::Closed, Some(account)) => {
            account.standing.hear(told(Content::Unread));
            account.known.close(event.created);
            if event.created >= account.as_of {
                (account.as_of, account.source) = (event.created, source.clone());
            }
        }
        (News::Flags(flags), None) => {
            *account = Some(first(Standing::of_event(told(Content::Other)), Some(*flags), source));
        }
        (News::Transfers(_) | News::Changed, None) => {
            *account = Some(first(Standing::of_event(told(Content::Unread)), None, source));
        }
        (News::Flags(heard), Some(account)) => {
            let same = account.known.flags.as_ref() == Some(&*heard);
            let content = if same { Content::Same } else { Content::Other };
            match account.standing.hear(told(content)) {
                Verdict::Keep => {}
                Verdict::Apply => show(account, Some(*heard), event),
                Verdict::Doubt => doubt(account, *heard, event, policy),
            }
        }
        (News::Transfers(status), Some(account)) => {
            let held = account.known.flags.as_ref();
            let same = held.and_then(|flags| flags.transfers_capability.as_deref()) == Some(status.as_str());
            let same_moment = account.standing.at == event.created;
            // It says nothing about the other flags, so a newer one is never enough by itself.
            let content = if same && same_moment { Content::Same } else { Content::Unread };
            let patched = held.map(|held| Flags { transfers_capability: Some(status), ..held.clone() });
            if let (Verdict::Doubt, Some(patched)) = (account.standing.hear(told(content)), patched) {
                doubt(account, patched, event, policy);
            }
        }
        (News::Changed, Some(account)) => {
            account.standing.hear(told(Content::Unread));
        }
    }
}

/// Whether v1's view of an account of v2 leaves out what matters most, or knows no word for it.
fn is_for_v2_to_say(held: &Account, heard: &Flags) -> bool {
    let refused = held.known.flags.as_ref().is_some_and(|f| is_final(f.transfers_capability.as_deref()));
    held.v2 && (heard.transfers_capability.is_none() || refused)
}

fn show(account: &mut Account, flags: Option<Flags>, event: &StoredEvent) {
    account.known.flags = flags;
    // A deauthorization is the news to show, in whichever order the two came.
    if !(account.known.deauthorized() && account.as_of > event.created) {
        account.as_of = event.created;
        account.source.clone_from(&event.event_id);
    }
}

/// Without an order between them, the less ready of the two is shown.
fn doubt(account: &mut Account, heard: Flags, event: &StoredEvent, policy: &Policy) {
    if let Some(held) = account.known.flags.clone() {
        let shown = less_ready(held.clone(), heard, policy);
        if shown != held {
            show(account, Some(shown), event);
        }
    }
}

/// Folds in what a fetch showed of the account, or that Stripe does not show it.
pub fn fold_fetch(before: Option<Account>, shown: Option<Shown>, fetch: Fetched, policy: &Policy) -> Account {
    let (flags, v2) = shown.as_ref().map_or((None, &View::NotAsked), |s| (Some(s.flags.clone()), &s.v2));
    let found = flags.is_some();
    let mut account = match before {
        None => first(Standing::of_fetch(fetch), flags, "api"),
        Some(mut account) if account.v2 && shown.as_ref().is_some_and(Shown::is_half) => {
            // v1's view alone, though v2 has more to say: it proves no more than that there is something to ask for.
            account.standing.doubted |= !account.standing.outranks(fetch);
            return account;
        }
        Some(mut account) => {
            let verdict = account.standing.see(fetch);
            account.known.flags = match (verdict, account.known.flags.take(), flags) {
                (Verdict::Keep, held, seen) => held.or(seen),
                // What Stripe does not show has no flags; else those of whatever came last would stay.
                (Verdict::Apply, _, seen) | (Verdict::Doubt, None, seen) => seen,
                (Verdict::Doubt, Some(held), seen) => seen.map(|seen| less_ready(held, seen, policy)),
            };
            if found && verdict != Verdict::Keep {
                account.as_of = fetch.at;
                "api".clone_into(&mut account.source);
            }
            account
        }
    };
    if found {
        account.known.confirmed_at = account.known.confirmed_at.max(Some(fetch.at));
    } else {
        account.known.deauthorized_at = account.known.deauthorized_at.max(Some(fetch.at));
    }
    if let View::Shown(recipient) = v2 {
        account.v2 = true;
        if recipient.closed {
            account.known.close(fetch.at);
        }
    }
    account
}

/// What a kept answer of Stripe's API showed of the account, or that Stripe did not show it.
fn seen(observation: &StoredEvent) -> Result<Option<Shown>, FlowError> {
    if observation.event_type != "account" {
        return Ok(None);
    }
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", observation.event_id));
    let text = std::str::from_utf8(&observation.payload).map_err(|error| unreadable(&error))?;
    Ok(Some(Shown::read(text).map_err(|error| unreadable(&error))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::Duration;

    const NOON: OffsetDateTime = time::macros::datetime!(2026-11-24 12:00 UTC);

    fn flags(charges: bool, transfers: &str) -> Flags {
        let object = serde_json::json!({
            "id": "acct_1", "details_submitted": true, "charges_enabled": charges, "payouts_enabled": true,
            "capabilities": {"transfers": transfers}, "requirements": {},
        });
        flags_as_they_are(&wire::Account::from_json(&object.to_string()).expect("a whole account"))
    }

    fn of_v1(flags: Flags) -> Shown {
        Shown { flags, v2: View::NotAsked }
    }

    fn event(seq: i64, at_s: i64) -> StoredEvent {
        StoredEvent {
            event_id: format!("evt_{seq}"),
            created: NOON + Duration::seconds(at_s),
            seq,
            kind: "snapshot".to_owned(),
            event_type: "account.updated".to_owned(),
            api_version: None,
            payload: Vec::new(),
            after_seq: None,
        }
    }

    /// A piece of evidence: an event with its flags, or a fetch.
    #[derive(Clone, Debug)]
    enum Piece {
        Event(StoredEvent, Flags),
        /// A thin one, of v2.
        Thin(StoredEvent),
        Fetch(Option<Flags>, Fetched),
    }

    /// What is held once all of it is in, and a doubt has led to one more fetch.
    fn end(pieces: &[Piece], shows: Option<&Flags>) -> Known {
        let policy = Policy::default();
        let mut account = None;
        for piece in pieces {
            match piece {
                Piece::Event(event, heard) => {
                    fold(&mut account, event, News::Flags(Box::new(heard.clone())), &policy);
                }
                Piece::Thin(event) => hear(&mut account, event, News::Changed, &policy),
                Piece::Fetch(seen, fetch) => {
                    account = Some(fold_fetch(account.take(), seen.clone().map(of_v1), *fetch, &policy));
                }
            }
        }
        let account = account.expect("there is evidence");
        let last = Fetched { at: NOON + Duration::HOUR, after_seq: i64::MAX };
        let account = match account.standing.doubted {
            true => fold_fetch(Some(account), shows.cloned().map(of_v1), last, &policy),
            false => account,
        };
        Known { confirmed_at: None, deauthorized_at: None, ..account.known }
    }

    proptest! {
        /// Events of v1, some of them without the capability, and at least one of v2, each of its own second.
        #[test]
        fn of_an_account_of_v2_no_order_ends_in_what_v1_left_out(
            told in proptest::collection::vec((any::<bool>(), 0_u8..3), 1..6),
            thin_at in 0_usize..6,
            order in proptest::collection::vec(any::<u32>(), 8),
        ) {
            let mut pieces: Vec<Piece> = Vec::new();
            for (place, (charges, says)) in told.iter().enumerate() {
                let heard = match says {
                    0 => Flags { transfers_capability: None, ..flags(*charges, "") },
                    1 => flags(*charges, "pending"),
                    _ => flags(*charges, "active"),
                };
                pieces.push(Piece::Event(event(place as i64 + 1, place as i64 * 2), heard));
            }
            let thin = StoredEvent {
                event_type: "v2.core.account.updated".to_owned(),
                ..event(7, thin_at as i64 * 2 + 1)
            };
            pieces.push(Piece::Thin(thin));
            let mut shuffled: Vec<(u32, Piece)> = order.into_iter().zip(pieces.clone()).collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let shuffled: Vec<Piece> = shuffled.into_iter().map(|(_, piece)| piece).collect();
            let shows = flags(true, "rejected");
            let ended = end(&shuffled, Some(&shows));
            prop_assert_eq!(&ended, &end(&pieces, Some(&shows)));
            prop_assert!(ended.flags.is_some_and(|flags| flags.transfers_capability.is_some()));
        }

        /// Events dated up to ten minutes before a fetch that began at noon, or after it; some were received
        /// before it began, and those are dated before.
        #[test]
        fn the_order_in_which_evidence_is_applied_does_not_matter(
            events in proptest::collection::vec((-600_i64..30, any::<bool>(), any::<bool>()), 1..7),
            received_before in 0_usize..7,
            found in any::<bool>(),
            order in proptest::collection::vec(any::<u32>(), 8),
        ) {
            let seen = found.then(|| flags(true, "active"));
            let before = received_before.min(events.len());
            let mut pieces: Vec<Piece> = Vec::new();
            for (place, (at_s, charges, active)) in events.iter().enumerate() {
                // Each of its own second, and none dated later than a fetch that began after it came.
                let at_s = at_s * 8 + place as i64;
                let at_s = if place < before { at_s.min(-8 + place as i64) } else { at_s };
                let heard = flags(*charges, if *active { "active" } else { "inactive" });
                pieces.push(Piece::Event(event(place as i64 + 1, at_s), heard));
            }
            let fetch = Fetched { at: NOON, after_seq: before as i64 };
            pieces.insert(before, Piece::Fetch(seen.clone(), fetch));
            let mut shuffled: Vec<(u32, Piece)> = order.into_iter().zip(pieces.clone()).collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let shuffled: Vec<Piece> = shuffled.into_iter().map(|(_, piece)| piece).collect();
            prop_assert_eq!(end(&shuffled, seen.as_ref()), end(&pieces, seen.as_ref()));
        }
    }
}
