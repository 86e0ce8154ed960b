//! Looks for a transfer among Stripe's, where the calls that should have made it proved nothing.

use time::{Duration, OffsetDateTime};

use super::send::observation;
use crate::domain::release;
use crate::flows::transfer_evidence::{self, Recorded};
use crate::flows::{Context, FlowError, attempt_record};
use crate::store::attempts::{self, Call};
use crate::store::tasks::{self, Lease};
use crate::store::transfers::Transfer;
use crate::store::{db, outbox};
use crate::stripe::client::{Lane, TransferQuery};
use crate::stripe::wire::{self, Item};

/// Transfers created this much before ours was asked for can't be ours, whatever the two clocks say.
const CLOCK_SLACK: Duration = Duration::DAY;

/// Looks for the transfer among Stripe's. Only a complete list proves anything.
pub(super) async fn look_up(
    ctx: &Context,
    lease: &Lease,
    transfer: &Transfer,
    view: &release::Attempt,
) -> Result<Option<OffsetDateTime>, FlowError> {
    let began_at = ctx.clock.now();
    let query = TransferQuery {
        transfer_group: Some(transfer.group_at_stripe().to_owned()),
        destination: Some(transfer.destination.clone()),
        created_gte: Some((transfer.created_at.min(began_at) - CLOCK_SLACK).unix_timestamp()),
    };
    let answer = ctx.stripe.list_transfers(Lane::Release, &query).await;
    let ended_at = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let mut call = Call::begun("look_up", began_at, ended_at);
    let again_at = match &answer {
        Err(error) => {
            let (id, failure) = (transfer.id.as_str(), error.failure());
            let again_at = attempt_record::look_up_failed(ctx, &mut tx, id, view.n, call, failure).await?;
            tx.commit().await?;
            return Ok(Some(again_at));
        }
        Ok(items) => {
            let carries_our_id = |item: &&Item<wire::Transfer>| {
                transfer_evidence::our_id(&item.object).as_ref() == Some(&transfer.id)
            };
            // Metadata can be copied by hand: one that is also of our amount goes first.
            let of_our_amount = |item: &&Item<wire::Transfer>| item.object.amount == transfer.amount_minor;
            let ours = items.iter().filter(carries_our_id).find(of_our_amount);
            let ours = ours.or_else(|| items.iter().find(carries_our_id));
            match ours {
                Some(item) => {
                    call.outcome = "found";
                    let after_seq = outbox::last_seq(&mut tx).await?;
                    let cause = "found by a look-up";
                    let recorded =
                        transfer_evidence::record(&mut tx, ctx, &transfer.id, &item.object, cause, ended_at)
                            .await?;
                    let raw = item.raw.get().as_bytes();
                    let seen = observation(ctx, &item.object, raw, began_at, after_seq, ended_at);
                    outbox::insert_observation(&mut tx, &seen).await?;
                    // What carries our id but differs is never followed by another send.
                    if recorded != Recorded::Booked {
                        let until = ended_at + ctx.grace;
                        attempts::bar(&mut tx, transfer.id.as_str(), view.n, until).await?;
                    }
                    (recorded != Recorded::Booked).then_some(ended_at + ctx.grace)
                }
                None => {
                    // What another holder of the task did meanwhile is not in this list.
                    if !tasks::hold(&mut tx, lease, ctx.clock.now()).await? {
                        return Err(FlowError::LeaseLost);
                    }
                    attempts::record_empty_look_up(
                        &mut tx,
                        transfer.id.as_str(),
                        view.n,
                        view.sends,
                        began_at,
                    )
                    .await?;
                    Some(ended_at)
                }
            }
        }
    };
    attempts::insert_call(&mut tx, transfer.id.as_str(), view.n, &call).await?;
    tx.commit().await?;
    Ok(again_at)
}
