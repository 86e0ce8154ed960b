//! The console's style, script and icon, which are parts of the program.

use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

/// Asked for again every few minutes, so that a new version shows soon.
const KEPT: &str = "public, max-age=300";

pub(in crate::http) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("../../../assets/console/console.css"))
}

pub(in crate::http) async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("../../../assets/console/console.js"))
}

pub(in crate::http) async fn icon() -> impl IntoResponse {
    file("image/svg+xml", include_str!("../../../assets/console/icon.svg"))
}

fn file(content_type: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 2], &'static str) {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, KEPT)], text)
}
