//! How the service is: what `doctor` finds in the database and in what the service left there, and how far it has
//! caught up with Stripe.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Section};
use super::page as shown;
use super::session::Reader;
use super::words::{self, Fact, State as Standing};
use crate::domain::checkup::{Finding, Verdict, service, worst};
use crate::flows::examine::{self, Served};
use crate::flows::upkeep;
use crate::http::error::Problem;
use crate::http::state::Shared;
use crate::store::views::{self, Sweep};

/// The connection that holds a process's presence, beside its pool.
const PRESENCE: i64 = 1;
/// No page waits longer for the database.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Template)]
#[template(path = "console/health.html")]
struct Health {
    frame: Frame,
    summary: &'static str,
    findings: Vec<Row>,
    walks: Vec<Walk>,
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct Row {
    check: String,
    standing: Standing,
    found: String,
    /// Pieces of a sentence; each other one is a command.
    mend: Vec<String>,
}

/// How far the walk through one of Stripe's lists has come.
#[derive(Debug)]
struct Walk {
    list: String,
    read: i64,
    found: i64,
    complete_to: Option<String>,
    finished: Option<String>,
}

/// The findings.
pub(in crate::http) async fn page(
    State(state): State<Shared>,
    Reader(visitor): Reader,
) -> Result<Response, Problem> {
    let ctx = &state.ctx;
    let connections = i64::from(ctx.pool.options().get_max_connections()) + PRESENCE;
    let served = Served { livemode: Some(ctx.livemode), connections, alive_for: upkeep::ALIVE_FOR };
    let examined = tokio::time::timeout(PATIENCE, examine::from_within(ctx, served)).await;
    let examined = examined.map_err(|_| Problem::unavailable())??;
    let mut findings = examined.findings;
    if let Some(left) = &examined.state {
        findings.extend(service::state(left, None, ctx.clock.now()));
    }
    let progress = views::progress(&ctx.pool, ctx.livemode).await?;
    let complete_to = progress.events_complete_to().map(words::moment);
    let facts = [
        Some(Fact::of("This version", env!("CARGO_PKG_VERSION"))),
        complete_to.map(|at| Fact::of("All events are here up to", at)),
    ];
    shown(&Health {
        frame: visitor.frame(Section::Health, "Health"),
        summary: match worst(&findings) {
            Verdict::Ok => "All is well.",
            Verdict::Warn => "It works; something is worth a look.",
            Verdict::Fail => "Something has to be mended.",
        },
        findings: findings.into_iter().map(Row::of).collect(),
        walks: progress.sweeps.iter().map(Walk::of).collect(),
        facts: facts.into_iter().flatten().collect(),
    })
}

impl Row {
    fn of(finding: Finding) -> Self {
        let (words, tone) = match finding.verdict {
            Verdict::Ok => ("Well", "good"),
            Verdict::Warn => ("Look", "wait"),
            Verdict::Fail => ("Mend", "bad"),
        };
        Self {
            check: words::sentence(&finding.check.replace('_', " ")),
            standing: Standing { words, tone },
            found: finding.found,
            mend: finding.mend.iter().flat_map(|mend| mend.split('`')).map(str::to_owned).collect(),
        }
    }
}

impl Walk {
    fn of(sweep: &Sweep) -> Self {
        Self {
            list: words::sentence(&sweep.name.replace('_', " ")),
            read: sweep.seen,
            found: sweep.found,
            complete_to: sweep.complete_to.map(words::moment),
            finished: sweep.finished_at.map(words::moment),
        }
    }
}
