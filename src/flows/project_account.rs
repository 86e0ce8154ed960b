//! A connected account's readiness follows from what Stripe tells and what a fetch shows.
//!
//! Events are folded together; where they leave a doubt, the account's timer is rung and a fetch settles it.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{Context, FlowError, instant, observation_id};
use crate::domain::account::{Flags, Known, REAUTHORIZED_AFTER, Requirements, less_ready};
use crate::domain::evidence::{Content, Fetched, Standing, Told, Verdict};
use crate::domain::ids::AccountId;
use crate::domain::reason::codes;
use crate::domain::task::Kind;
use crate::store::accounts::{self, Account, Lock};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation, StoredEvent};
use crate::store::tasks;
use crate::store::transfers::{Of, list_open_ids};
use crate::stripe::client::Lane;
use crate::stripe::error::StripeError;
use crate::stripe::wire::{self, Object};

/// An account that Stripe does not show, but a transfer waits for, is asked for this often.
const UNSEEN_LOOK: Duration = Duration::minutes(5);

/// What one event says about an account.
enum News {
    /// All its flags.
    Flags(Box<Flags>),
    /// One capability's status.
    Transfers(String),
    /// It may have changed.
    Changed,
    /// It left the platform.
    Left,
}

/// Folds events into an account's row.
pub async fn apply(ctx: &Context, id: &AccountId, events: &[StoredEvent]) -> Result<(), FlowError> {
    let news =
        events.iter().map(|event| read(event).map(|news| (event, news))).collect::<Result<Vec<_>, _>>()?;
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let before = load(&mut tx, ctx, id).await?;
    let mut account = before.clone();
    for (event, news) in news {
        fold(&mut account, event, news, ctx);
    }
    if let Some(account) = account {
        // The account's own bell before its transfers': a refusal takes them in this order.
        if let Some(at) = fetch_due(&account, now) {
            tasks::ring(&mut tx, Kind::Account, ctx.livemode, &[id.as_str()], at).await?;
        }
        record(&mut tx, ctx, id, before.as_ref(), &account, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn read(event: &StoredEvent) -> Result<News, FlowError> {
    let unreadable =
        |error: &dyn std::fmt::Display| FlowError::Unreadable(format!("{}: {error}", event.event_id));
    let envelope = wire::Envelope::parse(&event.payload).map_err(|error| unreadable(&error))?;
    let bare = event.event_type.strip_prefix("v1.").unwrap_or(&event.event_type);
    if bare == "account.application.deauthorized" {
        return Ok(News::Left);
    }
    let Some(object) = envelope.data_object.filter(|_| wire::readable(event.api_version.as_deref())) else {
        return Ok(News::Changed);
    };
    Ok(match bare {
        "account.updated" => match wire::Account::from_json(object.get()) {
            Ok(account) => flags(&account).map_or(News::Changed, |flags| News::Flags(Box::new(flags))),
            Err(_) => News::Changed,
        },
        "capability.updated" => match wire::Capability::from_json(object.get()) {
            Ok(capability) if capability.id == "transfers" => News::Transfers(capability.status),
            Ok(_) | Err(_) => News::Changed,
        },
        _ => News::Changed,
    })
}

/// The flags of a whole account; `None` where a part that readiness rests on is missing.
fn flags(account: &wire::Account) -> Option<Flags> {
    account.capabilities.as_ref()?;
    account.requirements.as_ref()?;
    (account.charges_enabled.is_some() && account.details_submitted.is_some())
        .then(|| flags_as_they_are(account))
}

/// The flags as a fetch shows them, absent ones included.
fn flags_as_they_are(account: &wire::Account) -> Flags {
    let due = account.requirements.clone().unwrap_or_default();
    Flags {
        details_submitted: account.details_submitted,
        charges_enabled: account.charges_enabled,
        payouts_enabled: account.payouts_enabled,
        transfers_capability: account.capabilities.as_ref().and_then(|c| c.get("transfers").cloned()),
        requirements: Requirements {
            currently_due: due.currently_due.unwrap_or_default(),
            past_due: due.past_due.unwrap_or_default(),
            eventually_due: due.eventually_due.unwrap_or_default(),
            pending_verification: due.pending_verification.unwrap_or_default(),
            disabled_reason: due.disabled_reason,
            current_deadline: instant(due.current_deadline),
        },
        country: account.country.clone(),
        default_currency: account.default_currency.clone(),
    }
}

/// An account of which only one piece of evidence is known.
fn first(standing: Standing, flags: Option<Flags>, source: &str) -> Account {
    let as_of = standing.at;
    let known = Known { flags, deauthorized_at: None, confirmed_at: None };
    Account { known, standing, as_of, source: source.to_owned() }
}

fn fold(account: &mut Option<Account>, event: &StoredEvent, news: News, ctx: &Context) {
    let told = |content| Told { at: event.created, seq: event.seq, content };
    let source = &event.event_id;
    match (news, account.as_mut()) {
        (News::Left, None) => {
            // It tells nothing about the flags, so any event that does, however old, is news.
            let nothing = Told { at: OffsetDateTime::UNIX_EPOCH, ..told(Content::Other) };
            let mut new = first(Standing::of_event(nothing), None, source);
            (new.known.deauthorized_at, new.as_of) = (Some(event.created), event.created);
            *account = Some(new);
        }
        (News::Left, Some(account)) => {
            account.known.deauthorized_at = account.known.deauthorized_at.max(Some(event.created));
            if event.created >= account.as_of {
                (account.as_of, account.source) = (event.created, source.clone());
            }
        }
        (News::Flags(flags), None) => {
            *account = Some(first(Standing::of_event(told(Content::Other)), Some(*flags), source));
        }
        (News::Transfers(_) | News::Changed, None) => {
            *account = Some(first(Standing::of_event(told(Content::Unread)), None, source));
        }
        (News::Flags(heard), Some(account)) => {
            let same = account.known.flags.as_ref() == Some(&*heard);
            let content = if same { Content::Same } else { Content::Other };
            match account.standing.hear(told(content)) {
                Verdict::Keep => {}
                Verdict::Apply => show(account, Some(*heard), event),
                Verdict::Doubt => doubt(account, *heard, event, ctx),
            }
        }
        (News::Transfers(status), Some(account)) => {
            let held = account.known.flags.as_ref();
            let same = held.and_then(|flags| flags.transfers_capability.as_deref()) == Some(status.as_str());
            let same_moment = account.standing.at == event.created;
            // It says nothing about the other flags, so a newer one is never enough by itself.
            let content = if same && same_moment { Content::Same } else { Content::Unread };
            let patched = held.map(|held| Flags { transfers_capability: Some(status), ..held.clone() });
            if let (Verdict::Doubt, Some(patched)) = (account.standing.hear(told(content)), patched) {
                doubt(account, patched, event, ctx);
            }
        }
        (News::Changed, Some(account)) => {
            account.standing.hear(told(Content::Unread));
        }
    }
}

fn show(account: &mut Account, flags: Option<Flags>, event: &StoredEvent) {
    account.known.flags = flags;
    // A deauthorization is the news to show, in whichever order the two came.
    if !(account.known.deauthorized() && account.as_of > event.created) {
        account.as_of = event.created;
        account.source.clone_from(&event.event_id);
    }
}

/// Without an order between them, the less ready of the two is shown.
fn doubt(account: &mut Account, heard: Flags, event: &StoredEvent, ctx: &Context) {
    if let Some(held) = account.known.flags.clone() {
        let shown = less_ready(held.clone(), heard, &ctx.policy);
        if shown != held {
            show(account, Some(shown), event);
        }
    }
}

/// The same for somebody who waits for the answer; what is left to ask is left to the worker.
pub async fn refresh(ctx: &Context, id: &AccountId) -> Result<(), FlowError> {
    if let Some(at) = confirm(ctx, id).await? {
        let mut conn = ctx.pool.acquire().await?;
        tasks::ring(&mut conn, Kind::Account, ctx.livemode, &[id.as_str()], at).await?;
    }
    Ok(())
}

/// Asks Stripe about an account and folds the answer in. Returns when to ask again, if a doubt is left.
pub async fn confirm(ctx: &Context, id: &AccountId) -> Result<Option<OffsetDateTime>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    drop(conn);
    let began_at = ctx.clock.now();
    let answer = ctx.stripe.account(Lane::Release, id).await;
    let (flags, event_type, payload) = match &answer {
        Ok(answer) if answer.object.deleted != Some(true) => {
            (Some(flags_as_they_are(&answer.object)), "account", answer.raw.to_vec())
        }
        Ok(answer) => (None, "account.unreachable", answer.raw.to_vec()),
        Err(StripeError::Refused(failure)) if matches!(failure.status, Some(403 | 404)) => {
            let seen = serde_json::json!({"status": failure.status, "code": failure.code, "message": failure.message});
            (None, "account.unreachable", seen.to_string().into_bytes())
        }
        Err(error) => return Err(error.clone().into()),
    };
    let now = ctx.clock.now();
    let mut tx = ctx.pool.begin().await?;
    let before = load(&mut tx, ctx, id).await?;
    let seen = Observation {
        id: observation_id(),
        event_type,
        subject_kind: Kind::Account.as_str(),
        subject: id.as_str(),
        livemode: ctx.livemode,
        observed_from: began_at,
        after_seq,
        received_at: now,
        payload: &payload,
    };
    outbox::insert_observation(&mut tx, &seen).await?;
    let account = fold_fetch(before.clone(), flags, Fetched { at: began_at, after_seq }, ctx);
    record(&mut tx, ctx, id, before.as_ref(), &account, now).await?;
    let unseen = account.known.deauthorized() && account.known.deauthorized_at == Some(began_at);
    let waited_for =
        unseen && !list_open_ids(&mut tx, ctx.livemode, Of::Destination(id.as_str())).await?.is_empty();
    tx.commit().await?;
    if waited_for {
        // Refused with 403 or 404, perhaps only for now: as long as money waits for it, it is asked for again.
        return Ok(Some(now + UNSEEN_LOOK));
    }
    // The pause keeps a stream of events dated in the same moment from turning into a stream of calls.
    Ok(fetch_due(&account, now + Duration::milliseconds(200)))
}

fn fold_fetch(before: Option<Account>, flags: Option<Flags>, fetch: Fetched, ctx: &Context) -> Account {
    let found = flags.is_some();
    let mut account = match before {
        None => first(Standing::of_fetch(fetch), flags, "api"),
        Some(mut account) => {
            let verdict = account.standing.see(fetch);
            if let Some(seen) = flags {
                let shown = match (verdict, account.known.flags.take()) {
                    (Verdict::Keep, held) => held.or(Some(seen)),
                    (Verdict::Apply, _) | (Verdict::Doubt, None) => Some(seen),
                    (Verdict::Doubt, Some(held)) => Some(less_ready(held, seen, &ctx.policy)),
                };
                account.known.flags = shown;
                if verdict != Verdict::Keep {
                    account.as_of = fetch.at;
                    "api".clone_into(&mut account.source);
                }
            }
            account
        }
    };
    if found {
        account.known.confirmed_at = account.known.confirmed_at.max(Some(fetch.at));
    } else {
        account.known.deauthorized_at = account.known.deauthorized_at.max(Some(fetch.at));
    }
    account
}

async fn load(tx: &mut PgConnection, ctx: &Context, id: &AccountId) -> Result<Option<Account>, StoreError> {
    let account = accounts::find_locked(tx, ctx.livemode, id.as_str(), Lock::Update).await?;
    if account.is_some() {
        return Ok(account);
    }
    accounts::lock_absent(tx, ctx.livemode, id.as_str()).await?;
    accounts::find_locked(tx, ctx.livemode, id.as_str(), Lock::Update).await
}

/// Writes the row, its history, and rings for what depends on it.
async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &AccountId,
    before: Option<&Account>,
    account: &Account,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let reasons = account.known.reasons(&ctx.policy);
    let reason_codes = codes(&reasons);
    accounts::put(tx, ctx.livemode, id.as_str(), account, &reason_codes, now).await?;
    let reasons_before = before.map(|before| before.known.reasons(&ctx.policy));
    let flags_before = before.and_then(|before| before.known.flags.as_ref());
    if reasons_before.as_ref() != Some(&reasons) || flags_before != account.known.flags.as_ref() {
        accounts::insert_change(tx, ctx.livemode, id.as_str(), account, &reason_codes, now).await?;
    }
    let fresher = before.is_none_or(|before| {
        before.as_of < account.as_of || before.standing.doubted != account.standing.doubted
    });
    if reasons_before.as_ref() != Some(&reasons) || fresher {
        let open = list_open_ids(tx, ctx.livemode, Of::Destination(id.as_str())).await?;
        let open: Vec<&str> = open.iter().map(String::as_str).collect();
        tasks::ring(tx, Kind::Transfer, ctx.livemode, &open, now).await?;
    }
    Ok(())
}

/// When Stripe should be asked about an account: at once if it is in doubt; if it is taken to have left but
/// something was told of it later, as soon as a fetch could show that it is back.
fn fetch_due(account: &Account, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if account.standing.doubted {
        return Some(now);
    }
    let left_at = account.known.deauthorized_at.filter(|_| account.known.deauthorized())?;
    (account.standing.at > left_at).then_some(now.max(left_at + REAUTHORIZED_AFTER))
}
