//! Serves the line of a currency: transfers that wait for nothing but money get it, in order.
//!
//! The currency's lock makes this one at a time, however many replicas run. Each transfer's other conditions
//! are checked once more in the transaction that reserves its money.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::transfer_evidence::METADATA_KEY;
use super::transfer_snapshot::Snapshot;
use super::{Context, FlowError};
use crate::domain::funds::{Claim, Purse, Share};
use crate::domain::ledger::Entry;
use crate::domain::limits::{day_of, next_day};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::db::StoreError;
use crate::store::transfers::{Change, Transfer};
use crate::store::{attempts, caps, controls, ledger, line, tasks, transfers};
use crate::stripe::form;

/// How many of the line are served in one transaction.
const SERVED_AT_ONCE: i64 = 100;
/// How many that are about to be looked at are put into the line beforehand.
const ADMITTED_AT_ONCE: i64 = 200;

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Transfers whose money was reserved.
    pub reserved: usize,
}

/// Walks the whole line once, a page a transaction.
pub async fn serve(ctx: &Context, currency: Currency) -> Result<Served, FlowError> {
    let mut served = Served::default();
    let mut after: Option<Transfer> = None;
    let mut blocked = Blocked::default();
    loop {
        let now = ctx.clock.now();
        let mut tx = ctx.pool.begin().await?;
        let funds = controls::lock_funds(&mut tx, ctx.livemode, currency).await?;
        if after.is_none() {
            admit(&mut tx, ctx, currency, now).await?;
        }
        let next =
            line::list_for_update(&mut tx, ctx.livemode, currency, after.as_ref(), SERVED_AT_ONCE).await?;
        if next.is_empty() {
            return Ok(served);
        }
        let mut purse = Purse::new(ledger::list_lots(&mut tx, ctx.livemode, currency).await?);
        blocked.restore(&mut purse);
        let mut rung = Vec::new();
        for transfer in &next {
            let stopped = funds.stopped_at.is_some();
            if serve_one(&mut tx, ctx, transfer, &mut purse, &mut blocked, stopped, now).await? {
                rung.push(transfer.id.as_str());
            }
        }
        served.reserved += rung.len();
        rung.sort_unstable();
        tasks::ring(&mut tx, Kind::Transfer, ctx.livemode, &rung, now).await?;
        tx.commit().await?;
        after = next.into_iter().next_back();
    }
}

/// Puts into the line whoever is about to be looked at anyway. What makes several transfers ready at once
/// rings each of them; without this the first to be looked at would take the money from one that goes before.
async fn admit(
    tx: &mut PgConnection,
    ctx: &Context,
    currency: Currency,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    for transfer in line::list_rung_for_update(tx, ctx.livemode, currency, now, ADMITTED_AT_ONCE).await? {
        let reasons = Snapshot::load(tx, ctx, &transfer).await?.reasons(ctx, &transfer, now);
        if reasons.is_empty() {
            let change = Change { fundable: true, ..Change::of(&transfer) };
            transfers::record_change(tx, &transfer, &change, "nothing but money is missing", now).await?;
        }
    }
    Ok(())
}

/// The sources (a top-up, or the pool) that did not reach somebody on an earlier page. The lock is given back
/// between pages; money that comes in meanwhile is left to the pass that its arrival rings for, since only
/// that one starts at the head of the line.
#[derive(Default)]
struct Blocked {
    sources: BTreeSet<Option<String>>,
}

impl Blocked {
    fn note(&mut self, transfer: &Transfer) {
        self.sources.insert(transfer.topup.as_ref().map(ToString::to_string));
    }

    fn restore(&self, purse: &mut Purse) {
        for topup in &self.sources {
            purse.block(topup.as_deref());
        }
    }
}

/// Decides on one transfer of the line; true when its money was reserved.
async fn serve_one(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    purse: &mut Purse,
    blocked: &mut Blocked,
    stopped: bool,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let snapshot = Snapshot::load(tx, ctx, transfer).await?;
    let reasons = snapshot.reasons(ctx, transfer, now);
    if !reasons.is_empty() {
        snapshot.ring_for_missing(tx, ctx, transfer, now).await?;
        if reasons.contains(&Reason::DailyCapReached) {
            let id = transfer.id.as_str();
            tasks::ring(tx, Kind::Transfer, ctx.livemode, &[id], next_day(now)).await?;
        }
        let change = Change { waiting_on: &reasons, ..Change::of(transfer) };
        transfers::record_change(tx, transfer, &change, "no longer ready", now).await?;
        return Ok(false);
    }
    let topup = transfer.topup.as_ref().map(|id| id.as_str());
    let shares = purse.take(Claim { amount_minor: transfer.amount_minor, topup });
    let mut waiting_on = Vec::new();
    match shares {
        Some(shares) if !stopped => {
            reserve(tx, ctx, transfer, &shares, now).await?;
            return Ok(true);
        }
        Some(_) => {}
        None => {
            blocked.note(transfer);
            waiting_on.push(Reason::FundsInsufficient);
        }
    }
    if stopped {
        waiting_on.push(Reason::StripeBalanceInsufficient);
    }
    if transfer.waiting_on != waiting_on {
        let change = Change { waiting_on: &waiting_on, fundable: true, ..Change::of(transfer) };
        transfers::record_change(tx, transfer, &change, "ready, but the money does not reach", now).await?;
    }
    Ok(false)
}

/// Sets the money aside and freezes what will be sent, before anything is.
async fn reserve(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    shares: &[Share],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let body = body(ctx, transfer);
    let frozen = attempts::find(tx, transfer.id.as_str(), transfer.generation).await?;
    // A key that was refused before it ran is used again as long as it would carry the same body; once a
    // setting that is part of it changed, only a new key can: nothing exists under the old one.
    let changed = frozen.is_some_and(|frozen| frozen.body != body);
    let generation = transfer.generation + i32::from(changed);
    let reservation = transfer.reservations + 1;
    let entry = Entry::reservation(&transfer.id, reservation, shares);
    ledger::post(tx, ctx.livemode, transfer.currency, &entry, now).await?;
    let (id, destination, today) = (transfer.id.as_str(), transfer.destination.as_str(), day_of(now));
    attempts::freeze(tx, id, generation, &body, transfer.look_up_first, now).await?;
    caps::count(tx, ctx.livemode, transfer.currency, today, destination, transfer.amount_minor).await?;
    let change = Change {
        status: Status::Releasing,
        generation,
        reservations: reservation,
        counted_on: Some(today),
        expected_release_at: None,
        ..Change::of(transfer)
    };
    transfers::record_change(tx, transfer, &change, "money reserved", now).await
}

/// The form body of the call, byte for byte what every repetition sends.
fn body(ctx: &Context, transfer: &Transfer) -> String {
    let mut metadata: Map<String, Value> =
        transfer.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    metadata.insert(METADATA_KEY.to_owned(), json!(transfer.id));
    form::encode(&json!({
        "amount": transfer.amount_minor,
        "currency": transfer.currency,
        "destination": transfer.destination,
        "description": transfer.description,
        "transfer_group": transfer.group_at_stripe(),
        "source_type": ctx.source_type,
        "metadata": metadata,
    }))
}
