//! What a page says instead of what was asked for; and the headers that every answer of the console carries.

use askama::Template;
use axum::extract::Request;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::error::Problem;

/// A page loads its style, its script and its news from here, and sends its forms here; nothing in it runs by
/// itself, and nobody may show it within another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A page with what went wrong and the mend.
#[derive(Debug, Template)]
#[template(path = "console/refused.html")]
struct Refused<'a> {
    title: &'a str,
    detail: &'a str,
    errors: Vec<(String, &'a str)>,
}

/// What went wrong, in words.
pub(super) fn say(status: StatusCode, title: &str, detail: &str) -> Response {
    written(status, &Refused { title, detail, errors: Vec::new() })
}

fn written(status: StatusCode, page: &Refused<'_>) -> Response {
    // Fails only where the text can't grow.
    let text = page.render().unwrap_or_default();
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

/// The page of a problem, for a person: fields are named as the form names them.
fn page_of(problem: &Problem) -> Response {
    let (code, detail, errors) = problem.parts();
    let named =
        |pointer: &str| pointer.trim_start_matches("/query").trim_start_matches('/').replace('_', " ");
    let errors: Vec<_> = errors.iter().map(|error| (named(&error.pointer), error.detail.as_str())).collect();
    let detail = match code.status() {
        _ if !errors.is_empty() => "Go back and mend this:",
        StatusCode::NOT_FOUND => "Check the id, or search for it from the overview.",
        _ => detail,
    };
    written(code.status(), &Refused { title: code.title(), detail, errors })
}

/// Where there is no page.
pub(in crate::http) async fn not_found() -> Response {
    say(StatusCode::NOT_FOUND, "There is no such page", "Check the address, or look from the overview.")
}

/// The outermost layer of the console: problems become pages, and every answer carries the policy.
pub(in crate::http) async fn dress(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions().get::<Problem>() {
        response = page_of(problem);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Not `no-referrer`: browsers would then not say where a form comes from.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    response
}
