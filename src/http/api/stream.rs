//! `/v1/stream`: what changes, as it changes.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::domain::change::{Gap, Place};
use crate::http::auth::Pass;
use crate::http::error::{Code, Problem};
use crate::http::frames;
use crate::http::listener::{Listener, ON_THE_WAY};
use crate::http::query::Params;
use crate::http::refusals::{AnyCall, Refuses};
use crate::http::state::{AppState, Shared};

/// What changes, as it changes
///
/// Server-sent events: `readiness`, `topup` and `transfer`, each with its object as its own GET shows it at that moment;
/// of several changes of one object since the last event that was heard, the last stands for all. A listener who comes back with the id of the
/// last event they have, in `Last-Event-ID`, hears what they missed, for 7 days. Where that can't be told any more
/// (the id is older, or of a database that was put back since), an event `reset` comes first: read the lists again.
/// A comment every 10 seconds says that the connection stands. Whoever takes no event for 30 seconds is cut off.
#[utoipa::path(
    get, path = "/v1/stream", tag = "service", operation_id = "stream_changes",
    params(("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was heard.")),
    responses(
        (status = 200, description = "Events until either side leaves.", body = String, content_type = "text/event-stream"),
        Refuses<AnyCall>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn stream(
    State(state): State<Shared>,
    pass: Pass,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.finish()?;
    listen(state, pass, &headers).await
}

/// The same for whoever was let in by another door.
pub(in crate::http) async fn listen(
    state: Shared,
    pass: Pass,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let seat = state.live.feed.seat().ok_or_else(too_many)?;
    let (place, gap) = start(&state, headers).await?;
    let position = state.live.feed.position(place).await?;
    let greeting = match gap {
        Some(gap) => frames::reset(&position, gap),
        None => frames::greeting(&position),
    };
    let (out, frames) = mpsc::channel(ON_THE_WAY);
    let listener = Listener { state, _seat: seat, pass, out, place };
    tokio::spawn(listener.serve(greeting));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Body::from_stream(as_stream(frames))).into_response())
}

/// Where they begin, and what they missed if it is not where they stopped.
async fn start(state: &AppState, headers: &HeaderMap) -> Result<(Place, Option<Gap>), Problem> {
    let feed = &state.live.feed;
    let kept = headers.get("last-event-id").filter(|value| !value.is_empty());
    let Some(kept) = kept else { return Ok((feed.last().await?, None)) };
    match feed.resume(kept.to_str().unwrap_or_default()).await? {
        Ok(place) => Ok((place, None)),
        Err(gap) => Ok((feed.last().await?, Some(gap))),
    }
}

fn as_stream(
    frames: mpsc::Receiver<Bytes>,
) -> impl stream::Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(frames, |mut frames| async {
        let frame = frames.recv().await?;
        Some((Ok(frame), frames))
    })
}

fn too_many() -> Problem {
    Problem::new(Code::Unavailable, "Too many listen already; come back after the seconds in Retry-After.")
}
