//! Serves the line of a currency: transfers that wait for nothing but money get it, in order.
//!
//! The currency's lock makes this one at a time, however many replicas run. Each transfer's other conditions
//! are checked once more in the transaction that reserves its money.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::rings::Rings;
use super::transfer_evidence::METADATA_KEY;
use super::transfer_snapshot::Snapshot;
use super::{Context, FlowError};
use crate::domain::forecast;
use crate::domain::funds::{Claim, Purse, Share};
use crate::domain::ledger::Entry;
use crate::domain::limits::{Used, day_of, next_day};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::store::attempts::Frozen;
use crate::store::db::{self, StoreError};
use crate::store::line::Next;
use crate::store::transfers::{Change, Transfer, going_on};
use crate::store::{attempts, caps, controls, ledger, line, transfers};
use crate::stripe::form;

/// How many of the line, and how many beside it, are read in one transaction.
const READ_AT_ONCE: i64 = 500;

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Transfers whose money was reserved.
    pub reserved: usize,
}

/// Walks the whole line once, a page a transaction.
pub async fn serve(ctx: &Context, currency: Currency) -> Result<Served, FlowError> {
    let mut served = Served::default();
    let mut walk = Walk::default();
    loop {
        let mut tx = db::begin(&ctx.pool).await?;
        let funds = controls::lock_funds(&mut tx, ctx.livemode, currency).await?;
        // Only now: whoever was rung while this waited for the lock is to be seen.
        let now = ctx.clock.now();
        walk.start_over_if_needed(&mut tx, ctx).await?;
        let page = Page::load(&mut tx, ctx, currency, walk.after.as_ref(), now).await?;
        let mut purse = Purse::new(ledger::list_lots(&mut tx, ctx.livemode, currency).await?);
        if funds.overdrawn != purse.is_overdrawn() {
            controls::note_overdrawn(&mut tx, ctx.livemode, currency).await?;
        }
        walk.blocked.restore(&mut purse);
        let mut serving = Serving::new(purse, funds.stopped_at.is_some(), now);
        // Held, so that a look is as good as a lock.
        let looks = Snapshot::look(&mut tx, ctx, &page.transfers.iter().collect::<Vec<_>>(), now).await?;
        for (transfer, snapshot) in page.transfers.iter().zip(looks) {
            serving.serve(ctx, transfer, snapshot, &mut walk);
        }
        served.reserved += serving.decided.reserved.len();
        serving.decided.record(&mut tx, ctx, currency, now).await?;
        line::note_passed_over(&mut tx, &walk.blocked.take_passed_over(), now).await?;
        if page.is_last && (walk.after.is_some() || !page.transfers.is_empty()) {
            serving.rings.add(Kind::Forecast, currency.as_str(), now + forecast::AFTER);
        }
        serving.rings.ring(&mut tx, ctx).await?;
        walk.end_page(&mut tx, ctx, page.transfers).await?;
        tx.commit().await?;
        if page.is_last {
            return Ok(served);
        }
    }
}

/// How often one walk goes back to the head of the line: what changes all the time is served by the passes that
/// the changes ring for.
const MOST_STARTS: u32 = 4;

/// How far a walk has come. The lock is given back between pages.
#[derive(Default)]
struct Walk {
    after: Option<Transfer>,
    blocked: Blocked,
    /// The accounts of those that were not ready when they were passed.
    unready: BTreeSet<String>,
    /// In which state the accounts, and the emergency stop, were then.
    state: String,
    starts: u32,
}

impl Walk {
    /// When releases were resumed, or an account became ready, behind this walk's back, those it has passed go
    /// before those it has not come to yet.
    async fn start_over_if_needed(&mut self, tx: &mut PgConnection, ctx: &Context) -> Result<(), StoreError> {
        if self.unready.is_empty() || self.starts >= MOST_STARTS {
            return Ok(());
        }
        if line::state_of(tx, ctx.livemode, &self.unready).await? != self.state {
            *self = Self { starts: self.starts + 1, ..Self::default() };
        }
        Ok(())
    }

    async fn end_page(
        &mut self,
        tx: &mut PgConnection,
        ctx: &Context,
        page: Vec<Transfer>,
    ) -> Result<(), StoreError> {
        self.after = page.into_iter().next_back().or(self.after.take());
        if !self.unready.is_empty() {
            self.state = line::state_of(tx, ctx.livemode, &self.unready).await?;
        }
        Ok(())
    }
}

/// A stretch of the line, locked, together with the transfers that are about to be looked at anyway. What makes
/// several transfers ready at once rings each of them; without those the first to be looked at would take the
/// money from one that goes before.
struct Page {
    transfers: Vec<Transfer>,
    is_last: bool,
}

impl Page {
    async fn load(
        tx: &mut PgConnection,
        ctx: &Context,
        currency: Currency,
        after: Option<&Transfer>,
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        let mut next = line::list_next(tx, ctx.livemode, currency, after, now, READ_AT_ONCE).await?;
        // As far as both lists reach: beyond it, somebody who goes before may not have been read.
        let end = [end_of(&next, |next| next.in_line), end_of(&next, |next| next.rung)];
        let end = end.into_iter().flatten().min();
        next.truncate(end.map_or(next.len(), |last| last + 1));
        let ids: Vec<&str> = next.iter().map(|next| next.id.as_str()).collect();
        let transfers = line::list_for_update(tx, &ids).await?;
        Snapshot::hold_all(tx, ctx, &transfers).await?;
        Ok(Self { transfers, is_last: end.is_none() })
    }
}

/// The place of the last of a list that was cut off.
fn end_of(next: &[Next], listed: impl Fn(&Next) -> bool) -> Option<usize> {
    let cut_off = i64::try_from(next.iter().filter(|one| listed(one)).count()) == Ok(READ_AT_ONCE);
    next.iter().rposition(listed).filter(|_| cut_off)
}

/// The sources (a top-up, or the pool) that did not reach somebody on an earlier page. The lock is given back
/// between pages; money that comes in meanwhile is left to the pass that its arrival rings for, since only
/// that one starts at the head of the line.
#[derive(Default)]
struct Blocked {
    sources: BTreeSet<Option<String>>,
    /// Those that do not block, by their source, until a later one of it gets money.
    staying: BTreeMap<Option<String>, Vec<String>>,
    passed_over: Vec<String>,
}

impl Blocked {
    /// The money did not reach this one.
    fn note(&mut self, transfer: &Transfer, blocks: bool) {
        let source = transfer.topup.as_ref().map(ToString::to_string);
        if blocks {
            self.sources.insert(source);
        } else if transfer.passed_over_at.is_none() {
            self.staying.entry(source).or_default().push(transfer.id.to_string());
        }
    }

    /// This one got money: those of its source that stayed before it were passed over.
    fn note_served(&mut self, transfer: &Transfer) {
        let source = transfer.topup.as_ref().map(ToString::to_string);
        self.passed_over.extend(self.staying.remove(&source).unwrap_or_default());
    }

    fn take_passed_over(&mut self) -> Vec<String> {
        let mut passed_over = std::mem::take(&mut self.passed_over);
        passed_over.sort_unstable();
        passed_over
    }

    fn restore(&self, purse: &mut Purse) {
        for topup in &self.sources {
            purse.block(topup.as_deref());
        }
    }
}

/// A page of the line while it is served: decisions only, written down at its end.
struct Serving<'a> {
    purse: Purse,
    rings: Rings,
    /// Stripe refused for lack of funds.
    stopped: bool,
    now: OffsetDateTime,
    decided: Decided<'a>,
}

/// What was decided about the transfers of a page.
#[derive(Default)]
struct Decided<'a> {
    reserved: Vec<(&'a Transfer, Vec<Share>)>,
    /// What was reserved on this page by destination, in minor units.
    reserved_minor: BTreeMap<String, i64>,
    no_longer_ready: Vec<(&'a Transfer, Vec<Reason>)>,
    without_money: Vec<(&'a Transfer, Vec<Reason>)>,
}

impl<'a> Serving<'a> {
    fn new(purse: Purse, stopped: bool, now: OffsetDateTime) -> Self {
        Self { purse, rings: Rings::default(), stopped, now, decided: Decided::default() }
    }

    /// Decides on one transfer of the line.
    fn serve(&mut self, ctx: &Context, transfer: &'a Transfer, mut snapshot: Snapshot, walk: &mut Walk) {
        let now = self.now;
        snapshot.count_in(&self.decided.used_for(transfer));
        let reasons = snapshot.reasons(ctx, transfer, now);
        if !reasons.is_empty() && !transfer.fundable {
            // Not in the line: its own task looks at it.
            walk.unready.insert(transfer.destination.to_string());
            return;
        }
        if !reasons.is_empty() {
            snapshot.ring_for_missing(ctx, transfer, &mut self.rings, now);
            if reasons.contains(&Reason::DailyCapReached) {
                self.rings.add(Kind::Transfer, transfer.id.as_str(), next_day(now));
            }
            self.decided.no_longer_ready.push((transfer, reasons));
            return;
        }
        let topup = transfer.topup.as_ref().map(|id| id.as_str());
        let blocks = ctx.release_order.blocks(transfer.passed_over_at, now);
        let shares = self.purse.take(Claim { amount_minor: transfer.amount_minor, topup, blocks });
        let mut waiting_on = Vec::new();
        match shares {
            Some(shares) if !self.stopped => {
                self.rings.add(Kind::Transfer, transfer.id.as_str(), now);
                walk.blocked.note_served(transfer);
                self.decided.reserve(transfer, shares);
                return;
            }
            Some(_) => {}
            None => {
                walk.blocked.note(transfer, blocks);
                waiting_on.push(Reason::FundsInsufficient);
            }
        }
        if self.stopped {
            waiting_on.push(Reason::StripeBalanceInsufficient);
        }
        if transfer.waiting_on != waiting_on || !transfer.fundable {
            self.decided.without_money.push((transfer, waiting_on));
        }
    }
}

impl<'a> Decided<'a> {
    /// What was reserved on this page before, and is on record only at its end.
    fn used_for(&self, transfer: &Transfer) -> Used {
        let for_destination = self.reserved_minor.get(transfer.destination.as_str());
        Used {
            in_all_minor: self.reserved_minor.values().sum(),
            for_destination_minor: for_destination.copied().unwrap_or(0),
        }
    }

    fn reserve(&mut self, transfer: &'a Transfer, shares: Vec<Share>) {
        *self.reserved_minor.entry(transfer.destination.to_string()).or_default() += transfer.amount_minor;
        self.reserved.push((transfer, shares));
    }

    async fn record(
        &self,
        tx: &mut PgConnection,
        ctx: &Context,
        currency: Currency,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        transfers::record_changes(tx, &going_on(&self.no_longer_ready, false), "no longer ready", now)
            .await?;
        let cause = "ready, but the money does not reach";
        transfers::record_changes(tx, &going_on(&self.without_money, true), cause, now).await?;
        self.set_aside(tx, ctx, currency, now).await
    }

    /// Sets the money aside and freezes what will be sent, before anything is.
    async fn set_aside(
        &self,
        tx: &mut PgConnection,
        ctx: &Context,
        currency: Currency,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if self.reserved.is_empty() {
            return Ok(());
        }
        let today = day_of(now);
        let keys: Vec<(&str, i32)> =
            self.reserved.iter().map(|(transfer, _)| (transfer.id.as_str(), transfer.generation)).collect();
        let frozen = attempts::find_all(tx, &keys).await?;
        let mut bodies = Vec::with_capacity(self.reserved.len());
        let mut entries = Vec::with_capacity(self.reserved.len());
        let mut changes = Vec::with_capacity(self.reserved.len());
        for (transfer, shares) in &self.reserved {
            let body = body(ctx, transfer);
            // A key that was refused before it ran is used again as long as it would carry the same body; once a
            // setting that is part of it changed, only a new key can: nothing exists under the old one.
            let changed = frozen.get(transfer.id.as_str()).is_some_and(|frozen| frozen.body != body);
            let generation = transfer.generation + i32::from(changed);
            let reservations = transfer.reservations + 1;
            entries.push(Entry::reservation(&transfer.id, reservations, shares));
            let change = Change {
                status: Status::Releasing,
                generation,
                reservations,
                counted_on: Some(today),
                expected_release_at: None,
                ..Change::of(transfer)
            };
            changes.push((*transfer, change));
            bodies.push((*transfer, generation, body));
        }
        ledger::post_all(tx, ctx.livemode, currency, &entries, now).await?;
        attempts::freeze_all(tx, &bodies.iter().map(frozen_as).collect::<Vec<_>>(), now).await?;
        caps::count(tx, ctx.livemode, currency, today, &self.reserved_minor).await?;
        transfers::record_changes(tx, &changes, "money reserved", now).await
    }
}

fn frozen_as<'a>((transfer, n, body): &'a (&Transfer, i32, String)) -> Frozen<'a> {
    Frozen { subject: transfer.id.as_str(), n: *n, body, look_up_first: transfer.look_up_first }
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
