//! Books together what Stripe's answers showed: the transfers that were created at the same moment.
//!
//! Everybody who moves money of a currency waits for its lock; a transaction for each transfer would make that the
//! pace of all. Only what is plainly ours, whole and under way is booked here; each other answer is booked alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::OffsetDateTime;

use super::send::observation;
use super::{Context, FlowError};
use crate::domain::money::Currency;
use crate::flows::attempt_record::Sent;
use crate::flows::transfer_evidence;
use crate::store::attempts::{self, Attempt, SendEnd};
use crate::store::transfers::Transfer;
use crate::store::{db, outbox};
use crate::stripe::client::Answer;
use crate::stripe::wire;

/// A transfer that Stripe says it created.
#[derive(Debug)]
pub struct Created {
    pub(super) transfer: Transfer,
    pub(super) attempt: Attempt,
    pub(super) started_at: OffsetDateTime,
    pub(super) ended_at: OffsetDateTime,
    pub(super) answer: Answer<wire::Transfer>,
}

impl Created {
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent {
            subject: self.transfer.id.as_str(),
            attempt: &self.attempt,
            started_at: self.started_at,
            ended_at: self.ended_at,
        }
    }
}

/// Books them, a transaction a currency; tells of each whether it was booked.
pub(super) async fn all(ctx: &Context, created: &[Arc<Created>]) -> Vec<bool> {
    let mut by_currency: BTreeMap<Currency, Vec<&Created>> = BTreeMap::new();
    for one in created {
        by_currency.entry(one.transfer.currency).or_default().push(one);
    }
    let mut booked = BTreeSet::new();
    for (currency, created) in by_currency {
        match book(ctx, currency, &created).await {
            Ok(of_these) => booked.extend(of_these),
            Err(error) => {
                tracing::debug!(%error, %currency, "answers could not be booked together; each is booked alone");
            }
        }
    }
    created.iter().map(|one| booked.contains(one.transfer.id.as_str())).collect()
}

async fn book(ctx: &Context, currency: Currency, created: &[&Created]) -> Result<Vec<String>, FlowError> {
    let mut tx = db::begin(&ctx.pool).await?;
    let after_seq = outbox::last_seq(&mut tx).await?;
    let seen: Vec<_> =
        created.iter().map(|one| (&one.transfer.id, one.attempt.n, &one.answer.object)).collect();
    let now = created.iter().map(|one| one.ended_at).max().unwrap_or_else(|| ctx.clock.now());
    let booked =
        transfer_evidence::record_plain(&mut tx, ctx, currency, &seen, "Stripe created it", now).await?;
    let created: Vec<&Created> =
        created.iter().copied().filter(|one| booked.contains(one.transfer.id.as_str())).collect();
    if created.is_empty() {
        return Ok(Vec::new());
    }
    let kept: Vec<_> = created
        .iter()
        .map(|one| {
            let (seen, raw) = (&one.answer.object, &one.answer.raw);
            observation(ctx, seen, raw, one.started_at, after_seq, one.ended_at)
        })
        .collect();
    outbox::insert_observations(&mut tx, &kept).await?;
    let calls: Vec<_> = created
        .iter()
        .map(|one| (one.attempt.n, one.sent().answered("created", one.answer.request_id.as_deref())))
        .collect();
    let calls: Vec<_> =
        created.iter().zip(&calls).map(|(one, (n, call))| (one.transfer.id.as_str(), *n, call)).collect();
    attempts::insert_calls(&mut tx, &calls).await?;
    let sent: Vec<Sent<'_>> = created.iter().map(|one| one.sent()).collect();
    let ended: Vec<_> = sent.iter().map(Sent::ended).collect();
    let end = SendEnd { outcome: Some("created"), ..SendEnd::default() };
    if attempts::end_sends(&mut tx, &ended, end).await? != ended.len() {
        // Another send of one of them began since: what that means is for each alone to say.
        return Ok(Vec::new());
    }
    tx.commit().await?;
    for one in &created {
        transfer_evidence::count_release(&one.transfer, Some(one.attempt.prepared_at), now);
    }
    Ok(created.iter().map(|one| one.transfer.id.to_string()).collect())
}
