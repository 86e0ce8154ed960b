//! What is held is compared with Stripe's own lists: accounts, top-ups, transfers, a page at a time.
//!
//! The first walk through the accounts and the top-ups is the import on a platform that already runs: page follows
//! page. Later ones take one page each time, for ever. What differs is kept as an answer of Stripe's API and rings a
//! bell, so that it is folded in as all evidence is.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::account_answer::kept_of;
use super::{Context, FlowError, account_evidence, observation_id, transfer_evidence};
use crate::domain::account::Requirements;
use crate::domain::event::BALANCE_SUBJECT;
use crate::domain::task::{Kind, RECONCILED};
use crate::domain::topup::Status;
use crate::store::db::{self, StoreError};
use crate::store::outbox::{self, Observation};
use crate::store::sweeps::{self, Page, Sweep};
use crate::store::{accounts, tasks, topups, transfers};
use crate::stripe::client::Lane;
use crate::stripe::wire::{self, Item, List, Object};

const ACCOUNTS: &str = RECONCILED[0];
const TOPUPS: &str = RECONCILED[1];
const TRANSFERS: &str = RECONCILED[2];
/// Transfers older than this are no longer compared.
const TRANSFERS_FOR: Duration = Duration::days(90);

/// Accounts that a whole walk did not come by are asked for, so many at its end,
const UNLISTED: i64 = 100;
/// and each no more often than this: one that Stripe shows all the same is none that left.
const UNLISTED_AGAIN: Duration = Duration::hours(1);

/// Where the next page of a walk begins.
struct Walk {
    sweep: Sweep,
    began_at: OffsetDateTime,
    after_seq: i64,
}

/// Compares one page; returns when the next is due.
pub async fn advance(ctx: &Context, subject: &str) -> Result<Option<OffsetDateTime>, FlowError> {
    let walk = begin(ctx, subject).await?;
    let ended = match subject {
        ACCOUNTS => compare::<wire::Account>(ctx, &walk, "/v1/accounts").await?,
        TOPUPS => compare::<wire::Topup>(ctx, &walk, "/v1/topups").await?,
        TRANSFERS => compare::<wire::Transfer>(ctx, &walk, "/v1/transfers").await?,
        other => return Err(FlowError::Unreadable(format!("no list of Stripe's is named {other}"))),
    };
    let now = ctx.clock.now();
    // The import does not wait; and what another process is on with is looked at again later.
    let importing = ended.is_some_and(|sweep| sweep.runs == 0 && subject != TRANSFERS);
    if importing { Ok(Some(now)) } else { Ok(ctx.reconcile_every.map(|every| now + every)) }
}

async fn begin(ctx: &Context, subject: &str) -> Result<Walk, FlowError> {
    let now = ctx.clock.now().truncate_to_microsecond();
    let mut tx = db::begin(&ctx.pool).await?;
    let last = sweeps::find(&mut tx, ctx.livemode, subject).await?;
    let sweep = match last.filter(|sweep| sweep.finished_at.is_none()) {
        Some(sweep) => sweep,
        None => {
            let since = (subject == TRANSFERS).then(|| now - TRANSFERS_FOR);
            begin_at_head(&mut tx, ctx, subject, since, now).await?
        }
    };
    let after_seq = outbox::last_seq(&mut tx).await?;
    if subject == TRANSFERS {
        tasks::ring(&mut tx, Kind::Balance, ctx.livemode, &[BALANCE_SUBJECT], now).await?;
    }
    tx.commit().await?;
    Ok(Walk { sweep, began_at: ctx.clock.now(), after_seq })
}

/// An entry of one of the lists.
trait Compared: Object {
    const KIND: Kind;
    const TYPE: &'static str;

    fn id(&self) -> &str;

    /// What is kept of an entry.
    fn kept(raw: &[u8]) -> Vec<u8> {
        raw.to_vec()
    }

    /// Whether what is held is not what Stripe shows.
    async fn differs(&self, tx: &mut PgConnection, ctx: &Context) -> Result<bool, StoreError>;
}

async fn compare<T: Compared>(ctx: &Context, walk: &Walk, path: &str) -> Result<Option<Sweep>, FlowError> {
    let created = walk.sweep.since.map_or(Value::Null, |since| json!({"gte": since.unix_timestamp()}));
    let query = json!({"created": created, "limit": 100, "starting_after": walk.sweep.after});
    let list = match ctx.stripe.get::<List<T>>(Lane::Sweep, path, &query).await {
        Ok(answer) => answer.object,
        Err(error) if walk.sweep.after.is_some() && error.is_lost_place() => {
            return start_over(ctx, walk).await;
        }
        Err(error) => return Err(error.into()),
    };
    let after = list.last_id.filter(|_| list.has_more);
    if list.has_more && after.is_none() {
        return Err(FlowError::Unreadable("a page says that more follow, but not after what".into()));
    }
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let mut found = 0;
    for item in &list.data {
        if item.object.differs(&mut tx, ctx).await? {
            keep(&mut tx, ctx, walk, item, now).await?;
            found += 1;
        }
    }
    if T::KIND == Kind::Account {
        let ids: Vec<&str> = list.data.iter().map(|item| item.object.id()).collect();
        note_listed(&mut tx, ctx, walk, &ids, after.is_none(), now).await?;
    }
    let page = Page {
        after: after.as_deref(),
        seen: i64::try_from(list.data.len()).unwrap_or(i64::MAX),
        found,
        complete_to: after.is_none().then_some(walk.sweep.started_at),
    };
    let recorded = sweeps::record_page(&mut tx, ctx.livemode, &walk.sweep, &page, now).await?;
    if recorded.is_none() {
        // Another process compared this page.
        return Ok(None);
    }
    if found > 0 {
        tasks::announce(&mut tx).await?;
    }
    tx.commit().await?;
    if walk.sweep.runs > 0 || T::KIND == Kind::StripeTransfer {
        let found = u64::try_from(found).unwrap_or(0);
        metrics::counter!("sluicegate_reconcile_differences_total", "kind" => T::TYPE).increment(found);
    }
    Ok(recorded)
}

/// The entry that the last page ended with is gone, as an account is that left: from the head of the list again.
async fn start_over(ctx: &Context, walk: &Walk) -> Result<Option<Sweep>, FlowError> {
    let now = ctx.clock.now().truncate_to_microsecond();
    let mut conn = ctx.pool.acquire().await?;
    let Sweep { name, since, .. } = &walk.sweep;
    Ok(Some(begin_at_head(&mut conn, ctx, name, *since, now).await?))
}

async fn begin_at_head(
    conn: &mut PgConnection,
    ctx: &Context,
    subject: &str,
    since: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<Sweep, StoreError> {
    if subject == ACCOUNTS {
        sweeps::clear_listed(conn, ctx.livemode).await?;
    }
    sweeps::begin(conn, ctx.livemode, subject, since, now).await
}

/// Notes the accounts of a page. After the last, Stripe is asked for those that are held and were on none: they left,
/// and no event told.
async fn note_listed(
    tx: &mut PgConnection,
    ctx: &Context,
    walk: &Walk,
    ids: &[&str],
    last: bool,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sweeps::note_listed(tx, ctx.livemode, ids).await?;
    if last {
        let (known_before, fetched_before) = (walk.sweep.started_at, now - UNLISTED_AGAIN);
        let unlisted =
            sweeps::list_unlisted(tx, ctx.livemode, known_before, fetched_before, UNLISTED).await?;
        let unlisted: Vec<&str> = unlisted.iter().map(String::as_str).collect();
        tasks::ring(tx, Kind::Account, ctx.livemode, &unlisted, now).await?;
    }
    Ok(())
}

/// Keeps an entry as evidence and rings for it.
async fn keep<T: Compared>(
    tx: &mut PgConnection,
    ctx: &Context,
    walk: &Walk,
    item: &Item<T>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let seen = Observation {
        id: observation_id(),
        event_type: T::TYPE,
        subject_kind: T::KIND.as_str(),
        subject: item.object.id(),
        livemode: ctx.livemode,
        observed_from: walk.began_at,
        after_seq: walk.after_seq,
        received_at: now,
        payload: &T::kept(item.raw.get().as_bytes()),
    };
    outbox::insert_rung_observation(tx, &seen).await
}

impl Compared for wire::Account {
    const KIND: Kind = Kind::Account;
    const TYPE: &'static str = "account";

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn kept(raw: &[u8]) -> Vec<u8> {
        kept_of(raw)
    }

    /// Also where it was last confirmed so long ago that a transfer would have to wait for a fetch soon.
    async fn differs(&self, tx: &mut PgConnection, ctx: &Context) -> Result<bool, StoreError> {
        let Some(held) = accounts::find(tx, ctx.livemode, self.id.as_str()).await? else { return Ok(true) };
        let fresh = held.as_of.max(held.known.confirmed_at.unwrap_or(held.as_of));
        let old = fresh + ctx.max_age / 2 < ctx.clock.now();
        let mut seen = account_evidence::flags_as_they_are(self);
        if let Some(flags) = held.known.flags.as_ref().filter(|_| held.v2) {
            // What the list's view of an account of v2 leaves out, it does not deny.
            seen.transfers_capability =
                seen.transfers_capability.or_else(|| flags.transfers_capability.clone());
            if seen.requirements == Requirements::default() {
                seen.requirements = flags.requirements.clone();
            }
        }
        Ok(old || held.known.flags.as_ref() != Some(&seen))
    }
}

impl Compared for wire::Topup {
    const KIND: Kind = Kind::Topup;
    const TYPE: &'static str = "topup";

    fn id(&self) -> &str {
        self.id.as_str()
    }

    async fn differs(&self, tx: &mut PgConnection, ctx: &Context) -> Result<bool, StoreError> {
        let Some(held) = topups::find(tx, ctx.livemode, self.id.as_str()).await? else { return Ok(true) };
        Ok(!held.known || held.status != Status::parse(&self.status) || held.amount_minor != self.amount)
    }
}

impl Compared for wire::Transfer {
    const KIND: Kind = Kind::StripeTransfer;
    const TYPE: &'static str = "transfer";

    fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Those that are none of ours differ from nothing.
    async fn differs(&self, tx: &mut PgConnection, ctx: &Context) -> Result<bool, StoreError> {
        let Some(id) = transfer_evidence::known_as(tx, self).await? else { return Ok(false) };
        let held = transfers::find(tx, id.as_str()).await?.filter(|held| held.livemode == ctx.livemode);
        Ok(held.is_some_and(|held| {
            let booked = held.stripe_transfer.as_ref() == Some(&self.id);
            // A second one that carries our id is told of by whoever books, and can't be booked.
            let bookable = booked || held.stripe_transfer.is_none();
            bookable && (!booked || held.amount_reversed_minor != self.amount_reversed)
        }))
    }
}
