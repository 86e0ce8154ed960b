//! Every fixture is read; every bend of the envelope and of the money fields has its row.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use time::macros::datetime;

use super::*;

fn fixtures(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stripe").join(folder);
    let mut files: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn fixture(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stripe");
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn every_event_is_read_and_every_readable_snapshot_with_its_object() {
    let files = fixtures("events");
    assert!(files.len() > 60);
    for (path, text) in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let event = Envelope::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(event.kind == Kind::Thin, name.starts_with("thin."), "{name}");
        assert!(event.created.is_some() && event.livemode.is_some(), "{name}");
        assert_eq!(event.data_object.is_some(), event.kind == Kind::Snapshot, "{name}");
        if !readable(event.api_version.as_deref()) {
            continue;
        }
        let Some(object) = event.data_object else { continue };
        let read = match event.event_type.split_once('.').unwrap().0 {
            "account" if event.event_type == "account.updated" => {
                Account::from_json(object.get()).map(|_| ())
            }
            "capability" => Capability::from_json(object.get()).map(|_| ()),
            "topup" => Topup::from_json(object.get()).map(|_| ()),
            "transfer" => Transfer::from_json(object.get()).map(|_| ()),
            "balance" => Balance::from_json(object.get()).map(|_| ()),
            _ => Ok(()),
        };
        read.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn a_snapshot_shows_its_fields() {
    let text = fixture("events/account.updated.03_ready_transfers_only.json");
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(event.event_type, "account.updated");
    assert!(matches!(event.event_type, std::borrow::Cow::Borrowed(_)));
    let account = Account::from_json(event.data_object.unwrap().get()).unwrap();
    assert_eq!(event.account.as_ref(), Some(&account.id));
    assert_eq!(account.capabilities.unwrap().get("transfers").map(String::as_str), Some("active"));
    assert_eq!(account.charges_enabled, Some(true));
    assert_eq!(account.requirements.unwrap().past_due, Some(vec![]));

    let text = fixture("events/account.updated.22_request_as_string.json");
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert!(event.request_id.unwrap().starts_with("req_"));
    assert!(event.idempotency_key.is_none());

    let text = fixture("events/account.application.deauthorized.2015.json");
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(event.account.unwrap().as_str(), "acct_1SGconnexpress0001");
    assert!(event.api_version.is_none());
}

#[test]
fn a_thin_event_shows_its_fields() {
    let text = fixture("events/thin.v2.core.account.updated.with_reason_and_no_context.json");
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(event.created, Some(datetime!(2026-10-29 10:00:00.058 UTC)));
    assert_eq!(event.request_id.as_deref(), Some("req_v24sUK2aV6o01RdVU"));
    assert_eq!(event.idempotency_key.as_deref(), Some("fe21992d-e123-3f8c-bc90-fec93712bcb2"));
    let related = event.related_object.unwrap();
    assert_eq!(related.object_type, "v2.core.account");
    assert_eq!(related.id.as_deref(), Some("acct_1SGconnexpress0001"));
    assert_eq!(event.account, None);

    let text = fixture("events/thin.v1.balance.available.json");
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert!(event.related_object.unwrap().id.is_none());
}

#[test]
fn what_is_not_an_event_is_refused_by_the_field_at_fault() {
    let long = "x".repeat(256);
    let cases: Vec<(serde_json::Value, &str)> = vec![
        (json!({"object":"event","type":"a"}), "id"),
        (json!({"id":7,"object":"event","type":"a"}), "id"),
        (json!({"id":null,"object":"event","type":"a"}), "id"),
        (json!({"id":"","object":"event","type":"a"}), "id"),
        (json!({"id":"evt_\0","object":"event","type":"a"}), "id"),
        (json!({"id":long,"object":"event","type":"a"}), "id"),
        (json!({"id":"evt_1","object":"event"}), "type"),
        (json!({"id":"evt_1","object":"event","type":["a"]}), "type"),
        (json!({"id":"evt_1","object":"event","type":""}), "type"),
        (json!({"id":"evt_1","object":"event","type":"a\0"}), "type"),
        (json!({"id":"evt_1","object":"charge","type":"a"}), "object"),
        (json!({"id":"evt_1","object":1,"type":"a","data":{"object":{}}}), "object"),
        (json!({"id":"evt_1","type":"a"}), "object"),
        (json!({"id":"evt_1","type":"a","data":{"object":[]}}), "object"),
        (json!({"id":"evt_1","object":"event","type":"a","account":5}), "account"),
        (json!({"id":"evt_1","object":"event","type":"a","account":""}), "account"),
        (json!({"id":"evt_1","object":"event","type":"a","account":"acct_1\0"}), "account"),
        (json!({"id":"evt_1","object":"v2.core.event","type":"a","context":{}}), "context"),
        (json!({"id":"evt_1","object":"v2.core.event","type":"a","context":"acct_ "}), "context"),
    ];
    for (body, field) in cases {
        let text = body.to_string();
        let error = Envelope::parse(text.as_bytes()).err();
        assert_eq!(error, Some(EnvelopeError::Field(field)), "{text}");
    }
    for text in ["", " ", "[]", "null", "7", "\"evt\"", "{", "{}x", "\u{feff}{}", r#"["evt_1","event","a"]"#]
    {
        assert!(Envelope::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(Envelope::parse(b"{\"id\":\"\xff\"}").err(), Some(EnvelopeError::NotText));
    // Invalid text is found where the reader only skips.
    let hidden = b"{\"id\":\"evt_1\",\"object\":\"event\",\"type\":\"a\",\"x\":\"\xff\"}";
    assert_eq!(Envelope::parse(hidden).err(), Some(EnvelopeError::NotText));
}

#[test]
fn odd_fields_that_steer_nothing_read_as_absent() {
    let created = |value: &str| {
        let text = format!(r#"{{"id":"evt_1","object":"event","type":"a","created":{value}}}"#);
        Envelope::parse(text.as_bytes()).unwrap().created
    };
    assert_eq!(created("0"), Some(OffsetDateTime::UNIX_EPOCH));
    assert_eq!(created("253402300799"), Some(datetime!(9999-12-31 23:59:59 UTC)));
    assert_eq!(
        created("\"2026-10-29T12:00:00.1234567+02:00\""),
        Some(datetime!(2026-10-29 10:00:00.123456 UTC))
    );
    for odd in ["null", "-1", "253402300800", "9e999", "1.5", "\"soon\"", "[]", "\"1969-12-31T23:59:59Z\""] {
        assert_eq!(created(odd), None, "{odd}");
    }
    let text =
        json!({"id":"evt_1","object":"event","type":"a","livemode":"no","request":[1],"api_version":{},
        "data":"x","related_object":[1,2]})
        .to_string();
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert!(event.livemode.is_none() && event.request_id.is_none() && event.api_version.is_none());
    assert!(event.data_object.is_none() && event.related_object.is_none());
}

#[test]
fn a_context_that_is_a_path_names_the_account_at_its_end() {
    let account = |context: &str| {
        let text = json!({"id":"evt_1","object":"v2.core.event","type":"a","context":context}).to_string();
        Envelope::parse(text.as_bytes()).map(|event| event.account.map(|id| id.to_string()))
    };
    assert_eq!(account("acct_1"), Ok(Some("acct_1".into())));
    assert_eq!(account("org_1/acct_2"), Ok(Some("acct_2".into())));
    assert_eq!(account("org_1"), Ok(None));
    assert!(account("acct_ 1").is_err());
}

#[test]
fn depth_and_size_harm_nothing() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(
        r#"{{"id":"evt_1","type":"topup.created","big":{},"data":{{"object":{{"id":"tu_1","deep":{deep}}}}}}}"#,
        "9".repeat(10_000)
    );
    let event = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(event.kind, Kind::Snapshot);
    assert!(Topup::from_json(event.data_object.unwrap().get()).is_err());
    let metadata = format!(r#"{{"id":"acct_1","capabilities":{deep}}}"#);
    assert_eq!(Account::from_json(&metadata).unwrap().capabilities, None);
}

#[test]
fn money_fields_are_named_when_they_cannot_be_read() {
    let good = json!({"id":"tu_1","amount":5,"currency":"usd","status":"pending"});
    assert!(Topup::from_json(&good.to_string()).is_ok());
    let bad = [
        ("id", json!("acct_1")),
        ("amount", json!("5")),
        ("amount", json!(5.0)),
        ("amount", json!(null)),
        ("currency", json!(1)),
        ("status", json!({})),
    ];
    for (field, value) in bad {
        let mut topup = good.clone();
        topup[field] = value;
        let error = Topup::from_json(&topup.to_string());
        assert_eq!(error.err(), Some(Unreadable { object: "topup", field }), "{topup}");
    }
    let huge = r#"{"id":"tu_1","amount":99999999999999999999,"currency":"usd","status":"pending"}"#;
    assert_eq!(Topup::from_json(huge).err(), Some(Unreadable { object: "topup", field: "amount" }));
    assert!(Topup::from_json("[]").is_err());
    assert_eq!(
        Balance::from_json(r#"{"available":[{"currency":"usd"}],"pending":[]}"#).err(),
        Some(Unreadable { object: "balance entry", field: "amount" })
    );
}

#[test]
fn optional_fields_of_another_type_read_as_absent() {
    let topup = Topup::from_json(
        &json!({"id":"tu_1","amount":5,"currency":"usd","status":"new_one","created":"x","metadata":{"a":"b","c":1},
            "failure_code":7,"balance_transaction":{"id":"txn_1","status":"available"},"livemode":0})
        .to_string(),
    )
    .unwrap();
    assert_eq!((topup.created, topup.failure_code, topup.livemode), (None, None, None));
    assert_eq!(topup.metadata.unwrap().len(), 1);
    // Expanded, but unreadable: the id still leads to it.
    assert_eq!(topup.balance_transaction, Some(Expandable::Id("txn_1".into())));
    let account = Account::from_json(r#"{"id":"acct_1","object":"account","deleted":true}"#).unwrap();
    assert_eq!((account.deleted, account.charges_enabled), (Some(true), None));
}

#[test]
fn the_root_objects_and_lists_are_read() {
    Account::from_json(&fixture("account.json")).unwrap();
    AccountLink::from_json(&fixture("account_link.json")).unwrap();
    Capability::from_json(&fixture("capability.json")).unwrap();
    Topup::from_json(&fixture("topup.json")).unwrap();
    BalanceTransaction::from_json(&fixture("balance_transaction.json")).unwrap();
    Balance::from_json(&fixture("balance.json")).unwrap();
    Transfer::from_json(&fixture("transfer.json")).unwrap();
    TransferReversal::from_json(&fixture("transfer_reversal.json")).unwrap();
    assert_eq!(Account::from_json(&fixture("deleted_account.json")).unwrap().deleted, Some(true));
    for (path, text) in fixtures("").into_iter().chain(fixtures("api")) {
        Value::from_json(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let expanded =
        Topup::from_json(&fixture("api/topup_succeeded_expanded_balance_transaction_available.json"))
            .unwrap();
    let booking = expanded.balance_transaction.unwrap();
    assert_eq!(booking.object().unwrap().status, "available");
    let events = List::<Event>::from_json(&fixture("api/events_list_page.json")).unwrap();
    assert_eq!(events.last_id.as_deref(), events.data.last().map(|item| item.object.id.as_str()));
    for item in &events.data {
        Envelope::parse(item.raw.get().as_bytes()).unwrap();
    }
    assert!(!List::<Topup>::from_json(&fixture("api/topups_list.json")).unwrap().data.is_empty());
    assert!(
        !List::<Transfer>::from_json(&fixture("api/transfers_list_by_group.json")).unwrap().data.is_empty()
    );
    assert!(List::<Transfer>::from_json(r#"{"data":[]}"#).is_err(), "an end that is not said is no end");
    assert!(List::<Transfer>::from_json(r#"{"data":[{"id":"tr_1"}],"has_more":false}"#).is_err());
}

#[test]
fn a_version_is_readable_from_2019_to_the_pinned_one_and_its_train() {
    for yes in [
        "2019-02-19",
        "2020-08-27",
        "2025-03-31.basil",
        "2026-10-28.endive",
        "2026-10-28",
        "2027-01-27.endive",
    ] {
        assert!(readable(Some(yes)), "{yes}");
    }
    for no in [
        "2019-02-18",
        "2016-07-06",
        "2026-10-29",
        "2027-01-27.fennel",
        "2026-13-01",
        "",
        "endive",
        "2026-10-28x",
    ] {
        assert!(!readable(Some(no)), "{no}");
    }
    assert!(!readable(None));
}
