//! The console: pages for the people who run the service.
//!
//! Rendered here, with forms that work without a script; what is decided or done is done by the same flows as
//! behind the API. Every page loads only from here, and every change needs a mark that only its own pages carry.

mod accounts;
mod assets;
mod audit;
mod chart;
mod confirm;
mod csv;
mod events;
mod export;
mod form;
mod frame;
mod gate;
mod health;
mod keys;
mod overview;
mod query;
mod refused;
mod search;
mod session;
mod sign_in;
mod stream;
mod topups;
mod transfers;
mod wanted;
mod words;

/// The handlers, for the page of all routes.
pub(super) mod pages {
    pub(in crate::http) use super::accounts::{ask_for_link, list as accounts, make_link, one as account};
    pub(in crate::http) use super::assets::{icon, script, style};
    pub(in crate::http) use super::audit::log as audit;
    pub(in crate::http) use super::events::{
        ask_to_replay, dead_letters, list as events, one as event, replay as replay_event,
    };
    pub(in crate::http) use super::export::{
        ledger as export_ledger, topups as export_topups, transfers as export_transfers,
    };
    pub(in crate::http) use super::health::page as health;
    pub(in crate::http) use super::keys::{
        ask_to_revoke, create as create_key, list as keys, new as new_key, revoke as revoke_key,
    };
    pub(in crate::http) use super::overview::{page as overview, pause, resume, set_pause, set_resume};
    pub(in crate::http) use super::refused::{dress, not_found};
    pub(in crate::http) use super::search::search;
    pub(in crate::http) use super::sign_in::{page as sign_in, sign_in as enter, sign_out};
    pub(in crate::http) use super::stream::stream;
    pub(in crate::http) use super::topups::{
        ask_to_cancel as ask_to_cancel_topup, cancel as cancel_topup, list as topups, one as topup,
    };
    pub(in crate::http) use super::transfers::{
        list as transfers,
        one::page as transfer,
        orders::{ask as ask_about_transfer, order as order_about_transfer},
    };
}

pub use self::gate::Gate;

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::error::Problem;

/// A page as it is sent.
fn page(template: &impl Template) -> Result<Response, Problem> {
    page_with(StatusCode::OK, template)
}

/// The same with another status.
fn page_with(status: StatusCode, template: &impl Template) -> Result<Response, Problem> {
    let text = template.render().map_err(|error| Problem::internal(&error))?;
    Ok((status, [(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response())
}

/// On to another page, with GET.
fn onward(to: &str) -> Response {
    use axum::http::header::LOCATION;
    (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
}
