//! Whose account link was it that a person came back from? The event names nobody; read from the API it does.

use std::collections::BTreeSet;

use super::{Context, FlowError};
use crate::domain::ids::{AccountId, EventId};
use crate::store::outbox::StoredEvent;
use crate::store::platforms;
use crate::stripe::client::Lane;

/// The connected accounts that these events are about. Where v2 of the API is not to be had, that is nobody's
/// fault, and no account's: v1 tells of the same change by itself.
pub async fn whose(ctx: &Context, events: &[StoredEvent]) -> Result<BTreeSet<AccountId>, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let platform = platforms::get(&mut conn, ctx.livemode).await?.account;
    drop(conn);
    let mut accounts = BTreeSet::new();
    for event in events {
        let id = EventId::parse(&event.event_id)
            .map_err(|error| FlowError::Unreadable(format!("{}: {error}", event.event_id)))?;
        match ctx.stripe.v2_event(Lane::Release, &id).await {
            Ok(answer) => accounts.extend(answer.object.account),
            Err(error) if error.is_without_v2() => {
                tracing::info!(event = %id, %error, "whose account link it was can't be read");
            }
            Err(error) => return Err(error.into()),
        }
    }
    accounts.retain(|id| platform.as_deref() != Some(id.as_str()));
    Ok(accounts)
}
