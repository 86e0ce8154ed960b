//! Every route, on one page.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::api::{accounts, adjustments, backfill, events, funds, keys, releases, topups, transfers};
use super::extract::MAX_BODY;
use super::state::{AppState, Shared};
use super::{health, layers, webhook};

/// What Stripe and load balancers reach.
pub fn public(state: AppState) -> Router {
    finish(webhooks().merge(probes()), state)
}

/// A process that only takes in deliveries, with what it measures.
pub fn intake_only(state: AppState) -> Router {
    finish(webhooks().merge(measures()).merge(probes()), state)
}

/// What internal services, operators and monitoring reach.
pub fn operations(state: AppState) -> Router {
    finish(v1().merge(measures()).merge(probes()), state)
}

/// Both on one address.
pub fn whole(state: AppState) -> Router {
    finish(webhooks().merge(v1()).merge(measures()).merge(probes()), state)
}

fn webhooks() -> Router<Shared> {
    Router::new().route("/webhooks/stripe", post(webhook::receive))
}

fn measures() -> Router<Shared> {
    Router::new().route("/metrics", get(health::metrics))
}

fn probes() -> Router<Shared> {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready))
}

fn v1() -> Router<Shared> {
    Router::new()
        .route("/v1/accounts", get(accounts::list))
        .route("/v1/accounts/{acct}", get(accounts::show))
        .route("/v1/accounts/{acct}/readiness", get(accounts::readiness))
        .route("/v1/topups", get(topups::list))
        .route("/v1/topups/{tu}", get(topups::show))
        .route("/v1/funds", get(funds::show))
        .route("/v1/funds/adjustments", get(adjustments::list).post(adjustments::create))
        .route("/v1/funds/forecast", get(funds::forecast))
        .route("/v1/transfers", get(transfers::list).post(transfers::create))
        .route("/v1/transfers/batch", post(transfers::create_batch))
        .route("/v1/transfers/{id}", get(transfers::show))
        .route("/v1/transfers/{id}/cancel", post(transfers::cancel))
        .route("/v1/transfers/{id}/hold", post(transfers::hold))
        .route("/v1/transfers/{id}/resume", post(transfers::resume))
        .route("/v1/transfers/{id}/approve", post(transfers::approve))
        .route("/v1/transfers/{id}/retry", post(transfers::retry))
        .route("/v1/transfers/{id}/reverse", post(transfers::reverse))
        .route("/v1/backfill", post(backfill::create))
        .route("/v1/releases/pause", post(releases::pause))
        .route("/v1/releases/resume", post(releases::resume))
        .route("/v1/events", get(events::list))
        .route("/v1/events/{evt}", get(events::show))
        .route("/v1/events/{evt}/replay", post(events::replay))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
}

fn finish(router: Router<Shared>, state: AppState) -> Router {
    let state: Shared = Arc::new(state);
    router
        .fallback(layers::not_found)
        .method_not_allowed_fallback(layers::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(state.clone(), layers::envelop))
        .with_state(state)
}
