//! A top-up's money comes in: its status by events and fetches, its settlement by its balance transaction.
//!
//! Stripe announces neither a changed forecast nor, for one top-up, the moment its money becomes available,
//! so a timer looks until the money is there. Settlement is booked in the transaction that finds it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::topup_evidence::{currencies_in, fold_kept, settle};
use super::{Context, FlowError};
use crate::domain::forecast;
use crate::domain::ids::TopupId;
use crate::domain::ledger::Entry;
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::domain::topup::Status;
use crate::domain::topup::story::steps;
use crate::store::db::StoreError;
use crate::store::outbox::StoredEvent;
use crate::store::topups::{self, Topup};
use crate::store::transfers::{Of, list_open_ids};
use crate::store::{controls, ledger, tasks};

mod look;

pub use look::look;

/// A pending top-up's status is asked for this often at most: its events tell in time.
const PENDING_LOOK: Duration = Duration::seconds(30);

/// Folds events into a top-up's row and books what follows.
pub async fn apply(ctx: &Context, id: &TopupId, events: &[StoredEvent]) -> Result<(), FlowError> {
    let mut currencies = Vec::new();
    for event in events {
        currencies.extend(currencies_in(event)?);
    }
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    lock_currencies(&mut tx, ctx, id, currencies).await?;
    let before = topups::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let mut topup = before.clone();
    for event in events {
        fold_kept(&mut topup, event)?;
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

/// Decides the settlement, books the difference, writes the row, and rings for what depends on it.
async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    before: Option<&Topup>,
    mut topup: Topup,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let was_settled = topup.settled;
    if let Some(settlement) = settle(&mut topup, ctx.rule, controls::get_funds_since(tx).await?) {
        if settlement.settled && !was_settled {
            topup.settled_at = Some(now);
        }
        book(tx, ctx, id, &mut topup, settlement.booked_minor, settlement.currency, now).await?;
    }
    topups::put(tx, ctx.livemode, id.as_str(), &topup, now).await?;
    if let Some(face) = topup.face() {
        let steps = steps(before.and_then(Topup::face).as_ref(), &face);
        if !steps.is_empty() {
            topups::insert_change(tx, ctx.livemode, id.as_str(), &topup, &face, &steps, now).await?;
        }
    }
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
