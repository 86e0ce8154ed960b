//! Who looks at a page: the session in the browser's cookie, and how far its key reaches.

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, COOKIE, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Section};
use super::onward;
use crate::domain::session::{LASTS, Token};
use crate::flows::Actor;
use crate::flows::admit::{Cause, Scope};
use crate::flows::sign_in;
use crate::http::auth;
use crate::http::error::{Code, Problem};
use crate::http::state::{AppState, Shared};

/// The cookie where the browser's way here is encrypted: no other host, and no other way, can set it.
const SECURE: &str = "__Host-sluicegate";
/// The cookie where it is not.
const PLAIN: &str = "sluicegate_console";
/// What our script says when a page keeps itself up to date: nobody did anything.
pub(super) const LIVE: &str = "x-sluicegate-live";

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub(in crate::http) struct Visitor {
    /// Who, for the record.
    pub(super) actor: Actor,
    /// What the key's owner calls it.
    pub(super) name: String,
    /// How far the key reaches.
    pub(super) scope: Scope,
    /// What the browser is known by.
    pub(super) token: Token,
    livemode: bool,
}

impl Visitor {
    /// Whether they may move money.
    pub(super) fn operates(&self) -> bool {
        self.scope >= Scope::Operate
    }

    /// What surrounds a page for them.
    pub(super) fn frame(&self, section: Section, title: impl Into<String>) -> Frame {
        Frame {
            title: title.into(),
            section,
            who: self.name.clone(),
            scope: self.scope.as_str(),
            operates: self.operates(),
            administers: self.scope >= Scope::Admin,
            mark: self.token.form_mark(),
            livemode: self.livemode,
            done: None,
        }
    }
}

macro_rules! visitors {
    ($($(#[$doc:meta])* $name:ident = $scope:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(in crate::http) struct $name(pub(super) Visitor);

        impl FromRequestParts<Shared> for $name {
            type Rejection = Response;

            async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Response> {
                admit(state, parts, Scope::$scope).await.map(Self)
            }
        }
    )*};
}

visitors! {
    /// Somebody who may look.
    Reader = Read;
    /// Somebody who may move money.
    Operator = Operate;
    /// Somebody who may hand out keys.
    Admin = Admin;
}

/// Lets in whose session lasts and whose key reaches so far; the others are sent to sign in, or told.
async fn admit(state: &AppState, parts: &Parts, needs: Scope) -> Result<Visitor, Response> {
    let Some(visitor) = recall(state, &parts.headers).await.map_err(IntoResponse::into_response)? else {
        return Err(send_to_sign_in(parts));
    };
    tracing::Span::current().record("caller", visitor.actor.id.as_str());
    if visitor.scope >= needs {
        return Ok(visitor);
    }
    let cause = Cause::Scope { has: visitor.scope, needs };
    auth::turn_away(state, parts, &visitor.actor, cause).await;
    let detail = format!(
        "You are signed in with a key of scope {}; this needs one of scope {}. Sign out, and in again with such a key.",
        visitor.scope.as_str(),
        needs.as_str()
    );
    Err(Problem::new(Code::Forbidden, detail).into_response())
}

/// Whose session the browser shows, if it lasts.
pub(super) async fn recall(state: &AppState, headers: &HeaderMap) -> Result<Option<Visitor>, Problem> {
    let Some(token) = token_of(headers) else { return Ok(None) };
    let listens = headers.get(ACCEPT).is_some_and(|accept| accept == "text/event-stream");
    let acts = !listens && !headers.contains_key(LIVE);
    let known = sign_in::recall(&state.ctx, &token, state.bootstrap(), acts).await?;
    let livemode = state.ctx.livemode;
    Ok(known.map(|known| Visitor {
        actor: known.actor,
        name: known.name,
        scope: known.scope,
        token,
        livemode,
    }))
}

fn send_to_sign_in(parts: &Parts) -> Response {
    if parts.headers.contains_key(LIVE) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let path = parts.uri.path_and_query().map_or("/console", |path| path.as_str());
    let next = if parts.method == Method::GET { path } else { "/console" };
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    onward(&format!("/console/sign-in?{query}"))
}

/// The token in the browser's cookies.
pub(super) fn token_of(headers: &HeaderMap) -> Option<Token> {
    let cookies: Vec<(&str, &str)> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .collect();
    let named = |name: &str| cookies.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
    named(SECURE).or_else(|| named(PLAIN)).and_then(Token::parse)
}

/// Whether the browser's way here is encrypted, as far as the request shows.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text(ORIGIN.as_str()).starts_with("https://") || text("x-forwarded-proto") == "https"
}

/// The header that gives the browser its token: for as long as a session can last.
pub(super) fn cookie(token: &Token, secure: bool) -> Result<HeaderValue, Problem> {
    written(&token.reveal(), secure, LASTS.whole_seconds())
}

/// The header that takes it away.
pub(super) fn no_cookie(secure: bool) -> Result<HeaderValue, Problem> {
    written("", secure, 0)
}

fn written(value: &str, secure: bool, seconds: i64) -> Result<HeaderValue, Problem> {
    // Lax: a link in a message leads in; a form of another site is refused by its missing mark anyway.
    let text = if secure {
        format!("{SECURE}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax")
    } else {
        format!("{PLAIN}={value}; Path=/console; Max-Age={seconds}; HttpOnly; SameSite=Lax")
    };
    HeaderValue::from_str(&text).map_err(|error| Problem::internal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies_and_the_stricter_one_first() {
        let (one, other) = (Token::of([1; 32]), Token::of([2; 32]));
        let of = |values: &[String]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(COOKIE, HeaderValue::from_str(value).unwrap());
            }
            token_of(&headers)
        };
        let (plain, secure) = (format!("{PLAIN}={}", one.reveal()), format!("{SECURE}={}", other.reveal()));
        assert_eq!(of(&[format!("a=b; {plain} ;c=d")]), Some(one));
        assert_eq!(of(&[plain, secure]), Some(other));
        for bad in ["", "sluicegate_console", "sluicegate_console=", "sluicegate_console=abc"] {
            assert_eq!(of(&[bad.to_owned()]), None, "{bad}");
        }
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_secure_where_the_way_is() {
        let token = Token::of([1; 32]);
        for secure in [true, false] {
            let text = cookie(&token, secure).unwrap().to_str().unwrap().to_owned();
            assert!(text.contains("; HttpOnly") && text.contains("; SameSite=Lax"), "{text}");
            assert_eq!(text.contains("; Secure"), secure, "{text}");
            assert!(text.contains("Max-Age=43200"), "{text}");
            assert!(no_cookie(secure).unwrap().to_str().unwrap().contains("=; "), "emptied");
        }
    }
}
