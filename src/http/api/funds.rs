//! `/v1/funds`: the money of each currency.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::maybe;
use crate::domain;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::query::Params;
use crate::http::state::Shared;
use crate::store::views::{self, Arrival, Currency, Outlook};

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

/// `GET /v1/funds/forecast`
pub(in crate::http) async fn forecast(
    State(state): State<Shared>,
    _: Reader,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let now = state.ctx.clock.now();
    let outlooks = views::outlook(&state.ctx.pool, state.ctx.livemode, now).await?;
    let data: Vec<Value> = outlooks.iter().flat_map(|outlook| days(outlook, now)).collect();
    Ok(Json(json!({"data": data})))
}

fn days(outlook: &Outlook, now: OffsetDateTime) -> Vec<Value> {
    let days = domain::forecast::days(outlook.available_minor, &outlook.coming, &outlook.waiting, now);
    let shown = |day: domain::forecast::Day| {
        json!({
            "currency": outlook.currency,
            "day": day.day.to_string(),
            "arrivals": day.arrivals_minor,
            "waiting": day.waiting_minor,
            "shortfall": day.shortfall_minor,
        })
    };
    days.into_iter().map(shown).collect()
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
