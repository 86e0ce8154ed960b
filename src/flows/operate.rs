//! What operators do besides asking for transfers: stop and start releases, replay an event, hand out keys.

use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use super::order::{Answer, Begun, Ordered, begin};
use super::{Actor, Context, Once};
use crate::domain::audit::Action;
use crate::domain::ids::{EventId, KeyId};

use crate::store::db::StoreError;
use crate::store::{controls, keys, tasks, views};

pub use crate::store::controls::Pause;
pub use crate::store::keys::{Key, Scope};

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no such event or key.
    #[error("nothing has this id")]
    NotFound,
    /// The event is one that nothing is done with, for this reason.
    #[error("the event is ignored: {0}")]
    Ignored(String),
    /// The operating system gave no random bits.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OperateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Stops all releases for a cause, or with `None` lets them go on; both may be repeated. `reason` is what the
/// operator said, for the record.
pub async fn set_pause(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    cause: Option<&str>,
    reason: Option<&str>,
    render: impl Fn(&Pause) -> Value,
) -> Result<Ordered, OperateError> {
    match begin(ctx, actor, once).await? {
        Begun::Before(before) => Ok(before),
        Begun::Fresh(mut order) => {
            let now = order.now;
            controls::ensure_release_controls(order.tx(), ctx.livemode, now).await?;
            let pause = cause.map(|cause| (cause, actor.id.as_str()));
            let changed = controls::set_pause(order.tx(), ctx.livemode, pause, now).await?;
            let state = controls::find_pause(order.tx(), ctx.livemode).await?;
            let body = state.as_ref().map(render).ok_or(OperateError::NotFound)?;
            tasks::ring_open_transfers(order.tx(), ctx.livemode, now).await?;
            let action = if cause.is_some() { Action::ReleasesPaused } else { Action::ReleasesResumed };
            order.note(action, "releases", &json!({"reason": reason, "changed": changed}));
            Ok(order.end(Answer { status: 200, body }).await?)
        }
    }
}

/// Has an event applied once more.
pub async fn replay(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    event: &EventId,
    render: impl Fn(&views::Event) -> Value,
) -> Result<Ordered, OperateError> {
    let mut order = match begin(ctx, actor, once).await? {
        Begun::Before(before) => return Ok(before),
        Begun::Fresh(order) => order,
    };
    let (found, now) = (get_event(order.tx(), event).await?, order.now);
    if !tasks::replay(order.tx(), ctx.livemode, event.as_str(), now).await? {
        return Err(OperateError::Ignored(found.reason().unwrap_or_default().to_owned()));
    }
    let body = render(&get_event(order.tx(), event).await?);
    order.note(Action::EventReplayed, event.as_str(), &json!({}));
    Ok(order.end(Answer { status: 200, body }).await?)
}

async fn get_event(conn: &mut PgConnection, event: &EventId) -> Result<views::Event, OperateError> {
    views::find_event(conn, event.as_str()).await?.ok_or(OperateError::NotFound)
}

/// Makes a key. Its secret is told this once; a repeated order is answered without it.
pub async fn create_key(
    ctx: &Context,
    actor: &Actor,
    once: Option<&Once>,
    name: &str,
    scope: Scope,
    render: impl Fn(&Key) -> Value,
) -> Result<(Ordered, Option<SecretString>), OperateError> {
    let mut order = match begin(ctx, actor, once).await? {
        Begun::Before(before) => return Ok((before, None)),
        Begun::Fresh(order) => order,
    };
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits).map_err(|error| OperateError::Randomness(error.to_string()))?;
    let secret = format!("sgk_{}", base62(bits));
    let hash = Sha256::digest(secret.as_bytes());
    let id = KeyId::from_uuid(Uuid::now_v7());
    let now = order.now;
    let key = keys::insert(order.tx(), &id, name, scope, &hash, &actor.id, now).await?;
    order.note(Action::KeyCreated, id.as_str(), &json!({"name": name, "scope": scope.as_str()}));
    let ordered = order.end(Answer { status: 201, body: render(&key) }).await?;
    Ok((ordered, Some(SecretString::from(secret))))
}

/// Takes a key back; may be repeated.
pub async fn revoke_key(ctx: &Context, actor: &Actor, id: &KeyId) -> Result<Key, OperateError> {
    // Without a key it is always a new order.
    let Begun::Fresh(mut order) = begin(ctx, actor, None).await? else { return Err(OperateError::NotFound) };
    let now = order.now;
    let key = keys::revoke(order.tx(), id, now).await?.ok_or(OperateError::NotFound)?;
    if key.revoked_at == Some(now.truncate_to_microsecond()) {
        order.note(Action::KeyRevoked, id.as_str(), &json!({"name": key.name}));
    }
    order.end(Answer { status: 200, body: Value::Null }).await?;
    Ok(key)
}

/// 256 bits as 43 letters and digits, the fewest that hold them.
fn base62(mut bits: [u8; 32]) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(43);
    for _ in 0..43 {
        let mut remainder = 0_usize;
        for byte in &mut bits {
            let dividend = remainder * 256 + usize::from(*byte);
            // Below 256: the remainder before was below 62.
            *byte = u8::try_from(dividend / 62).unwrap_or(u8::MAX);
            remainder = dividend % 62;
        }
        text.push(char::from(ALPHABET[remainder]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_has_its_own_text_of_43_characters() {
        assert_eq!(base62([0; 32]), "0".repeat(43));
        let mut one = [0; 32];
        one[31] = 61;
        assert_eq!(base62(one), format!("z{}", "0".repeat(42)));
        one[31] = 62;
        assert_eq!(base62(one), format!("01{}", "0".repeat(41)));
        assert_eq!(base62([0xff; 32]).len(), 43);
        assert_ne!(base62([0xff; 32]), base62([0xfe; 32]));
    }
}
