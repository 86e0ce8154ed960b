//! A caller asks for a transfer, or for many at once: once by the caller's key, and on record with all that was
//! asked.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::order::{Answer, Begun, Order, Ordered, begin_money};
use super::transfer_snapshot::Snapshot;
use super::{Actor, Context, Once};
use crate::domain::audit::Action;
use crate::domain::forecast;
use crate::domain::funds::{Claim, Purse};
use crate::domain::ids::{AccountId, TopupId, TransferId};
use crate::domain::limits::Beyond;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::store::db::StoreError;
use crate::store::transfers::Transfer;
use crate::store::{controls, heartbeats, ledger, tasks, transfers};

/// What a caller asks for; every field already has its form.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whom to pay.
    pub destination: AccountId,
    /// How much, in minor units of `currency`; within Stripe's limits.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// Pay it from this top-up alone.
    pub topup: Option<TopupId>,
    /// The caller's label.
    pub transfer_group: Option<String>,
    /// The caller's text.
    pub description: Option<String>,
    /// The caller's pairs.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Not before this.
    pub release_after: Option<OffsetDateTime>,
    /// Higher goes first.
    pub priority: i32,
}

/// Why a transfer was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// On no day could the one at this place go out.
    #[error("the amount alone is beyond the daily cap of {}", .1.cap_minor)]
    BeyondCap(usize, Beyond),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores a transfer and says why it waits. `render` makes the answer that is kept for the key.
pub async fn create(
    ctx: &Context,
    actor: &Actor,
    once: &Once,
    request: Request,
    render: impl Fn(&Transfer) -> Value,
) -> Result<Ordered, RequestError> {
    let id = TransferId::for_key(Uuid::now_v7(), &once.key);
    let render = |made: &[&Transfer]| made.first().map_or(Value::Null, |transfer| render(transfer));
    create_all(ctx, actor, once, vec![(id, request)], render).await
}

/// Stores all of a batch, or nothing where one of it can't be. `render` makes the answer that is kept for the key.
pub async fn create_batch(
    ctx: &Context,
    actor: &Actor,
    once: &Once,
    requests: Vec<Request>,
    render: impl Fn(&[&Transfer]) -> Value,
) -> Result<Ordered, RequestError> {
    let first = Uuid::now_v7();
    let id = |place| TransferId::in_batch(first, &once.key, place);
    let requests = (0..).zip(requests).map(|(place, request)| (id(place), request)).collect();
    create_all(ctx, actor, once, requests, render).await
}

async fn create_all(
    ctx: &Context,
    actor: &Actor,
    once: &Once,
    requests: Vec<(TransferId, Request)>,
    render: impl Fn(&[&Transfer]) -> Value,
) -> Result<Ordered, RequestError> {
    let mut order = match begin_money(ctx, actor, Some(once)).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    for (place, (_, request)) in requests.iter().enumerate() {
        if let Some(beyond) = ctx.limits.beyond_alone(request.currency, request.amount_minor) {
            return Err(RequestError::BeyondCap(place, beyond));
        }
    }
    let now = order.now;
    let asked = requests.into_iter().map(|(id, request)| new_transfer(ctx, actor, id, request, now));
    let asked: Vec<Transfer> = asked.collect();
    let adopted = asked_before_a_restore(order.tx(), ctx, &asked).await?;
    let before = |transfer: &Transfer| adopted.iter().find(|adopted| adopted.id.mark() == transfer.id.mark());
    if asked.iter().any(|transfer| before(transfer).is_some_and(|adopted| !is_as_asked(adopted, transfer))) {
        return Ok(Ordered::KeyReused);
    }
    let mut new: Vec<Transfer> = asked.iter().filter(|one| before(one).is_none()).cloned().collect();
    store(&mut order, ctx, &once.key, &mut new).await?;
    let mut stored = new.iter();
    // In the order in which they were asked for.
    let made: Vec<&Transfer> = asked.iter().filter_map(|one| before(one).or_else(|| stored.next())).collect();
    let body = render(&made);
    Ok(order.end(Answer { status: 201, body }).await?)
}

/// Stores what is new, with the reasons for which each waits, rings for it and puts it on record.
async fn store(order: &mut Order, ctx: &Context, key: &str, new: &mut [Transfer]) -> Result<(), StoreError> {
    let now = order.now;
    let tx = order.tx();
    let currencies: BTreeSet<Currency> = new.iter().map(|transfer| transfer.currency).collect();
    for currency in &currencies {
        controls::ensure_funds(tx, ctx.livemode, *currency).await?;
    }
    say_why_they_wait(tx, ctx, new, now).await?;
    let rows: Vec<&Transfer> = new.iter().collect();
    // Not in the line for money yet: the worker looks again, with locks, and puts them there.
    transfers::insert_all(tx, &rows, key).await?;
    transfers::insert_first_lines(tx, &rows, "requested", now).await?;
    let currencies: Vec<&str> = currencies.iter().map(|currency| currency.as_str()).collect();
    tasks::ring(tx, Kind::Forecast, ctx.livemode, &currencies, now + forecast::AFTER).await?;
    let ids: Vec<&str> = new.iter().map(|transfer| transfer.id.as_str()).collect();
    tasks::ring(tx, Kind::Transfer, ctx.livemode, &ids, now).await?;
    for transfer in new.iter() {
        order.note(Action::TransferRequested, transfer.id.as_str(), &on_record(transfer, key));
    }
    Ok(())
}

/// All that was asked, so that the transfer can be told from the log alone.
fn on_record(transfer: &Transfer, idempotency_key: &str) -> Value {
    let release_after = transfer.release_after.map(|at| at.unix_timestamp_nanos() / 1_000);
    json!({
        "destination": transfer.destination,
        "amount": transfer.amount_minor,
        "currency": transfer.currency,
        "topup": transfer.topup,
        "transfer_group": transfer.transfer_group,
        "description": transfer.description,
        "metadata": transfer.metadata,
        "release_after_us": release_after.map(|us| us.to_string()),
        "priority": transfer.priority,
        "idempotency_key": idempotency_key,
    })
}

fn new_transfer(
    ctx: &Context,
    actor: &Actor,
    id: TransferId,
    request: Request,
    now: OffsetDateTime,
) -> Transfer {
    let sum = (request.amount_minor, request.currency);
    Transfer {
        topup: request.topup,
        transfer_group: request.transfer_group,
        description: request.description,
        metadata: request.metadata,
        expected_release_at: request.release_after.filter(|at| *at > now),
        release_after: request.release_after,
        priority: request.priority,
        ..Transfer::new(id, ctx.livemode, request.destination, sum, &actor.id, now)
    }
}

/// What was first asked for with this key and taken in again after a restore forgot it: asking once more does
/// not pay once more.
async fn asked_before_a_restore(
    tx: &mut PgConnection,
    ctx: &Context,
    asked: &[Transfer],
) -> Result<Vec<Transfer>, StoreError> {
    heartbeats::hold_catch_up(tx, ctx.livemode).await?;
    let marks: Vec<&str> = asked.iter().map(|transfer| transfer.id.mark()).collect();
    transfers::list_adopted(tx, ctx.livemode, &marks).await
}

/// Whether what was taken in again is what is asked for now; Stripe told no more of it than this.
fn is_as_asked(adopted: &Transfer, asked: &Transfer) -> bool {
    adopted.destination == asked.destination
        && adopted.amount_minor == asked.amount_minor
        && adopted.currency == asked.currency
}

/// The first answer to "why does it wait?": as true as a look without locks can be. The worker decides.
async fn say_why_they_wait(
    tx: &mut PgConnection,
    ctx: &Context,
    new: &mut [Transfer],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let looks = Snapshot::look(tx, ctx, &new.iter().collect::<Vec<_>>(), now).await?;
    for (transfer, look) in new.iter_mut().zip(&looks) {
        transfer.waiting_on = look.reasons(ctx, transfer, now);
    }
    let ready: BTreeSet<Currency> =
        new.iter().filter(|one| one.waiting_on.is_empty()).map(|one| one.currency).collect();
    for currency in ready {
        let mut lots = ledger::list_lots(tx, ctx.livemode, currency).await?;
        for lot in &mut lots {
            let tied = new.iter().filter(|one| one.topup.as_ref().is_some_and(|id| id.as_str() == lot.name));
            lot.claimed_minor += tied.map(|one| one.amount_minor).sum::<i64>();
        }
        let mut purse = Purse::new(lots);
        for transfer in new.iter_mut().filter(|t| t.currency == currency && t.waiting_on.is_empty()) {
            let topup = transfer.topup.as_ref().map(|id| id.as_str());
            if purse.take(Claim { amount_minor: transfer.amount_minor, topup, blocks: true }).is_none() {
                transfer.waiting_on.push(Reason::FundsInsufficient);
            }
        }
    }
    Ok(())
}
