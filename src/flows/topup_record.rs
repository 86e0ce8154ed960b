//! Writes down what is held of top-ups after new evidence: bookings, rows, history, and the bells of what depends on
//! them. Everybody who does holds the locks of the currencies first, then those of the top-ups.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::rings::Rings;
use super::topup_evidence::{currency_of, fold_kept, fold_seen, never_told_of, settle};
use super::{Context, FlowError, observation_id};
use crate::domain::event::BALANCE_SUBJECT;
use crate::domain::evidence::Fetched;
use crate::domain::forecast;
use crate::domain::ids::{TopupId, TopupIntentId};
use crate::domain::ledger::Entry;
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::domain::topup::intent::METADATA_KEY;
use crate::domain::topup::story::steps;
use crate::domain::topup::{Status, intent};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation, StoredEvent};
use crate::store::topup_intents::{self, Outcome};
use crate::store::topups::{self, ChangedFace, Topup, Written};
use crate::store::transfers::{Of, list_open_ids};
use crate::store::{attempts, controls, ledger};
use crate::stripe::wire;

/// A pending top-up's status is asked for this often at most: its events tell in time.
pub const PENDING_LOOK: Duration = Duration::seconds(30);

/// What was told of one top-up.
#[derive(Debug)]
pub struct Told<'a> {
    /// Which one.
    pub id: TopupId,
    /// Oldest first.
    pub events: &'a [&'a StoredEvent],
    /// In which currencies it may be booked, by these events.
    pub currencies: Vec<Currency>,
}

/// A top-up before and after new evidence.
#[derive(Debug)]
pub struct Changed {
    /// Its id.
    pub id: TopupId,
    /// What was held; `None` where nothing was.
    pub before: Option<Topup>,
    /// What is held now.
    pub after: Topup,
}

/// Folds events into top-ups and books what follows; returns those whose events can't be applied. They must be
/// sorted by id.
pub async fn apply(
    tx: &mut PgConnection,
    ctx: &Context,
    told: &[Told<'_>],
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<Vec<(String, FlowError)>, FlowError> {
    let mut failed = Vec::new();
    if told.is_empty() {
        return Ok(failed);
    }
    let ids: Vec<&str> = told.iter().map(|told| told.id.as_str()).collect();
    let currencies = told.iter().flat_map(|told| told.currencies.iter().copied()).collect();
    let mut held = lock(tx, ctx, &ids, currencies).await?;
    let mut changed = Vec::with_capacity(told.len());
    for Told { id, events, .. } in told {
        let before = held.remove(id.as_str());
        let mut after = before.clone();
        match (events.iter().try_for_each(|event| fold_kept(&mut after, event)), after) {
            (Ok(()), Some(after)) => {
                if let Some(at) = look_due(before.as_ref(), &after, now) {
                    rings.add(Kind::Topup, id.as_str(), at);
                }
                changed.push(Changed { id: id.clone(), before, after });
            }
            (Ok(()), None) => {}
            (Err(error), _) => failed.push((id.to_string(), error)),
        }
    }
    record(tx, ctx, changed, rings, now).await?;
    Ok(failed)
}

/// A top-up in an answer of Stripe's API.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// What was read.
    pub object: &'a wire::Topup,
    /// From what.
    pub raw: &'a [u8],
    /// When the call began, and after which event.
    pub fetch: Fetched,
}

/// Takes in what an answer shows: keeps it as evidence, and writes down what became of the top-up by it. Its money must
/// be such as can be booked.
pub async fn take_in(
    tx: &mut PgConnection,
    ctx: &Context,
    answered: Answered<'_>,
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let Answered { object, raw, fetch } = answered;
    let id = object.id.clone();
    let transaction = object.balance_transaction.as_ref().and_then(wire::Expandable::object);
    let landed = transaction.and_then(|transaction| Currency::parse(&transaction.currency).ok());
    let currencies = currency_of(object).into_iter().chain(landed).collect();
    let before = lock(tx, ctx, &[id.as_str()], currencies).await?.remove(id.as_str());
    let seen = Observation {
        id: observation_id(),
        event_type: "topup",
        subject_kind: Kind::Topup.as_str(),
        subject: id.as_str(),
        livemode: ctx.livemode,
        observed_from: fetch.at,
        after_seq: fetch.after_seq,
        received_at: now,
        payload: raw,
    };
    outbox::insert_observation(tx, &seen).await?;
    let mut after = before.clone().unwrap_or_else(never_told_of);
    fold_seen(&mut after, Some(object), transaction, fetch);
    if let Some(at) = look_due(before.as_ref(), &after, now) {
        rings.add(Kind::Topup, id.as_str(), at);
    }
    record(tx, ctx, vec![Changed { id, before, after }], rings, now).await
}

/// When to look at Stripe after news: at once where they leave a doubt or money to be proven.
fn look_due(before: Option<&Topup>, topup: &Topup, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let new = before.is_none_or(|before| before.status != topup.status);
    let proven = topup.proof.as_ref().is_some_and(|proof| proof.available);
    match topup.status {
        _ if topup.standing.doubted => Some(now),
        Status::Pending => new.then_some(now + PENDING_LOOK),
        Status::Succeeded | Status::Unknown => (new && !proven).then_some(now),
        Status::Failed | Status::Canceled | Status::Reversed => None,
    }
}

/// Takes the locks of every currency that may be booked, in order, then those of the top-ups; returns what is held of
/// them. The ids must be sorted.
pub async fn lock(
    tx: &mut PgConnection,
    ctx: &Context,
    ids: &[&str],
    mut currencies: Vec<Currency>,
) -> Result<std::collections::BTreeMap<String, Topup>, StoreError> {
    currencies.extend(topups::list_currencies(tx, ctx.livemode, ids).await?);
    currencies.sort_unstable();
    currencies.dedup();
    for currency in currencies {
        controls::lock_funds(tx, ctx.livemode, currency).await?;
    }
    topups::list_for_update(tx, ctx.livemode, ids).await
}

/// Decides the settlements, books the differences, writes the rows, and notes what depends on them.
pub async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    mut changed: Vec<Changed>,
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let funds_since = controls::get_funds_since(tx).await?;
    for Changed { id, after, .. } in &mut changed {
        let was_settled = after.settled;
        let Some(settlement) = settle(after, ctx.rule, funds_since) else { continue };
        if settlement.settled && !was_settled {
            after.settled_at = Some(now);
        }
        let wanted = (settlement.booked_minor, settlement.currency);
        if let Some(astray) = after.booked_currency.filter(|booked_in| *booked_in != settlement.currency) {
            // It landed in another currency than was believed.
            book(tx, ctx, id, after, (0, astray), rings, now).await?;
        }
        book(tx, ctx, id, after, wanted, rings, now).await?;
    }
    let rows: Vec<Written<'_>> =
        changed.iter().map(|changed| Written { id: changed.id.as_str(), topup: &changed.after }).collect();
    topups::put_all(tx, ctx.livemode, &rows, now).await?;
    topups::insert_changes(tx, ctx.livemode, &faces(&changed), now).await?;
    for Changed { id, after, .. } in &changed {
        settle_intent(tx, ctx, id, after, now).await?;
    }
    let waits = |topup: &Topup| topup.known().map(|known| (known.waiting(topup.settled), topup.lands_in()));
    let mut decided_on = Vec::new();
    for Changed { id, before, after } in &changed {
        let comes = |topup: &Topup| (topup.currency, topup.settled, topup.status, topup.expected_at());
        let foreseen = (before.as_ref().map(comes) != Some(comes(after))).then(|| after.lands_in());
        if let Some(currency) = foreseen.flatten() {
            rings.add(Kind::Forecast, currency.as_str(), now + forecast::AFTER);
        }
        if before.as_ref().and_then(waits) != waits(after) {
            decided_on.push(id.as_str());
        }
    }
    for id in list_open_ids(tx, ctx.livemode, Of::Topups(&decided_on)).await? {
        rings.add(Kind::Transfer, id, now);
    }
    Ok(())
}

/// A top-up that carries the id of an intent of ours is what that intent became.
async fn settle_intent(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    topup: &Topup,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let named = topup.metadata.get(METADATA_KEY).and_then(|id| TopupIntentId::parse(id).ok());
    let Some(named) = named else { return Ok(()) };
    let found = topup_intents::find_for_update(tx, ctx.livemode, named.as_str()).await?;
    let Some(intent) = found.filter(|intent| intent.topup.as_ref() != Some(id)) else { return Ok(()) };
    let fits = topup.amount_minor == intent.amount_minor && topup.currency == Some(intent.currency);
    if !fits || !intent.status.may_become(intent::Status::Created) || intent.topup.is_some() {
        tracing::error!(intent = %named, topup = %id, "a top-up carries the id of an intent of ours and is not what was ordered, or the second of its kind");
        metrics::counter!("sluicegate_topup_mismatches_total").increment(1);
        return Ok(());
    }
    topup_intents::record_outcome(tx, &named, Outcome::Created(id), now).await?;
    attempts::close(tx, named.as_str(), intent.generation, "created").await?;
    Ok(())
}

/// The steps to be added to the histories.
fn faces(changed: &[Changed]) -> Vec<ChangedFace<'_>> {
    let face = |changed: &'_ Changed| {
        let face = changed.after.face()?;
        let steps = steps(changed.before.as_ref().and_then(Topup::face).as_ref(), &face);
        (!steps.is_empty()).then_some((face, steps))
    };
    changed
        .iter()
        .filter_map(|changed| {
            let (face, steps) = face(changed)?;
            Some(ChangedFace { id: changed.id.as_str(), topup: &changed.after, face, steps })
        })
        .collect()
}

/// Brings the ledger from what it holds for this top-up to what it should hold.
async fn book(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    topup: &mut Topup,
    (wanted_minor, currency): (i64, Currency),
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if wanted_minor == topup.booked_minor {
        return Ok(());
    }
    topup.bookings += 1;
    let entry = Entry::settlement(id, topup.bookings, topup.booked_minor, wanted_minor);
    ledger::post(tx, ctx.livemode, currency, &entry, now).await?;
    if wanted_minor < topup.booked_minor {
        controls::note_overdrawn(tx, ctx.livemode, currency).await?;
    }
    (topup.booked_minor, topup.booked_currency) = (wanted_minor, Some(currency));
    rings.add(Kind::Funds, currency.as_str(), now);
    rings.add(Kind::Balance, BALANCE_SUBJECT, now);
    Ok(())
}
