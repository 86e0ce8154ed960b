//! `/docs`: the document for people, on a page that loads nothing from elsewhere.
//!
//! The page is a script over `/openapi.json`; what it may load, and that nothing written into it runs, the
//! policy in its header says to the browser.

use axum::http::HeaderName;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::IntoResponse;

use super::refusals::{Anything, Refuses};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The API for people
#[utoipa::path(
    get, path = "/docs", tag = "service", operation_id = "get_docs",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"), Refuses<Anything>),
)]
pub(super) async fn page() -> impl IntoResponse {
    file("text/html; charset=utf-8", include_str!("../../assets/docs/page.html"))
}

/// The script of that page
#[utoipa::path(
    get, path = "/docs/page.js", tag = "service", operation_id = "get_docs_script",
    responses(
        (status = 200, description = "JavaScript.", body = String, content_type = "text/javascript"),
        Refuses<Anything>,
    ),
)]
pub(super) async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("../../assets/docs/page.js"))
}

/// The style of that page
#[utoipa::path(
    get, path = "/docs/page.css", tag = "service", operation_id = "get_docs_style",
    responses((status = 200, description = "CSS.", body = String, content_type = "text/css"), Refuses<Anything>),
)]
pub(super) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("../../assets/docs/page.css"))
}

fn file(content_type: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 3], &'static str) {
    (
        [(CONTENT_TYPE, content_type), (CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer")],
        text,
    )
}
