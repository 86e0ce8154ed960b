//! What Stripe told, and what became of it: the list, one event as it came with its signature tried again, and the
//! dead letters. Each can be applied once more.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::confirm::Confirm;
use super::form::Form;
use super::frame::{Frame, Section};
use super::query::Asked;
use super::session::{Operator, Reader, Visitor};
use super::words::{self, Choice, Fact, State as Standing};
use super::{onward, page};
use crate::domain::ids::{AccountId, EventId};
use crate::flows::operate::{self, OperateError};
use crate::flows::order::Ordered;
use crate::flows::receive::Signature;
use crate::http::error::Problem;
use crate::http::extract::{Id, text};
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, Event, EventFilter, EventStatus};

#[derive(Debug, Template)]
#[template(path = "console/events.html")]
struct List {
    frame: Frame,
    statuses: Vec<Choice>,
    event_type: String,
    account: String,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "console/dead_letters.html")]
struct DeadLetters {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug)]
struct Row {
    id: String,
    event_type: String,
    standing: Standing,
    reason: Option<String>,
    /// Whom it is about, and the page about them.
    subject: Option<Fact>,
    created: String,
    received: String,
}

#[derive(Debug, Template)]
#[template(path = "console/event.html")]
struct One {
    frame: Frame,
    id: String,
    event_type: String,
    standing: Standing,
    summary: String,
    may_replay: bool,
    /// What becomes of it shows within seconds, and no news tell of it.
    unsettled: bool,
    signature: Standing,
    proof: String,
    facts: Vec<Fact>,
    payload: Option<String>,
}

/// Events, those first that came last.
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let (status, event_type, account) = (asked.get("status"), asked.get("type"), asked.get("account"));
    let statuses = EventStatus::ALL.into_iter();
    let statuses = statuses.map(|of| Choice::of(of.as_str(), words::event(of).words, &status)).collect();
    let (rows, next) = found(&state, asked, None).await?;
    let frame = visitor.frame(Section::Events, "Events");
    page(&List { frame, statuses, event_type, account, rows, next })
}

/// Those that could not be applied through a fault of their own.
pub(in crate::http) async fn dead_letters(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let (rows, next) = found(&state, asked, Some(EventStatus::Failed)).await?;
    page(&DeadLetters { frame: visitor.frame(Section::DeadLetters, "Dead letters"), rows, next })
}

/// A page of the events that are asked for, and the query of the next one.
async fn found(
    state: &AppState,
    asked: Asked,
    only: Option<EventStatus>,
) -> Result<(Vec<Row>, Option<String>), Problem> {
    let below = asked.below();
    let mut params = asked.strictly();
    let place = params.page("events", |key| key.parse::<i64>().is_ok());
    let known = |word: &str| EventStatus::parse(word).ok_or_else(|| "must be one of the list".to_owned());
    let filter = match only {
        Some(status) => EventFilter { status: Some(status), ..EventFilter::default() },
        None => EventFilter {
            status: params.optional("status", known),
            event_type: params.optional("type", text(255)),
            account: params
                .optional("account", |text| AccountId::parse(text).map_err(|error| error.to_string()))
                .map(|id| id.to_string()),
        },
    };
    params.finish()?;
    let after = place.after.as_deref().and_then(|key| key.parse().ok());
    let mut conn = state.connect().await?;
    let events = views::list_events(&mut conn, &filter, after, place.to_read()).await?;
    let rows = place.of(events, |event| event.seq.to_string(), |event| Some(Row::of(event)));
    Ok((rows.data, rows.next.map(|after| below.to(&after))))
}

impl Row {
    fn of(event: &Event) -> Self {
        Self {
            id: event.event_id.clone(),
            event_type: event.event_type.clone(),
            standing: words::event(event.status()),
            reason: event.reason().map(str::to_owned),
            subject: event.subject.as_ref().map(|subject| Fact::of("About", subject)),
            created: words::moment(event.created),
            received: words::moment(event.received_at),
        }
    }
}

/// One event. What Stripe sent may hold somebody's personal data, so whoever may only look does not see it.
pub(in crate::http) async fn one(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    Id(id): Id,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let done = asked
        .take("done")
        .filter(|word| word == "replay")
        .map(|_| "Handed in again. What becomes of it shows here.");
    let event = find(&state, &id).await?;
    let mut conn = state.connect().await?;
    let payload = views::find_payload(&mut conn, &event).await?;
    let (raw, base64) = payload.ok_or_else(Problem::event_unknown)?;
    let header = views::find_signature(&mut conn, &event).await?;
    drop(conn);
    let (signature, proof) = tried_again(&state, &raw, header.as_deref());
    let title = format!("Event {}", event.event_id);
    page(&One {
        frame: visitor.frame(Section::Events, title).after(done),
        summary: summary(&event),
        may_replay: may_replay(&visitor, &event),
        unsettled: event.status() == EventStatus::Pending,
        signature,
        proof,
        facts: facts(&event),
        payload: visitor.operates().then(|| String::from_utf8(raw).unwrap_or(base64)),
        standing: words::event(event.status()),
        event_type: event.event_type,
        id: event.event_id,
    })
}

/// Whether what is kept is still what a secret of ours signed.
fn tried_again(state: &AppState, raw: &[u8], header: Option<&str>) -> (Standing, String) {
    let Some(header) = header else {
        let proof =
            "It was read from Stripe's event list, over a verified connection; it carries no signature.";
        return (Standing { words: "Not signed", tone: "over" }, proof.to_owned());
    };
    match state.intake.try_again(raw, header) {
        Signature::Fits(label) => {
            let by = label.map(|label| format!(", {label}")).unwrap_or_default();
            let proof = format!("It was checked just now, over the kept bytes, with a secret in use{by}.");
            (Standing { words: "Signature fits", tone: "good" }, proof)
        }
        Signature::Unchecked => {
            let proof = "This process has no webhook secret, so it can't be checked here.".to_owned();
            (Standing { words: "Not checked", tone: "over" }, proof)
        }
        Signature::Misfit(cause) => {
            let proof = format!(
                "{}. It fitted when it came: either its secret is no longer in use, or what is kept was changed.",
                words::sentence(&cause)
            );
            (Standing { words: "Signature does not fit", tone: "bad" }, proof)
        }
    }
}

fn summary(event: &Event) -> String {
    let reason = event.reason().unwrap_or_default();
    match event.status() {
        EventStatus::Pending => "It is stored, and waits for its turn.".to_owned(),
        EventStatus::Processed => "It took effect.".to_owned(),
        EventStatus::Ignored => format!("Nothing is done with it: {}.", reason.replace('_', " ")),
        EventStatus::Failed => format!("It could not be applied, through a fault of its own: {reason}"),
    }
}

fn may_replay(visitor: &Visitor, event: &Event) -> bool {
    let settled = matches!(event.status(), EventStatus::Processed | EventStatus::Failed);
    visitor.operates() && settled
}

fn facts(event: &Event) -> Vec<Fact> {
    let kind = match event.kind.as_str() {
        "snapshot" => "the object as it was",
        "thin" => "only what it is about",
        other => other,
    };
    let source = if event.source == "webhook" { "delivered" } else { "read from Stripe's event list" };
    let known = [
        ("About", event.subject.clone()),
        ("Connected account", event.account.clone()),
        ("Happened", Some(words::moment(event.created))),
        ("Received", Some(words::moment(event.received_at))),
        ("How it came", Some(source.to_owned())),
        ("What it carries", Some(kind.to_owned())),
        ("Version of Stripe's API", event.api_version.clone()),
        ("Secret that it fitted", event.secret_label.clone()),
        ("Mode", Some(if event.livemode { "live" } else { "test" }.to_owned())),
    ];
    known.into_iter().filter_map(|(name, value)| Some(Fact::of(name, value?))).collect()
}

/// Asks before an event is applied once more.
pub(in crate::http) async fn ask_to_replay(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Id(id): Id,
) -> Result<Response, Problem> {
    let event = find(&state, &id).await?;
    let back = format!("/console/events/{}", event.event_id);
    let frame = visitor.frame(Section::Events, "Apply the event once more?");
    let confirm = Confirm::of(frame, format!("{back}/replay"), "Replay it", back);
    let lines = vec![
        format!("{}, {}.", event.event_type, event.event_id),
        "It does no harm: what is older than what is known changes nothing. A dead letter gets another life."
            .to_owned(),
    ];
    Confirm { lines, reason: false, ..confirm }.answer()
}

/// Applies an event once more.
pub(in crate::http) async fn replay(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Id(id): Id,
    form: Form,
) -> Result<Response, Problem> {
    let id = EventId::parse(&id).map_err(|_| Problem::event_unknown())?;
    let once = form.once();
    let ordered = operate::replay(&state.ctx, &visitor.actor, once.as_ref(), &id, kept).await;
    state.bell.ring_due();
    match ordered.map_err(known)? {
        Ordered::Answer(_) => Ok(onward(&format!("/console/events/{id}?done=replay"))),
        Ordered::KeyReused => Err(Problem::key_reused()),
    }
}

fn known(error: OperateError) -> Problem {
    match error {
        OperateError::NotFound => Problem::event_unknown(),
        other => other.into(),
    }
}

/// The answer that is kept for a form that is sent twice; nobody reads it.
fn kept(event: &Event) -> Value {
    json!({"id": event.event_id})
}

async fn find(state: &AppState, id: &str) -> Result<Event, Problem> {
    let id = EventId::parse(id).map_err(|_| Problem::event_unknown())?;
    let mut conn = state.connect().await?;
    views::find_event(&mut conn, id.as_str()).await?.ok_or_else(Problem::event_unknown)
}
