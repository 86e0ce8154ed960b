//! The OpenAPI document: what the router and its handlers say of themselves, made whole.
//!
//! Handlers describe their own call, structs their own fields; here is what holds for all of them. The
//! document is made from the router that serves it, so no route can be missing from it.

mod finished;

use axum::Extension;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::OpenApi as Described;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

pub(super) use self::finished::finished;
use super::error::Written;
use super::refusals::{Anything, Refuses};
use super::words;

/// What stands above all calls.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluicegate",
        description = "Pays connected accounts on Stripe Connect with money that was added by top-ups, each transfer \
            exactly once, when the account is ready and the money has settled.\n\n\
            Amounts are whole minor units of a lower-case ISO currency, times are RFC 3339 in UTC. Unknown fields and \
            parameters are refused; in a request, null is as good as absent. Lists come in pages: hand `next` in as \
            `after` until it is null. Every POST takes an `Idempotency-Key`: the same key with the same body is \
            answered as before, so a request without an answer can be repeated safely.\n\n\
            Errors are RFC 9457 problems with a stable `code` and a `detail` that tells the mend.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "accounts", description = "Connected accounts: may they be paid, and if not, why?"),
        (name = "onboarding", description = "Where people come back to from Stripe's pages; for their browsers."),
        (name = "topups", description = "Money on its way in."),
        (name = "funds", description = "Money that can be released, and what is missing."),
        (name = "transfers", description = "Money on its way out, and every reason why it waits."),
        (name = "releases", description = "The emergency stop."),
        (name = "events", description = "What Stripe told, and what became of it."),
        (name = "platform", description = "The account at Stripe that adds the money and pays the others."),
        (name = "keys", description = "Who may call."),
        (name = "service", description = "What Stripe, load balancers and monitoring reach."),
    ),
    components(schemas(Written)),
    modifiers(&Keys, &Words),
)]
struct Base;

/// The words of which parameters and fields are made.
struct Words;

impl Modify for Words {
    fn modify(&self, document: &mut Described) {
        document.components.get_or_insert_default().schemas.extend(words::all());
    }
}

/// How a caller shows who they are.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut Described) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some(
            "An API key. Each call names the scope it needs: `read`, `operate` or `admin`; each includes those before it."
                .to_owned(),
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// What a router's description begins with.
pub(super) fn base() -> Described {
    Base::openapi()
}

/// The document as it is served.
#[derive(Clone, Debug)]
pub(super) struct Document(Bytes);

impl Document {
    /// The document of what a router says.
    pub(super) fn of(described: &Described) -> Self {
        Self(finished(described).to_string().into())
    }
}

/// This document
///
/// OpenAPI 3.1; for reading by people there is `/docs`.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", operation_id = "get_openapi",
    responses((status = 200, description = "The document.", body = Object), Refuses<Anything>),
)]
pub(super) async fn show(Extension(Document(text)): Extension<Document>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text)
}

/// What checks a body by its schema in the document.
#[cfg(test)]
pub(super) fn validator(schema: &str) -> jsonschema::Validator {
    let mut whole = super::document();
    whole["$ref"] = format!("#/components/schemas/{schema}").into();
    jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
}
