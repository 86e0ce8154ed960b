//! The first page: the money of each currency, what waits and why, what is to come, and the emergency stop.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::chart::{self, Chart, Point};
use super::confirm::Confirm;
use super::form::Form;
use super::frame::{Frame, Section};
use super::query::Asked;
use super::session::{Operator, Reader, Visitor};
use super::{onward, page as shown, words};
use crate::domain;
use crate::domain::reason::Reason;
use crate::flows::operate::{self, Pause};
use crate::flows::order::Ordered;
use crate::http::error::Problem;
use crate::http::state::Shared;
use crate::store::views::{self, Gauges, Outlook, Pulse, Waiting};

/// How many days the chart of what is to come shows.
const DAYS: i64 = 14;
/// How far back the charts of the intake go.
const SHOWN: Duration = Duration::hours(1);
/// What is noted where nobody said why.
const NO_REASON: &str = "paused by an operator";

#[derive(Debug, Template)]
#[template(path = "console/overview.html")]
struct Overview {
    frame: Frame,
    stop: Option<Stop>,
    money: Vec<Money>,
    waiting: Vec<Line>,
    signs: Vec<Sign>,
    charts: Vec<Chart>,
    pulse: Vec<Chart>,
}

/// The emergency stop, while it is on.
#[derive(Debug)]
struct Stop {
    cause: String,
    by: String,
    at: String,
}

/// One currency.
#[derive(Debug)]
struct Money {
    currency: String,
    settled: String,
    reserved: String,
    released: String,
    available: String,
    pending: String,
    short: bool,
}

/// Transfers that wait for one reason in one currency.
#[derive(Debug)]
struct Line {
    code: String,
    words: String,
    way_out: &'static str,
    currency: String,
    count: i64,
    amount: String,
}

/// Something that is well, or not.
#[derive(Debug)]
struct Sign {
    name: &'static str,
    value: String,
    tone: &'static str,
    /// The page that says more.
    href: Option<&'static str>,
}

/// The overview.
pub(in crate::http) async fn page(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let done = match asked.take("done").as_deref() {
        Some("paused") => Some("All releases are paused."),
        Some("resumed") => Some("Releases go on."),
        _ => None,
    };
    let now = state.ctx.clock.now();
    let (pool, livemode) = (&state.ctx.pool, state.ctx.livemode);
    let gauges = views::gauges(pool, livemode, now).await?;
    let outlooks = views::outlook(pool, livemode, now).await?;
    let mut conn = state.connect().await?;
    let pause = views::find_pause(&mut conn, livemode).await?;
    shown(&Overview {
        frame: visitor.frame(Section::Overview, "Overview").after(done),
        stop: pause.filter(|pause| pause.paused).map(Stop::of),
        money: gauges.funds.iter().map(Money::of).collect(),
        waiting: lines(&gauges.waiting),
        signs: signs(&gauges, now),
        pulse: pulse(&views::list_pulses(&mut conn, livemode, now - SHOWN).await?),
        charts: outlooks.iter().filter_map(|outlook| to_come(outlook, now)).collect(),
    })
}

impl Stop {
    fn of(pause: Pause) -> Self {
        Self {
            cause: pause.cause.unwrap_or_default(),
            by: pause.paused_by.unwrap_or_default(),
            at: words::moment(pause.at),
        }
    }
}

impl Money {
    fn of(money: &views::Currency) -> Self {
        let written = |amount| words::money(amount, &money.currency);
        Self {
            currency: money.currency.to_uppercase(),
            settled: written(money.settled),
            reserved: written(money.reserved),
            released: written(money.released),
            available: written(money.available()),
            pending: written(money.pending),
            short: money.available() < 0,
        }
    }
}

/// What waits, in the order of the reasons.
fn lines(waiting: &[Waiting]) -> Vec<Line> {
    let mut lines: Vec<(Option<Reason>, Line)> = waiting
        .iter()
        .map(|waiting| {
            let reason = Reason::parse(&waiting.reason);
            let line = Line {
                code: waiting.reason.clone(),
                words: reason.map_or_else(|| waiting.reason.clone(), |reason| reason.words().to_owned()),
                way_out: reason.map_or("", Reason::way_out),
                currency: waiting.currency.clone(),
                count: waiting.count,
                amount: words::money(waiting.amount, &waiting.currency),
            };
            (reason, line)
        })
        .collect();
    lines.sort_by(|(one, a), (other, b)| (one, &a.currency).cmp(&(other, &b.currency)));
    lines.into_iter().map(|(_, line)| line).collect()
}

/// How well it keeps up with Stripe.
fn signs(gauges: &Gauges, now: OffsetDateTime) -> Vec<Sign> {
    let lag = gauges.oldest_due.map_or(Duration::ZERO, |due| now - due);
    let sign =
        |name, value, good: bool| Sign { name, value, tone: if good { "good" } else { "bad" }, href: None };
    let dead =
        sign("Events that could not be applied", gauges.dead_letters.to_string(), gauges.dead_letters == 0);
    let mut signs = vec![
        sign("Oldest event not yet worked off", words::length(lag), lag < Duration::MINUTE),
        Sign { href: Some("/console/dead-letters").filter(|_| gauges.dead_letters > 0), ..dead },
        sign(
            "Top-up orders without an answer",
            gauges.unknown_topups.to_string(),
            gauges.unknown_topups == 0,
        ),
    ];
    if let Some(complete_to) = gauges.events_complete_to {
        signs.push(sign("All events are here up to", words::moment(complete_to), true));
    }
    if gauges.payouts_automatic == Some(true) {
        signs.push(sign(
            "Stripe pays the balance out by itself",
            "yes: switch it to manual".to_owned(),
            false,
        ));
    }
    signs
}

/// What arrives and what will be missing, day by day; none where nothing is to come.
fn to_come(outlook: &Outlook, now: OffsetDateTime) -> Option<Chart> {
    let days = domain::forecast::days(outlook.available_minor, &outlook.coming, &outlook.waiting, now);
    if days.iter().all(|day| day.arrivals_minor == 0 && day.shortfall_minor == 0) {
        return None;
    }
    let today = now.to_offset(time::UtcOffset::UTC).date();
    let mut missing = 0;
    let points: Vec<Point> = (0..DAYS)
        .filter_map(|ahead| today.checked_add(Duration::days(ahead)))
        .map(|date| {
            let found = days.iter().find(|day| day.day == date);
            // What is missing stays missing until something happens.
            missing = found.map_or(missing, |day| day.shortfall_minor);
            let (at, short) = chart::day(date);
            Point { at, short, values: vec![found.map_or(0, |day| day.arrivals_minor), missing] }
        })
        .collect();
    let series = [("in", "Arrives"), ("short", "Missing")];
    let title = format!("What arrives and what will be missing, {}", outlook.currency.to_uppercase());
    Some(chart::bars(title, "Day", &series, &points, chart::money_of(&outlook.currency)))
}

/// How the intake went in the last hour; none where nothing was noted yet.
fn pulse(minutes: &[Pulse]) -> Vec<Chart> {
    if minutes.is_empty() {
        return Vec::new();
    }
    let draw = |title: &str, series, value: fn(&Pulse) -> i64, write: fn(i64) -> String| {
        let points: Vec<Point> = minutes
            .iter()
            .map(|pulse| {
                let at = words::moment(pulse.minute);
                let short = at.get(11..16).unwrap_or_default().to_owned();
                Point { at, short, values: vec![value(pulse)] }
            })
            .collect();
        chart::bars(title.to_owned(), "Minute", &[series], &points, write)
    };
    let seconds = |ms: i64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
    let count = |n: i64| n.to_string();
    vec![
        draw("Events received, a minute", ("in", "Events"), |pulse| pulse.events, count),
        draw("Oldest event not yet worked off", ("in", "Lag"), |pulse| pulse.lag_ms, seconds),
        draw("Events that could not be applied", ("short", "Failed"), |pulse| pulse.dead_letters, count),
    ]
}

/// Asks before all releases are stopped.
pub(in crate::http) async fn pause(Operator(visitor): Operator) -> Result<Response, Problem> {
    let frame = visitor.frame(Section::Overview, "Pause all releases?");
    let confirm =
        Confirm::of(frame, "/console/releases/pause".to_owned(), "Pause all releases", "/console".to_owned());
    let lines = vec![
        "Nothing goes out until somebody resumes releases.".to_owned(),
        "What was already sent to Stripe is followed to its end.".to_owned(),
    ];
    Confirm { lines, grave: true, ..confirm }.answer()
}

/// Asks before they go on.
pub(in crate::http) async fn resume(Operator(visitor): Operator) -> Result<Response, Problem> {
    let frame = visitor.frame(Section::Overview, "Resume releases?");
    let confirm =
        Confirm::of(frame, "/console/releases/resume".to_owned(), "Resume releases", "/console".to_owned());
    let lines = vec!["Everything that waits for nothing else goes out at once.".to_owned()];
    Confirm { lines, ..confirm }.answer()
}

/// Stops all releases.
pub(in crate::http) async fn set_pause(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    form: Form,
) -> Result<Response, Problem> {
    let reason = form.text("reason", 500)?;
    set(&state, &visitor, &form, Some(reason.as_deref().unwrap_or(NO_REASON)), reason.as_deref()).await?;
    Ok(onward("/console?done=paused"))
}

/// Lets them go on.
pub(in crate::http) async fn set_resume(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    form: Form,
) -> Result<Response, Problem> {
    let reason = form.text("reason", 500)?;
    set(&state, &visitor, &form, None, reason.as_deref()).await?;
    Ok(onward("/console?done=resumed"))
}

async fn set(
    state: &Shared,
    visitor: &Visitor,
    form: &Form,
    cause: Option<&str>,
    reason: Option<&str>,
) -> Result<(), Problem> {
    let once = form.once();
    // The answer is kept for a form that is sent twice; nobody reads it.
    let kept = |pause: &Pause| json!({"paused": pause.paused});
    let ordered = operate::set_pause(&state.ctx, &visitor.actor, once.as_ref(), cause, reason, kept).await?;
    state.bell.ring_due();
    match ordered {
        Ordered::Answer(_) => Ok(()),
        Ordered::KeyReused => Err(Problem::key_reused()),
    }
}
