//! What Stripe shows about a transfer of ours, booked once, whoever saw it: the sender, a look-up or an event.
//!
//! A transfer that exists at Stripe is money that has gone out, whatever we believed: the books follow it.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError};
use crate::domain::event::BALANCE_SUBJECT;
use crate::domain::funds::Share;
use crate::domain::ids::{StripeTransferId, TransferId};
use crate::domain::ledger::{Entry, Place, returning};
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::controls::Funds;
use crate::store::db::StoreError;
use crate::store::outbox::StoredEvent;
use crate::store::transfers::{Change, Transfer};
use crate::store::{attempts, controls, ledger, tasks, transfers};
use crate::stripe::wire::{self, Object};

/// The pair in a transfer's metadata at Stripe that names ours.
pub const METADATA_KEY: &str = "sluicegate_transfer";
/// After money moved, Stripe's balance is read once it has settled down.
const BALANCE_AFTER: Duration = Duration::seconds(30);
/// Where money is booked that went out without any settled money to take it from.
const UNFUNDED: &str = "unfunded";

/// The id of ours in a transfer at Stripe: in the metadata it was made with, or where somebody took that away, in
/// its label, which can't be changed there. Metadata that names something else is heeded: that is how a person says
/// that it is none of ours.
pub fn our_id(seen: &wire::Transfer) -> Option<TransferId> {
    match seen.metadata.as_ref().and_then(|metadata| metadata.get(METADATA_KEY)) {
        Some(id) => TransferId::parse(id).ok(),
        None => seen.transfer_group.as_deref().and_then(|label| TransferId::parse(label).ok()),
    }
}

/// Which transfer of ours one at Stripe is: the one it was recorded for, else the one whose id it carries. Only
/// metadata names one that the database does not know.
pub async fn known_as(
    tx: &mut PgConnection,
    seen: &wire::Transfer,
) -> Result<Option<TransferId>, StoreError> {
    if let Some(recorded) = transfers::find_id_by_stripe(tx, seen.id.as_str()).await? {
        return Ok(TransferId::parse(&recorded).ok());
    }
    let Some(id) = our_id(seen) else { return Ok(None) };
    let by_metadata = seen.metadata.as_ref().is_some_and(|metadata| metadata.contains_key(METADATA_KEY));
    let is_ours = by_metadata || transfers::find(tx, id.as_str()).await?.is_some();
    Ok(is_ours.then_some(id))
}

/// The transfer that an event carries, or an answer of Stripe's API is; `None` where it must be fetched.
pub fn read(event: &StoredEvent) -> Result<Option<wire::Transfer>, FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", event.event_id));
    if event.after_seq.is_some() {
        let text = std::str::from_utf8(&event.payload).map_err(|error| unreadable(&error))?;
        return wire::Transfer::from_json(text).map(Some).map_err(|error| unreadable(&error));
    }
    let envelope = wire::Envelope::parse(&event.payload).map_err(|error| unreadable(&error))?;
    let object = envelope.data_object.filter(|_| wire::readable(event.api_version.as_deref()));
    Ok(object.and_then(|object| wire::Transfer::from_json(object.get()).ok()))
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is ours and the books agree with it.
    Booked,
    /// It carries our id, but is to another account, of another amount, currency or mode, or the second of
    /// its kind: nothing was changed, and somebody must look.
    Mismatch,
    /// No transfer of ours has this id.
    NotOurs,
}

/// Whether all that is seen of a transfer was booked before. What was booked is never taken back, so that this needs
/// no lock.
pub fn is_booked(ctx: &Context, held: &Transfer, seen: &wire::Transfer) -> bool {
    let Ok(currency) = Currency::parse(&seen.currency) else { return false };
    held.stripe_transfer.is_some()
        && seen.amount_reversed <= held.amount_reversed_minor
        && matches(ctx, held, seen, currency)
}

/// Books a transfer that exists at Stripe.
pub async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TransferId,
    seen: &wire::Transfer,
    cause: &str,
    now: OffsetDateTime,
) -> Result<Recorded, StoreError> {
    let Ok(currency) = Currency::parse(&seen.currency) else { return Ok(Recorded::Mismatch) };
    let funds = controls::lock_funds(tx, ctx.livemode, currency).await?;
    let Some(transfer) = transfers::find_for_update(tx, id.as_str()).await? else {
        return Ok(Recorded::NotOurs);
    };
    if !matches(ctx, &transfer, seen, currency) {
        tracing::error!(transfer = %id, stripe_transfer = %seen.id, "a transfer at Stripe carries our id but differs from ours");
        metrics::counter!("sluicegate_transfer_mismatches_total").increment(1);
        return Ok(Recorded::Mismatch);
    }
    if transfer.stripe_transfer.is_none() {
        let shares = shares_gone_out(tx, ctx, &transfer).await?;
        ledger::post(tx, ctx.livemode, currency, &Entry::release(id, &shares), now).await?;
        let prepared_at = attempts::close(tx, id.as_str(), transfer.generation, "created").await?;
        after_release(tx, ctx, currency, &funds, now).await?;
        count_release(&transfer, prepared_at, now);
    }
    let reversed_minor = seen.amount_reversed.clamp(transfer.amount_reversed_minor, transfer.amount_minor);
    if reversed_minor > transfer.amount_reversed_minor {
        let out = ledger::list_shares(tx, id.as_str(), Place::Released).await?;
        let back = returning(&out, reversed_minor - transfer.amount_reversed_minor);
        let entry = Entry::transfer_reversal(id, reversed_minor, &back);
        ledger::post(tx, ctx.livemode, currency, &entry, now).await?;
        tasks::ring(tx, Kind::Funds, ctx.livemode, &[currency.as_str()], now).await?;
    }
    let change = Change {
        status: Status::after_reversal(transfer.amount_minor, reversed_minor),
        stripe_transfer: Some(seen.id.as_str()),
        amount_reversed_minor: reversed_minor,
        expected_release_at: None,
        look_up_first: false,
        failure: None,
        ..Change::of(&transfer)
    };
    transfers::record_change(tx, &transfer, &change, cause, now).await?;
    Ok(Recorded::Booked)
}

/// Books transfers of a currency that exist at Stripe, where nothing about them is in question: under way, whole, and
/// their money reserved, with the N of the key that made each. Returns which; [`record`] knows what to do about each of the others. The caller records that
/// their attempts ended, and counts them once that is committed.
pub async fn record_plain(
    tx: &mut PgConnection,
    ctx: &Context,
    currency: Currency,
    seen: &[(&TransferId, i32, &wire::Transfer)],
    cause: &str,
    now: OffsetDateTime,
) -> Result<BTreeSet<String>, StoreError> {
    let funds = controls::lock_funds(tx, ctx.livemode, currency).await?;
    let seen: BTreeMap<&str, (i32, &wire::Transfer)> =
        seen.iter().map(|(id, n, seen)| (id.as_str(), (*n, *seen))).collect();
    let ids: Vec<&str> = seen.keys().copied().collect();
    let mut held = transfers::list_unlocked_for_update(tx, &ids).await?;
    held.retain(|transfer| transfer.status == Status::Releasing);
    let mut shares = ledger::list_all_shares(tx, &ids, Place::Reserved).await?;
    let (mut entries, mut changes, mut booked) = (Vec::new(), Vec::new(), BTreeSet::new());
    for transfer in &held {
        let Some((n, seen)) = seen.get(transfer.id.as_str()) else { continue };
        let Some(shares) = shares.remove(transfer.id.as_str()) else { continue };
        let plain = *n == transfer.generation && seen.amount_reversed == 0;
        if !plain || !matches(ctx, transfer, seen, currency) {
            continue;
        }
        entries.push(Entry::release(&transfer.id, &shares));
        let change = Change {
            status: Status::Released,
            stripe_transfer: Some(seen.id.as_str()),
            expected_release_at: None,
            look_up_first: false,
            failure: None,
            ..Change::of(transfer)
        };
        changes.push((transfer, change));
        booked.insert(transfer.id.to_string());
    }
    if booked.is_empty() {
        return Ok(booked);
    }
    ledger::post_all(tx, ctx.livemode, currency, &entries, now).await?;
    after_release(tx, ctx, currency, &funds, now).await?;
    transfers::record_changes(tx, &changes, cause, now).await?;
    Ok(booked)
}

/// Money went out: a stop that was watched is over, and Stripe's balance is read again.
async fn after_release(
    tx: &mut PgConnection,
    ctx: &Context,
    currency: Currency,
    funds: &Funds,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if funds.stop_checks > 0 && funds.stopped_at.is_none() {
        controls::set_stop(tx, ctx.livemode, currency, None, 0).await?;
    }
    tasks::ring(tx, Kind::Balance, ctx.livemode, &[BALANCE_SUBJECT], now + BALANCE_AFTER).await
}

/// How long it took from the request, and from the moment in which nothing was missing any more.
pub fn count_release(transfer: &Transfer, prepared_at: Option<OffsetDateTime>, now: OffsetDateTime) {
    let since = |at: OffsetDateTime| (now - at).as_seconds_f64().max(0.0);
    metrics::histogram!("sluicegate_release_seconds").record(since(transfer.created_at));
    if let Some(prepared_at) = prepared_at {
        metrics::histogram!("sluicegate_release_reserved_seconds").record(since(prepared_at));
    }
    let currency = transfer.currency.as_str().to_owned();
    metrics::counter!("sluicegate_released_minor_units_total", "currency" => currency)
        .increment(u64::try_from(transfer.amount_minor).unwrap_or(0));
}

fn matches(ctx: &Context, transfer: &Transfer, seen: &wire::Transfer, currency: Currency) -> bool {
    let same_mode = seen.livemode.is_none_or(|livemode| livemode == ctx.livemode);
    let not_another =
        transfer.stripe_transfer.as_ref().is_none_or(|known: &StripeTransferId| *known == seen.id);
    same_mode
        && transfer.livemode == ctx.livemode
        && not_another
        && transfer.amount_minor == seen.amount
        && transfer.currency == currency
        && seen.destination.as_ref() == Some(&transfer.destination)
}

/// The lots that a transfer's money came from: those reserved for it. Where none are (it was believed not to
/// have gone out), its own top-up's, else the oldest that reach, else none: the books then show the hole.
async fn shares_gone_out(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
) -> Result<Vec<Share>, StoreError> {
    let reserved = ledger::list_shares(tx, transfer.id.as_str(), Place::Reserved).await?;
    if !reserved.is_empty() {
        return Ok(reserved);
    }
    let lot = match &transfer.topup {
        Some(topup) => topup.to_string(),
        None => {
            let lots = ledger::list_lots(tx, ctx.livemode, transfer.currency).await?;
            let reaching = lots.into_iter().find(|lot| lot.available_minor >= transfer.amount_minor);
            reaching.map_or_else(|| UNFUNDED.to_owned(), |lot| lot.name)
        }
    };
    let shares = vec![Share { lot, amount_minor: transfer.amount_minor }];
    let entry = Entry::reservation(&transfer.id, transfer.reservations + 1, &shares);
    ledger::post(tx, ctx.livemode, transfer.currency, &entry, transfer.updated_at).await?;
    controls::note_overdrawn(tx, ctx.livemode, transfer.currency).await?;
    Ok(shares)
}
