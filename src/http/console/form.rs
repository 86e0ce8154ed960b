//! A form of one of our own pages: it carries the mark that only the browser's own session has, and comes from where
//! it goes.

use axum::extract::{FromRequest, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::refused;
use super::session::token_of;
use crate::flows::Once;
use crate::http::error::Problem;
use crate::http::extract::{read_body, text};
use crate::http::idempotency;
use crate::http::state::Shared;

/// The name of the mark's field.
const MARK: &str = "mark";
/// The name of the field that tells a form sent twice from two forms.
const ONCE: &str = "once";

/// What was filled in.
#[derive(Debug)]
pub(in crate::http) struct Form {
    fields: Map<String, Value>,
    once: Option<String>,
    method: Method,
    path: String,
}

impl FromRequest<Shared> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, Response> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let from_here = is_from_here(request.headers(), state.ctx.public_url.as_deref());
        let wanted = token_of(request.headers()).map(|token| token.form_mark());
        let body = read_body(request, state).await.map_err(IntoResponse::into_response)?;
        let mut fields = Map::new();
        for (name, value) in url::form_urlencoded::parse(&body) {
            // An empty field is one that was not filled in.
            if !value.is_empty() && fields.insert(name.clone().into_owned(), value.into()).is_some() {
                return Err(Problem::field(&format!("/{name}"), "must stand once").into_response());
            }
        }
        let taken = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let (mark, once) = (taken(fields.remove(MARK)), taken(fields.remove(ONCE)));
        let fits = match (wanted, mark) {
            (Some(wanted), Some(mark)) => bool::from(wanted.as_bytes().ct_eq(mark.as_bytes())),
            _ => false,
        };
        if !(fits && from_here) {
            let detail = "This form is not from a page of your present session, so nothing was done. Go back, load \
                          the page again, and repeat it there.";
            return Err(refused::say(StatusCode::FORBIDDEN, "This form was not taken", detail));
        }
        Ok(Self { fields, once, method, path })
    }
}

/// Whether a request that changes something comes from a page of ours: browsers say so, and pages can't.
fn is_from_here(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = header("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = header(ORIGIN.as_str()) else { return false };
    if public_url
        .is_some_and(|url| url::Url::parse(url).is_ok_and(|url| url.origin().ascii_serialization() == origin))
    {
        return true;
    }
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == header(HOST.as_str())
}

impl Form {
    /// Takes a text of so many characters, where it was filled in.
    pub(super) fn text(&self, name: &str, longest: usize) -> Result<Option<String>, Problem> {
        let Some(value) = self.fields.get(name).and_then(Value::as_str) else { return Ok(None) };
        if value.chars().any(char::is_control) {
            return Err(Problem::field(&format!("/{name}"), "must not hold control characters"));
        }
        text(longest)(value).map(Some).map_err(|detail| Problem::field(&format!("/{name}"), detail))
    }

    /// A form that is sent twice is one order.
    pub(super) fn once(&self) -> Option<Once> {
        let key = format!("console {}", self.once.as_deref()?);
        Some(idempotency::once(key, &self.method, &self.path, &self.fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_form_comes_from_where_it_goes() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_from_here(&headers, Some("https://pay.example.com"))
        };
        let host = ("host", "127.0.0.1:8080");
        for good in [
            vec![host, ("origin", "http://127.0.0.1:8080")],
            vec![host, ("origin", "https://pay.example.com")],
            vec![host, ("sec-fetch-site", "same-origin"), ("origin", "https://proxy.example.com")],
        ] {
            assert!(of(&good), "{good:?}");
        }
        for bad in [
            vec![host],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "http://127.0.0.1:8081")],
            vec![host, ("origin", "https://pay.example.com.evil.net")],
            vec![host, ("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:8080")],
            vec![("origin", "http://")],
        ] {
            assert!(!of(&bad), "{bad:?}");
        }
    }
}
