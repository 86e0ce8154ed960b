//! One transfer: where it stands and why, what can be done, what happened, and what was said to Stripe.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::orders::Order;
use crate::domain::explanation::Check;
use crate::domain::ids::TransferId;
use crate::domain::transfer::Status;
use crate::flows::explain_transfer::{self, Explained};
use crate::http::console::frame::{Frame, Section};
use crate::http::console::page as shown;
use crate::http::console::query::Asked;
use crate::http::console::session::Reader;
use crate::http::console::words::{self, Fact, State as Standing};
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::state::Shared;
use crate::store::views::{self, Attempt, Call, HistoryLine, Reversal, Transfer};

#[derive(Debug, Template)]
#[template(path = "console/transfer.html")]
struct One {
    frame: Frame,
    id: String,
    amount: String,
    standing: Standing,
    summary: String,
    facts: Vec<Fact>,
    orders: Vec<Order>,
    checks: Vec<Asking>,
    history: Vec<Line>,
    reversals: Vec<Back>,
    attempts: Vec<Try>,
}

/// A check of the chain.
#[derive(Debug)]
struct Asking {
    name: String,
    tone: &'static str,
    verdict: &'static str,
    evidence: String,
    source: Option<String>,
    at: Option<String>,
    way_out: Option<String>,
    expected: Option<String>,
}

#[derive(Debug)]
struct Line {
    at: String,
    status: &'static str,
    why: Vec<String>,
    cause: String,
}

#[derive(Debug)]
struct Back {
    id: String,
    amount: String,
    status: String,
    why: Vec<&'static str>,
    asked: String,
    by: String,
    stripe: String,
}

#[derive(Debug)]
struct Try {
    key: String,
    sends: i32,
    outcome: String,
    calls: Vec<Exchange>,
}

/// A call to Stripe.
#[derive(Debug)]
struct Exchange {
    kind: &'static str,
    at: String,
    took: String,
    outcome: String,
    said: String,
    request: String,
}

/// One transfer.
pub(in crate::http) async fn page(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    Id(id): Id,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let done = asked.take("done").and_then(|word| Order::parse(&word)).map(Order::done);
    let id = TransferId::parse(&id).map_err(|_| Problem::transfer_unknown())?;
    let explained =
        explain_transfer::explain(&state.ctx, &id).await?.ok_or_else(Problem::transfer_unknown)?;
    let mut conn = state.snapshot().await?;
    let history = views::list_history(&mut conn, id.as_str()).await?;
    let calls = views::list_calls(&mut conn, id.as_str()).await?;
    let attempts = views::list_attempts(&mut conn, id.as_str()).await?;
    let reversals = views::list_reversals(&mut conn, id.as_str()).await?;
    let Explained { transfer, summary, checks } = explained;
    let orders = if visitor.operates() { Order::open_for(&transfer, &reversals) } else { Vec::new() };
    let key = |n: i32| format!("{id}.{n}");
    shown(&One {
        frame: visitor.frame(Section::Transfers, format!("Transfer {id}")).after(done),
        id: id.to_string(),
        amount: words::money(transfer.amount_minor, transfer.currency.as_str()),
        standing: words::transfer(transfer.status),
        summary,
        facts: facts(&transfer),
        orders,
        checks: checks.into_iter().map(Asking::of).collect(),
        history: history.into_iter().rev().map(Line::of).collect(),
        reversals: reversals.iter().map(Back::of).collect(),
        attempts: attempts.iter().rev().map(|attempt| Try::of(attempt, key(attempt.n), &calls)).collect(),
    })
}

fn facts(transfer: &Transfer) -> Vec<Fact> {
    let money = |amount| words::money(amount, transfer.currency.as_str());
    let mut facts = vec![Fact::of("To account", transfer.destination.to_string())];
    let mut add = |name, value: Option<String>| {
        if let Some(value) = value {
            facts.push(Fact::of(name, value));
        }
    };
    add("At Stripe", transfer.stripe_transfer.as_ref().map(ToString::to_string));
    add("Paid from top-up", transfer.topup.as_ref().map(ToString::to_string));
    add("Came back", (transfer.amount_reversed_minor > 0).then(|| money(transfer.amount_reversed_minor)));
    add("Should go out", transfer.expected_release_at.map(words::moment));
    add("Not before", transfer.release_after.map(words::moment));
    add("Description", transfer.description.clone());
    add("Group", transfer.transfer_group.clone());
    add("Priority", (transfer.priority != 0).then(|| transfer.priority.to_string()));
    add("Approved by", transfer.approved_by.clone());
    add("Held by", transfer.held_by.clone());
    add("Refusal", transfer.failure.as_ref().map(|(code, text)| format!("{code}: {text}")));
    add("Asked for by", Some(transfer.created_by.clone()));
    add("Asked for at", Some(words::moment(transfer.created_at)));
    for (name, value) in &transfer.metadata {
        add("Metadata", Some(format!("{name} = {value}")));
    }
    facts
}

impl Asking {
    fn of(check: Check) -> Self {
        let (tone, verdict) = match check.passed {
            Some(true) => ("good", "Passed"),
            Some(false) => ("bad", "Stops it"),
            None => ("over", "Not checked yet"),
        };
        Self {
            name: words::sentence(&check.check.replace('_', " ")),
            tone,
            verdict,
            evidence: check.evidence.what,
            source: check.evidence.source.as_deref().map(words::source),
            at: check.evidence.at.map(words::moment),
            way_out: check.unblocked_by,
            expected: check.expected_at.map(words::moment),
        }
    }
}

impl Line {
    fn of(line: HistoryLine) -> Self {
        let status = Status::parse(&line.status).map_or("Unknown", |status| words::transfer(status).words);
        let why = line.waiting_on.iter().map(|code| words::reason(code)).collect();
        Self { at: words::moment(line.at), status, why, cause: line.cause }
    }
}

impl Back {
    fn of(reversal: &Reversal) -> Self {
        Self {
            id: reversal.id.to_string(),
            amount: words::money(reversal.amount_minor, reversal.currency.as_str()),
            status: words::sentence(reversal.status.as_str()),
            why: reversal.waiting_on.iter().map(|reason| reason.words()).collect(),
            asked: words::moment(reversal.created_at),
            by: reversal.created_by.clone(),
            stripe: match (&reversal.stripe_reversal, &reversal.failure) {
                (Some(id), _) => id.clone(),
                (None, Some((code, text))) => format!("{code}: {text}"),
                (None, None) => String::new(),
            },
        }
    }
}

impl Try {
    fn of(attempt: &Attempt, key: String, calls: &[Call]) -> Self {
        let outcome = match attempt.outcome.as_deref() {
            Some("created") => "Made at Stripe",
            Some("refused") => "Refused",
            Some("superseded") => "Given up for another key",
            Some(other) => other,
            None => "Not known yet",
        };
        Self {
            key,
            sends: attempt.sends,
            outcome: outcome.to_owned(),
            calls: calls.iter().filter(|call| call.n == attempt.n).map(Exchange::of).collect(),
        }
    }
}

impl Exchange {
    fn of(call: &Call) -> Self {
        let said = [call.status.map(|status| status.to_string()), call.code.clone(), call.message.clone()];
        Self {
            kind: if call.kind == "look_up" { "Looked it up" } else { "Sent it" },
            at: words::moment(call.started_at),
            took: format!("{} ms", (call.ended_at - call.started_at).whole_milliseconds()),
            outcome: words::sentence(&call.outcome.replace('_', " ")),
            said: said.into_iter().flatten().collect::<Vec<_>>().join(" "),
            request: call.request_id.clone().unwrap_or_default(),
        }
    }
}
