//! After a restore: the database has forgotten what was paid since its backup, and Stripe has not.
//!
//! Before anything is released, Stripe's transfers since the last heartbeat are listed, a page at a time, and
//! matched by the metadata they were created with. One that the database does not know is taken in.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::rings::Rings;
use super::topup_evidence::is_money;
use super::topup_record::{self, Answered};
use super::transfer_evidence::{self, METADATA_KEY, Recorded};
use super::{Context, FlowError, instant, observation_id};
use crate::domain::audit::{self, Action};
use crate::domain::evidence::Fetched;
use crate::domain::ids::TransferId;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::topup::intent;
use crate::domain::transfer::Status;
use crate::store::audit as log;
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, Observation};
use crate::store::transfers::{Change, Transfer};
use crate::store::{controls, heartbeats, holds, tasks, topups, transfers};
use crate::stripe::client::Lane;
use crate::stripe::wire::{self, Item, List};

/// The one subject of this kind of task.
pub const SUBJECT: &str = "transfers";
/// A heartbeat older than this at the start means that the database may be one restored from a backup.
const STALE_AFTER: Duration = Duration::minutes(15);
/// How long before the last heartbeat the list begins.
const OVERLAP: Duration = Duration::hours(1);
/// Who takes in what the database forgot.
const OURSELVES: &str = "sluicegate";

/// Beats, and starts a catch-up where one is due. `last` is the beat before, of this process.
pub async fn beat(ctx: &Context, last: Option<OffsetDateTime>) -> Result<OffsetDateTime, FlowError> {
    let now = ctx.clock.now().truncate_to_microsecond();
    let overlap = OVERLAP.try_into().map_err(|error| FlowError::Unreadable(format!("{error}")))?;
    let mut tx = db::begin(&ctx.pool).await?;
    if heartbeats::beat(&mut tx, ctx.livemode, now, STALE_AFTER, overlap, last).await? {
        tasks::ring(&mut tx, Kind::CatchUp, ctx.livemode, &[SUBJECT], now).await?;
        tracing::warn!(
            "the last heartbeat is older than 15 minutes: nothing is released until Stripe's transfers since then were matched"
        );
    }
    tx.commit().await?;
    Ok(now)
}

/// Matches one page of Stripe's transfers; returns when there is another.
pub async fn advance(ctx: &Context) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let Some(begun) = heartbeats::find_catch_up(&mut conn, ctx.livemode).await? else { return Ok(None) };
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let query = json!({
        "created": {"gte": begun.from.unix_timestamp()}, "limit": 100, "starting_after": begun.after,
    });
    let page = match ctx.stripe.get::<List<wire::Transfer>>(Lane::Release, "/v1/transfers", &query).await {
        Ok(answer) => answer.object,
        Err(error) if begun.after.is_some() && error.is_lost_place() => {
            let mut conn = ctx.pool.acquire().await?;
            heartbeats::start_over(&mut conn, ctx.livemode, &begun).await?;
            return Ok(Some(ctx.clock.now()));
        }
        Err(error) => return Err(error.into()),
    };
    for item in &page.data {
        match_one(ctx, item, began_at, after_seq).await?;
    }
    let seen = begun.seen + i64::try_from(page.data.len()).unwrap_or(0);
    let after = page.last_id.filter(|_| page.has_more);
    if page.has_more && after.is_none() {
        return Err(FlowError::Unreadable("a page says that more follow, but not after what".into()));
    }
    if after.is_none() {
        match_topups(ctx, begun.from).await?;
    }
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let counted = heartbeats::record_progress(&mut tx, ctx.livemode, &begun, after.as_deref(), seen).await?;
    let done = counted && after.is_none();
    if done {
        tasks::ring_open_transfers(&mut tx, ctx.livemode, now).await?;
    }
    tx.commit().await?;
    if done {
        tracing::info!(transfers = seen, "Stripe's transfers were matched: releases go on");
    }
    Ok((!done).then_some(now))
}

/// Takes in the top-ups that were ordered here and that the database does not know, or not as ordered here: a repeated
/// order then finds what was made for it.
async fn match_topups(ctx: &Context, since: OffsetDateTime) -> Result<(), FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let fetch = Fetched { at: ctx.clock.now(), after_seq };
    for item in ctx.stripe.list_topups(Lane::Release, since.unix_timestamp()).await? {
        let seen = &item.object;
        let named = seen.metadata.as_ref().is_some_and(|pairs| pairs.contains_key(intent::METADATA_KEY));
        if !named || !is_money(seen) {
            continue;
        }
        let mut tx = db::begin(&ctx.pool).await?;
        let held = topups::find(&mut tx, ctx.livemode, seen.id.as_str()).await?;
        if held.is_some_and(|held| held.metadata.contains_key(intent::METADATA_KEY)) {
            continue;
        }
        let answered = Answered { object: seen, raw: item.raw.get().as_bytes(), fetch };
        let mut rings = Rings::default();
        topup_record::take_in(&mut tx, ctx, answered, &mut rings, ctx.clock.now()).await?;
        rings.ring(&mut tx, ctx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Books what Stripe shows under our id, and takes it in where the database does not know it.
async fn match_one(
    ctx: &Context,
    item: &Item<wire::Transfer>,
    began_at: OffsetDateTime,
    after_seq: i64,
) -> Result<(), FlowError> {
    let (seen, now) = (&item.object, ctx.clock.now());
    let mut tx = db::begin(&ctx.pool).await?;
    let Some(id) = transfer_evidence::known_as(&mut tx, seen).await? else { return Ok(()) };
    // Whoever asks for a transfer meanwhile has asked before this, or sees what this takes in.
    heartbeats::lock_catch_up(&mut tx, ctx.livemode).await?;
    let known = transfers::find(&mut tx, id.as_str()).await?;
    if known.as_ref().is_some_and(|t| is_booked(t, seen)) {
        return Ok(());
    }
    let taken_in = match known {
        Some(_) => None,
        None => take_in(&mut tx, ctx, &id, seen, now).await?,
    };
    let id = taken_in.as_ref().map_or(&id, |taken_in| &taken_in.id);
    let cause = "found at Stripe after a restore";
    let recorded = transfer_evidence::record(&mut tx, ctx, id, seen, cause, now).await?;
    if recorded != Recorded::Booked {
        tracing::error!(transfer = %id, stripe_transfer = %seen.id, "a transfer at Stripe carries an id of ours and can't be matched");
        return Ok(());
    }
    let observation = Observation {
        id: observation_id(),
        event_type: "transfer",
        subject_kind: Kind::StripeTransfer.as_str(),
        subject: seen.id.as_str(),
        livemode: ctx.livemode,
        observed_from: began_at,
        after_seq,
        received_at: now,
        payload: item.raw.get().as_bytes(),
    };
    outbox::insert_observation(&mut tx, &observation).await?;
    if let Some(taken_in) = &taken_in {
        let mut rows = vec![on_record(ctx, id, seen, now)];
        if let Some(other) = &taken_in.other {
            rows.extend(hold_back(&mut tx, ctx, other, id, now).await?);
        }
        log::append_all(&mut tx, &rows).await?;
        metrics::counter!("sluicegate_transfers_adopted_total").increment(1);
        tracing::error!(transfer = %id, stripe_transfer = %seen.id, amount = seen.amount, currency = seen.currency,
            "a transfer that this database had forgotten was taken in again");
    }
    tx.commit().await?;
    Ok(())
}

fn is_booked(known: &Transfer, seen: &wire::Transfer) -> bool {
    known.stripe_transfer.as_ref() == Some(&seen.id) && known.amount_reversed_minor >= seen.amount_reversed
}

/// What a forgotten transfer was taken in as.
struct TakenIn {
    /// Itself, or the one that was made when its caller asked again before the list was read.
    id: TransferId,
    /// What its caller's Idempotency-Key was used for meanwhile, where that is something else.
    other: Option<Transfer>,
}

/// Takes a forgotten transfer in; none where it is none that we could have made.
async fn take_in(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TransferId,
    seen: &wire::Transfer,
    now: OffsetDateTime,
) -> Result<Option<TakenIn>, StoreError> {
    let asked_again = transfers::find_waiting_by_mark(tx, ctx.livemode, id.mark()).await?;
    match asked_again {
        Some(again) if is_same(&again, seen) => Ok(Some(TakenIn { id: again.id, other: None })),
        other => Ok(adopt(tx, ctx, id, seen, now).await?.then(|| TakenIn { id: id.clone(), other })),
    }
}

fn is_same(asked: &Transfer, seen: &wire::Transfer) -> bool {
    asked.amount_minor == seen.amount
        && asked.currency.as_str() == seen.currency
        && seen.destination.as_ref() == Some(&asked.destination)
}

/// One that was asked for with a key that paid something else before the restore: a person has to say what is meant.
async fn hold_back(
    tx: &mut PgConnection,
    ctx: &Context,
    other: &Transfer,
    paid: &TransferId,
    now: OffsetDateTime,
) -> Result<Option<audit::Entry>, StoreError> {
    let found = transfers::find_for_update(tx, other.id.as_str()).await?;
    let Some(other) = found.filter(|other| other.status == Status::Waiting && other.held_at.is_none()) else {
        return Ok(None);
    };
    let id = other.id.as_str();
    holds::set_hold(tx, id, Some(OURSELVES), now).await?;
    let mut reasons = other.waiting_on.clone();
    reasons.push(Reason::OnHold);
    reasons.sort_unstable();
    let cause =
        format!("held: before a restore its Idempotency-Key was used for {paid}, which is another transfer");
    let change = Change { waiting_on: &reasons, ..Change::of(&other) };
    transfers::record_change(tx, &other, &change, &cause, now).await?;
    tasks::ring(tx, Kind::Transfer, ctx.livemode, &[id], now).await?;
    tracing::error!(transfer = id, %paid, "held: its Idempotency-Key had paid another transfer before a restore");
    Ok(Some(entry(ctx, Action::TransferHeld, id, &json!({"reason": cause, "changed": true}), now)))
}

/// Puts a forgotten transfer back as far as Stripe shows it; what it cost is booked with the evidence. False
/// where it is none that we could have made.
async fn adopt(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TransferId,
    seen: &wire::Transfer,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let (Ok(currency), Some(destination)) = (Currency::parse(&seen.currency), seen.destination.clone())
    else {
        return Ok(false);
    };
    if seen.amount < 1 {
        return Ok(false);
    }
    controls::lock_funds(tx, ctx.livemode, currency).await?;
    let mut metadata = seen.metadata.clone().unwrap_or_default();
    metadata.remove(METADATA_KEY);
    let transfer = Transfer {
        transfer_group: seen.transfer_group.clone().filter(|group| group != id.as_str()),
        description: seen.description.clone(),
        metadata,
        created_at: instant(seen.created).unwrap_or(now),
        ..Transfer::new(id.clone(), ctx.livemode, destination, (seen.amount, currency), OURSELVES, now)
    };
    transfers::insert_all(tx, &[&transfer], &format!("adopted:{id}")).await?;
    transfers::insert_first_lines(tx, &[&transfer], "forgotten by a restore", now).await?;
    Ok(true)
}

fn on_record(ctx: &Context, id: &TransferId, seen: &wire::Transfer, now: OffsetDateTime) -> audit::Entry {
    let details = json!({
        "stripe_transfer": seen.id, "destination": seen.destination, "amount": seen.amount,
        "currency": seen.currency, "reason": "Stripe has it and the database had forgotten it",
    });
    entry(ctx, Action::TransferAdopted, id.as_str(), &details, now)
}

fn entry(ctx: &Context, action: Action, subject: &str, details: &Value, now: OffsetDateTime) -> audit::Entry {
    audit::Entry {
        at: now,
        livemode: ctx.livemode,
        actor: OURSELVES.to_owned(),
        action: action.as_str().to_owned(),
        subject: subject.to_owned(),
        details: details.to_string(),
    }
}
