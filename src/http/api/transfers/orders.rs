//! The orders about one transfer.

use axum::extract::State;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shown::{self, Reversed, Transfer};
use crate::domain::ids;
use crate::flows::Actor;
use crate::flows::control_transfer::{self, Control, reverse as take_back};
use crate::http::api::{Answer, ReasonRequest, told};
use crate::http::auth::Operator;
use crate::http::error::Problem;
use crate::http::extract::{Fields, Id, OptionalBody, text};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::Params;
use crate::http::refusals::{AnyOrder, ApprovalByCreator, Refuses, TransferState, TransferUnknown};
use crate::http::state::{AppState, Shared};
use crate::http::words::{Amount, Note, TransferId};

macro_rules! orders {
    ($($(#[doc = $doc:literal])* $name:ident($path:literal, $id:literal) = $control:ident or $refuses:ty;)*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path(
            post, path = $path, tag = "transfers", operation_id = $id,
            params(("id" = TransferId, Path, description = "The transfer."), MayRepeat),
            request_body = Option<ReasonRequest>,
            responses((status = 200, description = "The transfer as it is now.", body = Transfer), $refuses),
            security(("key" = ["operate"])),
        )]
        pub(in crate::http) async fn $name(
            State(state): State<Shared>,
            Operator(actor): Operator,
            Id(id): Id,
            key: Key,
            params: Params,
            OptionalBody(body): OptionalBody,
        ) -> Result<Answer, Problem> {
            params.finish()?;
            carry_out(&state, &actor, &id, Control::$control, key, body).await
        }
    )*};
}

type Refused = Refuses<(AnyOrder, TransferUnknown, TransferState)>;
type RefusedApproval = Refuses<(AnyOrder, TransferUnknown, TransferState, ApprovalByCreator)>;

orders! {
    /// Calls a transfer off, as long as it waits
    cancel("/v1/transfers/{id}/cancel", "cancel_transfer") = Cancel or Refused;
    /// Keeps a transfer from going out until it is resumed
    hold("/v1/transfers/{id}/hold", "hold_transfer") = Hold or Refused;
    /// Lets a transfer go that was held
    resume("/v1/transfers/{id}/resume", "resume_transfer") = Resume or Refused;
    /// Approves a transfer, or its reversals, with another key than the one that asked
    approve("/v1/transfers/{id}/approve", "approve_transfer") = Approve or RefusedApproval;
    /// Tries a failed transfer again, after a look-up at Stripe
    retry("/v1/transfers/{id}/retry", "retry_transfer") = Retry or Refused;
}

/// Takes money back that went out
///
/// In part or as a whole, once; larger sums wait for an approval as transfers do.
#[utoipa::path(
    post, path = "/v1/transfers/{id}/reverse", tag = "transfers", operation_id = "reverse_transfer",
    params(("id" = TransferId, Path, description = "The transfer."), MayRepeat),
    request_body = Option<ReversalRequest>,
    responses((status = 200, description = "The transfer and all its reversals.", body = Reversed), Refused),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn reverse(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    key: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<Answer, Problem> {
    params.finish()?;
    let id = ids::TransferId::parse(&id).map_err(|_| Problem::transfer_unknown())?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let amount_minor = fields.optional_i64("amount");
    if amount_minor.is_some_and(|amount| amount < 1) {
        fields.wrong("/amount", "must be whole minor units, 1 or more; leave it out for all that is left");
    }
    let reason = fields.optional("reason", text(500));
    let request = fields.finish(Some(take_back::Request { amount_minor, reason }))?;
    let ordered =
        take_back::reverse(&state.ctx, &actor, once.as_ref(), &id, &request, shown::reversed).await?;
    state.bell.ring_due();
    told(ordered)
}

/// What shall come back, and why.
#[expect(dead_code, reason = "the schema of what `reverse` reads field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct ReversalRequest {
    /// Left out: all that has not come back yet.
    #[schema(value_type = Option<Amount>)]
    amount: Option<i64>,
    #[schema(value_type = Option<Note>)]
    reason: Option<String>,
}

async fn carry_out(
    state: &AppState,
    actor: &Actor,
    id: &str,
    control: Control,
    key: Key,
    body: Map<String, Value>,
) -> Result<Answer, Problem> {
    let id = ids::TransferId::parse(id).map_err(|_| Problem::transfer_unknown())?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let reason = fields.optional("reason", text(500));
    fields.finish(Some(()))?;
    let (once, reason) = (once.as_ref(), reason.as_deref());
    let ordered =
        control_transfer::control(&state.ctx, actor, once, &id, control, reason, shown::transfer).await?;
    state.bell.ring_due();
    told(ordered)
}
