//! `/v1/funds`: the money of each currency.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::query::Params;
use crate::http::refusals::{AnyCall, Refuses};
use crate::http::state::Shared;
use crate::http::words::{CurrencyCode, Instant, TopupId};
use crate::store::views::{self, Currency, Outlook};

/// The money of every currency
#[utoipa::path(
    get, path = "/v1/funds", tag = "funds", operation_id = "get_funds",
    responses((status = 200, description = "All of it, from one moment.", body = Funds), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    params: Params,
) -> Result<Json<Funds>, Problem> {
    params.finish()?;
    let funds = views::funds(&state.ctx.pool, state.ctx.livemode).await?;
    let data = funds.currencies.iter().map(|money| Money::of(money, &funds.arrivals)).collect();
    Ok(Json(Funds { data }))
}

/// By currency and day: what arrives, what waits for it, and what will be missing
#[utoipa::path(
    get, path = "/v1/funds/forecast", tag = "funds", operation_id = "get_forecast",
    responses((status = 200, description = "The days on which something happens.", body = Forecast), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn forecast(
    State(state): State<Shared>,
    _: Reader,
    params: Params,
) -> Result<Json<Forecast>, Problem> {
    params.finish()?;
    let now = state.ctx.clock.now();
    let outlooks = views::outlook(&state.ctx.pool, state.ctx.livemode, now).await?;
    Ok(Json(Forecast { data: outlooks.iter().flat_map(|outlook| days(outlook, now)).collect() }))
}

fn days(outlook: &Outlook, now: OffsetDateTime) -> Vec<Day> {
    let days = domain::forecast::days(outlook.available_minor, &outlook.coming, &outlook.waiting, now);
    let shown = |day: domain::forecast::Day| Day {
        currency: outlook.currency.clone(),
        day: day.day.to_string(),
        arrivals: day.arrivals_minor,
        waiting: day.waiting_minor,
        shortfall: day.shortfall_minor,
    };
    days.into_iter().map(shown).collect()
}

/// The money of every currency.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Funds {
    data: Vec<Money>,
}

/// One currency's money, in minor units.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurrencyFunds)]
struct Money {
    #[schema(value_type = CurrencyCode)]
    currency: String,
    /// All that ever arrived, adjustments included.
    settled: i64,
    /// Set aside for transfers that are `releasing`.
    reserved: i64,
    /// Gone out, net of what came back.
    released: i64,
    /// What can be released: settled, neither reserved nor released. Negative where a top-up was taken back
    /// after its money went out.
    available: i64,
    /// Top-ups on their way.
    pending: i64,
    /// The first hundred of those, by date.
    arrivals: Vec<Arrival>,
    /// Stripe's own available balance, as last read.
    stripe_available: Option<i64>,
    /// How far that was from what should have been there.
    drift: Option<i64>,
    /// When it was read.
    checked_at: Option<Instant>,
}

/// A top-up on its way.
#[derive(Debug, Serialize, ToSchema)]
struct Arrival {
    #[schema(value_type = TopupId)]
    topup: String,
    /// In minor units.
    amount: i64,
    /// When its money should be there, as far as Stripe told.
    expected_at: Option<Instant>,
}

impl Money {
    fn of(money: &Currency, arrivals: &[views::Arrival]) -> Self {
        let own = arrivals.iter().filter(|arrival| arrival.currency == money.currency);
        let shown = |arrival: &views::Arrival| Arrival {
            topup: arrival.topup.clone(),
            amount: arrival.amount,
            expected_at: Instant::maybe(arrival.expected_at),
        };
        Self {
            currency: money.currency.clone(),
            settled: money.settled,
            reserved: money.reserved,
            released: money.released,
            available: money.available(),
            pending: money.pending,
            arrivals: own.map(shown).collect(),
            stripe_available: money.stripe_available,
            drift: money.drift,
            checked_at: Instant::maybe(money.checked_at),
        }
    }
}

/// What is to come.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Forecast {
    data: Vec<Day>,
}

/// One currency on one day, in minor units.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForecastDay)]
struct Day {
    #[schema(value_type = CurrencyCode)]
    currency: String,
    /// Of the UTC calendar.
    #[schema(format = Date, example = "2026-11-28")]
    day: String,
    /// What should arrive.
    arrivals: i64,
    /// Transfers that could go out from then on, if there were money.
    waiting: i64,
    /// What will be missing.
    shortfall: i64,
}
