//! Transfers, top-ups and the ledger as tables to keep or to reckon with.
//!
//! They are read a page at a time by key while they are sent, so that neither memory nor a connection nor a
//! transaction is held for as long as somebody downloads; what breaks off in the middle ends without its last chunk,
//! so that nobody takes a part for the whole.

use std::io;
use std::mem;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::csv::{self, Field};
use super::query::Asked;
use super::session::Reader;
use crate::domain::money::Currency;
use crate::domain::reason::codes;
use crate::http::api::{topups, transfers};
use crate::http::error::Problem;
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, Posting, Topup, TopupFilter, Transfer, TransferFilter};

/// How many lines are read at once.
const PAGE: i64 = 500;

const TRANSFERS: &[&str] = &[
    "id",
    "status",
    "waiting_on",
    "destination",
    "amount",
    "amount_minor",
    "currency",
    "amount_reversed_minor",
    "topup",
    "transfer_group",
    "description",
    "stripe_transfer",
    "failure",
    "created_by",
    "created_at",
    "updated_at",
];
const TOPUPS: &[&str] = &[
    "id",
    "status",
    "settled",
    "amount",
    "amount_minor",
    "currency",
    "counted_minor",
    "counted_currency",
    "settled_at",
    "expected_at",
    "failure",
    "description",
    "statement_descriptor",
    "transfer_group",
    "balance_transaction",
    "created_at",
    "first_seen_at",
];
const LEDGER: &[&str] =
    &["entry", "at", "kind", "reference", "transfer", "place", "lot", "amount", "amount_minor", "currency"];

/// What is read of a table, and how far one is.
enum Source {
    Transfers {
        filter: TransferFilter,
        after: Option<String>,
    },
    Topups {
        status: Option<&'static str>,
        settled: Option<bool>,
        currency: Option<String>,
        after: Option<String>,
    },
    Ledger {
        after: (i64, i64),
    },
}

/// Transfers, as far as they fit the filters of their list.
pub(in crate::http) async fn transfers(
    State(state): State<Shared>,
    _: Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let mut params = asked.strictly();
    let filter = transfers::filter(&mut params);
    params.finish()?;
    send(state, "transfers", TRANSFERS, Source::Transfers { filter, after: None }).await
}

/// Top-ups, as far as they fit the filters of their list.
pub(in crate::http) async fn topups(
    State(state): State<Shared>,
    _: Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let mut params = asked.strictly();
    let (status, settled, currency) = super::topups::filter(&mut params);
    params.finish()?;
    send(state, "topups", TOPUPS, Source::Topups { status, settled, currency, after: None }).await
}

/// The ledger: every line of every entry, from the first.
pub(in crate::http) async fn ledger(
    State(state): State<Shared>,
    _: Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    asked.strictly().finish()?;
    send(state, "ledger", LEDGER, Source::Ledger { after: (0, 0) }).await
}

/// Sends a table under the name of what it holds and of the day.
async fn send(state: Shared, name: &str, columns: &[&str], mut source: Source) -> Result<Response, Problem> {
    let mut first = String::new();
    csv::line(&mut first, &columns.iter().map(|column| Field::Text(column)).collect::<Vec<_>>());
    // Read before anything is sent: where the database is away, that is said.
    let more = source.write(&state, &mut first).await?;
    let mode = if state.ctx.livemode { "live" } else { "test" };
    let file =
        format!("attachment; filename=\"sluicegate-{name}-{mode}-{}.csv\"", state.ctx.clock.now().date());
    let rest = (state, source, first, more);
    let pages = stream::try_unfold(rest, |(state, mut source, text, more)| async move {
        if text.is_empty() {
            return Ok(None);
        }
        let mut next = String::new();
        let more = more && source.write(&state, &mut next).await.map_err(broken_off)?;
        Ok::<_, io::Error>(Some((Bytes::from(text), (state, source, next, more))))
    });
    let headers = [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, file.as_str())];
    Ok((headers, Body::from_stream(pages)).into_response())
}

fn broken_off(problem: Problem) -> io::Error {
    tracing::warn!(code = ?problem.parts().0, "an export broke off");
    io::Error::other("the database did not answer")
}

impl Source {
    /// Writes the next page; whether more may follow.
    async fn write(&mut self, state: &AppState, out: &mut String) -> Result<bool, Problem> {
        let mut conn = state.connect().await?;
        let live = state.ctx.livemode;
        let read = match self {
            Self::Transfers { filter, after } => {
                let rows = views::list_transfers(&mut conn, live, filter, after.as_deref(), PAGE).await?;
                *after = rows.last().map(|row| row.id.to_string());
                rows.iter().for_each(|row| transfer(out, row));
                rows.len()
            }
            Self::Topups { status, settled, currency, after } => {
                let filter =
                    TopupFilter { status: *status, settled: *settled, currency: currency.as_deref() };
                let place = mem::take(after);
                let place = place.as_deref().and_then(topups::place_of);
                let rows = views::list_topups(&mut conn, live, &filter, place, PAGE).await?;
                *after = rows.last().map(topups::place);
                rows.iter().for_each(|row| topup(out, row));
                rows.len()
            }
            Self::Ledger { after } => {
                let rows = views::list_postings(&mut conn, *after).await?;
                *after = rows.last().map_or(*after, |row| (row.entry, row.account));
                rows.iter().filter(|row| row.livemode == live).for_each(|row| posting(out, row));
                return Ok(!rows.is_empty());
            }
        };
        Ok(i64::try_from(read).is_ok_and(|read| read == PAGE))
    }
}

fn transfer(out: &mut String, row: &Transfer) {
    let currency = row.currency.as_str();
    let failure = row.failure.as_ref().map(|(code, text)| format!("{code}: {text}"));
    csv::line(
        out,
        &[
            Field::Text(row.id.as_str()),
            Field::Text(row.status.as_str()),
            Field::Text(&codes(&row.waiting_on).join(" ")),
            Field::Text(row.destination.as_str()),
            Field::Number(&decimal(row.amount_minor, currency)),
            Field::Number(&row.amount_minor.to_string()),
            Field::Text(currency),
            Field::Number(&row.amount_reversed_minor.to_string()),
            Field::maybe(row.topup.as_ref().map(|id| id.as_str())),
            Field::maybe(row.transfer_group.as_deref()),
            Field::maybe(row.description.as_deref()),
            Field::maybe(row.stripe_transfer.as_ref().map(|id| id.as_str())),
            Field::maybe(failure.as_deref()),
            Field::Text(&row.created_by),
            Field::Text(&instant(row.created_at)),
            Field::Text(&instant(row.updated_at)),
        ],
    );
}

fn topup(out: &mut String, row: &Topup) {
    let expected = row.proof_available_on.or(row.expected_availability_date);
    csv::line(
        out,
        &[
            Field::Text(&row.id),
            Field::Text(&row.status),
            Field::Text(if row.settled { "true" } else { "false" }),
            Field::Number(&decimal(row.amount, &row.currency)),
            Field::Number(&row.amount.to_string()),
            Field::Text(&row.currency),
            Field::Number(&row.booked_amount.to_string()),
            Field::maybe(row.booked_currency.as_deref()),
            Field::maybe(row.settled_at.map(instant).as_deref()),
            Field::maybe(expected.map(instant).as_deref()),
            Field::maybe(row.failure_code.as_deref()),
            Field::maybe(row.description.as_deref()),
            Field::maybe(row.statement_descriptor.as_deref()),
            Field::maybe(row.transfer_group.as_deref()),
            Field::maybe(row.balance_transaction.as_deref()),
            Field::maybe(row.stripe_created.map(instant).as_deref()),
            Field::Text(&instant(row.first_seen)),
        ],
    );
}

fn posting(out: &mut String, row: &Posting) {
    csv::line(
        out,
        &[
            Field::Number(&row.entry.to_string()),
            Field::Text(&instant(row.at)),
            Field::Text(&row.kind),
            Field::Text(&row.reference),
            Field::maybe(row.transfer.as_deref()),
            Field::Text(&row.place),
            Field::Text(&row.lot),
            Field::Number(&decimal(row.amount_minor, &row.currency)),
            Field::Number(&row.amount_minor.to_string()),
            Field::Text(&row.currency),
        ],
    );
}

/// An amount with its point, as programs read it; of a currency that is not known the point is not known.
fn decimal(amount_minor: i64, currency: &str) -> String {
    let Ok(currency) = Currency::parse(currency) else { return String::new() };
    let text = currency.written(amount_minor.saturating_abs()).replace(',', "");
    if amount_minor < 0 { format!("-{text}") } else { text }
}

/// A time as the API writes it.
fn instant(at: OffsetDateTime) -> String {
    // Fails only for years beyond 9999, which no row holds.
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_point_of_their_currency_and_a_sign_that_programs_read() {
        for (amount, currency, text) in [
            (-123_450, "usd", "-1234.50"),
            (5, "usd", "0.05"),
            (500, "jpy", "500"),
            (1_234, "kwd", "1.234"),
            (7, "xxx", ""),
        ] {
            assert_eq!(decimal(amount, currency), text);
        }
    }
}
