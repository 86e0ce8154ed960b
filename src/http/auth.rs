//! Who calls, and how far that reaches.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::error::{Code, Problem};
use super::serving::Client;
use super::state::{AppState, Shared, hash};
use crate::domain::session::Token;
use crate::flows::admit::{self, Caller, Cause, Scope};
use crate::flows::{Actor, sign_in};

const UNKNOWN: &str = "The key is unknown or was revoked; use another one.";

/// The bootstrap key's name in the records.
const ADMIN: &str = "admin";

macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident = $scope:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) Actor);

        impl FromRequestParts<Shared> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Problem> {
                admit(state, parts, Scope::$scope).await.map(Self)
            }
        }
    )*};
}

callers! {
    /// Someone who may look.
    Reader = Read;
    /// Someone who may move money.
    Operator = Operate;
    /// Someone who may hand out keys.
    Admin = Admin;
}

/// Someone who may look, and goes on looking: whether they still may can be asked again.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// Who it is.
    pub(super) actor: Actor,
    /// By what, if it can be taken back.
    by: By,
}

/// By what somebody is let in.
#[derive(Clone, Debug)]
enum By {
    /// The bootstrap key, or being within this process.
    Lasting,
    /// The key of this hash.
    Key([u8; 32]),
    /// A session of the console.
    Session(Token),
}

impl FromRequestParts<Shared> for Pass {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Problem> {
        let Reader(actor) = Reader::from_request_parts(parts, state).await?;
        let lasting = actor.id == ADMIN || parts.extensions.get::<Known>().is_some();
        let key = bearer(&parts.headers).filter(|_| !lasting);
        Ok(Self { actor, by: key.map_or(By::Lasting, |secret| By::Key(hash(secret))) })
    }
}

impl Pass {
    /// Somebody who is signed in to the console.
    pub(super) fn of_session(actor: Actor, token: Token) -> Self {
        Self { actor, by: By::Session(token) }
    }

    /// Whether the key still reaches so far. Where that can't be found out at the moment, it does.
    pub(super) async fn holds(&self, state: &AppState) -> bool {
        match &self.by {
            By::Lasting => true,
            By::Key(key) => match identify(state, *key).await {
                Ok(Some(Caller::Known(_, _))) | Err(_) => true,
                Ok(Some(Caller::Revoked(_)) | None) => false,
            },
            By::Session(token) => match sign_in::recall(&state.ctx, token, state.bootstrap(), false).await {
                Ok(known) => known.is_some(),
                Err(_) => true,
            },
        }
    }

    /// The same, for an answer that took a while.
    pub(super) async fn check(&self, state: &AppState) -> Result<(), Problem> {
        if self.holds(state).await { Ok(()) } else { Err(unauthorized(UNKNOWN)) }
    }
}

/// A caller within this process, known without a key. Only the router can put one into a request: nothing that
/// comes over the network becomes an extension.
#[derive(Clone, Debug)]
pub(super) struct Known(pub(super) Actor);

/// Lets in whose key reaches so far. A key that was taken back, or that does not, leaves a row in the audit log.
async fn admit(state: &AppState, parts: &Parts, needs: Scope) -> Result<Actor, Problem> {
    if let Some(Known(actor)) = parts.extensions.get() {
        tracing::Span::current().record("caller", actor.id.as_str());
        return Ok(actor.clone());
    }
    let Some(secret) = bearer(&parts.headers) else {
        return Err(unauthorized("Send `Authorization: Bearer KEY`, once."));
    };
    let secret_hash = hash(secret);
    if state.admin_key.as_ref().is_some_and(|key| key.matches(&secret_hash)) {
        tracing::Span::current().record("caller", ADMIN);
        return Ok(Actor { id: ADMIN.to_owned() });
    }
    let unknown = || unauthorized(UNKNOWN);
    match identify(state, secret_hash).await?.ok_or_else(unknown)? {
        Caller::Known(actor, has) => {
            tracing::Span::current().record("caller", actor.id.as_str());
            if has >= needs {
                return Ok(actor);
            }
            turn_away(state, parts, &actor, Cause::Scope { has, needs }).await;
            Err(forbidden(has, needs))
        }
        Caller::Revoked(actor) => {
            tracing::Span::current().record("caller", actor.id.as_str());
            turn_away(state, parts, &actor, Cause::Revoked).await;
            Err(unknown())
        }
    }
}

pub(super) async fn identify(state: &AppState, secret_hash: [u8; 32]) -> Result<Option<Caller>, Problem> {
    let now = state.ctx.clock.now();
    let era = match state.door.recall(&secret_hash, now) {
        Ok(caller) => return Ok(Some(caller)),
        Err(era) => era,
    };
    let found = admit::identify(&state.ctx, &secret_hash).await?;
    if let Some(caller) = &found {
        state.door.remember(secret_hash, caller, now, era);
    }
    Ok(found)
}

pub(super) async fn turn_away(state: &AppState, parts: &Parts, actor: &Actor, cause: Cause) {
    let route = parts.extensions.get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let call = format!("{} {route}", parts.method);
    metrics::counter!("sluicegate_refused_calls_total").increment(1);
    let Some(unrecorded) = state.door.note_refusal(&actor.id, &call, state.ctx.clock.now()) else { return };
    let client = parts.extensions.get::<Client>().map(|Client(address)| *address);
    if let Err(error) = admit::turn_away(&state.ctx, actor, &call, client, cause, unrecorded).await {
        tracing::error!(%error, key = actor.id, call, "a key was turned away, and that could not be put on record");
    }
}

/// The secret after `Bearer`, which may be written in any case; none where the header is missing, repeated,
/// or of another form.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}

fn forbidden(has: Scope, needs: Scope) -> Problem {
    let detail = format!("The key has scope `{}`; use one with `{}`.", has.as_str(), needs.as_str());
    Problem::new(Code::Forbidden, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_scheme_may_be_written_in_any_case_and_stands_once() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(str::to_owned)
        };
        for good in ["Bearer k", "bearer k", "BEARER  k "] {
            assert_eq!(of(&[good]).as_deref(), Some("k"), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic k", "k"] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&["Bearer k", "Bearer k"]), None);
        assert!(Scope::Read < Scope::Operate && Scope::Operate < Scope::Admin);
    }
}
