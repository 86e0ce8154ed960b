//! Search: whoever has an id is led to its page.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::query::Asked;
use super::session::Reader;
use super::{onward, refused, words};
use crate::domain::ids::{KeyId, ReversalId, StripeReversalId, StripeTransferId};
use crate::http::error::Problem;
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, TransferFilter};

/// Leads to the page of what has this id.
pub(in crate::http) async fn search(
    State(state): State<Shared>,
    _: Reader,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let wanted = asked.take("q").unwrap_or_default();
    match page_of(&state, wanted.trim()).await? {
        Some(path) => Ok(onward(&path)),
        None => Ok(refused::say(
            StatusCode::NOT_FOUND,
            "Nothing has this id",
            "Search for a whole id: xfer_… for a transfer (or tr_…, its id at Stripe, or the Idempotency-Key it was \
             asked for with), xrev_… or trr_… for a reversal, acct_… for an account, tu_… for a top-up, evt_… for an event, key_… for what was done about a key.",
        )),
    }
}

async fn page_of(state: &AppState, wanted: &str) -> Result<Option<String>, Problem> {
    if let Some(page) = words::page_about(wanted) {
        return Ok(Some(page));
    }
    // Of a key there is what was done with it.
    if KeyId::parse(wanted).is_ok() {
        return Ok(Some(format!("/console/audit?subject={wanted}")));
    }
    if wanted.is_empty() || wanted.chars().count() > 255 || wanted.chars().any(char::is_control) {
        return Ok(None);
    }
    if ReversalId::parse(wanted).is_ok() || StripeReversalId::parse(wanted).is_ok() {
        let mut conn = state.connect().await?;
        let transfer = views::find_reversed_transfer(&mut conn, state.ctx.livemode, wanted).await?;
        return Ok(transfer.map(|transfer| format!("/console/transfers/{transfer}")));
    }
    let filter = match StripeTransferId::parse(wanted) {
        Ok(id) => TransferFilter { stripe_transfer: Some(id.to_string()), ..TransferFilter::default() },
        Err(_) => TransferFilter { idempotency_key: Some(wanted.to_owned()), ..TransferFilter::default() },
    };
    let mut conn = state.connect().await?;
    let found = views::list_transfers(&mut conn, state.ctx.livemode, &filter, None, 2).await?;
    Ok(match found.as_slice() {
        [] => None,
        [one] => Some(format!("/console/transfers/{}", one.id)),
        _ => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            Some(format!("/console/transfers?{}", query.append_pair("idempotency_key", wanted).finish()))
        }
    })
}
