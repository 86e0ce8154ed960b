//! A person is sent to Stripe to give their details, and comes back by one of two doors.
//!
//! Stripe's link opens personal data, once: it is made anew each time, handed on, and kept nowhere. What the next
//! one is to be made with travels sealed in the doors' own addresses.

use secrecy::SecretString;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::order::{Answer, Begun, begin};
use super::{Actor, Context, NotDone, instant};
use crate::domain::audit::Action;
use crate::domain::declined::Fault;
use crate::domain::onboarding::{self, Door, OPEN_FOR, SealKey, Shut, Ticket};
use crate::domain::task::Kind;
use crate::store::db::StoreError;
use crate::store::{door_keys, tasks};

/// Who makes the next link when a person comes by the refresh door.
const OURSELVES: &str = "sluicegate";

/// A link to Stripe's pages, for one visit within minutes.
#[derive(Debug)]
pub struct Link {
    /// Where to send the person.
    pub url: SecretString,
    /// Until when it opens.
    pub expires_at: Option<OffsetDateTime>,
}

/// Why a door stays shut.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The token opens nothing, or no longer.
    #[error("the token opens nothing")]
    Shut(Shut),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a link for a caller. The ticket's time begins now, whatever it says.
pub async fn make_link(ctx: &Context, actor: &Actor, ticket: Ticket) -> Result<Link, NotDone> {
    let open_until = (ctx.clock.now() + OPEN_FOR).truncate_to_second();
    link(ctx, actor, &Ticket { open_until, ..ticket }, None).await
}

/// Makes the next link for the person at the refresh door, with the same parameters: its doors are the same, and
/// shut when they would have.
pub async fn renew_link(ctx: &Context, ticket: &Ticket) -> Result<Link, NotDone> {
    link(ctx, &Actor { id: OURSELVES.to_owned() }, ticket, Some(Door::Refresh)).await
}

/// Reads the ticket of whoever stands at a door.
pub async fn open_door(ctx: &Context, token: &str, door: Door) -> Result<Ticket, Closed> {
    let shut = |why| Closed::Shut(why);
    let named = onboarding::key_of(token).ok_or(shut(Shut::Unknown))?;
    let mut conn = ctx.pool.acquire().await.map_err(StoreError::from)?;
    let key = door_keys::find(&mut conn, named).await?.ok_or(shut(Shut::Unknown))?;
    let ticket = Ticket::open(token, door, &key, ctx.clock.now()).map_err(shut)?;
    if ticket.livemode == ctx.livemode { Ok(ticket) } else { Err(shut(Shut::Unknown)) }
}

async fn link(ctx: &Context, actor: &Actor, ticket: &Ticket, door: Option<Door>) -> Result<Link, NotDone> {
    let base = ctx.public_url.as_deref().ok_or(NotDone::NoPublicUrl)?;
    let key = seal_key(ctx).await?;
    let address = |door: Door| format!("{base}/onboarding/{}/{}", ticket.seal(door, &key), door.as_str());
    let parameters = json!({
        "account": ticket.account,
        "type": ticket.kind.as_str(),
        "refresh_url": address(Door::Refresh),
        "return_url": address(Door::Return),
        "collection_options": {
            "fields": ticket.collect.map(onboarding::Collect::as_str),
            "future_requirements": ticket.future.map(onboarding::Future::as_str),
        },
    });
    // Never the same key twice: a replay would give a link that is used up.
    let once = format!("sluicegate-link-{}", Uuid::new_v4().simple());
    let answer = match ctx.stripe.create_account_link(&parameters, &once).await {
        Ok(answer) => answer.object,
        Err(error) => return Err(declined(ctx, ticket, error.into()).await?),
    };
    note(ctx, actor, ticket, door).await?;
    Ok(Link { url: SecretString::from(answer.url), expires_at: instant(answer.expires_at) })
}

/// Where Stripe does not show the account any more, it is asked about it: the readiness may have to change.
async fn declined(ctx: &Context, ticket: &Ticket, error: NotDone) -> Result<NotDone, NotDone> {
    if matches!(error, NotDone::Declined { fault: Fault::Account, .. }) {
        let (mut conn, now) = (ctx.pool.acquire().await?, ctx.clock.now());
        tasks::ring(&mut conn, Kind::Account, ctx.livemode, &[ticket.account.as_str()], now).await?;
    }
    Ok(error)
}

/// Puts on record that a link was made, and nothing by which it could be found.
async fn note(ctx: &Context, actor: &Actor, ticket: &Ticket, door: Option<Door>) -> Result<(), NotDone> {
    // Without a key it is always a new order.
    let Begun::Fresh(mut order) = begin(ctx, actor, None).await? else { return Ok(()) };
    let details = json!({
        "type": ticket.kind.as_str(),
        "returns_to": ticket.return_url.as_ref().map(|url| url.origin()),
        "door": door.map(Door::as_str),
    });
    order.note(Action::OnboardingLinkCreated, ticket.account.as_str(), &details);
    order.end(Answer { status: 201, body: Value::Null }).await?;
    Ok(())
}

/// The key that seals; made with the first link.
async fn seal_key(ctx: &Context) -> Result<SealKey, NotDone> {
    let mut conn = ctx.pool.acquire().await?;
    if let Some(key) = door_keys::find_newest(&mut conn).await? {
        return Ok(key);
    }
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| NotDone::Randomness(error.to_string()))?;
    Ok(door_keys::insert(&mut conn, &secret, ctx.clock.now()).await?)
}
