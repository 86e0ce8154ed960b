//! Says of each waiting transfer when it should go out, as far as the known dates tell.
//!
//! What it writes is for people; nothing is decided on it.

use time::OffsetDateTime;

use super::{Context, FlowError};
use crate::domain::forecast::{self, Waiting};
use crate::domain::limits::next_day;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::store::transfers::Transfer;
use crate::store::{controls, db, ledger, line, topups};

/// How many of a currency's waiting transfers are looked at.
const LOOKED_AT: i64 = 2_000;
/// How many of its arrivals.
const ARRIVALS: i64 = 200;

/// Brings a currency's forecasts up to date.
pub async fn foresee(ctx: &Context, currency: Currency) -> Result<(), FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    // Whoever serves the line holds several of its transfers; with the currency's lock never at the same time.
    controls::lock_funds(&mut tx, ctx.livemode, currency).await?;
    let waiting = line::list_waiting(&mut tx, ctx.livemode, currency, LOOKED_AT).await?;
    let coming = topups::list_coming(&mut tx, ctx.livemode, currency, ARRIVALS).await?;
    let lots = ledger::list_lots(&mut tx, ctx.livemode, currency).await?;
    let in_order: Vec<Waiting> = waiting.iter().map(|transfer| as_waiting(transfer, now)).collect();
    let expected = forecast::expected(lots, &coming, &in_order, ctx.release_order, now);
    let changed = waiting.iter().zip(expected).filter(|(transfer, at)| transfer.expected_release_at != *at);
    let (ids, dates): (Vec<&str>, Vec<Option<OffsetDateTime>>) =
        changed.map(|(transfer, at)| (transfer.id.as_str(), at)).unzip();
    if !ids.is_empty() {
        line::record_expected(&mut tx, &ids, &dates).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn as_waiting(transfer: &Transfer, now: OffsetDateTime) -> Waiting {
    let capped = transfer.waiting_on.contains(&Reason::DailyCapReached).then(|| next_day(now));
    Waiting {
        amount_minor: transfer.amount_minor,
        topup: transfer.topup.as_ref().map(ToString::to_string),
        not_before: transfer.release_after.max(capped),
        foreseeable: forecast::is_foreseeable(&transfer.waiting_on),
        passed_over_at: transfer.passed_over_at,
    }
}
