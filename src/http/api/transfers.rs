//! `/v1/transfers`: asking for transfers, looking at them, and the orders about one.

mod request;
mod shown;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::{Answer, told};
use crate::domain::ids::{AccountId, StripeTransferId, TopupId, TransferId};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::transfer::Status;
use crate::flows::Actor;
use crate::flows::control_transfer::{self, Control, reverse};
use crate::flows::request_transfer::{self, Request, RequestError};
use crate::http::auth::{Operator, Reader};
use crate::http::error::{Problem, beyond_cap};
use crate::http::extract::{Body, Fields, Id, OptionalBody, instant, text};
use crate::http::idempotency::Key;
use crate::http::query::{List, Params};
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, Transfer, TransferFilter};

/// `POST /v1/transfers`
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Operator(actor): Operator,
    key: Key,
    params: Params,
    Body(body): Body,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.required(&body)?;
    let request = request::read(body)?;
    request::refuse_other_currencies(&state, &[(String::new(), &request)], &once.key).await?;
    let requested = request_transfer::create(&state.ctx, &actor, &once, request, shown::transfer).await?;
    state.wake.notify_one();
    told(requested)
}

/// `POST /v1/transfers/batch`
pub(in crate::http) async fn create_batch(
    State(state): State<Shared>,
    Operator(actor): Operator,
    key: Key,
    params: Params,
    Body(body): Body,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.required(&body)?;
    let requests = request::read_batch(body)?;
    let placed: Vec<(String, &Request)> = requests
        .iter()
        .enumerate()
        .map(|(place, request)| (request::place_in_batch(place), request))
        .collect();
    request::refuse_other_currencies(&state, &placed, &once.key).await?;
    let render = |made: &[&Transfer]| json!({"data": made.iter().map(|transfer| shown::transfer(transfer)).collect::<Vec<_>>()});
    let requested = request_transfer::create_batch(&state.ctx, &actor, &once, requests, render).await;
    let requested = requested.map_err(|error| match error {
        RequestError::BeyondCap(place, beyond) => {
            let pointer = format!("{}/amount", request::place_in_batch(place));
            Problem::validation(vec![beyond_cap(&pointer, beyond)])
        }
        other => other.into(),
    })?;
    state.wake.notify_one();
    told(requested)
}

/// `GET /v1/transfers`
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Value>>, Problem> {
    let page = params.page("transfers", |key| TransferId::parse(key).is_ok());
    let filter = filter(&mut params);
    params.finish()?;
    let mut conn = state.connect().await?;
    let after = page.after.as_deref();
    let transfers =
        views::list_transfers(&mut conn, state.ctx.livemode, &filter, after, page.to_read()).await?;
    Ok(Json(page.of(
        transfers,
        |transfer| transfer.id.to_string(),
        |transfer| Some(shown::transfer(transfer)),
    )))
}

fn filter(params: &mut Params) -> TransferFilter {
    let status = |word: &str| Status::parse(word).map(|status| status.as_str().to_owned());
    let reason = |code: &str| Reason::parse(code).map(|reason| reason.code().to_owned());
    fn words<T>(all: impl Iterator<Item = T>, word: impl Fn(T) -> &'static str) -> String {
        format!("must be one of {}", all.map(word).collect::<Vec<_>>().join(", "))
    }
    TransferFilter {
        status: params.optional("status", |text| {
            status(text).ok_or_else(|| words(Status::ALL.into_iter(), Status::as_str))
        }),
        waiting_on: params.optional("waiting_on", |text| {
            reason(text).ok_or_else(|| words(Reason::ALL.iter().copied(), Reason::code))
        }),
        destination: params
            .optional("destination", |text| AccountId::parse(text).map_err(|error| error.to_string()))
            .map(|id| id.to_string()),
        currency: params
            .optional("currency", |text| Currency::parse(text).map_err(|error| error.to_string()))
            .map(|currency| currency.to_string()),
        topup: params
            .optional("topup", |text| TopupId::parse(text).map_err(|error| error.to_string()))
            .map(|id| id.to_string()),
        transfer_group: params.optional("transfer_group", text(255)),
        stripe_transfer: params
            .optional("stripe_transfer", |text| {
                StripeTransferId::parse(text).map_err(|error| error.to_string())
            })
            .map(|id| id.to_string()),
        idempotency_key: params.optional("idempotency_key", text(255)),
        created_from: params.optional("created_from", instant),
        created_to: params.optional("created_to", instant),
    }
}

/// `GET /v1/transfers/{id}`
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let id = TransferId::parse(&id).map_err(|_| Problem::transfer_unknown())?;
    // A reversal that is shown as done is counted in the amount too.
    let (id, mut conn) = (id.as_str(), state.snapshot().await?);
    let transfer = views::find_transfer(&mut conn, state.ctx.livemode, id).await?;
    let mut body = shown::transfer(&transfer.ok_or_else(Problem::transfer_unknown)?);
    body["history"] = views::list_history(&mut conn, id).await?.iter().map(shown::line).collect();
    let calls = views::list_calls(&mut conn, id).await?;
    let attempts = views::list_attempts(&mut conn, id).await?;
    let reversals = views::list_reversals(&mut conn, id).await?;
    body["reversals"] = reversals.iter().map(shown::reversal).collect();
    body["attempts"] = attempts.iter().map(|attempt| shown::attempt(attempt, &calls)).collect();
    Ok(Json(body))
}

/// `POST /v1/transfers/{id}/cancel`
pub(in crate::http) async fn cancel(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    carry_out(&state, &actor, &id, Control::Cancel, key, body).await
}

/// `POST /v1/transfers/{id}/hold`
pub(in crate::http) async fn hold(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    carry_out(&state, &actor, &id, Control::Hold, key, body).await
}

/// `POST /v1/transfers/{id}/resume`
pub(in crate::http) async fn resume(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    carry_out(&state, &actor, &id, Control::Resume, key, body).await
}

/// `POST /v1/transfers/{id}/approve`
pub(in crate::http) async fn approve(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    carry_out(&state, &actor, &id, Control::Approve, key, body).await
}

/// `POST /v1/transfers/{id}/retry`
pub(in crate::http) async fn retry(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    carry_out(&state, &actor, &id, Control::Retry, key, body).await
}

/// `POST /v1/transfers/{id}/reverse`
pub(in crate::http) async fn reverse(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let id = TransferId::parse(&id).map_err(|_| Problem::transfer_unknown())?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let amount_minor = fields.optional_i64("amount");
    if amount_minor.is_some_and(|amount| amount < 1) {
        fields.wrong("/amount", "must be whole minor units, 1 or more; leave it out for all that is left");
    }
    let reason = fields.optional("reason", text(500));
    let request = fields.finish(Some(reverse::Request { amount_minor, reason }))?;
    let ordered = reverse::reverse(&state.ctx, &actor, once.as_ref(), &id, &request, shown::reversed).await?;
    state.wake.notify_one();
    told(ordered)
}

async fn carry_out(
    state: &AppState,
    actor: &Actor,
    id: &str,
    control: Control,
    key: Key,
    body: Map<String, Value>,
) -> Result<Answer, Problem> {
    let id = TransferId::parse(id).map_err(|_| Problem::transfer_unknown())?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let reason = fields.optional("reason", text(500));
    fields.finish(Some(()))?;
    let (once, reason) = (once.as_ref(), reason.as_deref());
    let ordered =
        control_transfer::control(&state.ctx, actor, once, &id, control, reason, shown::transfer).await?;
    state.wake.notify_one();
    told(ordered)
}
