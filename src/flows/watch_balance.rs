//! What Stripe's own balance says: for comparison, and to let a currency go on that Stripe had stopped.
//!
//! `balance.available` names no top-up, so it is only a wake-up: every top-up on its way is looked at.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError, observation_id};
use crate::domain::event::BALANCE_SUBJECT;
use crate::domain::funds;
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, Observation};
use crate::store::{controls, ledger, line, tasks, topups};
use crate::stripe::client::Lane;
use crate::stripe::wire;

/// The longest pause between two readings.
const LONGEST_PAUSE: Duration = Duration::minutes(5);
/// How many top-ups a wake-up looks at.
const WOKEN: i64 = 1_000;

/// A `balance.available` event came: look at the balance and at every top-up on its way.
pub async fn wake(ctx: &Context) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let arriving = topups::list_arriving(&mut tx, ctx.livemode, WOKEN).await?;
    let arriving: Vec<&str> = arriving.iter().map(String::as_str).collect();
    tasks::ring(&mut tx, Kind::Topup, ctx.livemode, &arriving, now).await?;
    tasks::ring(&mut tx, Kind::Balance, ctx.livemode, &[BALANCE_SUBJECT], now).await?;
    tx.commit().await?;
    Ok(())
}

/// Reads the balance, keeps it, and lets currencies go on whose first in line it covers. Returns when to
/// read it again.
pub async fn read(ctx: &Context) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let answer = ctx.stripe.balance(Lane::Release).await?;
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let seen = Observation {
        id: observation_id(),
        event_type: "balance",
        subject_kind: Kind::Balance.as_str(),
        subject: BALANCE_SUBJECT,
        livemode: ctx.livemode,
        observed_from: began_at,
        after_seq,
        received_at: now,
        payload: &answer.raw,
    };
    outbox::insert_observation(&mut tx, &seen).await?;
    let mut next = now + LONGEST_PAUSE;
    let named = |entry: &wire::BalanceEntry| Currency::parse(&entry.currency).ok().map(|c| (c, entry.amount));
    let shown: BTreeMap<Currency, i64> = answer.object.available.iter().filter_map(named).collect();
    // In the order in which everybody takes several currencies.
    let mut currencies: BTreeSet<Currency> = shown.keys().copied().collect();
    currencies.extend(controls::list_currencies(&mut tx, ctx.livemode).await?);
    let mut go_on = Vec::new();
    for currency in currencies {
        let stop = controls::lock_funds(&mut tx, ctx.livemode, currency).await?;
        if let Some(amount_minor) = shown.get(&currency) {
            compare(&mut tx, ctx, currency, *amount_minor, began_at).await?;
        }
        if stop.stopped_at.is_none() {
            continue;
        }
        let first = line::find_first(&mut tx, ctx.livemode, currency).await?;
        let needed_minor = first.map_or(0, |transfer| transfer.amount_minor);
        // A reading that began before the refusal knows nothing of it.
        let newer = stop.stopped_at.is_some_and(|stopped_at| began_at >= stopped_at);
        if newer && spendable(ctx, &answer.object, currency) >= needed_minor {
            // The count is kept until a release goes through: a balance that only looks sufficient must not
            // turn into a fast circle of refusals.
            controls::set_stop(&mut tx, ctx.livemode, currency, None, stop.stop_checks + 1).await?;
            go_on.push(currency);
        } else {
            let checks = stop.stop_checks + 1;
            controls::set_stop(&mut tx, ctx.livemode, currency, stop.stopped_at, checks).await?;
            next = next.min(now + funds::next_balance_check(checks));
        }
    }
    let go_on: Vec<&str> = go_on.iter().map(Currency::as_str).collect();
    tasks::ring(&mut tx, Kind::Funds, ctx.livemode, &go_on, now).await?;
    tx.commit().await?;
    Ok(Some(next))
}

/// Keeps a currency's balance beside what the books expect there at this moment.
async fn compare(
    tx: &mut PgConnection,
    ctx: &Context,
    currency: Currency,
    amount_minor: i64,
    began_at: OffsetDateTime,
) -> Result<(), StoreError> {
    let books = ledger::balances_of(tx, ctx.livemode, currency).await?;
    let drift_minor = funds::drift_minor(amount_minor, books.available, books.reserved);
    controls::record_balance(tx, ctx.livemode, currency, amount_minor, drift_minor, began_at).await
}

/// What transfers can draw on: of the configured source type, else all.
fn spendable(ctx: &Context, balance: &wire::Balance, currency: Currency) -> i64 {
    let Some(entry) = balance.available.iter().find(|entry| entry.currency == currency.as_str()) else {
        return 0;
    };
    match (&ctx.source_type, &entry.source_types) {
        (Some(source), Some(by_type)) => by_type.get(source).copied().unwrap_or(0),
        _ => entry.amount,
    }
}
