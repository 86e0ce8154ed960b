//! `/v1/topups`: top-ups and whether their money has arrived.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{instant, maybe, second};
use crate::domain::ids::TopupId;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::query::{List, Params};
use crate::http::state::Shared;
use crate::store::views::{self, Topup};

/// `GET /v1/topups/{tu}`
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let id = TopupId::parse(&id).map_err(|_| Problem::topup_unknown())?;
    let mut conn = state.connect().await?;
    let topup = views::find_topup(&mut conn, state.ctx.livemode, id.as_str()).await?;
    topup.as_ref().map(shown).map(Json).ok_or_else(Problem::topup_unknown)
}

/// `GET /v1/topups`
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Value>>, Problem> {
    let page = params.page("topups", |key| place_of(key).is_some());
    params.finish()?;
    let after = page.after.as_deref().and_then(place_of);
    let mut conn = state.connect().await?;
    let topups = views::list_topups(&mut conn, state.ctx.livemode, after, page.to_read()).await?;
    Ok(Json(page.of(topups, place, |topup| Some(shown(topup)))))
}

/// A top-up's sort key: when it was first heard of, to the nanosecond, and its id.
fn place(topup: &Topup) -> String {
    format!("{} {}", topup.first_seen.unix_timestamp_nanos(), topup.id)
}

fn place_of(key: &str) -> Option<(OffsetDateTime, &str)> {
    let (at, id) = key.split_once(' ')?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(at.parse().ok()?).ok()?;
    TopupId::parse(id).ok().map(|_| (at, id))
}

fn shown(topup: &Topup) -> Value {
    let failure =
        topup.failure_code.as_ref().map(|code| json!({"code": code, "message": topup.failure_message}));
    json!({
        "id": topup.id,
        "livemode": topup.livemode,
        "status": topup.status,
        "amount": topup.amount,
        "currency": topup.currency,
        "settled": topup.settled,
        "settled_at": maybe(topup.settled_at),
        // Settled money that came before Sluicegate was to count it is excluded: shown, not released.
        "excluded": topup.excluded.unwrap_or(false),
        "counted_amount": topup.booked_amount,
        "counted_currency": topup.booked_currency,
        "available_on": maybe(topup.proof_available_on),
        "expected_availability_date": maybe(topup.expected_availability_date),
        "failure": failure,
        "description": topup.description,
        "statement_descriptor": topup.statement_descriptor,
        "transfer_group": topup.transfer_group,
        "metadata": topup.metadata.0,
        "balance_transaction": topup.balance_transaction,
        "as_of": second(topup.as_of),
        "source": topup.source,
        "created": maybe(topup.stripe_created),
        "first_seen": instant(topup.first_seen),
    })
}
