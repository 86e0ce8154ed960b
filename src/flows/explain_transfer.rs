//! Why a transfer stands where it stands: everything that is asked about it, at one moment, with the evidence.
//!
//! It reads what the deciding flows read and asks the same decisions; it locks nothing and changes nothing.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Context;
use super::transfer_snapshot::Snapshot;
use crate::domain::account::Policy;
use crate::domain::explanation::{
    AccountFacts, Act, Check, Facts, MoneyFacts, TopupFacts, explain as chain, summary,
};
use crate::domain::funds::Purse;
use crate::domain::ids::TransferId;
use crate::domain::reason::Reason;
use crate::domain::release::{Attempt, Step};
use crate::domain::transfer::Status;
use crate::store::accounts::Account;
use crate::store::db::StoreError;
use crate::store::transfers::{self, Transfer};
use crate::store::{attempts, controls, heartbeats, ledger, line, topups, views};

/// An explanation.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The transfer.
    pub transfer: Transfer,
    /// The whole in a sentence or two.
    pub summary: String,
    /// Every check, in order.
    pub checks: Vec<Check>,
}

/// Explains a transfer; none where there is no such one.
pub async fn explain(ctx: &Context, id: &TransferId) -> Result<Option<Explained>, StoreError> {
    let mut tx = views::snapshot(&ctx.pool).await?;
    let now = ctx.clock.now();
    let found = transfers::find(&mut tx, id.as_str()).await?.filter(|t| t.livemode == ctx.livemode);
    let Some(transfer) = found else { return Ok(None) };
    let policy = ctx.policy();
    let facts = facts(&mut tx, ctx, &policy, &transfer, now).await?;
    let (summary, checks) = (summary(&facts), chain(&facts));
    Ok(Some(Explained { transfer, summary, checks }))
}

async fn facts<'a>(
    tx: &mut PgConnection,
    ctx: &'a Context,
    policy: &'a Policy,
    transfer: &Transfer,
    now: OffsetDateTime,
) -> Result<Facts<'a>, StoreError> {
    let pause = controls::find_pause(tx, ctx.livemode).await?.filter(|pause| pause.paused);
    let by = |pause: &controls::Pause| Act { by: pause.paused_by.clone().unwrap_or_default(), at: pause.at };
    let snapshot = Snapshot::look(tx, ctx, &[transfer], now).await?.pop();
    let money = money(tx, ctx, transfer).await?;
    let mut reasons = snapshot.as_ref().map(|seen| seen.reasons(ctx, transfer, now)).unwrap_or_default();
    if reasons.is_empty() {
        reasons = said_by_the_line(transfer, &money);
    }
    let attempt = attempt(tx, ctx, transfer, reasons.is_empty(), now).await?;
    let (used, account) = snapshot.map(|seen| (seen.used, seen.account)).unwrap_or_default();
    Ok(Facts {
        now,
        status: transfer.status,
        reasons,
        in_line: transfer.fundable,
        amount_minor: transfer.amount_minor,
        currency: transfer.currency,
        asked: Act { by: transfer.created_by.clone(), at: transfer.created_at },
        stop: pause.map(|pause| (by(&pause), pause.cause.unwrap_or_default())),
        catching_up_since: heartbeats::find_catch_up(tx, ctx.livemode).await?.map(|begun| begun.from),
        held: act(transfer.held_by.as_ref(), transfer.held_at),
        approved: act(transfer.approved_by.as_ref(), transfer.approved_at),
        release_after: transfer.release_after,
        limits: &ctx.limits,
        used,
        account: account.map(account_facts),
        policy,
        max_age: ctx.max_age,
        hold_off: transfer.hold_off,
        topup: topup(tx, ctx, transfer).await?,
        money,
        attempt,
        expected_release_at: transfer.expected_release_at,
        stripe_transfer: transfer.stripe_transfer.as_ref().map(ToString::to_string),
        amount_reversed_minor: transfer.amount_reversed_minor,
        failure: transfer.failure.clone(),
        last: transfers::find_last_line(tx, transfer.id.as_str()).await?,
    })
}

fn act(by: Option<&String>, at: Option<OffsetDateTime>) -> Option<Act> {
    by.cloned().zip(at).map(|(by, at)| Act { by, at })
}

fn account_facts(account: Account) -> AccountFacts {
    AccountFacts {
        known: account.known,
        as_of: account.as_of,
        source: account.source,
        doubted: account.standing.doubted,
    }
}

/// What keeps it for lack of money, as the line last said; the stop of its currency as it is now.
fn said_by_the_line(transfer: &Transfer, money: &MoneyFacts) -> Vec<Reason> {
    let short =
        transfer.status == Status::Waiting && transfer.waiting_on.contains(&Reason::FundsInsufficient);
    let stopped = money.stopped_at.is_some();
    let reasons =
        [short.then_some(Reason::FundsInsufficient), stopped.then_some(Reason::StripeBalanceInsufficient)];
    reasons.into_iter().flatten().collect()
}

async fn topup(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
) -> Result<Option<TopupFacts>, StoreError> {
    let Some(id) = &transfer.topup else { return Ok(None) };
    let found = topups::find(tx, ctx.livemode, id.as_str()).await?.filter(|topup| topup.known);
    Ok(Some(TopupFacts {
        id: id.to_string(),
        status: found.as_ref().map(|topup| topup.status.as_str()),
        expected_at: found.as_ref().and_then(|topup| topup.expected_at()),
        told: found.map(|topup| (topup.as_of, topup.source)),
    }))
}

async fn money(tx: &mut PgConnection, ctx: &Context, transfer: &Transfer) -> Result<MoneyFacts, StoreError> {
    let purse = Purse::new(ledger::list_lots(tx, ctx.livemode, transfer.currency).await?);
    let ahead = match transfer.fundable {
        true => line::count_before(tx, transfer).await?,
        false => (0, 0),
    };
    let balance = controls::find_balance(tx, ctx.livemode, transfer.currency).await?;
    Ok(MoneyFacts {
        free_minor: purse.free_minor(transfer.topup.as_ref().map(|id| id.as_str())),
        ahead,
        stopped_at: balance.as_ref().and_then(|balance| balance.stopped_at),
        stripe_available: balance.and_then(|balance| balance.stripe_available.zip(balance.checked_at)),
    })
}

/// The use of its key, where its money is reserved, and what the worker does next about it.
async fn attempt(
    tx: &mut PgConnection,
    ctx: &Context,
    transfer: &Transfer,
    clear: bool,
    now: OffsetDateTime,
) -> Result<Option<(Attempt, Step)>, StoreError> {
    if transfer.status != Status::Releasing {
        return Ok(None);
    }
    let found = attempts::find(tx, transfer.id.as_str(), transfer.generation).await?;
    let longest_call = time::Duration::try_from(ctx.longest_call).unwrap_or(time::Duration::MINUTE);
    Ok(found.map(|attempt| {
        let view = attempt.view(longest_call);
        let step = view.next_step(clear, ctx.grace, now);
        (view, step)
    }))
}
