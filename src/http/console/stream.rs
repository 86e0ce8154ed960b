//! What changes, for pages that keep themselves up to date: `/v1/stream`, by session.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::session::{Reader, Visitor};
use crate::http::api::stream::listen;
use crate::http::auth::Pass;
use crate::http::error::Problem;
use crate::http::state::Shared;

/// Tells until either side leaves, or the session ends.
pub(in crate::http) async fn stream(
    State(state): State<Shared>,
    Reader(Visitor { actor, token, .. }): Reader,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    listen(state, Pass::of_session(actor, token), &headers).await
}
