//! `/v1/funds/adjustments`: money that is counted in or out by hand.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::{Answer, body_of, told};
use crate::domain::ids;
use crate::domain::money::{Currency, MAX_AMOUNT_MINOR};
use crate::flows::adjust_funds;
use crate::http::auth::{Admin, Reader};
use crate::http::error::Problem;
use crate::http::extract::{Body, Fields, text};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{AnyCall, AnyOrder, Refuses};
use crate::http::state::Shared;
use crate::http::words::{self, AdjustmentId, CurrencyCode, Instant};
use crate::store::views;

/// Counts money in or out by hand
///
/// An opening balance, or money that was moved in the Dashboard. It is booked and audited like all else.
#[utoipa::path(
    post, path = "/v1/funds/adjustments", tag = "funds", operation_id = "create_adjustment",
    params(MayRepeat),
    request_body = AdjustmentRequest,
    responses((status = 201, description = "The adjustment.", body = Adjustment), Refuses<AnyOrder>),
    security(("key" = ["admin"])),
)]
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Admin(actor): Admin,
    key: Key,
    params: Params,
    Body(body): Body,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let currency =
        fields.required("currency", |text| Currency::parse(text).map_err(|error| error.to_string()));
    let amount_minor = fields.required_i64("amount");
    if amount_minor
        .is_some_and(|amount| amount == 0 || amount.unsigned_abs() > MAX_AMOUNT_MINOR.unsigned_abs())
    {
        let detail = format!("must be whole minor units, not zero, {MAX_AMOUNT_MINOR} at most either way");
        fields.wrong("/amount", detail);
    }
    let reason = fields.required("reason", said);
    let ((currency, amount_minor), reason) = fields.finish(currency.zip(amount_minor).zip(reason))?;
    let sum = (amount_minor, currency);
    let shown = |adjustment: &views::Adjustment| body_of(&Adjustment::of(adjustment));
    let ordered = adjust_funds::adjust(&state.ctx, &actor, once.as_ref(), sum, &reason, shown).await?;
    state.bell.ring_due();
    told(ordered)
}

/// A reason that says something.
fn said(reason: &str) -> Result<String, String> {
    let reason = text(500)(reason)?;
    if reason.trim().is_empty() { Err("must say why".to_owned()) } else { Ok(reason) }
}

/// Adjustments, the newest first
#[utoipa::path(
    get, path = "/v1/funds/adjustments", tag = "funds", operation_id = "list_adjustments",
    params(Paging),
    responses((status = 200, description = "A page of them.", body = List<Adjustment>), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Adjustment>>, Problem> {
    let page = params.page("adjustments", |key| ids::AdjustmentId::parse(key).is_ok());
    params.finish()?;
    let mut conn = state.connect().await?;
    let (after, limit) = (page.after.as_deref(), page.to_read());
    let rows = views::list_adjustments(&mut conn, state.ctx.livemode, after, limit).await?;
    Ok(Json(page.of(rows, |row| row.id.clone(), |row| Some(Adjustment::of(row)))))
}

/// Money to count in or out.
#[expect(dead_code, reason = "the schema of what `create` reads field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct AdjustmentRequest {
    #[schema(value_type = words::Currency)]
    currency: String,
    /// In minor units: positive is money in, negative is money out.
    #[schema(schema_with = either_way)]
    amount: i64,
    /// Why, for whoever reads the books.
    #[schema(schema_with = saying)]
    reason: String,
}

fn either_way() -> RefOr<Schema> {
    words::schema(json!({
        "type": "integer", "format": "int64", "minimum": -MAX_AMOUNT_MINOR, "maximum": MAX_AMOUNT_MINOR,
        "not": {"const": 0}, "description": "In minor units: positive is money in, negative is money out. Not zero.",
        "example": 500_000,
    }))
}

fn saying() -> RefOr<Schema> {
    words::schema(json!({
        "type": "string", "minLength": 1, "maxLength": 500, "pattern": words::SAYING,
        "x-rule": "no control characters, not white space alone",
        "description": "Why, for whoever reads the books.", "example": "opening balance",
    }))
}

/// Money that was counted in or out by hand.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Adjustment {
    #[schema(value_type = AdjustmentId)]
    id: String,
    #[schema(value_type = CurrencyCode)]
    currency: String,
    /// In minor units: positive is money in, negative is money out.
    amount: i64,
    reason: String,
    /// The key that ordered it.
    #[schema(example = "admin")]
    created_by: String,
    created_at: Instant,
}

impl Adjustment {
    fn of(adjustment: &views::Adjustment) -> Self {
        Self {
            id: adjustment.id.clone(),
            currency: adjustment.currency.clone(),
            amount: adjustment.amount,
            reason: adjustment.reason.clone(),
            created_by: adjustment.created_by.clone(),
            created_at: Instant::of(adjustment.created_at),
        }
    }
}
