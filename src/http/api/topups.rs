//! `/v1/topups`: top-ups and whether their money has arrived.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::ids;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{AnyCall, Refuses, TopupUnknown};
use crate::http::state::Shared;
use crate::http::words::{CurrencyCode, Instant, TopupId};
use crate::store::views;

/// A top-up, and whether its money has arrived
#[utoipa::path(
    get, path = "/v1/topups/{tu}", tag = "topups", operation_id = "get_topup",
    params(("tu" = TopupId, Path, description = "The top-up.")),
    responses((status = 200, description = "The top-up.", body = Topup), Refuses<(AnyCall, TopupUnknown)>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Topup>, Problem> {
    params.finish()?;
    let id = ids::TopupId::parse(&id).map_err(|_| Problem::topup_unknown())?;
    let mut conn = state.connect().await?;
    let topup = views::find_topup(&mut conn, state.ctx.livemode, id.as_str()).await?;
    topup.map(Topup::of).map(Json).ok_or_else(Problem::topup_unknown)
}

/// Top-ups, those first that were heard of last
#[utoipa::path(
    get, path = "/v1/topups", tag = "topups", operation_id = "list_topups",
    params(Paging),
    responses((status = 200, description = "A page of them.", body = List<Topup>), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Topup>>, Problem> {
    let page = params.page("topups", |key| place_of(key).is_some());
    params.finish()?;
    let after = page.after.as_deref().and_then(place_of);
    let mut conn = state.connect().await?;
    let topups = views::list_topups(&mut conn, state.ctx.livemode, after, page.to_read()).await?;
    Ok(Json(page.of(topups, place, |topup| Some(Topup::of(topup.clone())))))
}

/// A top-up's sort key: when it was first heard of, to the nanosecond, and its id.
fn place(topup: &views::Topup) -> String {
    format!("{} {}", topup.first_seen.unix_timestamp_nanos(), topup.id)
}

fn place_of(key: &str) -> Option<(OffsetDateTime, &str)> {
    let (at, id) = key.split_once(' ')?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(at.parse().ok()?).ok()?;
    ids::TopupId::parse(id).ok().map(|_| (at, id))
}

/// Money on its way in.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Topup {
    #[schema(value_type = TopupId)]
    id: String,
    livemode: bool,
    /// Stripe's word: `pending`, `succeeded`, `failed`, `canceled`, `reversed`, or one that is new.
    #[schema(example = "succeeded")]
    status: String,
    /// Asked of the bank, in minor units.
    #[schema(example = 500_000)]
    amount: i64,
    #[schema(value_type = CurrencyCode)]
    currency: String,
    /// Whether its money has arrived.
    settled: bool,
    settled_at: Option<Instant>,
    /// Settled before Sluicegate was to count it: shown, but not money to release.
    excluded: bool,
    /// What it counts for as money to release, in minor units of `counted_currency`.
    counted_amount: i64,
    #[schema(value_type = Option<CurrencyCode>)]
    counted_currency: Option<String>,
    /// When its money is available, as its balance transaction says.
    available_on: Option<Instant>,
    /// The same by Stripe's forecast, before there is a balance transaction.
    expected_availability_date: Option<Instant>,
    /// Why the bank refused.
    failure: Option<BankFailure>,
    description: Option<String>,
    /// On the bank's statement.
    statement_descriptor: Option<String>,
    transfer_group: Option<String>,
    metadata: BTreeMap<String, String>,
    #[schema(example = "txn_1RVbKzLkdIwHu7ix")]
    balance_transaction: Option<String>,
    /// When this was so.
    as_of: Instant,
    /// The event that told, or `api` where Stripe was asked.
    #[schema(example = "evt_1RVbKzLkdIwHu7ix")]
    source: String,
    /// When it was made at Stripe.
    created: Option<Instant>,
    /// When it was first heard of here.
    first_seen: Instant,
}

/// Why the bank refused, in Stripe's words.
#[derive(Debug, Serialize, ToSchema)]
struct BankFailure {
    #[schema(example = "insufficient_funds")]
    code: String,
    message: Option<String>,
}

impl Topup {
    /// As it is shown.
    pub(in crate::http) fn of(topup: views::Topup) -> Self {
        let failure = topup.failure_code.map(|code| BankFailure { code, message: topup.failure_message });
        Self {
            id: topup.id,
            livemode: topup.livemode,
            status: topup.status,
            amount: topup.amount,
            currency: topup.currency,
            settled: topup.settled,
            settled_at: Instant::maybe(topup.settled_at),
            excluded: topup.excluded.unwrap_or(false),
            counted_amount: topup.booked_amount,
            counted_currency: topup.booked_currency,
            available_on: Instant::maybe(topup.proof_available_on),
            expected_availability_date: Instant::maybe(topup.expected_availability_date),
            failure,
            description: topup.description,
            statement_descriptor: topup.statement_descriptor,
            transfer_group: topup.transfer_group,
            metadata: topup.metadata.0,
            balance_transaction: topup.balance_transaction,
            as_of: Instant::second(topup.as_of),
            source: topup.source,
            created: Instant::maybe(topup.stripe_created),
            first_seen: Instant::of(topup.first_seen),
        }
    }
}
