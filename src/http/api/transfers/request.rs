//! A transfer as it is asked for: every field is read, and every one that is wrong is named.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::domain::ids::{AccountId, TopupId};
use crate::domain::money::{Currency, MoneyError};
use crate::flows::request_transfer::Request;
use crate::http::error::Problem;
use crate::http::extract::{Fields, instant, text};
use crate::http::metadata;
use crate::http::words::{self, Amount, Label, Moment};

/// The pair by which a transfer at Stripe is known as ours.
const OURS: &str = "sluicegate_transfer";
const PRIORITIES: std::ops::RangeInclusive<i64> = -1_000..=1_000;

/// A transfer as it is asked for.
#[expect(dead_code, reason = "the schema of what `read` takes field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferRequest {
    /// Whom to pay.
    #[schema(value_type = words::AccountId)]
    destination: String,
    #[schema(value_type = Amount)]
    amount: i64,
    #[schema(value_type = words::Currency)]
    currency: String,
    /// Pay it from this top-up, and from no other money.
    #[schema(value_type = Option<words::TopupId>)]
    topup: Option<String>,
    /// Sent to Stripe; where it is left out, the transfer's own id is.
    #[schema(value_type = Option<Label>)]
    transfer_group: Option<String>,
    /// Shown at Stripe.
    #[schema(value_type = Option<words::Description>)]
    description: Option<String>,
    /// Sent to Stripe.
    #[schema(schema_with = metadata_schema)]
    metadata: Option<BTreeMap<String, String>>,
    /// Not before this instant.
    #[schema(value_type = Option<Moment>)]
    release_after: Option<String>,
    /// Higher goes first among those that wait for money.
    #[schema(minimum = -1_000, maximum = 1_000)]
    priority: Option<i32>,
}

/// Transfers asked for together.
#[expect(dead_code, reason = "the schema of what `read_batch` takes")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    #[schema(min_items = 1, max_items = 1_000)]
    transfers: Vec<TransferRequest>,
}

fn metadata_schema() -> RefOr<Schema> {
    metadata::schema(OURS)
}

/// Reads the body of `POST /v1/transfers`.
pub(super) fn read(body: Map<String, Value>) -> Result<Request, Problem> {
    let mut fields = Fields::of(body);
    let destination =
        fields.required("destination", |text| AccountId::parse(text).map_err(|error| error.to_string()));
    let amount_minor = fields.required_i64("amount");
    let currency =
        fields.required("currency", |text| Currency::parse(text).map_err(|error| error.to_string()));
    let amount_minor = amount_minor.and_then(|amount| payable(&mut fields, amount, currency));
    let topup = fields.optional("topup", |text| TopupId::parse(text).map_err(|error| error.to_string()));
    let transfer_group = fields.optional("transfer_group", group);
    let description = fields.optional("description", text(1_000));
    let metadata = metadata::read(&mut fields, OURS);
    let release_after = fields.optional("release_after", instant);
    let priority = priority(&mut fields);
    let whole =
        destination.zip(amount_minor).zip(currency).map(|((destination, amount_minor), currency)| Request {
            destination,
            amount_minor,
            currency,
            topup,
            transfer_group,
            description,
            metadata,
            release_after,
            priority,
        });
    fields.finish(whole)
}

/// The most transfers in one batch.
const MOST_IN_BATCH: usize = 1_000;

/// Reads the body of `POST /v1/transfers/batch`: every wrong field of every transfer is named.
pub(super) fn read_batch(body: Map<String, Value>) -> Result<Vec<Request>, Problem> {
    let mut fields = Fields::of(body);
    let Some(transfers) = fields.required_list("transfers", 1, MOST_IN_BATCH) else {
        return fields.finish(None);
    };
    let mut requests = Vec::with_capacity(transfers.len());
    for (place, transfer) in transfers.into_iter().enumerate() {
        let pointer = place_in_batch(place);
        match transfer {
            Value::Object(transfer) => match read(transfer) {
                Ok(request) => requests.push(request),
                Err(problem) => {
                    for error in problem.errors_within(&pointer) {
                        fields.wrong(error.pointer, error.detail);
                    }
                }
            },
            _ => fields.wrong(pointer, "must be an object"),
        }
    }
    fields.finish(Some(requests))
}

/// Where one of a batch stands in the body, as a JSON pointer.
pub(super) fn place_in_batch(place: usize) -> String {
    format!("/transfers/{place}")
}

/// The amount, if it can be paid; where the currency is not known, only its bounds are looked at.
fn payable(fields: &mut Fields, amount_minor: i64, currency: Option<Currency>) -> Option<i64> {
    let paid = match currency {
        Some(currency) => currency.amount_to_pay(amount_minor),
        None if amount_minor < 1 => Err(MoneyError::OutOfRange),
        None => Ok(amount_minor),
    };
    paid.map_err(|error| fields.wrong("/amount", error.to_string())).ok()
}

/// The label by which a lost answer is looked up at Stripe, so it must come back as it was sent.
fn group(label: &str) -> Result<String, String> {
    if label.trim() != label {
        return Err("must not begin or end with white space".to_owned());
    }
    text(255)(label)
}

fn priority(fields: &mut Fields) -> i32 {
    let Some(priority) = fields.optional_i64("priority") else { return 0 };
    match i32::try_from(priority) {
        Ok(small) if PRIORITIES.contains(&priority) => small,
        _ => {
            let detail = format!("must be from {} to {}", PRIORITIES.start(), PRIORITIES.end());
            fields.wrong("/priority", detail);
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is read of a request; the document must say beforehand whether it will be.
    fn asked(changes: Value) -> Result<Request, Problem> {
        let mut body = json!({"destination": "acct_1", "amount": 1_000, "currency": "usd"});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let read = read(body.as_object().unwrap().clone());
        let documented = crate::http::document::validator("TransferRequest").is_valid(&body);
        assert_eq!(documented, read.is_ok(), "the document and the reader differ about {changes}");
        read
    }

    #[test]
    fn a_whole_request_is_read() {
        let request = asked(json!({
            "topup": "tu_1", "transfer_group": "g", "description": "d", "metadata": {"a": "1"},
            "release_after": "2026-11-22T10:00:00Z", "priority": -1_000,
        }))
        .unwrap();
        assert_eq!(request.topup.unwrap().as_str(), "tu_1");
        assert_eq!((request.amount_minor, request.priority), (1_000, -1_000));
        assert_eq!(request.metadata["a"], "1");
        let bare = asked(json!({"topup": null, "metadata": null, "priority": null})).unwrap();
        assert_eq!((bare.topup, bare.priority, bare.metadata.len()), (None, 0, 0));
    }

    #[test]
    fn each_wrong_field_is_named_by_its_pointer() {
        let many: Map<String, Value> =
            (0..=metadata::MOST_PAIRS).map(|i| (i.to_string(), json!(""))).collect();
        let rows = [
            (json!({"destination": "tu_1"}), "/destination"),
            (json!({"destination": null}), "/destination"),
            (json!({"amount": 0}), "/amount"),
            (json!({"amount": -1}), "/amount"),
            (json!({"amount": "1000"}), "/amount"),
            (json!({"amount": 1.5}), "/amount"),
            (json!({"amount": 1_000_000_000_000_i64}), "/amount"),
            (json!({"amount": 150, "currency": "isk"}), "/amount"),
            (json!({"currency": "USD"}), "/currency"),
            (json!({"currency": "xxx"}), "/currency"),
            (json!({"topup": "xfer_1"}), "/topup"),
            (json!({"transfer_group": ""}), "/transfer_group"),
            (json!({"transfer_group": " a"}), "/transfer_group"),
            (json!({"transfer_group": "x".repeat(256)}), "/transfer_group"),
            (json!({"description": "x".repeat(1_001)}), "/description"),
            (json!({"release_after": "tomorrow"}), "/release_after"),
            (json!({"priority": 1_001}), "/priority"),
            (json!({"priority": i64::MAX}), "/priority"),
            (json!({"metadata": []}), "/metadata"),
            (json!({"metadata": many}), "/metadata"),
            (json!({"metadata": {"a": 1}}), "/metadata/a"),
            (json!({"metadata": {"a[b]": "1"}}), "/metadata/a[b]"),
            (json!({"metadata": {"": "1"}}), "/metadata/"),
            (json!({"metadata": {"a": "x".repeat(501)}}), "/metadata/a"),
            (json!({"metadata": {"sluicegate_transfer": "xfer_1"}}), "/metadata/sluicegate_transfer"),
            (json!({"nope": 1}), "/nope"),
        ];
        for (changes, pointer) in rows {
            let problem = format!("{:?}", asked(changes.clone()).unwrap_err());
            assert!(problem.contains(&format!("pointer: \"{pointer}\"")), "{changes}: {problem}");
            assert_eq!(problem.matches("pointer:").count(), 1, "{changes}: {problem}");
        }
    }

    #[test]
    fn a_batch_names_every_wrong_field_of_every_transfer() {
        let good = json!({"destination": "acct_1", "amount": 1, "currency": "usd"});
        let batch =
            |transfers: Value| read_batch(json!({"transfers": transfers}).as_object().unwrap().clone());
        assert_eq!(batch(json!([good, good])).unwrap().len(), 2);
        assert_eq!(batch(json!(vec![good.clone(); MOST_IN_BATCH])).unwrap().len(), MOST_IN_BATCH);
        let rows = [
            (json!(null), vec!["/transfers"]),
            (json!({}), vec!["/transfers"]),
            (json!([]), vec!["/transfers"]),
            (json!(vec![good.clone(); MOST_IN_BATCH + 1]), vec!["/transfers"]),
            (json!([good, 5]), vec!["/transfers/1"]),
            (
                json!([{"destination": "tu_1", "amount": 1, "currency": "usd"}, good, {"x": 1, "amount": 0, "currency": "usd"}]),
                vec![
                    "/transfers/0/destination",
                    "/transfers/2/destination",
                    "/transfers/2/amount",
                    "/transfers/2/x",
                ],
            ),
        ];
        for (transfers, pointers) in rows {
            let problem = format!("{:?}", batch(transfers).unwrap_err());
            assert_eq!(problem.matches("pointer:").count(), pointers.len(), "{problem}");
            for pointer in pointers {
                assert!(problem.contains(&format!("pointer: \"{pointer}\"")), "{pointer}: {problem}");
            }
        }
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        let problem = format!("{:?}", read(Map::new()).unwrap_err());
        assert_eq!(problem.matches("pointer:").count(), 3, "{problem}");
    }
}
