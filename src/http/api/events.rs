//! `/v1/events`: what was received, and what became of it.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Answer, instant, told};
use crate::domain::ids::{AccountId, EventId};
use crate::flows::operate::{self, OperateError};
use crate::http::auth::{Operator, Reader};
use crate::http::error::Problem;
use crate::http::extract::{Id, OptionalBody, no_fields, text};
use crate::http::idempotency::Key;
use crate::http::query::{List, Params};
use crate::http::state::Shared;
use crate::store::views::{self, Event, EventFilter, EventStatus};

/// `GET /v1/events`
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Value>>, Problem> {
    let page = params.page("events", |key| key.parse::<i64>().is_ok());
    let filter = EventFilter {
        status: params.optional("status", |text| {
            EventStatus::parse(text)
                .ok_or_else(|| "must be one of pending, processed, ignored, failed".to_owned())
        }),
        event_type: params.optional("type", text(255)),
        account: params
            .optional("account", |text| AccountId::parse(text).map_err(|error| error.to_string()))
            .map(|id| id.to_string()),
    };
    params.finish()?;
    let after = page.after.as_deref().and_then(|key| key.parse().ok());
    let mut conn = state.connect().await?;
    let events = views::list_events(&mut conn, &filter, after, page.to_read()).await?;
    Ok(Json(page.of(events, |event| event.seq.to_string(), |event| Some(shown(event)))))
}

/// `GET /v1/events/{evt}`
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let id = EventId::parse(&id).map_err(|_| Problem::event_unknown())?;
    let mut conn = state.connect().await?;
    let event = views::find_event(&mut conn, id.as_str()).await?.ok_or_else(Problem::event_unknown)?;
    let payload = views::find_payload(&mut conn, &event).await?;
    let (raw, base64) = payload.ok_or_else(Problem::event_unknown)?;
    let mut body = shown(&event);
    match serde_json::from_slice::<Value>(&raw) {
        Ok(payload) => body["payload"] = payload,
        Err(_) => body["payload_base64"] = base64.into(),
    }
    Ok(Json(body))
}

/// `POST /v1/events/{evt}/replay`
pub(in crate::http) async fn replay(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let id = EventId::parse(&id).map_err(|_| Problem::event_unknown())?;
    let once = key.optional(&body);
    no_fields(body)?;
    let ordered = operate::replay(&state.ctx, &actor, once.as_ref(), &id, shown).await;
    state.wake.notify_one();
    told(ordered.map_err(|error| match error {
        OperateError::NotFound => Problem::event_unknown(),
        other => other.into(),
    })?)
}

fn shown(event: &Event) -> Value {
    json!({
        "id": event.event_id,
        "type": event.event_type,
        "account": event.account,
        "status": event.status().as_str(),
        "reason": event.reason(),
        "created": instant(event.created),
        "received_at": instant(event.received_at),
        "livemode": event.livemode,
        "kind": event.kind,
        "source": event.source,
        "subject": event.subject,
        "api_version": event.api_version,
        "secret_label": event.secret_label,
    })
}
