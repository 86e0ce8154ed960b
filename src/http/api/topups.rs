//! `/v1/topups`: ordering top-ups, calling them off, and whether their money has arrived.

mod request;
pub(in crate::http) mod shown;

use axum::Json;
use axum::extract::State;
use time::OffsetDateTime;

use self::request::TopupRequest;
use self::shown::{Found, OrderedTopup, Topup, TopupWithHistory};
use super::{Answer, ReasonRequest, told};
use crate::domain::ids;
use crate::domain::money::Currency;
use crate::domain::topup::Status;
use crate::flows::cancel_topup::{self, CancelError};
use crate::flows::request_topup::{self, Render};
use crate::http::auth::{Operator, Reader};
use crate::http::error::{Code, Problem};
use crate::http::extract::{Body, Fields, Id, OptionalBody, text};
use crate::http::idempotency::{Key, MayRepeat, MustRepeat};
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{
    AnyCall, AnyOrder, IdempotencyKeyRequired, Refuses, StripeRefused, StripeUnavailable, TopupState,
    TopupUnknown,
};
use crate::http::state::Shared;
use crate::http::words::{self, TopupId, TopupOrIntentId, TopupStatus};
use crate::store::views;

/// A top-up ordered
///
/// The bank is debited once for an Idempotency-Key. Where Stripe gives no definite answer this says 202: repeat the
/// request with the same key, and it goes on where it stopped; an event or a list may tell in between. The key of an
/// order that Stripe refused is free again.
#[utoipa::path(
    post, path = "/v1/topups", tag = "topups", operation_id = "create_topup",
    params(MustRepeat),
    request_body = TopupRequest,
    responses(
        (status = 201, description = "The top-up.", body = Topup),
        (status = 202, description = "It is not known yet whether Stripe made it.", body = OrderedTopup),
        Refuses<(AnyOrder, IdempotencyKeyRequired, StripeRefused, StripeUnavailable)>,
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
    let render = Render { topup: shown::topup, unknown: shown::ordered };
    let ordered = request_topup::create(&state.ctx, &actor, &once, request, render).await?;
    state.bell.ring_due();
    told(ordered)
}

/// Calls a top-up off, as long as the bank has not paid
///
/// One that was called off before stays so.
#[utoipa::path(
    post, path = "/v1/topups/{tu}/cancel", tag = "topups", operation_id = "cancel_topup",
    params(("tu" = TopupId, Path, description = "The top-up."), MayRepeat),
    request_body = Option<ReasonRequest>,
    responses(
        (status = 200, description = "The top-up as it is now.", body = Topup),
        Refuses<(AnyOrder, TopupUnknown, TopupState, StripeRefused, StripeUnavailable)>,
    ),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn cancel(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let id = ids::TopupId::parse(&id).map_err(|_| Problem::topup_unknown())?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let reason = fields.optional("reason", text(500));
    fields.finish(Some(()))?;
    let (once, reason) = (once.as_ref(), reason.as_deref());
    let ordered = cancel_topup::cancel(&state.ctx, &actor, once, &id, reason, shown::topup).await?;
    state.bell.ring_due();
    told(ordered)
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound => Self::topup_unknown(),
            CancelError::State(status) => {
                let detail =
                    format!("The top-up is {}; only a pending one can be called off.", status.as_str());
                Self::new(Code::TopupState, detail)
            }
            CancelError::Refused(message) => {
                let detail = format!("The bank is at it already; Stripe says: {message}");
                Self::new(Code::TopupState, detail)
            }
            CancelError::NotDone(error) => error.into(),
            CancelError::Store(error) => error.into(),
        }
    }
}

/// A top-up with its history, and whether its money has arrived
///
/// By the id of an order (`tpi_…`), what came of it.
#[utoipa::path(
    get, path = "/v1/topups/{tu}", tag = "topups", operation_id = "get_topup",
    params(("tu" = TopupOrIntentId, Path, description = "The top-up, or the order that was to make one.")),
    responses((status = 200, description = "The top-up.", body = Found), Refuses<(AnyCall, TopupUnknown)>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Found>, Problem> {
    params.finish()?;
    let mut conn = state.snapshot().await?;
    let livemode = state.ctx.livemode;
    let mut topup = ids::TopupId::parse(&id).ok();
    if let Ok(intent) = ids::TopupIntentId::parse(&id) {
        let intent = views::find_topup_intent(&mut conn, livemode, intent.as_str()).await?;
        let intent = intent.ok_or_else(Problem::topup_unknown)?;
        if intent.topup.is_none() {
            return Ok(Json(Found::Ordered(OrderedTopup::of(&intent))));
        }
        topup = intent.topup;
    }
    let id = topup.ok_or_else(Problem::topup_unknown)?;
    let topup = views::find_topup(&mut conn, livemode, id.as_str()).await?;
    let topup = topup.ok_or_else(Problem::topup_unknown)?;
    let history = views::list_topup_changes(&mut conn, livemode, id.as_str()).await?;
    Ok(Json(Found::Topup(Box::new(TopupWithHistory::of(topup, history)))))
}

/// Top-ups, those first that were heard of last
#[utoipa::path(
    get, path = "/v1/topups", tag = "topups", operation_id = "list_topups",
    params(
        Paging,
        ("status" = Option<TopupStatus>, Query, description = "Only those with this status."),
        ("settled" = Option<bool>, Query, description = "Only those whose money has arrived, or only the others."),
        ("currency" = Option<words::Currency>, Query, description = "Only those in this currency."),
    ),
    responses((status = 200, description = "A page of them.", body = List<Topup>), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Topup>>, Problem> {
    let page = params.page("topups", |key| place_of(key).is_some());
    let status = params.optional("status", |word| {
        let known = Status::ALL.into_iter().find(|status| status.as_str() == word);
        known.map(Status::as_str).ok_or_else(|| {
            let words: Vec<_> = Status::ALL.into_iter().map(Status::as_str).collect();
            format!("must be one of {}", words.join(", "))
        })
    });
    let settled = params.flag("settled");
    let currency =
        params.optional("currency", |text| Currency::parse(text).map_err(|error| error.to_string()));
    params.finish()?;
    let currency = currency.map(|currency| currency.to_string());
    let filter = views::TopupFilter { status, settled, currency: currency.as_deref() };
    let after = page.after.as_deref().and_then(place_of);
    let mut conn = state.connect().await?;
    let topups = views::list_topups(&mut conn, state.ctx.livemode, &filter, after, page.to_read()).await?;
    Ok(Json(page.of(topups, place, |topup| Some(Topup::of(topup.clone())))))
}

/// A top-up's sort key: when it was first heard of, to the nanosecond, and its id.
pub(in crate::http) fn place(topup: &views::Topup) -> String {
    format!("{} {}", topup.first_seen.unix_timestamp_nanos(), topup.id)
}

/// Reads the key back.
pub(in crate::http) fn place_of(key: &str) -> Option<(OffsetDateTime, &str)> {
    let (at, id) = key.split_once(' ')?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(at.parse().ok()?).ok()?;
    ids::TopupId::parse(id).ok().map(|_| (at, id))
}
