//! `POST /v1/accounts`: an Express account, prefilled with whatever is known of the person.
//!
//! The body is Stripe's own parameters, and Stripe says what is wrong with them; refused here is only what would
//! make something else than an Express account of this platform's.

use axum::extract::State;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::AccountWithHistory;
use crate::flows::{NotDone, create_account};
use crate::http::api::{Answer, body_of, told};
use crate::http::auth::Operator;
use crate::http::error::{Code, Problem};
use crate::http::extract::{Body, Fields, escaped};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::Params;
use crate::http::refusals::{AnyOrder, Refuses, StripeRefused, StripeUnavailable};
use crate::http::state::Shared;
use crate::http::words::schema;
use crate::store::views::{Account, AccountChange};

/// Stripe's parameters of an account.
#[derive(Debug)]
pub(in crate::http) enum AccountParameters {}

impl PartialSchema for AccountParameters {
    fn schema() -> RefOr<Schema> {
        schema(json!({
            "type": "object",
            "description": "Stripe's parameters of an account, as its API names them: what is named here, and any other.",
            "properties": {
                "type": {"type": ["string", "null"], "enum": ["express", null]},
                "country": {"type": ["string", "null"], "description": "Two letters.", "example": "US"},
                "email": {"type": ["string", "null"], "example": "writer@example.com"},
                "business_type": {"type": ["string", "null"], "example": "individual"},
                "capabilities": {"type": ["object", "null"]},
                "individual": {"type": ["object", "null"]},
                "business_profile": {"type": ["object", "null"]},
                "metadata": {
                    "type": ["object", "null"], "propertyNames": {"not": {"pattern": "^sluicegate_"}},
                },
            },
            "additionalProperties": true,
        }))
    }
}

impl ToSchema for AccountParameters {}

/// What callers' metadata may not begin with.
const OURS: &str = "sluicegate_";

/// A new Express account, prefilled with whatever is known of the person
///
/// The body is Stripe's own parameters of an account, any of them, nested as Stripe nests them; `type` is `express`, and
/// the capability `transfers` is requested unless the body says otherwise. What Stripe finds wrong comes back as
/// `validation` with its text. Personal data goes to Stripe and is kept nowhere here.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", operation_id = "create_account",
    params(MayRepeat),
    request_body = AccountParameters,
    responses(
        (status = 201, description = "The account.", body = AccountWithHistory),
        Refuses<(AnyOrder, StripeRefused, StripeUnavailable)>,
    ),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Operator(actor): Operator,
    key: Key,
    params: Params,
    Body(body): Body,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.optional(&body);
    let parameters = read(body)?;
    let policy = state.ctx.policy();
    let shown = |account: &Account, history: Vec<AccountChange>| {
        body_of(&AccountWithHistory::of(account, history, &policy))
    };
    let made = create_account::create(&state.ctx, &actor, once.as_ref(), &parameters, shown);
    let ordered = made.await.map_err(|error| match error {
        NotDone::Unanswered if once.is_none() => {
            let detail = "It is not known whether the account was made: look for it in Stripe's Dashboard. With an \
                          Idempotency-Key the request could just be repeated.";
            Problem::new(Code::StripeUnavailable, detail)
        }
        other => other.into(),
    })?;
    state.bell.ring_due();
    told(ordered)
}

/// Stripe's parameters, completed: Express unless said otherwise, with transfers requested unless said otherwise.
fn read(body: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let mut fields = Fields::of(Map::new());
    refuse_brackets(&body, "", &mut fields);
    let mut parameters: Map<String, Value> = body.into_iter().filter(|(_, value)| !value.is_null()).collect();
    if parameters.contains_key("expand") {
        fields.wrong("/expand", "is no parameter of an account; leave it out");
    }
    if parameters.get("type").is_some_and(|kind| kind != "express") {
        fields.wrong("/type", "must be `express`, or left out");
    }
    match parameters.get("controller") {
        None => {
            parameters.insert("type".to_owned(), json!("express"));
        }
        // What `type` stands for, spelled out; Stripe takes one of the two.
        Some(controller) if controller["stripe_dashboard"]["type"] == "express" => {}
        Some(_) => fields.wrong("/controller/stripe_dashboard/type", "must be `express`"),
    }
    let capabilities = parameters.entry("capabilities").or_insert_with(|| json!({}));
    if let Some(capabilities) = capabilities.as_object_mut() {
        capabilities.entry("transfers").or_insert_with(|| json!({"requested": true}));
    }
    for name in parameters.get("metadata").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        if name.starts_with(OURS) {
            fields.wrong(format!("/metadata/{}", escaped(name)), "is Sluicegate's own; leave it out");
        }
    }
    fields.finish(Some(parameters))
}

/// A name with brackets would reach Stripe as a path to another parameter than the one that was looked at here.
fn refuse_brackets(map: &Map<String, Value>, pointer: &str, fields: &mut Fields) {
    for (name, value) in map {
        let pointer = format!("{pointer}/{}", escaped(name));
        if name.is_empty() || name.contains(['[', ']']) {
            fields.wrong(&pointer, "must have a name without `[` and `]`; nest objects instead");
        }
        match value {
            Value::Object(inner) => refuse_brackets(inner, &pointer, fields),
            Value::Array(values) => {
                for (place, value) in values.iter().enumerate() {
                    if let Value::Object(inner) = value {
                        refuse_brackets(inner, &format!("{pointer}/{place}"), fields);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: Value) -> Result<Value, Problem> {
        read(body.as_object().unwrap().clone()).map(Value::Object)
    }

    #[test]
    fn an_express_account_that_may_receive_transfers_is_what_is_made() {
        let rows = [
            (json!({}), json!({"type": "express", "capabilities": {"transfers": {"requested": true}}})),
            (
                json!({"type": "express", "email": "a@b.c", "country": null}),
                json!({"type": "express", "email": "a@b.c", "capabilities": {"transfers": {"requested": true}}}),
            ),
            (
                json!({"capabilities": {"card_payments": {"requested": true}, "transfers": {"requested": false}}}),
                json!({"type": "express", "capabilities": {
                    "card_payments": {"requested": true}, "transfers": {"requested": false}}}),
            ),
            (
                json!({"controller": {"stripe_dashboard": {"type": "express"}}}),
                json!({"controller": {"stripe_dashboard": {"type": "express"}},
                       "capabilities": {"transfers": {"requested": true}}}),
            ),
            (
                json!({"metadata": {"user": "1"}, "individual": {"dob": {"day": 1}}}),
                json!({"type": "express", "metadata": {"user": "1"}, "individual": {"dob": {"day": 1}},
                       "capabilities": {"transfers": {"requested": true}}}),
            ),
            // Stripe says what is wrong with it.
            (json!({"capabilities": "x"}), json!({"type": "express", "capabilities": "x"})),
        ];
        for (body, parameters) in rows {
            assert_eq!(asked(body), Ok(parameters));
        }
    }

    #[test]
    fn nothing_else_gets_past_by_any_name() {
        let rows = [
            (json!({"type": "custom"}), "/type"),
            (json!({"type": 1}), "/type"),
            (json!({"expand": ["external_accounts"]}), "/expand"),
            (json!({"controller": {}}), "/controller/stripe_dashboard/type"),
            (
                json!({"controller": {"stripe_dashboard": {"type": "full"}}}),
                "/controller/stripe_dashboard/type",
            ),
            (json!({"metadata": {"sluicegate_transfer": "xfer_1"}}), "/metadata/sluicegate_transfer"),
            (json!({"metadata[sluicegate_transfer]": "xfer_1"}), "/metadata[sluicegate_transfer]"),
            (json!({"metadata": {"a][sluicegate_x": "1"}}), "/metadata/a][sluicegate_x"),
            (json!({"documents": [{"a]": 1}]}), "/documents/0/a]"),
            (json!({"individual": {"": 1}}), "/individual/"),
        ];
        for (body, pointer) in rows {
            let problem = format!("{:?}", asked(body.clone()).unwrap_err());
            assert!(problem.contains(&format!("pointer: {pointer:?}")), "{body}: {problem}");
            assert_eq!(problem.matches("pointer:").count(), 1, "{body}: {problem}");
        }
    }
}
