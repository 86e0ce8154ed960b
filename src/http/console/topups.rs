//! Top-ups: what is on its way in, from the order to the day on which its money may go out.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::confirm::Confirm;
use super::form::Form;
use super::frame::{Frame, Section};
use super::query::Asked;
use super::session::{Operator, Reader};
use super::words::{self, Choice, Fact, State as Standing};
use super::{onward, page};
use crate::domain::ids::{TopupId, TopupIntentId};
use crate::domain::money::Currency;
use crate::domain::topup::Status;
use crate::domain::topup::intent::{self, Status as OrderStatus};
use crate::domain::topup::words::failure;
use crate::flows::cancel_topup;
use crate::flows::order::Ordered;
use crate::http::api::topups::shown::explanation;
use crate::http::api::topups::{place, place_of};
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::query::Params;
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, Topup, TopupChange, TopupFilter, TopupIntent};

#[derive(Debug, Template)]
#[template(path = "console/topups.html")]
struct List {
    frame: Frame,
    statuses: Vec<Choice>,
    settled: Vec<Choice>,
    currency: String,
    export: String,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug)]
struct Row {
    id: String,
    standing: Standing,
    where_it_is: String,
    amount: String,
    expected: Option<String>,
    seen: String,
}

#[derive(Debug, Template)]
#[template(path = "console/topup.html")]
struct One {
    frame: Frame,
    id: String,
    amount: String,
    standing: Standing,
    where_it_is: String,
    may_cancel: bool,
    facts: Vec<Fact>,
    steps: Vec<Step>,
}

/// A step of a top-up's way in.
#[derive(Debug)]
struct Step {
    words: String,
    tone: &'static str,
    when: String,
    at: String,
    source: String,
}

/// Top-ups, those first that were heard of last.
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let (status, settled, currency) = (asked.get("status"), asked.get("settled"), asked.get("currency"));
    let statuses = Status::ALL.into_iter();
    let statuses =
        statuses.map(|of| Choice::of(of.as_str(), words::topup(of, false).words, &status)).collect();
    let arrived = [("true", "There"), ("false", "Not there yet")];
    let arrived = arrived.map(|(value, words)| Choice::of(value, words, &settled)).into();
    let (below, export) = (asked.below(), asked.below().whole());
    let mut params = asked.strictly();
    let page_of = params.page("topups", |key| place_of(key).is_some());
    let (status, settled, wanted) = filter(&mut params);
    params.finish()?;
    let filter = TopupFilter { status, settled, currency: wanted.as_deref() };
    let after = page_of.after.as_deref().and_then(place_of);
    let mut conn = state.connect().await?;
    let found = views::list_topups(&mut conn, state.ctx.livemode, &filter, after, page_of.to_read()).await?;
    let rows = page_of.of(found, place, |topup| Some(Row::of(topup)));
    page(&List {
        frame: visitor.frame(Section::Topups, "Top-ups"),
        statuses,
        settled: arrived,
        currency,
        export,
        rows: rows.data,
        next: rows.next.map(|after| below.to(&after)),
    })
}

/// Reads the list's filters: the status, whether the money is there, and the currency.
pub(super) fn filter(params: &mut Params) -> (Option<&'static str>, Option<bool>, Option<String>) {
    let status = params.optional("status", |word| {
        let known = Status::ALL.into_iter().find(|status| status.as_str() == word);
        known.map(Status::as_str).ok_or_else(|| "must be one of the list".to_owned())
    });
    let settled = params.flag("settled");
    let currency =
        params.optional("currency", |text| Currency::parse(text).map_err(|error| error.to_string()));
    (status, settled, currency.map(|currency| currency.to_string()))
}

impl Row {
    fn of(topup: &Topup) -> Self {
        let expected = topup.proof_available_on.or(topup.expected_availability_date);
        Self {
            id: topup.id.clone(),
            standing: standing(topup),
            where_it_is: explanation(topup),
            amount: words::money(topup.amount, &topup.currency),
            expected: expected.filter(|_| !topup.settled).map(words::moment),
            seen: words::moment(topup.first_seen),
        }
    }
}

fn standing(topup: &Topup) -> Standing {
    words::topup(Status::parse(&topup.status), topup.settled)
}

/// One top-up; by the id of an order, what came of it.
pub(in crate::http) async fn one(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    Id(id): Id,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let done = asked.take("done").filter(|word| word == "cancel").map(|_| "The top-up was called off.");
    if let Ok(id) = TopupIntentId::parse(&id) {
        let intent = find_intent(&state, &id).await?;
        return match &intent.topup {
            Some(topup) => Ok(onward(&format!("/console/topups/{topup}"))),
            None => page(&ordered(visitor.frame(Section::Topups, format!("Top-up order {id}")), &intent)),
        };
    }
    let topup = find(&state, &id).await?;
    let mut conn = state.connect().await?;
    let history = views::list_topup_changes(&mut conn, state.ctx.livemode, &topup.id).await?;
    page(&One {
        frame: visitor.frame(Section::Topups, format!("Top-up {}", topup.id)).after(done),
        id: topup.id.clone(),
        amount: words::money(topup.amount, &topup.currency),
        standing: standing(&topup),
        where_it_is: explanation(&topup),
        may_cancel: visitor.operates() && Status::parse(&topup.status) == Status::Pending,
        facts: facts(&topup),
        steps: history.into_iter().map(Step::of).collect(),
    })
}

/// An order of which no top-up is known.
fn ordered(frame: Frame, order: &TopupIntent) -> One {
    let (standing, where_it_is) = match (order.status, &order.refusal) {
        (OrderStatus::Refused, Some(refusal)) => {
            (Standing { words: "Refused", tone: "bad" }, format!("Stripe refused it: {}", refusal.message))
        }
        (OrderStatus::Absent, _) => (Standing { words: "Not made", tone: "over" }, intent::ABSENT.to_owned()),
        (OrderStatus::Open | OrderStatus::Created | OrderStatus::Refused, _) => {
            (Standing { words: "Not known", tone: "wait" }, intent::UNKNOWN.to_owned())
        }
    };
    One {
        frame,
        id: order.id.to_string(),
        amount: words::money(order.amount_minor, order.currency.as_str()),
        standing,
        where_it_is,
        may_cancel: false,
        facts: vec![Fact::of("Ordered at", words::moment(order.created_at))],
        steps: Vec::new(),
    }
}

fn facts(topup: &Topup) -> Vec<Fact> {
    let counted = topup.booked_currency.as_deref().map(|of| words::money(topup.booked_amount, of));
    let refused = topup.failure_code.as_ref().map(|code| {
        let text = failure(code).map(str::to_owned).or_else(|| topup.failure_message.clone());
        text.unwrap_or_else(|| code.clone())
    });
    let known = [
        ("Why the bank did not pay", refused),
        ("Counts for", counted.filter(|_| topup.booked_amount != 0)),
        ("Money there on", topup.proof_available_on.map(words::moment)),
        ("Stripe's forecast", topup.expected_availability_date.map(words::moment)),
        ("There since", topup.settled_at.map(words::moment)),
        ("Description", topup.description.clone()),
        ("On the bank's statement", topup.statement_descriptor.clone()),
        ("Group", topup.transfer_group.clone()),
        ("Balance transaction", topup.balance_transaction.clone()),
        ("Made at Stripe", topup.stripe_created.map(words::moment)),
        ("This was so at", Some(words::moment(topup.as_of))),
        ("Told by", Some(words::source(&topup.source))),
    ];
    let mut facts: Vec<Fact> =
        known.into_iter().filter_map(|(name, value)| Some(Fact::of(name, value?))).collect();
    let transfers = format!("/console/transfers?topup={}", topup.id);
    facts.push(Fact::of("Transfers tied to it", "show them").at(transfers));
    facts
}

impl Step {
    fn of(change: TopupChange) -> Self {
        let tone = match Status::parse(&change.status) {
            _ if change.settled => "good",
            Status::Failed | Status::Reversed => "bad",
            Status::Pending | Status::Succeeded | Status::Canceled | Status::Unknown => "over",
        };
        Self {
            words: words::sentence(&change.reason),
            tone,
            // Money is ours to pay out from when we noted it, however old what told of it was.
            when: words::moment(if change.settled { change.at } else { change.as_of }),
            at: words::moment(change.at),
            source: words::source(&change.source),
        }
    }
}

/// Asks before a top-up is called off.
pub(in crate::http) async fn ask_to_cancel(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Id(id): Id,
) -> Result<Response, Problem> {
    let topup = find(&state, &id).await?;
    let amount = words::money(topup.amount, &topup.currency);
    let back = format!("/console/topups/{}", topup.id);
    let frame = visitor.frame(Section::Topups, format!("Call off the top-up of {amount}?"));
    let confirm = Confirm::of(frame, format!("{back}/cancel"), "Call it off", back);
    let lines = vec![
        format!("Stripe is asked to call {} off. This can't be undone; order a new one instead.", topup.id),
        "Where the bank is at it already, Stripe refuses, and the money comes in.".to_owned(),
    ];
    Confirm { lines, grave: true, ..confirm }.answer()
}

/// Calls a top-up off.
pub(in crate::http) async fn cancel(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Id(id): Id,
    form: Form,
) -> Result<Response, Problem> {
    let id = TopupId::parse(&id).map_err(|_| Problem::topup_unknown())?;
    let (once, reason) = (form.once(), form.text("reason", 500)?);
    let (once, reason) = (once.as_ref(), reason.as_deref());
    let ordered = cancel_topup::cancel(&state.ctx, &visitor.actor, once, &id, reason, kept).await?;
    state.bell.ring_due();
    match ordered {
        Ordered::Answer(_) => Ok(onward(&format!("/console/topups/{id}?done=cancel"))),
        Ordered::KeyReused => Err(Problem::key_reused()),
    }
}

/// The answer that is kept for a form that is sent twice; nobody reads it.
fn kept(topup: &Topup) -> Value {
    json!({"id": topup.id})
}

async fn find(state: &AppState, id: &str) -> Result<Topup, Problem> {
    let id = TopupId::parse(id).map_err(|_| Problem::topup_unknown())?;
    let mut conn = state.connect().await?;
    let found = views::find_topup(&mut conn, state.ctx.livemode, id.as_str()).await?;
    found.ok_or_else(Problem::topup_unknown)
}

async fn find_intent(state: &AppState, id: &TopupIntentId) -> Result<TopupIntent, Problem> {
    let mut conn = state.connect().await?;
    let found = views::find_topup_intent(&mut conn, state.ctx.livemode, id.as_str()).await?;
    found.ok_or_else(Problem::topup_unknown)
}
