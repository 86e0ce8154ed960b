//! How a transfer is shown.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::ids;
use crate::domain::money;
use crate::domain::reason::Reason;
use crate::http::api::body_of;
use crate::http::words::{
    AccountId, Currency, Instant, ReasonCode, ReversalId, ReversalStatus, StripeTransferId, TopupId,
    TransferId, TransferStatus,
};
use crate::store::views::{self, Attempt, Call, HistoryLine, Reversal};

/// A transfer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Transfer {
    #[schema(value_type = TransferId)]
    id: ids::TransferId,
    #[schema(value_type = TransferStatus)]
    status: &'static str,
    /// Every reason why it has not gone out.
    #[schema(value_type = Vec<ReasonCode>)]
    waiting_on: Vec<Reason>,
    #[schema(value_type = AccountId)]
    destination: ids::AccountId,
    /// In minor units.
    #[schema(example = 1000)]
    amount: i64,
    #[schema(value_type = Currency)]
    currency: money::Currency,
    /// The top-up it is paid from; null where any money will do.
    #[schema(value_type = Option<TopupId>)]
    topup: Option<ids::TopupId>,
    /// The caller's; null where the transfer's own id stands for it at Stripe.
    transfer_group: Option<String>,
    description: Option<String>,
    metadata: BTreeMap<String, String>,
    /// It does not go out before.
    release_after: Option<Instant>,
    /// Higher goes first among those that wait for money.
    priority: i32,
    /// When it should go out, as far as one can tell.
    expected_release_at: Option<Instant>,
    /// Its id at Stripe, once it is there.
    #[schema(value_type = Option<StripeTransferId>)]
    stripe_transfer: Option<ids::StripeTransferId>,
    /// How much of it came back, in minor units.
    amount_reversed: i64,
    /// Why Stripe refused it for good.
    failure: Option<Failure>,
    created_at: Instant,
    updated_at: Instant,
}

/// Why it failed, in Stripe's words.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Failure {
    #[schema(example = "account_invalid")]
    code: String,
    message: String,
}

impl Failure {
    fn of((code, message): (String, String)) -> Self {
        Self { code, message }
    }
}

impl Transfer {
    pub(in crate::http) fn of(transfer: &views::Transfer) -> Self {
        Self {
            id: transfer.id.clone(),
            status: transfer.status.as_str(),
            waiting_on: transfer.waiting_on.clone(),
            destination: transfer.destination.clone(),
            amount: transfer.amount_minor,
            currency: transfer.currency,
            topup: transfer.topup.clone(),
            transfer_group: transfer.transfer_group.clone(),
            description: transfer.description.clone(),
            metadata: transfer.metadata.clone(),
            release_after: Instant::maybe(transfer.release_after),
            priority: transfer.priority,
            expected_release_at: Instant::maybe(transfer.expected_release_at),
            stripe_transfer: transfer.stripe_transfer.clone(),
            amount_reversed: transfer.amount_reversed_minor,
            failure: transfer.failure.clone().map(Failure::of),
            created_at: Instant::of(transfer.created_at),
            updated_at: Instant::of(transfer.updated_at),
        }
    }
}

/// A transfer, as the answer that is kept.
pub(super) fn transfer(transfer: &views::Transfer) -> Value {
    body_of(&Transfer::of(transfer))
}

/// A transfer together with what shall come back of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransferWithReversals)]
pub(in crate::http) struct Reversed {
    #[serde(flatten)]
    transfer: Transfer,
    reversals: Vec<Back>,
}

/// The same, as the answer that is kept.
pub(super) fn reversed(of: &views::Transfer, reversals: &[Reversal]) -> Value {
    body_of(&Reversed { transfer: Transfer::of(of), reversals: reversals.iter().map(Back::of).collect() })
}

/// An order that money shall come back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reversal)]
struct Back {
    #[schema(value_type = ReversalId)]
    id: ids::ReversalId,
    #[schema(value_type = ReversalStatus)]
    status: &'static str,
    /// Why it has not been carried out.
    #[schema(value_type = Vec<ReasonCode>)]
    waiting_on: Vec<Reason>,
    /// In minor units.
    #[schema(example = 1000)]
    amount: i64,
    #[schema(value_type = Currency)]
    currency: money::Currency,
    /// Why it was ordered.
    reason: Option<String>,
    /// Its id at Stripe, once it is there.
    #[schema(example = "trr_1RVbKzLkdIwHu7ix")]
    stripe_reversal: Option<String>,
    failure: Option<Failure>,
    /// The key that asked for it.
    #[schema(example = "admin")]
    created_by: String,
    created_at: Instant,
    updated_at: Instant,
}

impl Back {
    fn of(reversal: &Reversal) -> Self {
        Self {
            id: reversal.id.clone(),
            status: reversal.status.as_str(),
            waiting_on: reversal.waiting_on.clone(),
            amount: reversal.amount_minor,
            currency: reversal.currency,
            reason: reversal.reason.clone(),
            stripe_reversal: reversal.stripe_reversal.clone(),
            failure: reversal.failure.clone().map(Failure::of),
            created_by: reversal.created_by.clone(),
            created_at: Instant::of(reversal.created_at),
            updated_at: Instant::of(reversal.updated_at),
        }
    }
}

/// A transfer with all that happened to it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransferWithHistory)]
pub(in crate::http) struct WithHistory {
    #[serde(flatten)]
    transfer: Transfer,
    /// The latest changes, oldest first.
    history: Vec<Line>,
    /// What shall come back, or came.
    reversals: Vec<Back>,
    /// What was sent to Stripe under each idempotency key.
    attempts: Vec<Try>,
}

impl WithHistory {
    pub(super) fn of(
        transfer: &views::Transfer,
        history: Vec<HistoryLine>,
        reversals: &[Reversal],
        attempts: Vec<Attempt>,
        calls: &[Call],
    ) -> Self {
        Self {
            transfer: Transfer::of(transfer),
            history: history.into_iter().map(Line::of).collect(),
            reversals: reversals.iter().map(Back::of).collect(),
            attempts: attempts.into_iter().map(|attempt| Try::of(attempt, calls)).collect(),
        }
    }
}

/// A line of a transfer's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransferChange)]
struct Line {
    at: Instant,
    #[schema(value_type = TransferStatus)]
    status: String,
    #[schema(value_type = Vec<ReasonCode>)]
    waiting_on: Vec<String>,
    /// What brought it there.
    #[schema(example = "requested")]
    cause: String,
}

impl Line {
    fn of(line: HistoryLine) -> Self {
        Self { at: Instant::of(line.at), status: line.status, waiting_on: line.waiting_on, cause: line.cause }
    }
}

/// The use of one idempotency key at Stripe.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct Try {
    /// N of the key `xfer_….N`.
    #[schema(minimum = 1)]
    n: i32,
    /// How often it was sent.
    #[schema(minimum = 0)]
    sends: i32,
    first_sent_at: Option<Instant>,
    last_sent_at: Option<Instant>,
    /// `created`, `refused` or `superseded`; null while it is open.
    outcome: Option<String>,
    calls: Vec<Asked>,
}

impl Try {
    fn of(attempt: Attempt, calls: &[Call]) -> Self {
        let own = calls.iter().filter(|call| call.n == attempt.n);
        Self {
            n: attempt.n,
            sends: attempt.sends,
            first_sent_at: Instant::maybe(attempt.first_sent_at),
            last_sent_at: Instant::maybe(attempt.last_sent_at),
            outcome: attempt.outcome,
            calls: own.map(Asked::of).collect(),
        }
    }
}

/// A call to Stripe and how it ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Call)]
struct Asked {
    /// `create` or `look_up`.
    #[schema(example = "create")]
    kind: String,
    started_at: Instant,
    ended_at: Instant,
    #[schema(example = "created")]
    outcome: String,
    /// Stripe's HTTP status; null where there was no answer.
    status: Option<i32>,
    /// Stripe's code.
    code: Option<String>,
    /// Stripe's text.
    message: Option<String>,
    /// By this Stripe finds the request.
    request_id: Option<String>,
}

impl Asked {
    fn of(call: &Call) -> Self {
        Self {
            kind: call.kind.clone(),
            started_at: Instant::of(call.started_at),
            ended_at: Instant::of(call.ended_at),
            outcome: call.outcome.clone(),
            status: call.status,
            code: call.code.clone(),
            message: call.message.clone(),
            request_id: call.request_id.clone(),
        }
    }
}
