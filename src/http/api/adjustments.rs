//! `/v1/funds/adjustments`: money that is counted in or out by hand.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Answer, instant, told};
use crate::domain::ids::AdjustmentId;
use crate::domain::money::{Currency, MAX_AMOUNT_MINOR};
use crate::flows::adjust_funds;
use crate::http::auth::{Admin, Reader};
use crate::http::error::Problem;
use crate::http::extract::{Body, Fields, text};
use crate::http::idempotency::Key;
use crate::http::query::{List, Params};
use crate::http::state::Shared;
use crate::store::views::{self, Adjustment};

/// `POST /v1/funds/adjustments`
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
    let ordered = adjust_funds::adjust(&state.ctx, &actor, once.as_ref(), sum, &reason, shown).await?;
    state.wake.notify_one();
    told(ordered)
}

/// A reason that says something.
fn said(reason: &str) -> Result<String, String> {
    let reason = text(500)(reason)?;
    if reason.trim().is_empty() { Err("must say why".to_owned()) } else { Ok(reason) }
}

/// `GET /v1/funds/adjustments`
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Value>>, Problem> {
    let page = params.page("adjustments", |key| AdjustmentId::parse(key).is_ok());
    params.finish()?;
    let mut conn = state.connect().await?;
    let (after, limit) = (page.after.as_deref(), page.to_read());
    let rows = views::list_adjustments(&mut conn, state.ctx.livemode, after, limit).await?;
    Ok(Json(page.of(rows, |row| row.id.clone(), |row| Some(shown(row)))))
}

fn shown(adjustment: &Adjustment) -> Value {
    json!({
        "id": adjustment.id,
        "currency": adjustment.currency,
        "amount": adjustment.amount,
        "reason": adjustment.reason,
        "created_by": adjustment.created_by,
        "created_at": instant(adjustment.created_at),
    })
}
