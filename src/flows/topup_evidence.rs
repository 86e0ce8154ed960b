//! What is held of a top-up after one more piece of evidence: an event, or what a fetch showed.
//!
//! The same folding projects top-ups as evidence comes in and rebuilds them from what was kept.

use time::OffsetDateTime;

use super::{FlowError, instant};
use crate::domain::evidence::{Content, Fetched, Standing, Told, Verdict};
use crate::domain::money::{Currency, MAX_AMOUNT_MINOR};
use crate::domain::topup::{self, Proof, Rule, Settlement, Status};
use crate::planted::{self, Bug};
use crate::store::outbox::StoredEvent;
use crate::store::topups::Topup;
use crate::stripe::wire::{self, Object};

/// Folds a kept piece of evidence into what is held: an event, or an answer of Stripe's API.
pub fn fold_kept(topup: &mut Option<Topup>, kept: &StoredEvent) -> Result<(), FlowError> {
    match kept.fetched() {
        Some(fetch) => {
            let (object, transaction) = seen(kept)?;
            let held = topup.get_or_insert_with(never_told_of);
            fold_seen(held, object.as_ref(), transaction.as_ref(), fetch);
        }
        None => fold(topup, kept, read(kept)?.as_ref()),
    }
    Ok(())
}

/// The currencies a kept piece of evidence may book in.
pub fn currencies_in(kept: &StoredEvent) -> Result<Vec<Currency>, FlowError> {
    if kept.after_seq.is_none() {
        return Ok(read(kept)?.as_ref().and_then(currency_of).into_iter().collect());
    }
    let (object, transaction) = seen(kept)?;
    let landed = transaction.and_then(|transaction| Currency::parse(&transaction.currency).ok());
    Ok(object.as_ref().and_then(currency_of).into_iter().chain(landed).collect())
}

/// The top-up a snapshot carries; `None` where the object must be fetched.
fn read(event: &StoredEvent) -> Result<Option<wire::Topup>, FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", event.event_id));
    let envelope = wire::Envelope::parse(&event.payload).map_err(|error| unreadable(&error))?;
    let readable = wire::readable(event.api_version.as_deref());
    let object = envelope.data_object.filter(|_| readable);
    Ok(object.and_then(|object| wire::Topup::from_json(object.get()).ok()).filter(is_whole))
}

/// Whether everything that settlement rests on can be read.
fn is_whole(object: &wire::Topup) -> bool {
    is_money(object) && Status::parse(&object.status) != Status::Unknown
}

/// Whether its amount and currency are such as can be booked.
pub fn is_money(object: &wire::Topup) -> bool {
    currency_of(object).is_some() && (0..=MAX_AMOUNT_MINOR).contains(&object.amount)
}

/// Its currency, where that is one.
pub fn currency_of(object: &wire::Topup) -> Option<Currency> {
    Currency::parse(&object.currency).ok()
}

/// One that nothing has told of.
pub fn never_told_of() -> Topup {
    unheard_of(Standing::of_fetch(Fetched { at: OffsetDateTime::UNIX_EPOCH, after_seq: 0 }), "api")
}

fn unheard_of(standing: Standing, source: &str) -> Topup {
    Topup {
        known: false,
        status: Status::Unknown,
        amount_minor: 0,
        currency: None,
        balance_transaction: None,
        expected_availability_date: None,
        failure_code: None,
        failure_message: None,
        description: None,
        statement_descriptor: None,
        transfer_group: None,
        metadata: std::collections::BTreeMap::new(),
        stripe_created: None,
        as_of: standing.at,
        source: source.to_owned(),
        standing,
        proof: None,
        proof_at: None,
        watched_since: None,
        settled: false,
        settled_at: None,
        on_its_way_at: None,
        excluded: None,
        booked_minor: 0,
        booked_currency: None,
        bookings: 0,
    }
}

fn fold(topup: &mut Option<Topup>, event: &StoredEvent, object: Option<&wire::Topup>) {
    let told = |content| Told { at: event.created, seq: event.seq, content };
    match (topup.as_mut(), object) {
        (None, None) => {
            *topup = Some(unheard_of(Standing::of_event(told(Content::Unread)), &event.event_id));
        }
        (None, Some(object)) => {
            let mut new = unheard_of(Standing::of_event(told(Content::Other)), &event.event_id);
            show(&mut new, object, event.created, &event.event_id);
            *topup = Some(new);
        }
        (Some(topup), None) => {
            topup::hear(topup.status, &mut topup.standing, Status::Unknown, told(Content::Unread));
        }
        (Some(topup), Some(object)) => {
            let status = Status::parse(&object.status);
            let same = status == topup.status && object.amount == topup.amount_minor;
            let content = if same { Content::Same } else { Content::Other };
            // Of two of one rank without an order, what is held stays: only a fetch can move settled money.
            if topup::hear(topup.status, &mut topup.standing, status, told(content)) == Verdict::Apply {
                show(topup, object, event.created, &event.event_id);
            }
        }
    }
}

/// Takes over what Stripe says. A balance transaction, once named, stays.
fn show(topup: &mut Topup, object: &wire::Topup, as_of: OffsetDateTime, source: &str) {
    let named = object.balance_transaction.as_ref().map(|transaction| transaction.id().to_owned());
    topup.known = true;
    topup.status = Status::parse(&object.status);
    topup.amount_minor = object.amount;
    topup.currency = currency_of(object);
    topup.balance_transaction = named.or(topup.balance_transaction.take());
    topup.expected_availability_date = instant(object.expected_availability_date);
    topup.failure_code.clone_from(&object.failure_code);
    topup.failure_message.clone_from(&object.failure_message);
    topup.description.clone_from(&object.description);
    topup.statement_descriptor.clone_from(&object.statement_descriptor);
    topup.transfer_group.clone_from(&object.transfer_group);
    topup.metadata = object.metadata.clone().unwrap_or_default();
    topup.stripe_created = instant(object.created);
    topup.as_of = as_of;
    source.clone_into(&mut topup.source);
}

/// Notes when its money was last seen on its way: while it was pending, or its proof was not there yet.
fn note_on_its_way(topup: &mut Topup) {
    let pending = (topup.status == Status::Pending).then_some(topup.as_of);
    let unproven = topup.proof.as_ref().filter(|proof| !proof.available).and(topup.proof_at);
    topup.on_its_way_at = topup.on_its_way_at.max(pending).max(unproven);
}

/// Folds in what a fetch showed: the top-up, its balance transaction, or both.
pub fn fold_seen(
    topup: &mut Topup,
    object: Option<&wire::Topup>,
    transaction: Option<&wire::BalanceTransaction>,
    fetch: Fetched,
) {
    if let Some(object) = object {
        let status = Status::parse(&object.status);
        if topup::see(topup.status, &mut topup.standing, status, fetch) == Verdict::Apply {
            show(topup, object, fetch.at, "api");
        }
        let named = object.balance_transaction.as_ref().map(|t| t.id().to_owned());
        topup.balance_transaction = topup.balance_transaction.take().or(named);
    }
    let fresher = topup.proof_at.is_none_or(|at| at <= fetch.at);
    if let (Some(transaction), true) = (transaction, fresher) {
        topup.proof = proof(topup, transaction).or(topup.proof.take());
        topup.proof_at = Some(fetch.at);
    }
}

/// What a balance transaction proves. One of another kind, or in a balance that transfers do not draw on,
/// proves nothing.
fn proof(topup: &Topup, transaction: &wire::BalanceTransaction) -> Option<Proof> {
    let of_topup = transaction.transaction_type.as_deref().is_none_or(|kind| kind == "topup");
    let spendable = transaction.balance_type.as_deref().is_none_or(|kind| kind == "payments");
    let currency = Currency::parse(&transaction.currency).ok()?;
    let amount_minor = if Some(currency) == topup.currency {
        topup.amount_minor.saturating_sub(transaction.fee)
    } else {
        transaction.net
    };
    (of_topup && spendable).then(|| Proof {
        available: transaction.status == "available",
        available_on: instant(transaction.available_on),
        amount_minor,
        currency,
    })
}

/// Decides the settlement; once its money settled, whether that counts is decided for good. `None` while nothing
/// described it.
pub fn settle(topup: &mut Topup, rule: Rule, funds_since: OffsetDateTime) -> Option<Settlement> {
    note_on_its_way(topup);
    let rule = if planted::has(Bug::SettleEarly) { Rule::TopupSucceeded } else { rule };
    let settlement = topup.known()?.settlement(rule, funds_since);
    topup.settled = settlement.settled;
    if settlement.settled {
        topup.excluded = Some(settlement.excluded);
    }
    Some(settlement)
}

/// What a kept answer of Stripe's API showed: the top-up, its balance transaction, or both in one.
fn seen(
    observation: &StoredEvent,
) -> Result<(Option<wire::Topup>, Option<wire::BalanceTransaction>), FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", observation.event_id));
    let text = std::str::from_utf8(&observation.payload).map_err(|error| unreadable(&error))?;
    if observation.event_type == "balance_transaction" {
        let transaction = wire::BalanceTransaction::from_json(text).map_err(|error| unreadable(&error))?;
        return Ok((None, Some(transaction)));
    }
    let topup = wire::Topup::from_json(text).map_err(|error| unreadable(&error))?;
    let expanded = match &topup.balance_transaction {
        Some(wire::Expandable::Object(_, transaction)) => Some((**transaction).clone()),
        Some(_) | None => None,
    };
    Ok((Some(topup), expanded))
}
