//! The audit log: who did what, when and why, the newest first.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use time::OffsetDateTime;

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
        let details = whole.then(|| in_words(&entry.details)).filter(|details| !details.is_empty());
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

/// The details as a person reads them: what says nothing is left out, and an amount is written in its currency.
fn in_words(details: &str) -> String {
    let Ok(Value::Object(named)) = serde_json::from_str(details) else { return details.to_owned() };
    let currency = named.get("currency").and_then(Value::as_str);
    let said = named.iter().filter_map(|(name, value)| {
        let value = match (name.as_str(), value, currency) {
            (_, Value::Null, _) | ("changed", Value::Bool(true), _) => return None,
            ("currency", _, _) if named.contains_key("amount") => return None,
            ("amount", Value::Number(amount), Some(of)) => words::money(amount.as_i64()?, of),
            (_, Value::String(us), _) if name.ends_with("_us") => in_time(us)?,
            (_, Value::Bool(yes), _) => if *yes { "yes" } else { "no" }.to_owned(),
            (_, Value::String(text), _) => text.clone(),
            (_, Value::Object(inner), _) if inner.is_empty() => return None,
            (_, Value::Array(inner), _) if inner.is_empty() => return None,
            (_, other, _) => other.to_string(),
        };
        Some(format!("{}: {value}", name.trim_end_matches("_us").replace('_', " ")))
    });
    said.collect::<Vec<_>>().join("; ")
}

/// A moment that is kept as microseconds since 1970.
fn in_time(us: &str) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(us.parse::<i128>().ok()?.checked_mul(1_000)?);
    at.ok().map(words::moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_told_in_words_and_what_says_nothing_is_left_out() {
        let asked = r#"{"amount":750000,"currency":"usd","metadata":{},"topup":null,"idempotency_key":"k","priority":0}"#;
        assert_eq!(in_words(asked), "amount: 7,500.00 USD; idempotency key: k; priority: 0");
        assert_eq!(in_words(r#"{"changed":true,"reason":null}"#), "");
        assert_eq!(in_words(r#"{"changed":false,"reason":"month end"}"#), "changed: no; reason: month end");
        assert_eq!(
            in_words(r#"{"currency":"usd","currencies":["usd"]}"#),
            r#"currencies: ["usd"]; currency: usd"#
        );
        assert_eq!(
            in_words(r#"{"release_after_us":"1764065049000000"}"#),
            "release after: 2025-11-25 10:04:09"
        );
        assert_eq!(in_words("odd"), "odd");
    }
}
