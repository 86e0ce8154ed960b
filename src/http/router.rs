//! Every route, on one page.
//!
//! A route is registered together with its description (`#[utoipa::path]` on the handler), which is what
//! `/openapi.json` is made of; the paths stand here too, so that they can be read at a glance.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::api::{
    accounts, adjustments, backfill, events, funds, keys, onboarding_links, platform, releases, stream,
    topups, transfers,
};
use super::auth::Known;
use super::console::pages;
use super::document::{self, Document};
use super::extract::MAX_BODY;
use super::state::{AppState, Shared};
use super::{docs, health, layers, measures, onboarding, webhook};
use crate::flows::Actor;

/// What a process serves beside what it measures and whether it is well.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Stripe's deliveries.
    pub intake: bool,
    /// What internal services ask, its description, and onboarding's doors.
    pub api: bool,
    /// The operators' pages.
    pub console: bool,
}

/// What Stripe, people at onboarding's doors, and load balancers reach.
pub fn public(state: AppState, served: Served) -> Router {
    finish(outward(served).merge(probes()), None, state)
}

/// What internal services, operators and monitoring reach.
pub fn operations(state: AppState, served: Served) -> Router {
    finish(inward(served).merge(probes()), served.console.then(console), state)
}

/// Everything on one address.
pub fn whole(state: AppState, served: Served) -> Router {
    finish(outward(served).merge(inward(served)).merge(probes()), served.console.then(console), state)
}

fn outward(served: Served) -> OpenApiRouter<Shared> {
    let deliveries = if served.intake { webhooks() } else { described() };
    if served.api { deliveries.merge(onboarding()) } else { deliveries }
}

fn inward(served: Served) -> OpenApiRouter<Shared> {
    if served.api { v1().merge(description()).merge(measures()) } else { measures() }
}

/// What internal services reach, for one caller in this process: the command line of whoever may open the
/// database, and so is asked for no key.
pub fn in_process(state: AppState, caller: Actor) -> Router {
    finish(v1(), None, state).layer(Extension(Known(caller)))
}

/// The OpenAPI document of the whole.
pub fn document() -> Value {
    document::finished(&everything().into_openapi())
}

fn everything() -> OpenApiRouter<Shared> {
    webhooks().merge(onboarding()).merge(v1()).merge(description()).merge(measures()).merge(probes())
}

fn webhooks() -> OpenApiRouter<Shared> {
    described().routes(at("/webhooks/stripe", routes!(webhook::receive)))
}

fn onboarding() -> OpenApiRouter<Shared> {
    described()
        .routes(at("/onboarding/{token}/refresh", routes!(onboarding::refresh)))
        .routes(at("/onboarding/{token}/return", routes!(onboarding::come_back)))
}

fn measures() -> OpenApiRouter<Shared> {
    described().routes(at("/metrics", routes!(measures::metrics)))
}

fn probes() -> OpenApiRouter<Shared> {
    described().routes(at("/healthz", routes!(health::alive))).routes(at("/readyz", routes!(health::ready)))
}

fn description() -> OpenApiRouter<Shared> {
    described()
        .routes(at("/openapi.json", routes!(document::show)))
        .routes(at("/docs", routes!(docs::page)))
        .routes(at("/docs/page.js", routes!(docs::script)))
        .routes(at("/docs/page.css", routes!(docs::style)))
}

fn v1() -> OpenApiRouter<Shared> {
    described()
        .routes(at("/v1/accounts", routes!(accounts::list, accounts::create)))
        .routes(at("/v1/accounts/readiness", routes!(accounts::readiness::many)))
        .routes(at("/v1/accounts/{acct}", routes!(accounts::show)))
        .routes(at("/v1/accounts/{acct}/readiness", routes!(accounts::readiness::one)))
        .routes(at("/v1/accounts/{acct}/onboarding-links", routes!(onboarding_links::create)))
        .routes(at("/v1/topups", routes!(topups::list, topups::create)))
        .routes(at("/v1/topups/{tu}", routes!(topups::show)))
        .routes(at("/v1/topups/{tu}/cancel", routes!(topups::cancel)))
        .routes(at("/v1/funds", routes!(funds::show)))
        .routes(at("/v1/funds/adjustments", routes!(adjustments::list, adjustments::create)))
        .routes(at("/v1/funds/forecast", routes!(funds::forecast)))
        .routes(at("/v1/transfers", routes!(transfers::list, transfers::create::create)))
        .routes(at("/v1/transfers/batch", routes!(transfers::create::create_batch)))
        .routes(at("/v1/transfers/{id}", routes!(transfers::show)))
        .routes(at("/v1/transfers/{id}/explanation", routes!(transfers::explanation::explain)))
        .routes(at("/v1/transfers/{id}/cancel", routes!(transfers::orders::cancel)))
        .routes(at("/v1/transfers/{id}/hold", routes!(transfers::orders::hold)))
        .routes(at("/v1/transfers/{id}/resume", routes!(transfers::orders::resume)))
        .routes(at("/v1/transfers/{id}/approve", routes!(transfers::orders::approve)))
        .routes(at("/v1/transfers/{id}/retry", routes!(transfers::orders::retry)))
        .routes(at("/v1/transfers/{id}/reverse", routes!(transfers::orders::reverse)))
        .routes(at("/v1/backfill", routes!(backfill::create)))
        .routes(at("/v1/releases/pause", routes!(releases::pause)))
        .routes(at("/v1/releases/resume", routes!(releases::resume)))
        .routes(at("/v1/events", routes!(events::list)))
        .routes(at("/v1/events/{evt}", routes!(events::show)))
        .routes(at("/v1/events/{evt}/replay", routes!(events::replay)))
        .routes(at("/v1/stream", routes!(stream::stream)))
        .routes(at("/v1/platform", routes!(platform::show)))
        .routes(at("/v1/keys", routes!(keys::list, keys::create)))
        .routes(at("/v1/keys/{id}", routes!(keys::revoke)))
}

/// The operators' pages. They are for people, and no part of the API: the document does not describe them.
fn console() -> Router<Shared> {
    Router::new()
        .route("/console", get(pages::overview))
        .route("/console/", get(pages::overview))
        .route("/console/sign-in", get(pages::sign_in).post(pages::enter))
        .route("/console/sign-out", post(pages::sign_out))
        .route("/console/search", get(pages::search))
        .route("/console/stream", get(pages::stream))
        .route("/console/releases/pause", get(pages::pause).post(pages::set_pause))
        .route("/console/releases/resume", get(pages::resume).post(pages::set_resume))
        .route("/console/transfers", get(pages::transfers))
        .route("/console/transfers/{id}", get(pages::transfer))
        .route(
            "/console/transfers/{id}/{order}",
            get(pages::ask_about_transfer).post(pages::order_about_transfer),
        )
        .route("/console/topups", get(pages::topups))
        .route("/console/topups/{tu}", get(pages::topup))
        .route("/console/topups/{tu}/cancel", get(pages::ask_to_cancel_topup).post(pages::cancel_topup))
        .route("/console/accounts", get(pages::accounts))
        .route("/console/accounts/{acct}", get(pages::account))
        .route("/console/accounts/{acct}/onboarding-link", get(pages::ask_for_link).post(pages::make_link))
        .route("/console/events", get(pages::events))
        .route("/console/events/{evt}", get(pages::event))
        .route("/console/events/{evt}/replay", get(pages::ask_to_replay).post(pages::replay_event))
        .route("/console/dead-letters", get(pages::dead_letters))
        .route("/console/export/transfers.csv", get(pages::export_transfers))
        .route("/console/export/topups.csv", get(pages::export_topups))
        .route("/console/export/ledger.csv", get(pages::export_ledger))
        .route("/console/audit", get(pages::audit))
        .route("/console/keys", get(pages::keys).post(pages::create_key))
        .route("/console/keys/new", get(pages::new_key))
        .route("/console/keys/{id}/revoke", get(pages::ask_to_revoke).post(pages::revoke_key))
        .route("/console/health", get(pages::health))
        .route("/console/assets/console.css", get(pages::style))
        .route("/console/assets/console.js", get(pages::script))
        .route("/console/assets/icon.svg", get(pages::icon))
        .route("/console/{*rest}", get(pages::not_found).post(pages::not_found))
        .layer(from_fn(pages::dress))
}

fn described() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(document::base())
}

/// Handlers whose own description says that they are at this path.
fn at(path: &str, handlers: UtoipaMethodRouter<Shared>) -> UtoipaMethodRouter<Shared> {
    let said: Vec<&String> = handlers.1.paths.keys().collect();
    assert_eq!(said, [path], "the page of routes and the handlers' own descriptions differ");
    handlers
}

fn finish(router: OpenApiRouter<Shared>, pages: Option<Router<Shared>>, state: AppState) -> Router {
    let state: Shared = Arc::new(state);
    let (router, described) = router.split_for_parts();
    let router = match pages {
        Some(pages) => router.merge(pages),
        None => router,
    };
    router
        .fallback(layers::not_found)
        .method_not_allowed_fallback(layers::method_not_allowed)
        .layer(Extension(Document::of(&described)))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(state.clone(), layers::envelop))
        .with_state(state)
}
