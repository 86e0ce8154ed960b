//! Finance counts money in or out by hand: an opening balance, money moved in Stripe's Dashboard.
//!
//! It is booked as a lot of its own, in the transaction that stores it and puts it on record.

use serde_json::{Value, json};
use uuid::Uuid;

use super::order::{Answer, Begun, Ordered, begin_money};
use super::{Actor, Context, Once};
use crate::domain::audit::Action;
use crate::domain::ids::AdjustmentId;
use crate::domain::ledger::Entry;
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::store::adjustments::{self, Adjustment};
use crate::store::db::StoreError;
use crate::store::{controls, ledger, tasks};

/// Books an adjustment, in minor units. `render` makes the answer.
pub async fn adjust(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    (amount_minor, currency): (i64, Currency),
    reason: &str,
    render: impl Fn(&Adjustment) -> Value,
) -> Result<Ordered, StoreError> {
    let mut order = match begin_money(ctx, actor, once).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let (now, id) = (order.now, AdjustmentId::from_uuid(Uuid::now_v7()));
    let tx = order.tx();
    controls::lock_funds(tx, ctx.livemode, currency).await?;
    let sum = (amount_minor, currency);
    let stored = adjustments::insert(tx, ctx.livemode, &id, sum, reason, &actor.id, now).await?;
    ledger::post(tx, ctx.livemode, currency, &Entry::adjustment(&id, amount_minor), now).await?;
    controls::note_overdrawn(tx, ctx.livemode, currency).await?;
    tasks::ring(tx, Kind::Funds, ctx.livemode, &[currency.as_str()], now).await?;
    let details = json!({"currency": currency, "amount": amount_minor, "reason": reason});
    order.note(Action::FundsAdjusted, id.as_str(), &details);
    order.end(Answer { status: 201, body: render(&stored) }).await
}
