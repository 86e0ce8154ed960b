//! Says why transfers wait, and puts those in the line for money to which nothing else is missing.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{Context, FlowError, Tx};
use crate::domain::forecast;
use crate::domain::limits::next_day;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::flows::rings::Rings;
use crate::flows::transfer_snapshot::Snapshot;
use crate::store::transfers::{self, Transfer, going_on};

/// By a transfer's id, when to look at it again without being rung.
pub(super) type Again = BTreeMap<String, Option<OffsetDateTime>>;

/// Looks at waiting transfers that the transaction has locked, and ends it.
pub(super) async fn evaluate(mut tx: Tx, ctx: &Context, waiting: &[Transfer]) -> Result<Again, FlowError> {
    Snapshot::hold_all(&mut tx, ctx, waiting).await?;
    let now = ctx.clock.now();
    let looks = Snapshot::look(&mut tx, ctx, &waiting.iter().collect::<Vec<_>>(), now).await?;
    let mut rings = Rings::default();
    let (mut in_line, mut others, mut again) = (Vec::new(), Vec::new(), Again::new());
    for (transfer, snapshot) in waiting.iter().zip(looks) {
        let reasons = snapshot.reasons(ctx, transfer, now);
        snapshot.ring_for_missing(ctx, transfer, &mut rings, now);
        let fundable = reasons.is_empty();
        again.insert(transfer.id.to_string(), again_at(transfer, &reasons, now));
        // In the line it keeps what the line last said about it, until the line is served.
        let waiting_on = if fundable { said_by_the_line(transfer) } else { reasons };
        if fundable || transfer.fundable {
            rings.add(Kind::Funds, transfer.currency.as_str(), now);
        }
        if transfer.waiting_on != waiting_on {
            rings.add(Kind::Forecast, transfer.currency.as_str(), now + forecast::AFTER);
        }
        if fundable { &mut in_line } else { &mut others }.push((transfer, waiting_on));
    }
    for (looked, fundable, cause) in
        [(&in_line, true, "nothing but money is missing"), (&others, false, "looked at again")]
    {
        transfers::record_changes(&mut tx, &going_on(looked, fundable), cause, now).await?;
    }
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    Ok(again)
}

fn said_by_the_line(transfer: &Transfer) -> Vec<Reason> {
    let said = transfer.waiting_on.iter().copied();
    said.filter(|reason| !reason.before_funds() && *reason != Reason::StripeUnavailable).collect()
}

fn again_at(transfer: &Transfer, reasons: &[Reason], now: OffsetDateTime) -> Option<OffsetDateTime> {
    let tomorrow = reasons.contains(&Reason::DailyCapReached).then(|| next_day(now));
    let later = [transfer.release_after, transfer.hold_off.map(|(until, _)| until), tomorrow];
    later.into_iter().flatten().filter(|at| *at > now).min()
}
