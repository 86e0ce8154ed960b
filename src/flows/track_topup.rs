//! A top-up's money comes in: its status by events and fetches, its settlement by its balance transaction.
//!
//! Stripe announces neither a changed forecast nor, for one top-up, the moment its money becomes available,
//! so a timer looks until the money is there. Settlement is booked in the transaction that finds it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError, instant};
use crate::domain::evidence::{Content, Standing, Told, Verdict};
use crate::domain::forecast;
use crate::domain::ids::TopupId;
use crate::domain::ledger::Entry;
use crate::domain::money::{Currency, MAX_AMOUNT_MINOR};
use crate::domain::task::Kind;
use crate::domain::topup::{self, Status};
use crate::store::db::StoreError;
use crate::store::outbox::StoredEvent;
use crate::store::topups::{self, Topup};
use crate::store::transfers::{Of, list_open_ids};
use crate::store::{controls, ledger, tasks};
use crate::stripe::wire::{self, Object};

mod look;

pub use look::look;

/// A pending top-up's status is asked for this often at most: its events tell in time.
const PENDING_LOOK: Duration = Duration::seconds(30);

/// Folds events into a top-up's row and books what follows.
pub async fn apply(ctx: &Context, id: &TopupId, events: &[StoredEvent]) -> Result<(), FlowError> {
    let mut heard = Vec::with_capacity(events.len());
    for event in events {
        let object = read(event)?;
        heard.push((event, object));
    }
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let currencies = heard.iter().filter_map(|(_, object)| object.as_ref().and_then(currency_of));
    lock_currencies(&mut tx, ctx, id, currencies.collect()).await?;
    let before = topups::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let mut topup = before.clone();
    for (event, object) in &heard {
        fold(&mut topup, event, object.as_ref());
    }
    if let Some(topup) = topup {
        if let Some(at) = look_due(before.as_ref(), &topup, now) {
            tasks::ring(&mut tx, Kind::Topup, ctx.livemode, &[id.as_str()], at).await?;
        }
        record(&mut tx, ctx, id, before.as_ref(), topup, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// When to look at Stripe after news: at once where they leave a doubt or money to be proven.
fn look_due(before: Option<&Topup>, topup: &Topup, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let new = before.is_none_or(|before| before.status != topup.status);
    let proven = topup.proof.as_ref().is_some_and(|proof| proof.available);
    match topup.status {
        _ if topup.standing.doubted => Some(now),
        Status::Pending => new.then_some(now + PENDING_LOOK),
        Status::Succeeded | Status::Unknown => (new && !proven).then_some(now),
        Status::Failed | Status::Canceled | Status::Reversed => None,
    }
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
fn is_money(object: &wire::Topup) -> bool {
    currency_of(object).is_some() && (0..=MAX_AMOUNT_MINOR).contains(&object.amount)
}

fn currency_of(object: &wire::Topup) -> Option<Currency> {
    Currency::parse(&object.currency).ok()
}

/// The locks of every currency that may be booked, in order; they come before the top-up's own.
async fn lock_currencies(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    mut currencies: Vec<Currency>,
) -> Result<(), StoreError> {
    if let Some(topup) = topups::find(tx, ctx.livemode, id.as_str()).await? {
        currencies.extend(topup.currency);
        currencies.extend(topup.booked_currency);
        currencies.extend(topup.proof.map(|proof| proof.currency));
    }
    currencies.sort_unstable();
    currencies.dedup();
    for currency in currencies {
        controls::lock_funds(tx, ctx.livemode, currency).await?;
    }
    Ok(())
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

/// Decides the settlement, books the difference, writes the row, and rings for what depends on it.
async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    before: Option<&Topup>,
    mut topup: Topup,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    note_on_its_way(&mut topup);
    if let Some(known) = topup.known() {
        let settlement = known.settlement(ctx.rule, controls::get_funds_since(tx).await?);
        if settlement.settled && !topup.settled {
            topup.settled_at = Some(now);
        }
        topup.settled = settlement.settled;
        if settlement.settled {
            topup.excluded = Some(settlement.excluded);
        }
        book(tx, ctx, id, &mut topup, settlement.booked_minor, settlement.currency, now).await?;
    }
    topups::put(tx, ctx.livemode, id.as_str(), &topup, now).await?;
    let comes = |topup: &Topup| (topup.currency, topup.settled, topup.status, topup.expected_at());
    if before.map(comes) != Some(comes(&topup)) {
        let currency = topup.proof.as_ref().map(|proof| proof.currency).or(topup.currency);
        let currencies: Vec<&str> = currency.iter().map(Currency::as_str).collect();
        tasks::ring(tx, Kind::Forecast, ctx.livemode, &currencies, now + forecast::AFTER).await?;
    }
    let waits = |topup: &Topup| topup.known().map(|known| known.waiting(topup.settled));
    if before.and_then(waits) != waits(&topup) {
        let tied = list_open_ids(tx, ctx.livemode, Of::Topup(id.as_str())).await?;
        let tied: Vec<&str> = tied.iter().map(String::as_str).collect();
        tasks::ring(tx, Kind::Transfer, ctx.livemode, &tied, now).await?;
    }
    Ok(())
}

/// Notes when its money was last seen on its way: while it was pending, or its proof was not there yet.
fn note_on_its_way(topup: &mut Topup) {
    let pending = (topup.status == Status::Pending).then_some(topup.as_of);
    let unproven = topup.proof.as_ref().filter(|proof| !proof.available).and(topup.proof_at);
    topup.on_its_way_at = topup.on_its_way_at.max(pending).max(unproven);
}

/// Brings the ledger from what it holds for this top-up to what it should hold.
async fn book(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    topup: &mut Topup,
    wanted_minor: i64,
    currency: Currency,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // Money once booked is taken back in the currency it was booked in.
    let booked_in = topup.booked_currency.filter(|_| topup.booked_minor != 0).unwrap_or(currency);
    let target_minor = if booked_in == currency { wanted_minor } else { 0 };
    if target_minor == topup.booked_minor {
        return Ok(());
    }
    topup.bookings += 1;
    let entry = Entry::settlement(id, topup.bookings, topup.booked_minor, target_minor);
    ledger::post(tx, ctx.livemode, booked_in, &entry, now).await?;
    (topup.booked_minor, topup.booked_currency) = (target_minor, Some(booked_in));
    tasks::ring(tx, Kind::Funds, ctx.livemode, &[booked_in.as_str()], now).await?;
    tasks::ring(tx, Kind::Balance, ctx.livemode, &[crate::domain::event::BALANCE_SUBJECT], now).await?;
    Ok(())
}
