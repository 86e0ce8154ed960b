//! Takes a step together with the transfers whose turn came at the same moment: says why they wait, or writes down that
//! their sends begin.
//!
//! Of those under way, only what is plainly to be sent is prepared here. Everything else, and whatever somebody else has
//! locked, is left to the step that each takes alone.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::look::Again;
use super::{Context, FlowError, Tx, look, next_step};
use crate::domain::ids::TransferId;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::release::Step;
use crate::domain::transfer::Status;
use crate::flows::transfer_snapshot::Snapshot;
use crate::planted::{self, Bug};
use crate::store::attempts::{self, Attempt};
use crate::store::controls::{self, Funds};
use crate::store::db::{self, StoreError};
use crate::store::tasks::{self, Lease};
use crate::store::transfers::{self, Transfer};

/// A transfer whose turn may have come, and the right to work on it.
#[derive(Debug)]
pub struct Intent {
    pub(super) id: TransferId,
    pub(super) lease: Lease,
}

/// A send that is written down and not made yet.
#[derive(Debug)]
pub struct Prepared {
    pub(super) transfer: Transfer,
    pub(super) attempt: Attempt,
    pub(super) snapshot: Snapshot,
    pub(super) at: OffsetDateTime,
}

/// How far a transfer came together with others.
#[derive(Debug)]
pub enum Came {
    /// It waits and was looked at; when to look again without being rung.
    Looked(Option<OffsetDateTime>),
    /// Its send is written down.
    Prepared(Box<Prepared>),
    /// Nowhere: it goes on alone.
    Nowhere,
}

/// Looks at those that wait, and prepares what is plainly to be sent.
pub(super) async fn all(ctx: &Context, intents: &[Intent]) -> Vec<Came> {
    let alone =
        |error: &FlowError| tracing::debug!(%error, "transfers could not go on together; each does alone");
    let (mut looked, mut prepared) = (Again::new(), BTreeMap::new());
    let ids: Vec<&str> = intents.iter().map(|intent| intent.id.as_str()).collect();
    if let Ok(Locked { tx, waiting, under_way }) = lock(ctx, &ids).await.inspect_err(alone) {
        if waiting.is_empty() {
            prepared = prepare(tx, ctx, intents, under_way).await.inspect_err(alone).unwrap_or_default();
        } else {
            looked = look::evaluate(tx, ctx, &waiting).await.inspect_err(alone).unwrap_or_default();
            let ids: Vec<&str> = under_way.iter().map(|transfer| transfer.id.as_str()).collect();
            prepared = prepare_anew(ctx, intents, &ids).await.inspect_err(alone).unwrap_or_default();
        }
    }
    let came = |intent: &Intent| match looked.remove(intent.id.as_str()) {
        Some(again_at) => Came::Looked(again_at),
        None => {
            prepared.remove(intent.id.as_str()).map_or(Came::Nowhere, |one| Came::Prepared(Box::new(one)))
        }
    };
    intents.iter().map(came).collect()
}

/// Those of these transfers that nobody else has locked, under a transaction's lock.
struct Locked {
    tx: Tx,
    waiting: Vec<Transfer>,
    under_way: Vec<Transfer>,
}

async fn lock(ctx: &Context, ids: &[&str]) -> Result<Locked, FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let mut transfers = transfers::list_unlocked_for_update(&mut tx, ids).await?;
    transfers.retain(|transfer| transfer.livemode == ctx.livemode);
    let waiting = transfers.extract_if(.., |transfer| transfer.status == Status::Waiting).collect();
    transfers.retain(|transfer| transfer.status == Status::Releasing);
    Ok(Locked { tx, waiting, under_way: transfers })
}

/// Prepares them in a transaction of their own.
async fn prepare_anew(
    ctx: &Context,
    intents: &[Intent],
    ids: &[&str],
) -> Result<BTreeMap<String, Prepared>, FlowError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Locked { tx, under_way, .. } = lock(ctx, ids).await?;
    prepare(tx, ctx, intents, under_way).await
}

async fn prepare(
    mut tx: Tx,
    ctx: &Context,
    intents: &[Intent],
    transfers: Vec<Transfer>,
) -> Result<BTreeMap<String, Prepared>, FlowError> {
    if transfers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<(&str, i32)> = transfers.iter().map(|t| (t.id.as_str(), t.generation)).collect();
    let mut attempts = attempts::find_all(&mut tx, &keys).await?;
    Snapshot::hold_all(&mut tx, ctx, &transfers).await?;
    let now = ctx.clock.now();
    let looks = Snapshot::look(&mut tx, ctx, &transfers.iter().collect::<Vec<_>>(), now).await?;
    let funds = find_funds(&mut tx, ctx, &transfers).await?;
    let mut ready = Vec::with_capacity(transfers.len());
    for (transfer, snapshot) in transfers.into_iter().zip(looks) {
        let Some(attempt) = attempts.remove(transfer.id.as_str()) else { continue };
        let funds = funds.get(&transfer.currency);
        let clear = against(ctx, &snapshot, &transfer, funds, now).is_empty();
        if next_step(ctx, &attempt, clear, now) == Step::Send {
            ready.push(Prepared { transfer, attempt, snapshot, at: now });
        }
    }
    hold(&mut tx, intents, &mut ready, now).await?;
    let keys: Vec<(&str, i32)> = ready.iter().map(|one| (one.transfer.id.as_str(), one.attempt.n)).collect();
    attempts::begin_sends(&mut tx, &keys, now).await?;
    tx.commit().await?;
    Ok(ready.into_iter().map(|one| (one.transfer.id.to_string(), one)).collect())
}

/// Keeps those whose leases hold; after the accounts, since whoever changes one rings its transfers while holding it.
async fn hold(
    tx: &mut PgConnection,
    intents: &[Intent],
    ready: &mut Vec<Prepared>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let leases: BTreeMap<&str, &Lease> =
        intents.iter().map(|intent| (intent.id.as_str(), &intent.lease)).collect();
    let leases: Vec<&Lease> =
        ready.iter().filter_map(|one| leases.get(one.transfer.id.as_str()).copied()).collect();
    let mut held = tasks::hold_each(tx, &leases, now).await?.into_iter();
    ready.retain(|_| held.next() == Some(true));
    Ok(())
}

async fn find_funds(
    tx: &mut PgConnection,
    ctx: &Context,
    transfers: &[Transfer],
) -> Result<BTreeMap<Currency, Funds>, StoreError> {
    let mut funds = BTreeMap::new();
    for transfer in transfers {
        if !funds.contains_key(&transfer.currency) {
            let found = controls::find_funds(tx, ctx.livemode, transfer.currency).await?;
            funds.extend(found.map(|found| (transfer.currency, found)));
        }
    }
    Ok(funds)
}

/// What speaks against sending it at this moment.
pub(super) fn against(
    ctx: &Context,
    snapshot: &Snapshot,
    transfer: &Transfer,
    funds: Option<&Funds>,
    now: OffsetDateTime,
) -> Vec<Reason> {
    let mut against = snapshot.reasons(ctx, transfer, now);
    if let Some(funds) = funds {
        against.extend(funds.overdrawn.then_some(Reason::FundsInsufficient));
        against.extend(funds.stopped_at.map(|_| Reason::StripeBalanceInsufficient));
        against.sort_unstable();
    }
    if planted::has(Bug::SkipRecheck) {
        against.clear();
    }
    against
}
