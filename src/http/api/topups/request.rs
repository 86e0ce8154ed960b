//! A top-up as it is ordered: every field is read, and every one that is wrong is named before Stripe is asked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::domain::money::{Currency, MoneyError};
use crate::domain::topup::intent::{METADATA_KEY, statement_descriptor};
use crate::flows::request_topup::Request;
use crate::http::error::Problem;
use crate::http::extract::{Fields, text};
use crate::http::metadata;
use crate::http::words::{self, Amount, BankToken, Group, StatementDescriptor};

/// A top-up as it is ordered.
#[expect(dead_code, reason = "the schema of what `read` takes field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopupRequest {
    /// What the bank is asked for.
    #[schema(value_type = Amount)]
    amount: i64,
    #[schema(value_type = words::Currency)]
    currency: String,
    /// Shown at Stripe.
    #[schema(value_type = Option<words::Description>)]
    description: Option<String>,
    /// On the bank's statement; Stripe's own word is `Top-up`.
    #[schema(value_type = Option<StatementDescriptor>)]
    statement_descriptor: Option<String>,
    /// The bank account; the platform's default where it is left out. In test mode one of Stripe's test tokens, like
    /// `btok_us_verified`.
    #[schema(value_type = Option<BankToken>)]
    source: Option<String>,
    /// A label without effect.
    #[schema(value_type = Option<Group>)]
    transfer_group: Option<String>,
    /// Sent to Stripe.
    #[schema(schema_with = metadata_schema)]
    metadata: Option<BTreeMap<String, String>>,
}

fn metadata_schema() -> RefOr<Schema> {
    metadata::schema(METADATA_KEY)
}

/// Reads the body of `POST /v1/topups`.
pub(super) fn read(body: Map<String, Value>) -> Result<Request, Problem> {
    let mut fields = Fields::of(body);
    let amount_minor = fields.required_i64("amount");
    let currency =
        fields.required("currency", |text| Currency::parse(text).map_err(|error| error.to_string()));
    let amount_minor = amount_minor.and_then(|amount| payable(&mut fields, amount, currency));
    let description = fields.optional("description", text(1_000));
    let statement_descriptor = fields.optional("statement_descriptor", statement_descriptor);
    let source = fields.optional("source", bank_token);
    let transfer_group = fields.optional("transfer_group", text(255));
    let metadata = metadata::read(&mut fields, METADATA_KEY);
    let whole = amount_minor.zip(currency).map(|(amount_minor, currency)| Request {
        amount_minor,
        currency,
        description,
        statement_descriptor,
        source,
        transfer_group,
        metadata,
    });
    fields.finish(whole)
}

/// The amount, if it can be asked for; where the currency is not known, only its bounds are looked at.
fn payable(fields: &mut Fields, amount_minor: i64, currency: Option<Currency>) -> Option<i64> {
    let payable = match currency {
        Some(currency) => currency.amount_to_pay(amount_minor),
        None if amount_minor < 1 => Err(MoneyError::OutOfRange),
        None => Ok(amount_minor),
    };
    payable.map_err(|error| fields.wrong("/amount", error.to_string())).ok()
}

/// A bank account's id or token; which there are, Stripe knows.
fn bank_token(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain && (1..=255).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err("must be the id or token of a bank account, like `btok_us_verified`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is read of a request; the document must say beforehand whether it will be.
    fn asked(changes: Value) -> Result<Request, Problem> {
        let mut body = json!({"amount": 500_000, "currency": "usd"});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let read = read(body.as_object().unwrap().clone());
        let documented = crate::http::document::validator("TopupRequest").is_valid(&body);
        assert_eq!(documented, read.is_ok(), "the document and the reader differ about {changes}");
        read
    }

    #[test]
    fn a_whole_request_is_read() {
        let request = asked(json!({
            "description": "payroll of November", "statement_descriptor": "PAYROLL 11/26", "source": "btok_us_verified",
            "transfer_group": "november", "metadata": {"a": "1"},
        }))
        .unwrap();
        assert_eq!((request.amount_minor, request.currency.as_str()), (500_000, "usd"));
        assert_eq!(request.statement_descriptor.as_deref(), Some("PAYROLL 11/26"));
        assert_eq!(
            (request.source.as_deref(), &request.metadata["a"]),
            (Some("btok_us_verified"), &"1".to_owned())
        );
        let bare = asked(json!({"source": null, "metadata": null, "statement_descriptor": null})).unwrap();
        assert_eq!((bare.source, bare.description, bare.metadata.len()), (None, None, 0));
    }

    #[test]
    fn each_wrong_field_is_named_by_its_pointer() {
        let many: Map<String, Value> =
            (0..=metadata::MOST_PAIRS).map(|i| (i.to_string(), json!(""))).collect();
        let rows = [
            (json!({"amount": 0}), "/amount"),
            (json!({"amount": -1}), "/amount"),
            (json!({"amount": null}), "/amount"),
            (json!({"amount": "1000"}), "/amount"),
            (json!({"amount": 1_000_000_000_000_i64}), "/amount"),
            (json!({"amount": 150, "currency": "isk"}), "/amount"),
            (json!({"currency": "USD"}), "/currency"),
            (json!({"currency": "xxx"}), "/currency"),
            (json!({"description": ""}), "/description"),
            (json!({"description": "x".repeat(1_001)}), "/description"),
            (json!({"statement_descriptor": ""}), "/statement_descriptor"),
            (json!({"statement_descriptor": "12345"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "SIXTEEN CHARS 16"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "Gehälter"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "A*B"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "A<B"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "A'B"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "A\\B"}), "/statement_descriptor"),
            (json!({"statement_descriptor": "A\"B"}), "/statement_descriptor"),
            (json!({"source": "a b"}), "/source"),
            (json!({"source": ""}), "/source"),
            (json!({"transfer_group": ""}), "/transfer_group"),
            (json!({"transfer_group": "x".repeat(256)}), "/transfer_group"),
            (json!({"metadata": []}), "/metadata"),
            (json!({"metadata": many}), "/metadata"),
            (json!({"metadata": {"x".repeat(41): "1"}}), &format!("/metadata/{}", "x".repeat(41))),
            (json!({"metadata": {"a": "x".repeat(501)}}), "/metadata/a"),
            (json!({"metadata": {"sluicegate_topup": "tpi_1"}}), "/metadata/sluicegate_topup"),
            (json!({"nope": 1}), "/nope"),
        ];
        for (changes, pointer) in rows {
            let problem = format!("{:?}", asked(changes.clone()).unwrap_err());
            assert!(problem.contains(&format!("pointer: \"{pointer}\"")), "{changes}: {problem}");
            assert_eq!(problem.matches("pointer:").count(), 1, "{changes}: {problem}");
        }
        let problem = format!("{:?}", read(Map::new()).unwrap_err());
        assert_eq!(problem.matches("pointer:").count(), 2, "all at once: {problem}");
    }

    #[test]
    fn each_descriptor_is_documented_as_it_is_read() {
        for c in (' '..='~').chain(['é', '\u{7f}']) {
            let _ = asked(json!({"statement_descriptor": format!("A{c}")}));
            let _ = asked(json!({"statement_descriptor": c.to_string()}));
        }
    }
}
