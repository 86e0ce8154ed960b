//! How a transfer is shown.

use serde_json::{Value, json};

use crate::domain::reason::codes;
use crate::http::api::{instant, maybe};
use crate::store::views::{Attempt, Call, HistoryLine, Reversal, Transfer};

/// A transfer.
pub(super) fn transfer(transfer: &Transfer) -> Value {
    let failure = transfer.failure.as_ref().map(|(code, text)| json!({"code": code, "message": text}));
    json!({
        "id": transfer.id,
        "status": transfer.status.as_str(),
        "waiting_on": codes(&transfer.waiting_on),
        "destination": transfer.destination,
        "amount": transfer.amount_minor,
        "currency": transfer.currency,
        "topup": transfer.topup,
        "transfer_group": transfer.transfer_group,
        "description": transfer.description,
        "metadata": transfer.metadata,
        "release_after": maybe(transfer.release_after),
        "priority": transfer.priority,
        "expected_release_at": maybe(transfer.expected_release_at),
        "stripe_transfer": transfer.stripe_transfer,
        "amount_reversed": transfer.amount_reversed_minor,
        "failure": failure,
        "created_at": instant(transfer.created_at),
        "updated_at": instant(transfer.updated_at),
    })
}

/// A transfer together with what shall come back of it.
pub(super) fn reversed(of: &Transfer, reversals: &[Reversal]) -> Value {
    let mut body = transfer(of);
    body["reversals"] = reversals.iter().map(reversal).collect();
    body
}

/// An order that money shall come back.
pub(super) fn reversal(reversal: &Reversal) -> Value {
    let failure = reversal.failure.as_ref().map(|(code, text)| json!({"code": code, "message": text}));
    json!({
        "id": reversal.id,
        "status": reversal.status.as_str(),
        "waiting_on": codes(&reversal.waiting_on),
        "amount": reversal.amount_minor,
        "currency": reversal.currency,
        "reason": reversal.reason,
        "stripe_reversal": reversal.stripe_reversal,
        "failure": failure,
        "created_by": reversal.created_by,
        "created_at": instant(reversal.created_at),
        "updated_at": instant(reversal.updated_at),
    })
}

/// A line of its history.
pub(super) fn line(line: &HistoryLine) -> Value {
    json!({
        "at": instant(line.at), "status": line.status, "waiting_on": line.waiting_on, "cause": line.cause,
    })
}

/// The use of one idempotency key at Stripe, with the calls that belong to it.
pub(super) fn attempt(attempt: &Attempt, calls: &[Call]) -> Value {
    let own: Vec<Value> = calls.iter().filter(|call| call.n == attempt.n).map(call_shown).collect();
    json!({
        "n": attempt.n,
        "sends": attempt.sends,
        "first_sent_at": maybe(attempt.first_sent_at),
        "last_sent_at": maybe(attempt.last_sent_at),
        "outcome": attempt.outcome,
        "calls": own,
    })
}

fn call_shown(call: &Call) -> Value {
    json!({
        "kind": call.kind,
        "started_at": instant(call.started_at),
        "ended_at": instant(call.ended_at),
        "outcome": call.outcome,
        "status": call.status,
        "code": call.code,
        "message": call.message,
        "request_id": call.request_id,
    })
}
