//! `/v1/events`: what was received, and what became of it.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Answer, body_of, told};
use crate::domain::ids;
use crate::flows::operate::{self, OperateError};
use crate::http::auth::{Operator, Reader};
use crate::http::error::Problem;
use crate::http::extract::{Id, OptionalBody, no_fields, text};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{AnyCall, AnyOrder, EventState, EventUnknown, Refuses};
use crate::http::state::Shared;
use crate::http::words::{AccountId, EventId, EventStatus, Group, Instant};
use crate::store::views::{self, EventFilter};

/// Events, the newest first
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "list_events",
    params(
        Paging,
        ("status" = Option<EventStatus>, Query, description = "Of which this became."),
        ("type" = Option<Group>, Query, description = "Of this type, like `account.updated`."),
        ("account" = Option<AccountId>, Query, description = "About this connected account."),
    ),
    responses((status = 200, description = "A page of them.", body = List<Event>), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Event>>, Problem> {
    let page = params.page("events", |key| key.parse::<i64>().is_ok());
    let filter = EventFilter {
        status: params.optional("status", |text| {
            views::EventStatus::parse(text)
                .ok_or_else(|| "must be one of pending, processed, ignored, failed".to_owned())
        }),
        event_type: params.optional("type", text(255)),
        account: params
            .optional("account", |text| ids::AccountId::parse(text).map_err(|error| error.to_string()))
            .map(|id| id.to_string()),
    };
    params.finish()?;
    let after = page.after.as_deref().and_then(|key| key.parse().ok());
    let mut conn = state.connect().await?;
    let events = views::list_events(&mut conn, &filter, after, page.to_read()).await?;
    Ok(Json(page.of(events, |event| event.seq.to_string(), |event| Some(Event::of(event)))))
}

/// An event with what Stripe sent
#[utoipa::path(
    get, path = "/v1/events/{evt}", tag = "events", operation_id = "get_event",
    params(("evt" = EventId, Path, description = "The event.")),
    responses(
        (status = 200, description = "The event.", body = WithPayload),
        Refuses<(AnyCall, EventUnknown)>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<WithPayload>, Problem> {
    params.finish()?;
    let id = ids::EventId::parse(&id).map_err(|_| Problem::event_unknown())?;
    let mut conn = state.connect().await?;
    let event = views::find_event(&mut conn, id.as_str()).await?.ok_or_else(Problem::event_unknown)?;
    let payload = views::find_payload(&mut conn, &event).await?;
    let (raw, base64) = payload.ok_or_else(Problem::event_unknown)?;
    let event = Event::of(&event);
    Ok(Json(match serde_json::from_slice::<Box<RawValue>>(&raw) {
        Ok(payload) => WithPayload { event, payload: Some(payload), payload_base64: None },
        Err(_) => WithPayload { event, payload: None, payload_base64: Some(base64) },
    }))
}

/// Applies an event once more
///
/// It does no harm: what is older than what is known changes nothing. A dead letter gets another life.
#[utoipa::path(
    post, path = "/v1/events/{evt}/replay", tag = "events", operation_id = "replay_event",
    params(("evt" = EventId, Path, description = "The event."), MayRepeat),
    request_body = Option<NothingRequest>,
    responses(
        (status = 200, description = "The event as it is now.", body = Event),
        Refuses<(AnyOrder, EventUnknown, EventState)>,
    ),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn replay(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let id = ids::EventId::parse(&id).map_err(|_| Problem::event_unknown())?;
    let once = key.optional(&body);
    no_fields(body)?;
    let shown = |event: &views::Event| body_of(&Event::of(event));
    let ordered = operate::replay(&state.ctx, &actor, once.as_ref(), &id, shown).await;
    state.bell.ring_due();
    told(ordered.map_err(|error| match error {
        OperateError::NotFound => Problem::event_unknown(),
        other => other.into(),
    })?)
}

/// A body without fields.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct NothingRequest {}

/// What Stripe told, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Event {
    #[schema(value_type = EventId)]
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "account.updated")]
    event_type: String,
    /// The connected account it came from; null for the platform's own.
    #[schema(example = "acct_1RVbKzKd3W9tqPfA")]
    account: Option<String>,
    #[schema(value_type = EventStatus)]
    status: &'static str,
    /// Why it was ignored or failed.
    reason: Option<String>,
    /// When it happened, by Stripe's clock.
    created: Instant,
    received_at: Instant,
    livemode: bool,
    /// `snapshot`, `thin`, or `observation`: what Stripe answered when it was asked.
    #[schema(example = "snapshot")]
    kind: String,
    /// `webhook` or `api`.
    #[schema(example = "webhook")]
    source: String,
    /// Whom it is about.
    #[schema(example = "acct_1RVbKzKd3W9tqPfA")]
    subject: Option<String>,
    /// The version of Stripe's API in which it is written.
    #[schema(example = "2026-10-28.endive")]
    api_version: Option<String>,
    /// The label of the webhook secret that its signature fitted.
    #[schema(example = "platform")]
    secret_label: Option<String>,
}

impl Event {
    fn of(event: &views::Event) -> Self {
        Self {
            id: event.event_id.clone(),
            event_type: event.event_type.clone(),
            account: event.account.clone(),
            status: event.status().as_str(),
            reason: event.reason().map(Into::into),
            created: Instant::of(event.created),
            received_at: Instant::of(event.received_at),
            livemode: event.livemode,
            kind: event.kind.clone(),
            source: event.source.clone(),
            subject: event.subject.clone(),
            api_version: event.api_version.clone(),
            secret_label: event.secret_label.clone(),
        }
    }
}

/// An event and the bytes in which it came.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventWithPayload)]
pub(in crate::http) struct WithPayload {
    #[serde(flatten)]
    event: Event,
    /// As Stripe sent it, to the byte: what was signed can be cut out of this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Object)]
    payload: Option<Box<RawValue>>,
    /// The same, where it is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payload_base64: Option<String>,
}
