//! `/v1/transfers`: asking for transfers, looking at them, and the orders about one.

pub(in crate::http) mod create;
pub(in crate::http) mod explanation;
pub(in crate::http) mod orders;
mod request;
pub(in crate::http) mod shown;

use axum::Json;
use axum::extract::State;

use self::shown::WithHistory;
use crate::domain::ids::{AccountId, StripeTransferId, TopupId, TransferId};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::transfer::Status;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::extract::{Id, instant, text};
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{AnyCall, Refuses, TransferUnknown};
use crate::http::state::Shared;
use crate::http::words::{self, Group, Moment, ReasonCode, TransferStatus};
use crate::store::views::{self, TransferFilter};

/// Transfers, the newest first
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers", operation_id = "list_transfers",
    params(
        Paging,
        ("status" = Option<TransferStatus>, Query, description = "With this status."),
        ("waiting_on" = Option<ReasonCode>, Query, description = "With this code among their reasons to wait."),
        ("destination" = Option<words::AccountId>, Query, description = "To this account."),
        ("currency" = Option<words::Currency>, Query, description = "In this currency."),
        ("topup" = Option<words::TopupId>, Query, description = "Tied to this top-up."),
        ("transfer_group" = Option<Group>, Query, description = "With this label."),
        ("stripe_transfer" = Option<words::StripeTransferId>, Query, description = "The one with this id at Stripe."),
        ("idempotency_key" = Option<Group>, Query, description = "Asked for with this Idempotency-Key."),
        ("created_from" = Option<Moment>, Query, description = "Asked for at this instant or later."),
        ("created_to" = Option<Moment>, Query, description = "Asked for before this instant."),
    ),
    responses((status = 200, description = "A page of them.", body = List<shown::Transfer>), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<shown::Transfer>>, Problem> {
    let page = params.page("transfers", |key| TransferId::parse(key).is_ok());
    let filter = filter(&mut params);
    params.finish()?;
    let mut conn = state.connect().await?;
    let after = page.after.as_deref();
    let transfers =
        views::list_transfers(&mut conn, state.ctx.livemode, &filter, after, page.to_read()).await?;
    let line = |transfer: &views::Transfer| Some(shown::Transfer::of(transfer));
    Ok(Json(page.of(transfers, |transfer| transfer.id.to_string(), line)))
}

/// Which transfers are asked for.
pub(in crate::http) fn filter(params: &mut Params) -> TransferFilter {
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

/// A transfer with its history, its reversals, and what was sent to Stripe
#[utoipa::path(
    get, path = "/v1/transfers/{id}", tag = "transfers", operation_id = "get_transfer",
    params(("id" = words::TransferId, Path, description = "The transfer.")),
    responses(
        (status = 200, description = "The transfer.", body = WithHistory),
        Refuses<(AnyCall, TransferUnknown)>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<WithHistory>, Problem> {
    params.finish()?;
    let id = TransferId::parse(&id).map_err(|_| Problem::transfer_unknown())?;
    // A reversal that is shown as done is counted in the amount too.
    let (id, mut conn) = (id.as_str(), state.snapshot().await?);
    let transfer = views::find_transfer(&mut conn, state.ctx.livemode, id).await?;
    let transfer = transfer.ok_or_else(Problem::transfer_unknown)?;
    let history = views::list_history(&mut conn, id).await?;
    let calls = views::list_calls(&mut conn, id).await?;
    let attempts = views::list_attempts(&mut conn, id).await?;
    let reversals = views::list_reversals(&mut conn, id).await?;
    Ok(Json(WithHistory::of(&transfer, history, &reversals, attempts, &calls)))
}
