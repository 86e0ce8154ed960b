//! A top-up's money comes in: its status by events and fetches, its settlement by its balance transaction.
//!
//! Stripe announces neither a changed forecast nor, for one top-up, the moment its money becomes available,
//! so a timer looks until the money is there. Settlement is booked in the transaction that finds it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError, instant, observation_id};
use crate::domain::evidence::{Content, Fetched, Standing, Told, Verdict};
use crate::domain::ids::TopupId;
use crate::domain::ledger::Entry;
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::domain::topup::{self, Proof, Status};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation, StoredEvent};
use crate::store::topups::{self, Topup};
use crate::store::transfers::{Of, list_open_ids};
use crate::store::{controls, ledger, tasks};
use crate::stripe::client::{Answer, Lane};
use crate::stripe::error::StripeError;
use crate::stripe::wire::{self, Expandable, Object};

/// A pending top-up's status is asked for this often at most: its events tell in time.
const PENDING_LOOK: Duration = Duration::seconds(30);
/// A top-up that Stripe does not know, but a waiting transfer names, is asked for this often.
const UNKNOWN_LOOK: Duration = Duration::minutes(5);

/// Folds events into a top-up's row and books what follows.
pub async fn apply(ctx: &Context, id: &TopupId, events: &[StoredEvent]) -> Result<(), FlowError> {
    let mut heard = Vec::with_capacity(events.len());
    for event in events {
        let object = read(event)?;
        heard.push((event, object));
    }
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let currencies = heard.iter().filter_map(|(_, object)| object.as_ref().and_then(currency_of));
    lock_currencies(&mut tx, ctx, id, currencies.collect()).await?;
    let before = topups::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let mut topup = before.clone();
    for (event, object) in &heard {
        fold(&mut topup, event, object.as_ref());
    }
    if let Some(topup) = topup {
        record(&mut tx, ctx, id, before.as_ref(), topup, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The top-up a snapshot carries; `None` where the object must be fetched.
fn read(event: &StoredEvent) -> Result<Option<wire::Topup>, FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", event.event_id));
    let envelope = wire::Envelope::parse(&event.payload).map_err(|error| unreadable(&error))?;
    let readable = wire::readable(event.api_version.as_deref());
    let object = envelope.data_object.filter(|_| readable);
    Ok(object.and_then(|object| wire::Topup::from_json(object.get()).ok()).filter(is_whole))
}

/// Whether everything that settlement rests on can be read.
fn is_whole(object: &wire::Topup) -> bool {
    currency_of(object).is_some() && object.amount >= 0 && Status::parse(&object.status) != Status::Unknown
}

fn currency_of(object: &wire::Topup) -> Option<Currency> {
    Currency::parse(&object.currency).ok()
}

/// The locks of every currency that may be booked, in order; they come before the top-up's own.
async fn lock_currencies(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    mut currencies: Vec<Currency>,
) -> Result<(), StoreError> {
    if let Some(topup) = topups::find(tx, ctx.livemode, id.as_str()).await? {
        currencies.extend(topup.currency);
        currencies.extend(topup.booked_currency);
        currencies.extend(topup.proof.map(|proof| proof.currency));
    }
    currencies.sort_unstable();
    currencies.dedup();
    for currency in currencies {
        controls::lock_funds(tx, ctx.livemode, currency).await?;
    }
    Ok(())
}

fn unheard_of(standing: Standing, source: &str) -> Topup {
    Topup {
        known: false,
        status: Status::Unknown,
        amount_minor: 0,
        currency: None,
        balance_transaction: None,
        expected_availability_date: None,
        failure_code: None,
        failure_message: None,
        description: None,
        statement_descriptor: None,
        transfer_group: None,
        metadata: std::collections::BTreeMap::new(),
        stripe_created: None,
        as_of: standing.at,
        source: source.to_owned(),
        standing,
        proof: None,
        proof_at: None,
        watched_since: None,
        settled: false,
        settled_at: None,
        excluded: false,
        booked_minor: 0,
        booked_currency: None,
        bookings: 0,
    }
}

fn fold(topup: &mut Option<Topup>, event: &StoredEvent, object: Option<&wire::Topup>) {
    let told = |content| Told { at: event.created, seq: event.seq, content };
    match (topup.as_mut(), object) {
        (None, None) => {
            *topup = Some(unheard_of(Standing::of_event(told(Content::Unread)), &event.event_id));
        }
        (None, Some(object)) => {
            let mut new = unheard_of(Standing::of_event(told(Content::Other)), &event.event_id);
            show(&mut new, object, event.created, &event.event_id);
            *topup = Some(new);
        }
        (Some(topup), None) => {
            topup::hear(topup.status, &mut topup.standing, Status::Unknown, told(Content::Unread));
        }
        (Some(topup), Some(object)) => {
            let status = Status::parse(&object.status);
            let same = status == topup.status && object.amount == topup.amount_minor;
            let content = if same { Content::Same } else { Content::Other };
            // Of two of one rank without an order, what is held stays: only a fetch can move settled money.
            if topup::hear(topup.status, &mut topup.standing, status, told(content)) == Verdict::Apply {
                show(topup, object, event.created, &event.event_id);
            }
        }
    }
}

/// Takes over what Stripe says. A balance transaction, once named, stays.
fn show(topup: &mut Topup, object: &wire::Topup, as_of: OffsetDateTime, source: &str) {
    let named = object.balance_transaction.as_ref().map(|transaction| transaction.id().to_owned());
    topup.known = true;
    topup.status = Status::parse(&object.status);
    topup.amount_minor = object.amount;
    topup.currency = currency_of(object);
    topup.balance_transaction = named.or(topup.balance_transaction.take());
    topup.expected_availability_date = instant(object.expected_availability_date);
    topup.failure_code.clone_from(&object.failure_code);
    topup.failure_message.clone_from(&object.failure_message);
    topup.description.clone_from(&object.description);
    topup.statement_descriptor.clone_from(&object.statement_descriptor);
    topup.transfer_group.clone_from(&object.transfer_group);
    topup.metadata = object.metadata.clone().unwrap_or_default();
    topup.stripe_created = instant(object.created);
    topup.as_of = as_of;
    source.clone_into(&mut topup.source);
}

/// What a look at Stripe brought.
struct Seen {
    fetch: Fetched,
    object: Option<Answer<wire::Topup>>,
    transaction: Option<Answer<wire::BalanceTransaction>>,
}

/// Looks at a top-up whose status is in doubt or whose money is still on its way. Returns when to look again.
pub async fn look(ctx: &Context, id: &TopupId) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let held = topups::find(&mut conn, ctx.livemode, id.as_str()).await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let fetch = Fetched { at: ctx.clock.now(), after_seq };
    let Some(seen) = ask(ctx, id, held.as_ref(), fetch).await? else {
        return not_at_stripe(ctx, id).await;
    };
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let currencies = seen.object.iter().filter_map(|answer| currency_of(&answer.object));
    let landed = seen.proof_currency();
    lock_currencies(&mut tx, ctx, id, currencies.chain(landed).collect()).await?;
    let before = topups::find_for_update(&mut tx, ctx.livemode, id.as_str()).await?;
    let mut topup = before.clone().unwrap_or_else(|| {
        unheard_of(Standing::of_fetch(Fetched { at: OffsetDateTime::UNIX_EPOCH, after_seq: 0 }), "api")
    });
    keep_evidence(&mut tx, ctx, id, &seen, now).await?;
    fold_seen(&mut topup, &seen);
    topup.watched_since = topup.watched_since.or(Some(now));
    let again_at = next_look(&topup, now);
    record(&mut tx, ctx, id, before.as_ref(), topup, now).await?;
    tx.commit().await?;
    Ok(again_at)
}

/// Asks for what is missing: the top-up, unless its success is beyond doubt, and then its balance
/// transaction. `None` where Stripe does not know the top-up.
async fn ask(
    ctx: &Context,
    id: &TopupId,
    held: Option<&Topup>,
    fetch: Fetched,
) -> Result<Option<Seen>, FlowError> {
    let settling = |topup: &&Topup| topup.status == Status::Succeeded && !topup.standing.doubted;
    let mut named = held.filter(settling).and_then(|topup| topup.balance_transaction.clone());
    let mut seen = Seen { fetch, object: None, transaction: None };
    if named.is_none() {
        let answer = match ctx.stripe.topup(Lane::Sweep, id).await {
            Ok(answer) => answer,
            Err(StripeError::Refused(failure)) if failure.status == Some(404) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if currency_of(&answer.object).is_none() || answer.object.amount < 0 {
            return Err(FlowError::Unreadable(format!("{id}: its amount or currency can't be read")));
        }
        let succeeded = Status::parse(&answer.object.status) == Status::Succeeded;
        let expanded = answer.object.balance_transaction.as_ref();
        named = expanded.filter(|_| succeeded).map(|transaction| transaction.id().to_owned());
        if let Some(Expandable::Object(_, transaction)) = expanded {
            let object = (**transaction).clone();
            let raw = answer.raw.clone();
            let request_id = answer.request_id.clone();
            seen.transaction = Some(Answer { object, raw, request_id, replayed: false });
        }
        seen.object = Some(answer);
    }
    if let (Some(named), None) = (named, &seen.transaction) {
        seen.transaction = match ctx.stripe.balance_transaction(Lane::Sweep, &named).await {
            Ok(answer) => Some(answer),
            Err(StripeError::Refused(failure)) if failure.status == Some(404) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(Some(seen))
}

/// Stripe does not know it. As long as a transfer waits for it, it is asked for now and then.
async fn not_at_stripe(ctx: &Context, id: &TopupId) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let waited_for = !list_open_ids(&mut conn, ctx.livemode, Of::Topup(id.as_str())).await?.is_empty();
    Ok(waited_for.then(|| ctx.clock.now() + UNKNOWN_LOOK))
}

async fn keep_evidence(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    seen: &Seen,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let object = seen.object.as_ref().map(|answer| ("topup", &answer.raw));
    // An expanded balance transaction is part of the top-up's own answer.
    let transaction = seen.transaction.as_ref().filter(|_| seen.object.is_none());
    let transaction = transaction.map(|answer| ("balance_transaction", &answer.raw));
    for (event_type, payload) in object.into_iter().chain(transaction) {
        let observation = Observation {
            id: observation_id(),
            event_type,
            subject_kind: Kind::Topup.as_str(),
            subject: id.as_str(),
            livemode: ctx.livemode,
            observed_from: seen.fetch.at,
            after_seq: seen.fetch.after_seq,
            received_at: now,
            payload,
        };
        outbox::insert_observation(tx, &observation).await?;
    }
    Ok(())
}

impl Seen {
    fn proof_currency(&self) -> Option<Currency> {
        self.transaction.as_ref().and_then(|answer| Currency::parse(&answer.object.currency).ok())
    }
}

fn fold_seen(topup: &mut Topup, seen: &Seen) {
    if let Some(answer) = &seen.object {
        let status = Status::parse(&answer.object.status);
        if topup::see(topup.status, &mut topup.standing, status, seen.fetch) == Verdict::Apply {
            show(topup, &answer.object, seen.fetch.at, "api");
        }
        let named = answer.object.balance_transaction.as_ref().map(|t| t.id().to_owned());
        topup.balance_transaction = topup.balance_transaction.take().or(named);
    }
    let fresher = topup.proof_at.is_none_or(|at| at <= seen.fetch.at);
    if let (Some(answer), true) = (&seen.transaction, fresher) {
        topup.proof = proof(topup, &answer.object).or(topup.proof.take());
        topup.proof_at = Some(seen.fetch.at);
    }
}

/// What a balance transaction proves. One of another kind, or in a balance that transfers do not draw on,
/// proves nothing.
fn proof(topup: &Topup, transaction: &wire::BalanceTransaction) -> Option<Proof> {
    let of_topup = transaction.transaction_type.as_deref().is_none_or(|kind| kind == "topup");
    let spendable = transaction.balance_type.as_deref().is_none_or(|kind| kind == "payments");
    let currency = Currency::parse(&transaction.currency).ok()?;
    let amount_minor =
        if Some(currency) == topup.currency { topup.amount_minor - transaction.fee } else { transaction.net };
    (of_topup && spendable).then(|| Proof {
        available: transaction.status == "available",
        available_on: instant(transaction.available_on),
        amount_minor,
        currency,
    })
}

fn next_look(topup: &Topup, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let watched = now - topup.watched_since.unwrap_or(now);
    let forecast =
        topup.proof.as_ref().and_then(|proof| proof.available_on).or(topup.expected_availability_date);
    let pause = topup::next_look(watched, forecast.map(|at| at - now));
    match topup.status {
        Status::Pending => Some(now + pause.max(PENDING_LOOK)),
        Status::Succeeded => {
            let available = topup.proof.as_ref().is_some_and(|proof| proof.available);
            (!available || topup.standing.doubted).then(|| now + pause)
        }
        Status::Unknown => Some(now + pause.max(PENDING_LOOK)),
        Status::Failed | Status::Canceled | Status::Reversed => topup.standing.doubted.then(|| now + pause),
    }
}

/// Decides the settlement, books the difference, writes the row, and rings for what depends on it.
async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    before: Option<&Topup>,
    mut topup: Topup,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    if let Some(known) = topup.known() {
        let settlement = known.settlement(ctx.rule, controls::get_funds_since(tx).await?);
        if settlement.settled && !topup.settled {
            topup.settled_at = Some(now);
        }
        (topup.settled, topup.excluded) = (settlement.settled, settlement.excluded);
        book(tx, ctx, id, &mut topup, settlement.booked_minor, settlement.currency, now).await?;
    }
    topups::put(tx, ctx.livemode, id.as_str(), &topup, now).await?;
    let waits = |topup: &Topup| topup.known().map(|known| known.waiting(topup.settled));
    if before.and_then(waits) != waits(&topup) {
        let tied = list_open_ids(tx, ctx.livemode, Of::Topup(id.as_str())).await?;
        let tied: Vec<&str> = tied.iter().map(String::as_str).collect();
        tasks::ring(tx, Kind::Transfer, ctx.livemode, &tied, now).await?;
    }
    let arriving = match topup.status {
        Status::Pending | Status::Succeeded => !topup.proof.as_ref().is_some_and(|proof| proof.available),
        Status::Unknown => true,
        Status::Failed | Status::Canceled | Status::Reversed => false,
    };
    let new = before.is_none_or(|before| before.status != topup.status);
    if topup.standing.doubted || (arriving && new) {
        let pause = if topup.status == Status::Pending { PENDING_LOOK } else { Duration::ZERO };
        let pause = if topup.standing.doubted { Duration::ZERO } else { pause };
        tasks::ring(tx, Kind::Topup, ctx.livemode, &[id.as_str()], now + pause).await?;
    }
    Ok(())
}

/// Brings the ledger from what it holds for this top-up to what it should hold.
async fn book(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &TopupId,
    topup: &mut Topup,
    wanted_minor: i64,
    currency: Currency,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // Money once booked is taken back in the currency it was booked in.
    let booked_in = topup.booked_currency.filter(|_| topup.booked_minor != 0).unwrap_or(currency);
    let target_minor = if booked_in == currency { wanted_minor } else { 0 };
    if target_minor == topup.booked_minor {
        return Ok(());
    }
    topup.bookings += 1;
    let entry = Entry::settlement(id, topup.bookings, topup.booked_minor, target_minor);
    ledger::post(tx, ctx.livemode, booked_in, &entry, now).await?;
    (topup.booked_minor, topup.booked_currency) = (target_minor, Some(booked_in));
    tasks::ring(tx, Kind::Funds, ctx.livemode, &[booked_in.as_str()], now).await?;
    tasks::ring(tx, Kind::Balance, ctx.livemode, &[crate::domain::event::BALANCE_SUBJECT], now).await?;
    Ok(())
}
