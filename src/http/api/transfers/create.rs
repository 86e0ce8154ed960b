//! Asking for transfers, one by one or many at once.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::request::{self, BatchRequest, TransferRequest};
use super::shown::{self, Transfer};
use crate::flows::request_transfer::{self, Request, RequestError};
use crate::http::api::{Answer, body_of, told};
use crate::http::auth::Operator;
use crate::http::error::{FieldError, Problem, beyond_cap};
use crate::http::extract::Body;
use crate::http::idempotency::{Key, MustRepeat};
use crate::http::query::Params;
use crate::http::refusals::{AnyOrder, IdempotencyKeyRequired, Refuses};
use crate::http::state::{AppState, Shared};
use crate::store::views;

/// A transfer asked for
///
/// It goes out once, when the account is ready and the money has settled; until then `waiting_on` tells why not.
#[utoipa::path(
    post, path = "/v1/transfers", tag = "transfers", operation_id = "create_transfer",
    params(MustRepeat),
    request_body = TransferRequest,
    responses(
        (status = 201, description = "The transfer.", body = Transfer),
        Refuses<(AnyOrder, IdempotencyKeyRequired)>,
    ),
    security(("key" = ["operate"])),
)]
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
    refuse_other_currencies(&state, &[(String::new(), &request)], &once.key).await?;
    let requested = request_transfer::create(&state.ctx, &actor, &once, request, shown::transfer).await?;
    state.bell.ring_due();
    told(requested)
}

/// Transfers asked for together
///
/// All of them are taken, or none.
#[utoipa::path(
    post, path = "/v1/transfers/batch", tag = "transfers", operation_id = "create_transfers",
    params(MustRepeat),
    request_body = BatchRequest,
    responses(
        (status = 201, description = "The transfers, in the order of the request.", body = Batch),
        Refuses<(AnyOrder, IdempotencyKeyRequired)>,
    ),
    security(("key" = ["operate"])),
)]
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
    refuse_other_currencies(&state, &placed, &once.key).await?;
    let render = |made: &[&views::Transfer]| {
        body_of(&Batch { data: made.iter().map(|one| Transfer::of(one)).collect() })
    };
    let requested = request_transfer::create_batch(&state.ctx, &actor, &once, requests, render).await;
    let requested = requested.map_err(|error| match error {
        RequestError::BeyondCap(place, beyond) => {
            let pointer = format!("{}/amount", request::place_in_batch(place));
            Problem::validation(vec![beyond_cap(&pointer, beyond)])
        }
        other => other.into(),
    })?;
    state.bell.ring_due();
    told(requested)
}

/// Transfers that were asked for together.
#[derive(Debug, Serialize, ToSchema)]
struct Batch {
    data: Vec<Transfer>,
}

/// A transfer can't be paid from a top-up in another currency. A repeated request is answered as before,
/// whatever has become known of its top-ups since. `requests` come with where each stands in the body.
async fn refuse_other_currencies(
    state: &AppState,
    requests: &[(String, &Request)],
    key: &str,
) -> Result<(), Problem> {
    let tied: Vec<&str> =
        requests.iter().filter_map(|(_, request)| Some(request.topup.as_ref()?.as_str())).collect();
    if tied.is_empty() {
        return Ok(());
    }
    let mut conn = state.connect().await?;
    let topups = views::list_topups_by_ids(&mut conn, state.ctx.livemode, &tied).await?;
    // It can be spent in the currency it lands in; until that is known, in the one asked of the bank.
    let currencies: BTreeMap<&str, &str> = topups
        .iter()
        .map(|topup| (topup.id.as_str(), topup.proof_currency.as_deref().unwrap_or(&topup.currency)))
        .collect();
    let other = |(pointer, request): &(String, &Request)| {
        let id = request.topup.as_ref()?;
        let currency = currencies.get(id.as_str()).filter(|of| **of != request.currency.as_str())?;
        let detail = format!("must be `{currency}`, the currency of the top-up `{id}`");
        Some(FieldError { pointer: format!("{pointer}/currency"), detail })
    };
    let errors: Vec<FieldError> = requests.iter().filter_map(other).collect();
    if errors.is_empty() || views::is_key_used(&mut conn, key, state.ctx.clock.now()).await? {
        return Ok(());
    }
    Err(Problem::validation(errors))
}
