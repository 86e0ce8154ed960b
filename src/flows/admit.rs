//! Who calls, by the hash of a key's secret; and what is put on record when a key is turned away.

use std::net::IpAddr;

use serde_json::{Value, json};
use time::Duration;

use super::order::{Answer, Begun, begin};
use super::{Actor, Context};
use crate::domain::audit::Action;
use crate::store::db::StoreError;
use crate::store::keys;

pub use crate::store::keys::Scope;

/// A key's last use is noted at most this often.
const NOTED_EVERY: Duration = Duration::minutes(1);

/// Whose key it is, and how far it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A key in force.
    Known(Actor, Scope),
    /// A key that was taken back.
    Revoked(Actor),
}

/// Who calls with the secret of this SHA-256; none for a key that never was.
pub async fn identify(ctx: &Context, secret_hash: &[u8; 32]) -> Result<Option<Caller>, StoreError> {
    let now = ctx.clock.now();
    let mut conn = ctx.pool.acquire().await?;
    let Some(key) = keys::find_by_hash(&mut conn, secret_hash).await? else { return Ok(None) };
    if key.revoked_at.is_some() {
        return Ok(Some(Caller::Revoked(Actor { id: key.id })));
    }
    let noted_since = now - NOTED_EVERY;
    if key.last_used_at.is_none_or(|used| used <= noted_since) {
        keys::touch_if_older(&mut conn, &key.id, now, noted_since).await?;
    }
    let scope = key.scope();
    Ok(Some(Caller::Known(Actor { id: key.id }, scope)))
}

/// Why a known key is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was taken back.
    Revoked,
    /// It does not reach so far.
    Scope {
        /// How far it reaches.
        has: Scope,
        /// How far it would have to.
        needs: Scope,
    },
}

/// Puts it on record that a key was turned away from `call` (a method and a route), from where, and how often before that
/// was not.
pub async fn turn_away(
    ctx: &Context,
    actor: &Actor,
    call: &str,
    client: Option<IpAddr>,
    cause: Cause,
    unrecorded: u64,
) -> Result<(), StoreError> {
    // Without a key it is always a new order.
    let Begun::Fresh(mut order) = begin(ctx, actor, None).await? else { return Ok(()) };
    let mut details = match cause {
        Cause::Revoked => json!({"cause": "revoked"}),
        Cause::Scope { has, needs } => {
            json!({"cause": "scope", "has": has.as_str(), "needs": needs.as_str()})
        }
    };
    details["client"] = json!(client.map(|address| address.to_string()));
    details["not_recorded_before"] = json!(unrecorded);
    order.note(Action::CallRefused, call, &details);
    order.end(Answer { status: 200, body: Value::Null }).await?;
    Ok(())
}
