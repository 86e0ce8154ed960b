//! In and out: an API key is exchanged for a session.

use std::net::{IpAddr, Ipv4Addr};

use askama::Template;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use super::form::Form;
use super::query::Asked;
use super::session::{self, Visitor};
use super::{onward, page_with};
use crate::flows::admit::Caller;
use crate::flows::sign_in::{self, SignInError, With};
use crate::http::auth;
use crate::http::error::Problem;
use crate::http::serving::Client;
use crate::http::state::{AppState, Shared, hash};

/// No key is longer.
const LONGEST_KEY: usize = 1_000;

/// The page that asks for a key.
#[derive(Debug, Template)]
#[template(path = "console/sign_in.html")]
struct SignIn {
    mark: String,
    next: String,
    problem: Option<&'static str>,
    livemode: bool,
}

/// Where a request comes from, as far as one can see.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Address(IpAddr);

impl FromRequestParts<Shared> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Self::Rejection> {
        let client = parts.extensions.get::<Client>();
        Ok(Self(client.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Client(address)| *address)))
    }
}

/// Asks for a key; who is signed in goes on.
pub(in crate::http) async fn page(
    State(state): State<Shared>,
    headers: HeaderMap,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let next = asked.take("next");
    let next = next.as_deref().filter(|path| is_ours(path)).unwrap_or("/console");
    if session::recall(&state, &headers).await?.is_some() {
        return Ok(onward(next));
    }
    ask(&state, &headers, next, StatusCode::OK, None)
}

/// The page, with what went wrong before.
fn ask(
    state: &AppState,
    headers: &HeaderMap,
    next: &str,
    status: StatusCode,
    problem: Option<&'static str>,
) -> Result<Response, Problem> {
    // A token that nobody is signed in with yet: it is what this form's mark belongs to.
    let token = match session::token_of(headers) {
        Some(token) => token,
        None => sign_in::token().map_err(failed)?,
    };
    let page =
        SignIn { mark: token.form_mark(), next: next.to_owned(), problem, livemode: state.ctx.livemode };
    let mut response = page_with(status, &page)?;
    let cookie = session::cookie(&token, session::is_secure(headers))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Exchanges a key for a session.
pub(in crate::http) async fn sign_in(
    State(state): State<Shared>,
    Address(address): Address,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let now = state.ctx.clock.now();
    let next = form.text("next", LONGEST_KEY)?.filter(|path| is_ours(path));
    let next = next.as_deref().unwrap_or("/console");
    if !state.console.admits(address, now) {
        let words = "Too many sign-ins failed in a short time. Wait a minute, then try again.";
        let mut response = ask(&state, &headers, next, StatusCode::TOO_MANY_REQUESTS, Some(words))?;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
        return Ok(response);
    }
    let key = form.text("key", LONGEST_KEY)?.unwrap_or_default();
    let secret_hash = hash(key.trim());
    let with = if state.admin_key.as_ref().is_some_and(|key| key.matches(&secret_hash)) {
        Ok(With::Bootstrap(secret_hash))
    } else {
        match auth::identify(&state, secret_hash).await? {
            Some(Caller::Known(actor, _)) => Ok(With::Key(actor)),
            Some(Caller::Revoked(actor)) => Err(Some(actor)),
            None => Err(None),
        }
    };
    let with = match with {
        Ok(with) => with,
        Err(revoked) => {
            let crowd = state.console.failed(address, now);
            let from = address.to_string();
            // Of a crowd one row a minute stands for all: strangers must not fill the log.
            let kind = if crowd { "anywhere" } else { &from };
            if let Some(unrecorded) = state.door.note_refusal(kind, "sign in to the console", now) {
                sign_in::note_failure(&state.ctx, revoked.as_ref(), &from, unrecorded).await?;
            }
            let words = "This key is unknown or was revoked. Check it, or use another one.";
            return ask(&state, &headers, next, StatusCode::UNAUTHORIZED, Some(words));
        }
    };
    let token = sign_in::begin_session(&state.ctx, &with, &address.to_string()).await.map_err(failed)?;
    let mut response = onward(next);
    let cookie = session::cookie(&token, session::is_secure(&headers))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Ends the session.
pub(in crate::http) async fn sign_out(
    State(state): State<Shared>,
    session::Reader(Visitor { actor, token, .. }): session::Reader,
    headers: HeaderMap,
    _: Form,
) -> Result<Response, Problem> {
    sign_in::end_session(&state.ctx, &actor, &token).await?;
    let mut response = onward("/console/sign-in");
    let cookie = session::no_cookie(session::is_secure(&headers))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Whether an address is one of this console: whoever signs in is led nowhere else.
fn is_ours(path: &str) -> bool {
    let rest = path.strip_prefix("/console");
    let inside = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    inside
        && !path.starts_with("/console/sign-in")
        && path.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'\\')
}

fn failed(error: SignInError) -> Problem {
    match error {
        SignInError::Randomness(_) => Problem::internal(&error),
        SignInError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_on_within_the_console_only() {
        for good in
            ["/console", "/console?done=x", "/console/transfers?status=waiting", "/console/accounts/acct_1"]
        {
            assert!(is_ours(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "/consoles",
            "/v1/funds",
            "/console\\evil",
            "/console/\r\nx: y",
            "/console/sign-in?next=/console",
            "console",
            "/console/ä",
        ] {
            assert!(!is_ours(bad), "{bad}");
        }
    }
}
