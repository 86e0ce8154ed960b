//! Onboarding's two doors: where Stripe sends a person whose link has ended, and one who left its pages.
//!
//! Public: whoever has a sealed address may knock. What is answered is for a browser, and tells nothing but what
//! the person needs. No address and no link is logged.

mod limiter;
mod page;
mod preview;

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use secrecy::ExposeSecret;
use utoipa::IntoParams;

use self::page::{Page, onward};
use self::preview::is_looking_ahead;
use super::extract::Id;
use super::refusals::{Internal, Refuses};
use super::state::{AppState, Shared};
use crate::domain::account::Known;
use crate::domain::declined::Fault;
use crate::domain::next_step::{Action, next_step};
use crate::domain::onboarding::{Door, Shut, Ticket};
use crate::domain::return_url::Arrival;
use crate::flows::onboard::{self, Closed};
use crate::flows::{NotDone, project_account};
use crate::store::views;

pub use self::limiter::Limiter;

/// What opens a door.
#[expect(dead_code, reason = "the description of a path's part, which `Id` reads")]
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
struct Token {
    /// Sealed by this service, for one account, one door and a few days.
    token: String,
}

/// How long a person waits at the door while Stripe is asked about the account.
const PATIENCE: Duration = Duration::from_secs(8);
/// And for a link, without which there is nowhere to go.
const PATIENCE_FOR_A_LINK: Duration = Duration::from_secs(15);

/// Onboarding's refresh door
///
/// Where Stripe sends a person whose link has ended, was used or was previewed: another link is made with the same
/// parameters. Programs that only look get a page with a button.
#[utoipa::path(
    get, path = "/onboarding/{token}/refresh", tag = "onboarding", operation_id = "refresh_onboarding",
    params(Token),
    responses(
        (status = 303, description = "On to Stripe."),
        (status = 200, description = "A page with a button, for programs that only look.", body = String,
            content_type = "text/html"),
        (status = 403, description = "A page: no link can be made for this account.", body = String,
            content_type = "text/html"),
        (status = 404, description = "A page: the token opens nothing.", body = String,
            content_type = "text/html"),
        (status = 410, description = "A page: the token's time is over.", body = String,
            content_type = "text/html"),
        (status = 429, description = "A page: too many links in a short time.", body = String,
            content_type = "text/html"),
        (status = 503, description = "A page: Stripe or the database is away.", body = String,
            content_type = "text/html"),
        Refuses<Internal>,
    ),
)]
pub(super) async fn refresh(
    State(state): State<Shared>,
    Id(token): Id,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let ticket = match admit(&state, &token, Door::Refresh, &method, &headers).await {
        Ok(ticket) => ticket,
        Err(page) => return page.answer(),
    };
    if !state.onboarding.admits(ticket.account.as_str(), state.ctx.clock.now()) {
        return Page::too_often().answer();
    }
    match renew(&state, &ticket).await {
        Ok(response) => response,
        Err(page) => page.answer(),
    }
}

async fn renew(state: &AppState, ticket: &Ticket) -> Result<Response, Page> {
    // Stripe sends people of rejected accounts here too: another link would lead them round in a circle.
    if is_barred(state, ticket).await? {
        confirm(state, ticket).await;
        if is_barred(state, ticket).await? {
            return Err(Page::barred());
        }
    }
    let renewing = onboard::renew_link(&state.ctx, ticket);
    match tokio::time::timeout(PATIENCE_FOR_A_LINK, renewing).await.unwrap_or(Err(NotDone::Unanswered)) {
        Ok(link) => Ok(onward(link.url.expose_secret())),
        Err(NotDone::Declined { fault: Fault::Account | Fault::Parameter(_), .. }) => {
            state.bell.ring_due();
            Err(Page::barred())
        }
        Err(NotDone::Store(error)) => Err(away(error)),
        Err(error) => {
            // Without Stripe's text, which may repeat the doors' addresses.
            let fault = if let NotDone::Declined { fault, .. } = &error { Some(fault) } else { None };
            tracing::warn!(?fault, "no link could be made for a person at the refresh door");
            Err(Page::away())
        }
    }
}

/// Onboarding's return door
///
/// Where Stripe sends a person who left its pages, finished or not. Stripe is asked for the account; then the person is
/// sent to the `return_url` that the link was made with, or told how far they came.
#[utoipa::path(
    get, path = "/onboarding/{token}/return", tag = "onboarding", operation_id = "return_from_onboarding",
    params(Token),
    responses(
        (status = 303, description = "On to `return_url`, with `account` and `ready` in its query, and \
            `confirmed=false` where Stripe could not be asked."),
        (status = 200, description = "A page that tells how far the person came.", body = String,
            content_type = "text/html"),
        (status = 404, description = "A page: the token opens nothing.", body = String,
            content_type = "text/html"),
        (status = 410, description = "A page: the token's time is over.", body = String,
            content_type = "text/html"),
        (status = 503, description = "A page: the database is away.", body = String,
            content_type = "text/html"),
        Refuses<Internal>,
    ),
)]
pub(super) async fn come_back(
    State(state): State<Shared>,
    Id(token): Id,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let ticket = match admit(&state, &token, Door::Return, &method, &headers).await {
        Ok(ticket) => ticket,
        Err(page) => return page.answer(),
    };
    // That somebody comes by this door says only that they left Stripe's pages; Stripe knows the rest.
    let asks = state.onboarding.admits(ticket.account.as_str(), state.ctx.clock.now());
    let confirmed = asks && confirm(&state, &ticket).await;
    let known = match known(&state, &ticket).await {
        Ok(known) => known,
        Err(page) => return page.answer(),
    };
    let ready = known.as_ref().is_some_and(|known| known.reasons(&state.ctx.policy()).is_empty());
    match &ticket.return_url {
        Some(url) => onward(&url.with(&Arrival { account: &ticket.account, ready, confirmed })),
        None => farewell(&state, known.as_ref(), ready, confirmed).answer(),
    }
}

/// What the person is told where the caller has no page of its own.
fn farewell(state: &AppState, known: Option<&Known>, ready: bool, confirmed: bool) -> Page {
    let next = known.map(|known| next_step(known, &state.ctx.policy()).action);
    match (ready, confirmed, next) {
        (true, _, _) => Page::finished(),
        (false, false, _) => Page::not_known(),
        (false, true, Some(Action::OnboardingLink)) => Page::unfinished(),
        (false, true, _) => Page::in_review(),
    }
}

/// Reads the ticket; or the page for who has none, or only looks.
async fn admit(
    state: &AppState,
    token: &str,
    door: Door,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Ticket, Page> {
    let ticket = onboard::open_door(&state.ctx, token, door).await.map_err(|closed| match closed {
        Closed::Shut(Shut::Unknown) => Page::unknown(),
        Closed::Shut(Shut::Expired) => Page::expired(),
        Closed::Store(error) => away(error),
    })?;
    if is_looking_ahead(method, headers) { Err(Page::before_the_door(door.as_str())) } else { Ok(ticket) }
}

/// Asks Stripe about the account; false where it did not answer in time.
async fn confirm(state: &AppState, ticket: &Ticket) -> bool {
    let asking = project_account::settle(&state.ctx, &ticket.account);
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    state.bell.ring_due();
    matches!(asked, Ok(Ok(())))
}

async fn known(state: &AppState, ticket: &Ticket) -> Result<Option<Known>, Page> {
    let mut conn = views::connect(&state.ctx.pool).await.map_err(away)?;
    let account = views::find_account(&mut conn, ticket.livemode, ticket.account.as_str()).await;
    Ok(account.map_err(away)?.map(|account| account.known))
}

/// Whether no link helps this account, as far as is known.
async fn is_barred(state: &AppState, ticket: &Ticket) -> Result<bool, Page> {
    let known = known(state, ticket).await?;
    let action = known.map(|known| next_step(&known, &state.ctx.policy()).action);
    Ok(matches!(action, Some(Action::Reconnect | Action::ContactStripe | Action::ResumeAccount)))
}

fn away(error: views::StoreError) -> Page {
    tracing::warn!(%error, "a door could not be opened");
    Page::away()
}
