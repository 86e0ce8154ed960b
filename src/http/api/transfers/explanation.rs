//! `/v1/transfers/{id}/explanation`: why it stands where it stands.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::explanation::{Check, Evidence};
use crate::domain::ids;
use crate::flows::explain_transfer::{self, Explained};
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::query::Params;
use crate::http::refusals::{AnyCall, Refuses, TransferUnknown};
use crate::http::state::Shared;
use crate::http::words::{Instant, TransferId, TransferStatus};

/// Why a transfer stands where it stands
///
/// Every check in the order in which it is asked: what operators decided, the account, the top-up, the money, Stripe;
/// whether it holds, on what evidence, what will unblock it and when. Of a transfer that is over: how it ended.
#[utoipa::path(
    get, path = "/v1/transfers/{id}/explanation", tag = "transfers", operation_id = "explain_transfer",
    params(("id" = TransferId, Path, description = "The transfer.")),
    responses(
        (status = 200, description = "The explanation.", body = Explanation),
        Refuses<(AnyCall, TransferUnknown)>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn explain(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Explanation>, Problem> {
    params.finish()?;
    let id = ids::TransferId::parse(&id).map_err(|_| Problem::transfer_unknown())?;
    let explained =
        explain_transfer::explain(&state.ctx, &id).await?.ok_or_else(Problem::transfer_unknown)?;
    Ok(Json(Explanation::of(explained)))
}

/// Why a transfer stands where it stands, in plain words.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Explanation {
    #[schema(value_type = TransferId)]
    transfer: ids::TransferId,
    #[schema(value_type = TransferStatus)]
    status: &'static str,
    /// The whole in a sentence or two.
    #[schema(example = "It waits: onboarding is not finished.")]
    summary: String,
    /// When it should go out, as far as that is known.
    expected_release_at: Option<Instant>,
    /// In the order in which they are asked.
    checks: Vec<CheckShown>,
}

/// One thing that is asked before money goes out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Check)]
struct CheckShown {
    /// Its name.
    #[schema(example = "details_submitted")]
    check: &'static str,
    /// Whether it holds; null where it was not asked, or can't be told yet.
    passed: Option<bool>,
    /// Why it does not hold: a code of `waiting_on`, or Stripe's own for a refusal.
    #[schema(example = "details_not_submitted")]
    code: Option<String>,
    evidence: EvidenceShown,
    /// What has to happen, as the rest of a sentence that begins with "it goes on when".
    #[schema(example = "the account's holder finishes onboarding")]
    unblocked_by: Option<String>,
    /// When that should be, as far as it is known.
    expected_at: Option<Instant>,
}

/// What a check rests on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Evidence)]
struct EvidenceShown {
    /// What was seen, in words.
    #[schema(example = "details_submitted is false")]
    what: String,
    /// When it was so.
    at: Option<Instant>,
    /// Who or what told: an event's id, `api`, an API key's id, a variable of the configuration.
    #[schema(example = "evt_1RVbKzKd3W9tqPfA")]
    source: Option<String>,
}

impl Explanation {
    fn of(explained: Explained) -> Self {
        let Explained { transfer, summary, checks } = explained;
        Self {
            transfer: transfer.id,
            status: transfer.status.as_str(),
            summary,
            expected_release_at: Instant::maybe(transfer.expected_release_at),
            checks: checks.into_iter().map(CheckShown::of).collect(),
        }
    }
}

impl CheckShown {
    fn of(check: Check) -> Self {
        let Evidence { what, at, source } = check.evidence;
        Self {
            check: check.check,
            passed: check.passed,
            code: check.code,
            evidence: EvidenceShown { what, at: Instant::maybe(at), source },
            unblocked_by: check.unblocked_by,
            expected_at: Instant::maybe(check.expected_at),
        }
    }
}
