//! The audit log: who did what, when and why, the newest first.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Section};
use super::page;
use super::query::Asked;
use super::session::Reader;
use super::words;
use crate::domain::audit::Row as Entry;
use crate::http::error::Problem;
use crate::http::extract::text;
use crate::http::state::Shared;
use crate::store::views;

#[derive(Debug, Template)]
#[template(path = "console/audit.html")]
struct Log {
    frame: Frame,
    subject: String,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug)]
struct Row {
    id: i64,
    at: String,
    actor: String,
    action: String,
    subject: String,
    /// Where there is a page about it.
    href: Option<String>,
    details: Option<String>,
}

/// The log.
pub(in crate::http) async fn log(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let (subject, below) = (asked.get("subject"), asked.below());
    let mut params = asked.strictly();
    let place = params.page("audit", |key| key.parse::<i64>().is_ok());
    let about = params.optional("subject", text(300));
    params.finish()?;
    let after = place.after.as_deref().and_then(|key| key.parse().ok());
    let mut conn = state.connect().await?;
    let found =
        views::list_audit(&mut conn, state.ctx.livemode, about.as_deref(), after, place.to_read()).await?;
    // What an order was made of may hold somebody's personal data.
    let whole = visitor.operates();
    let rows = place.of(found, |row| row.id.to_string(), |row| Some(Row::of(row, whole)));
    page(&Log {
        frame: visitor.frame(Section::Audit, "Audit log"),
        subject,
        rows: rows.data,
        next: rows.next.map(|after| below.to(&after)),
    })
}

impl Row {
    fn of(row: &Entry, whole: bool) -> Self {
        let entry = &row.entry;
        let details = Some(entry.details.clone()).filter(|details| whole && details != "{}");
        Self {
            id: row.id,
            at: words::moment(entry.at),
            actor: entry.actor.clone(),
            action: words::sentence(&entry.action.replace(['.', '_'], " ")),
            subject: entry.subject.clone(),
            href: words::page_about(&entry.subject),
            details,
        }
    }
}
