//! How a top-up is shown, and an order for one of which nobody knows yet what came of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::topup::intent::{METADATA_KEY, Status as OrderStatus};
use crate::domain::topup::words::{self as in_words, Whereabouts};
use crate::domain::topup::{Status, intent};
use crate::domain::{ids, money};
use crate::http::api::body_of;
use crate::http::words::{Currency, CurrencyCode, Instant, TopupId, TopupIntentId, TopupStepCode};
use crate::store::views::{self, TopupChange, TopupIntent};

/// Money on its way in.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Topup {
    #[schema(value_type = TopupId)]
    id: String,
    /// The order that made it, where it was ordered here.
    #[schema(value_type = Option<TopupIntentId>)]
    intent: Option<ids::TopupIntentId>,
    livemode: bool,
    /// Stripe's word: `pending`, `succeeded`, `failed`, `canceled`, `reversed`, or `unknown` for one that is new.
    #[schema(example = "succeeded")]
    status: String,
    /// Where its money is, and what to expect, in words.
    #[schema(example = "The bank has paid; Stripe makes the money available on 28 November 2026.")]
    explanation: String,
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

/// Why the bank refused.
#[derive(Debug, Serialize, ToSchema)]
struct BankFailure {
    /// Stripe's.
    #[schema(example = "insufficient_funds")]
    code: String,
    /// Stripe's text.
    message: Option<String>,
    /// What it means and what to do, in plain words; Stripe's text where there are none.
    #[schema(
        example = "There was not enough money in the bank account when the debit arrived. Put money there and top up again."
    )]
    explanation: Option<String>,
}

impl BankFailure {
    fn of(code: String, message: Option<String>) -> Self {
        let explanation = in_words::failure(&code).map(str::to_owned).or_else(|| message.clone());
        Self { code, message, explanation }
    }
}

impl Topup {
    pub(in crate::http) fn of(topup: views::Topup) -> Self {
        let explanation = explanation(&topup);
        let mut metadata = topup.metadata.0;
        let intent = metadata.get(METADATA_KEY).and_then(|id| ids::TopupIntentId::parse(id).ok());
        if intent.is_some() {
            metadata.remove(METADATA_KEY);
        }
        let message = topup.failure_message;
        Self {
            intent,
            explanation,
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
            failure: topup.failure_code.map(|code| BankFailure::of(code, message)),
            description: topup.description,
            statement_descriptor: topup.statement_descriptor,
            transfer_group: topup.transfer_group,
            metadata,
            balance_transaction: topup.balance_transaction,
            as_of: Instant::second(topup.as_of),
            source: topup.source,
            created: Instant::maybe(topup.stripe_created),
            first_seen: Instant::of(topup.first_seen),
        }
    }
}

/// Where a top-up's money is, and what to expect.
pub(in crate::http) fn explanation(topup: &views::Topup) -> String {
    in_words::explanation(&Whereabouts {
        status: Status::parse(&topup.status),
        available: topup.proof_status.as_deref() == Some("available"),
        settled: topup.settled,
        excluded: topup.excluded == Some(true),
        expected_at: topup.proof_available_on.or(topup.expected_availability_date),
    })
}

/// A top-up, as the answer that is kept.
pub(super) fn topup(topup: &views::Topup) -> Value {
    body_of(&Topup::of(topup.clone()))
}

/// A top-up with its history.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TopupWithHistory {
    #[serde(flatten)]
    topup: Topup,
    /// What it became, step by step; oldest first.
    history: Vec<TopupLine>,
}

/// What became of a top-up.
#[derive(Debug, Serialize, ToSchema)]
struct TopupLine {
    /// When it was recorded here.
    at: Instant,
    /// When it was so.
    as_of: Instant,
    /// The event that told, or `api` where Stripe was asked.
    #[schema(example = "evt_1RVbKzLkdIwHu7ix")]
    source: String,
    #[schema(example = "succeeded")]
    status: String,
    /// Whether its money had arrived.
    settled: bool,
    /// What changed; several where it was told late.
    #[schema(value_type = Vec<TopupStepCode>)]
    steps: Vec<String>,
    /// The same in words.
    #[schema(example = "the bank has paid")]
    reason: String,
}

impl TopupWithHistory {
    pub(super) fn of(topup: views::Topup, history: Vec<TopupChange>) -> Self {
        let line = |change: TopupChange| TopupLine {
            at: Instant::of(change.at),
            as_of: Instant::second(change.as_of),
            source: change.source,
            status: change.status,
            settled: change.settled,
            steps: change.steps,
            reason: change.reason,
        };
        Self { topup: Topup::of(topup), history: history.into_iter().map(line).collect() }
    }
}

/// An order for a top-up, where there is no top-up to show.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct OrderedTopup {
    /// There is none yet, as far as is known.
    #[schema(value_type = Option<TopupId>)]
    id: Option<ids::TopupId>,
    #[schema(value_type = TopupIntentId)]
    intent: ids::TopupIntentId,
    livemode: bool,
    /// `unknown` as long as it is not known whether Stripe made it; `absent` once it is proven that it did not;
    /// `refused` where Stripe said so.
    status: OrderedStatus,
    /// What that means, in words.
    explanation: String,
    /// To be asked of the bank, in minor units.
    #[schema(example = 500_000)]
    amount: i64,
    #[schema(value_type = Currency)]
    currency: money::Currency,
    description: Option<String>,
    statement_descriptor: Option<String>,
    transfer_group: Option<String>,
    metadata: BTreeMap<String, String>,
    created_at: Instant,
}

/// What is known of an order for a top-up.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OrderedStatus {
    Unknown,
    Absent,
    Refused,
}

impl OrderedTopup {
    pub(super) fn of(intent: &TopupIntent) -> Self {
        let (status, explanation) = match (intent.status, &intent.refusal) {
            (OrderStatus::Refused, Some(refusal)) => {
                (OrderedStatus::Refused, format!("Stripe refused it: {}", refusal.message))
            }
            (OrderStatus::Absent, _) => (OrderedStatus::Absent, intent::ABSENT.to_owned()),
            (OrderStatus::Open | OrderStatus::Created | OrderStatus::Refused, _) => {
                (OrderedStatus::Unknown, intent::UNKNOWN.to_owned())
            }
        };
        Self {
            id: None,
            intent: intent.id.clone(),
            livemode: intent.livemode,
            status,
            explanation,
            amount: intent.amount_minor,
            currency: intent.currency,
            description: intent.description.clone(),
            statement_descriptor: intent.statement_descriptor.clone(),
            transfer_group: intent.transfer_group.clone(),
            metadata: intent.metadata.clone(),
            created_at: Instant::of(intent.created_at),
        }
    }
}

/// The same, as the answer that is kept until more is known.
pub(super) fn ordered(intent: &TopupIntent) -> Value {
    body_of(&OrderedTopup::of(intent))
}

/// What is found under an id.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum Found {
    /// A top-up.
    Topup(Box<TopupWithHistory>),
    /// An order without one.
    Ordered(OrderedTopup),
}
