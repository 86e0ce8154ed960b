//! A top-up that the bank has not paid yet is called off.
//!
//! The order is on record before Stripe is asked, and its key is claimed meanwhile: of several with one key one asks.
//! What Stripe answers is taken in as evidence; where it gives no answer, or refuses, the top-up is fetched, and what
//! that shows is the answer.

use serde_json::{Value, json};
use uuid::Uuid;

use super::order::{Answer, Begun, Claim, Claimed, Ordered, claim};
use super::rings::Rings;
use super::topup_evidence::is_money;
use super::topup_record::{self, Answered};
use super::{Actor, Context, NotDone, Once};
use crate::domain::audit::Action;
use crate::domain::evidence::Fetched;
use crate::domain::ids::TopupId;
use crate::domain::topup::Status;
use crate::store::db::{self, StoreError};
use crate::store::views::{self, Topup};
use crate::store::{outbox, topups};
use crate::stripe::client::{self, Lane};
use crate::stripe::error::StripeError;
use crate::stripe::wire;

/// Why a top-up was not called off.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// Neither an event nor a call has shown it.
    #[error("no top-up has this id")]
    NotFound,
    /// It is beyond that.
    #[error("a top-up that is {} can't be called off", .0.as_str())]
    State(Status),
    /// It is pending, and Stripe refuses all the same.
    #[error("Stripe refuses to call it off: {0}")]
    Refused(String),
    /// It is not known, or can't be done with this service's key.
    #[error(transparent)]
    NotDone(#[from] NotDone),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CancelError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Calls a pending top-up off; one that was called off before stays so. `reason` is what the caller said why; `render`
/// makes the answer.
pub async fn cancel(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    id: &TopupId,
    reason: Option<&str>,
    render: fn(&Topup) -> Value,
) -> Result<Ordered, CancelError> {
    let claim = match claim(ctx, actor, once).await? {
        Claimed::Before(before) => return Ok(before),
        Claimed::Mine(claim) => claim,
    };
    // On its own, so that what Stripe answers is written down even where the caller hangs up.
    let work = tokio::spawn({
        let (ctx, id, reason) = (ctx.clone(), id.clone(), reason.map(str::to_owned));
        async move {
            let done = carry_out(&ctx, &claim, &id, reason.as_deref(), render).await;
            claim.release().await;
            done
        }
    });
    work.await.map_err(|panic| unreadable(id, &panic))?
}

async fn carry_out(
    ctx: &Context,
    claim: &Claim,
    id: &TopupId,
    reason: Option<&str>,
    render: fn(&Topup) -> Value,
) -> Result<Ordered, CancelError> {
    let mut order = match claim.begin(ctx).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let held = topups::find(order.tx(), ctx.livemode, id.as_str()).await?.filter(|held| held.known);
    let mut refusal = None;
    match held.ok_or(CancelError::NotFound)?.status {
        Status::Canceled => drop(order),
        status @ (Status::Succeeded | Status::Failed | Status::Reversed) => {
            return Err(CancelError::State(status));
        }
        Status::Pending | Status::Unknown => {
            order.note(Action::TopupCancelRequested, id.as_str(), &json!({"reason": reason}));
            order.put_on_record().await?;
            refusal = ask(ctx, id).await?;
        }
    }
    let mut order = match claim.begin(ctx).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let shown = views::find_topup(order.tx(), ctx.livemode, id.as_str()).await?;
    let shown = shown.ok_or(CancelError::NotFound)?;
    match (Status::parse(&shown.status), refusal) {
        (Status::Canceled, _) => Ok(order.end(Answer { status: 200, body: render(&shown) }).await?),
        (Status::Pending | Status::Unknown, Some(message)) => Err(CancelError::Refused(message)),
        (Status::Pending | Status::Unknown, None) => Err(NotDone::Unanswered.into()),
        (status, _) => Err(CancelError::State(status)),
    }
}

fn unreadable(id: &TopupId, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable(format!("{id}: {error}"))
}

/// Asks Stripe to call it off, and takes in what that shows, or else what a fetch does. The text of Stripe's refusal,
/// where it refused.
async fn ask(ctx: &Context, id: &TopupId) -> Result<Option<String>, CancelError> {
    let fetch = begin_fetch(ctx).await?;
    // Called off twice is called off once: each order has a key of its own, since Stripe would only repeat what it
    // said to an earlier one.
    let key = format!("{id}.cancel.{}", Uuid::new_v4().simple());
    let refusal = match ctx.stripe.cancel_topup(id, &key).await {
        Ok(answer) => {
            take_in(ctx, id, &answer, fetch).await?;
            return Ok(None);
        }
        Err(StripeError::Refused(failure)) if matches!(failure.status, Some(401 | 403)) => {
            return Err(NotDone::from(StripeError::Refused(failure)).into());
        }
        Err(StripeError::Refused(failure)) => Some(failure.message),
        Err(StripeError::Retry(_) | StripeError::Unknown(_)) => None,
    };
    let fetch = begin_fetch(ctx).await?;
    match ctx.stripe.topup(Lane::Release, id).await {
        Ok(answer) => take_in(ctx, id, &answer, fetch).await?,
        Err(StripeError::Refused(failure)) if failure.status == Some(404) => {
            return Err(CancelError::NotFound);
        }
        Err(error) => return Err(NotDone::from(error).into()),
    }
    Ok(refusal)
}

/// The moment of a call that is about to be made.
async fn begin_fetch(ctx: &Context) -> Result<Fetched, CancelError> {
    let mut conn = ctx.pool.acquire().await?;
    let after_seq = outbox::last_seq(&mut conn).await?;
    Ok(Fetched { at: ctx.clock.now(), after_seq })
}

async fn take_in(
    ctx: &Context,
    id: &TopupId,
    answer: &client::Answer<wire::Topup>,
    fetch: Fetched,
) -> Result<(), CancelError> {
    if answer.object.id != *id || !is_money(&answer.object) {
        return Err(unreadable(id, &"Stripe answered with something else").into());
    }
    let mut tx = db::begin(&ctx.pool).await?;
    let answered = Answered { object: &answer.object, raw: &answer.raw, fetch };
    let mut rings = Rings::default();
    topup_record::take_in(&mut tx, ctx, answered, &mut rings, ctx.clock.now()).await?;
    rings.ring(&mut tx, ctx).await?;
    tx.commit().await?;
    Ok(())
}
