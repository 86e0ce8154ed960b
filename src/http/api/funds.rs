//! `/v1/funds`: the money of each currency.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::maybe;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::query::Params;
use crate::http::state::Shared;
use crate::store::views::{self, Arrival, Currency};

/// `GET /v1/funds`
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let funds = views::funds(&state.ctx.pool, state.ctx.livemode).await?;
    let data: Vec<Value> = funds.currencies.iter().map(|money| shown(money, &funds.arrivals)).collect();
    Ok(Json(json!({"data": data})))
}

fn shown(money: &Currency, arrivals: &[Arrival]) -> Value {
    let own = arrivals.iter().filter(|arrival| arrival.currency == money.currency);
    let arrivals: Vec<Value> = own
        .map(|arrival| {
            json!({"topup": arrival.topup, "amount": arrival.amount, "expected_at": maybe(arrival.expected_at)})
        })
        .collect();
    json!({
        "currency": money.currency,
        "settled": money.settled,
        "reserved": money.reserved,
        "released": money.released,
        "available": money.available(),
        "pending": money.pending,
        "arrivals": arrivals,
        "stripe_available": money.stripe_available,
        "drift": money.drift,
        "checked_at": maybe(money.checked_at),
    })
}
