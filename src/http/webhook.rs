//! Stripe's door: raw bytes in, one word out. What a delivery means is the intake's business.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Code, Problem};
use super::extract::{MAX_BODY, announced_length};
use super::refusals::{Anything, BodyIncomplete, BodyTooLarge, EventMalformed, Refuses, SignatureInvalid};
use super::state::Shared;
use crate::flows::receive::{Receipt, ReceiveError, Room};

/// Stripe sends a delivery at once; whoever takes longer holds room that others need.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Stripe's deliveries
///
/// The signature is checked over the raw bytes, whatever their content type, before anything is parsed.
/// An answer of 200 means that the event is stored durably.
#[utoipa::path(
    post, path = "/webhooks/stripe", tag = "service", operation_id = "receive_event",
    params(("Stripe-Signature" = String, Header, description = "Stripe's signature: a time and one MAC or more.")),
    request_body(content = Object, description = "A Stripe event: snapshot or thin."),
    responses(
        (status = 200, description = "Stored, now or before.", body = Received),
        Refuses<(Anything, SignatureInvalid, EventMalformed, BodyIncomplete, BodyTooLarge)>,
    ),
)]
pub(super) async fn receive(State(state): State<Shared>, request: Request) -> axum::response::Response {
    let started = state.ctx.clock.now();
    let (outcome, answer) = take_in(&state, request).await;
    let took = (state.ctx.clock.now() - started).as_seconds_f64().max(0.0);
    metrics::counter!("sluicegate_intake_events_total", "outcome" => outcome).increment(1);
    metrics::histogram!("sluicegate_intake_seconds").record(took);
    answer.into_response()
}

/// What Stripe is told.
#[derive(Debug, Serialize, ToSchema)]
struct Received {
    /// Always true.
    received: bool,
    /// Whether it was stored before.
    duplicate: bool,
}

async fn take_in(state: &Shared, request: Request) -> (&'static str, Result<Json<Received>, Problem>) {
    let announced = announced_length(request.headers()).unwrap_or(0);
    if announced > MAX_BODY {
        return ("unreadable", Err(Problem::body_too_large(MAX_BODY)));
    }
    let signature = match signature(request.headers()) {
        Ok(signature) => signature,
        Err(error) => return ("signature_invalid", Err(error.into())),
    };
    if signature.is_none() {
        // Nothing is read for whoever does not even claim to be Stripe.
        let error = ReceiveError::Signature("The Stripe-Signature header is missing.".to_owned());
        return ("signature_invalid", Err(error.into()));
    }
    let mut room = state.intake.room();
    let reading = tokio::time::timeout(READ_WITHIN, read(request, announced, &mut room)).await;
    let body = match reading.unwrap_or_else(|_| Err(Unread::Body(Problem::body_incomplete()))) {
        Ok(body) => body,
        Err(Unread::Full(error)) => return (outcome_of(&error), Err(error.into())),
        Err(Unread::Body(problem)) => return ("unreadable", Err(problem)),
    };
    match state.intake.receive(room, body, signature.as_deref(), state.ctx.clock.now()).await {
        Ok(Receipt { duplicate }) => {
            let outcome = if duplicate { "duplicate" } else { "stored" };
            (outcome, Ok(Json(Received { received: true, duplicate })))
        }
        Err(error) => (outcome_of(&error), Err(error.into())),
    }
}

/// The largest memory that is set aside for a body before any of it came, in bytes.
const ANNOUNCED: usize = 64 * 1024;

/// Why a body was not read.
enum Unread {
    Full(ReceiveError),
    Body(Problem),
}

/// Reads the body into the room it makes for it, piece by piece: whoever reaches the door may not fill the
/// memory, nor keep others out by announcing much and sending little.
async fn read(request: Request, announced: usize, room: &mut Room) -> Result<Bytes, Unread> {
    // Nearly all bodies fit at once; for more than that, what is announced counts for nothing before it comes.
    let mut body = BytesMut::with_capacity(announced.min(ANNOUNCED));
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::Body(Problem::body_incomplete()))?;
        if body.len() + piece.len() > MAX_BODY {
            return Err(Unread::Body(Problem::body_too_large(MAX_BODY)));
        }
        room.grow(piece.len()).map_err(Unread::Full)?;
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Signature(why) => Self::new(Code::SignatureInvalid, why),
            ReceiveError::Malformed(why) => Self::new(Code::EventMalformed, why),
            ReceiveError::Full | ReceiveError::Unavailable => Self::unavailable(),
        }
    }
}

fn outcome_of(error: &ReceiveError) -> &'static str {
    match error {
        ReceiveError::Signature(_) => "signature_invalid",
        ReceiveError::Malformed(_) => "event_malformed",
        ReceiveError::Full => "full",
        ReceiveError::Unavailable => "unavailable",
    }
}

/// The header, if there is one. Two of them, or one that is not text, are no signature.
fn signature(headers: &HeaderMap) -> Result<Option<String>, ReceiveError> {
    let mut values = headers.get_all("stripe-signature").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let why = "The Stripe-Signature header must stand once, in plain ASCII.";
    text.map(|text| Some(text.to_owned())).ok_or_else(|| ReceiveError::Signature(why.to_owned()))
}
