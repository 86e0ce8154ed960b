//! Writes down together that sends begin: the transfers whose time has come at the same moment.
//!
//! Only what is plainly to be sent is prepared here. Everything else, and whatever somebody else has locked, is left to
//! the step that each takes alone.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Context, FlowError, next_step};
use crate::domain::ids::TransferId;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::release::Step;
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

/// Prepares what is plainly to be sent; the others go alone, as do all where it fails.
pub(super) async fn all(ctx: &Context, intents: &[Intent]) -> Vec<Option<Box<Prepared>>> {
    let mut prepared = prepare(ctx, intents).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "sends could not be prepared together; each goes alone");
        BTreeMap::new()
    });
    intents.iter().map(|intent| prepared.remove(intent.id.as_str()).map(Box::new)).collect()
}

async fn prepare(ctx: &Context, intents: &[Intent]) -> Result<BTreeMap<String, Prepared>, FlowError> {
    let ids: Vec<&str> = intents.iter().map(|intent| intent.id.as_str()).collect();
    let mut tx = db::begin(&ctx.pool).await?;
    let mut transfers = transfers::list_releasing_for_update(&mut tx, &ids).await?;
    transfers.retain(|transfer| transfer.livemode == ctx.livemode);
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
