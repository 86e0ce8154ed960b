//! Transfers: the list with its filters, and what is shown of one.

pub(super) mod one;
pub(super) mod orders;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Section};
use super::page;
use super::query::Asked;
use super::session::Reader;
use super::words::{self, Choice, State as Standing};
use crate::domain::ids::TransferId;
use crate::domain::reason::Reason;
use crate::domain::transfer::Status;
use crate::http::api::transfers::filter;
use crate::http::error::Problem;
use crate::http::state::Shared;
use crate::store::views::{self, Transfer};

#[derive(Debug, Template)]
#[template(path = "console/transfers.html")]
struct List {
    frame: Frame,
    asked: Filter,
    statuses: Vec<Choice>,
    reasons: Vec<Choice>,
    export: String,
    rows: Vec<Row>,
    next: Option<String>,
}

/// The filters as they were filled in.
#[derive(Debug)]
struct Filter {
    destination: String,
    currency: String,
    topup: String,
    transfer_group: String,
}

/// A transfer in the list.
#[derive(Debug)]
struct Row {
    id: String,
    standing: Standing,
    why: Vec<&'static str>,
    destination: String,
    amount: String,
    created: String,
    expected: Option<String>,
}

impl Row {
    fn of(transfer: &Transfer) -> Self {
        Self {
            id: transfer.id.to_string(),
            standing: words::transfer(transfer.status),
            why: transfer.waiting_on.iter().map(|reason| reason.words()).collect(),
            destination: transfer.destination.to_string(),
            amount: words::money(transfer.amount_minor, transfer.currency.as_str()),
            created: words::moment(transfer.created_at),
            expected: transfer.expected_release_at.map(words::moment),
        }
    }
}

/// The newest transfers, as far as they fit the filters.
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let (status, reason) = (asked.get("status"), asked.get("waiting_on"));
    let statuses = Status::ALL.into_iter();
    let statuses = statuses.map(|of| Choice::of(of.as_str(), words::transfer(of).words, &status)).collect();
    let reasons = Reason::ALL.iter();
    let reasons = reasons.map(|of| Choice::of(of.code(), of.words(), &reason)).collect();
    let filled = Filter {
        destination: asked.get("destination"),
        currency: asked.get("currency"),
        topup: asked.get("topup"),
        transfer_group: asked.get("transfer_group"),
    };
    let (below, export) = (asked.below(), asked.below().whole());
    let mut params = asked.strictly();
    let place = params.page("transfers", |key| TransferId::parse(key).is_ok());
    let filter = filter(&mut params);
    params.finish()?;
    let mut conn = state.connect().await?;
    let after = place.after.as_deref();
    let found = views::list_transfers(&mut conn, state.ctx.livemode, &filter, after, place.to_read()).await?;
    let rows = place.of(found, |transfer| transfer.id.to_string(), |transfer| Some(Row::of(transfer)));
    page(&List {
        frame: visitor.frame(Section::Transfers, "Transfers"),
        asked: filled,
        statuses,
        reasons,
        export,
        rows: rows.data,
        next: rows.next.map(|after| below.to(&after)),
    })
}
