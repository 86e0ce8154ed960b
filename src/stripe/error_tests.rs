//! What each answer means: for reading, and for money.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::error::{Failure, FailureKind, StripeError};
use crate::domain::refusal::Sorted;

#[derive(Deserialize)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: serde_json::Value,
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    pairs.iter().map(|(n, v)| (name(n), HeaderValue::from_str(v).unwrap())).collect()
}

fn stripe(kind: &str) -> String {
    format!(r#"{{"error":{{"type":"{kind}","message":"no"}}}}"#)
}

#[test]
fn every_known_answer_is_sorted_by_what_it_means() {
    let expected = BTreeMap::from([
        ("400_balance_insufficient", FailureKind::Refused),
        ("400_insufficient_capabilities_for_transfer", FailureKind::Refused),
        ("400_transfers_not_allowed_region", FailureKind::Refused),
        ("400_resource_missing_destination", FailureKind::Refused),
        ("400_idempotency_params_differ", FailureKind::KeyReuse),
        ("400_idempotent_replay_of_balance_insufficient", FailureKind::Refused),
        ("400_amount_too_small", FailureKind::Refused),
        ("401_invalid_api_key", FailureKind::Refused),
        ("403_permission", FailureKind::Refused),
        ("409_idempotency_key_in_use", FailureKind::Busy),
        ("429_lock_timeout", FailureKind::RateLimited),
        ("429_rate_limit", FailureKind::RateLimited),
        ("500_indeterminate", FailureKind::ServerError),
        ("503_retryable", FailureKind::NoAnswer),
    ]);
    let text = include_str!("../../tests/fixtures/stripe/api/errors.json");
    let answers: BTreeMap<String, Answer> = serde_json::from_str(text).unwrap();
    assert_eq!(answers.len(), expected.len());
    for (name, answer) in answers {
        let pairs: Vec<_> = answer.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let failure = Failure::of_answer(answer.status, &headers(&pairs), answer.body.to_string().as_bytes());
        assert_eq!(Some(&failure.kind), expected.get(name.as_str()), "{name}");
        let error = &answer.body["error"];
        assert_eq!(failure.code.as_deref(), error["code"].as_str(), "{name}");
        assert_eq!(failure.param.as_deref(), error["param"].as_str(), "{name}");
        assert_eq!(Some(failure.message.as_str()), error["message"].as_str(), "{name}");
        assert_eq!(failure.request_id.as_ref(), answer.headers.get("request-id"), "{name}");
        assert_eq!(failure.replayed, answer.headers.contains_key("idempotent-replayed"), "{name}");
    }
}

#[test]
fn only_an_answer_in_stripes_form_is_stripes() {
    use FailureKind::{Busy, KeyReuse, NoAnswer, RateLimited, Refused, ServerError};
    let html = "<html>Bad Gateway</html>".to_owned();
    let cases = [
        (502, html.clone(), NoAnswer),
        (500, html.clone(), NoAnswer),
        (403, html.clone(), NoAnswer),
        (429, html, NoAnswer),
        (404, r#"{"error":"not found"}"#.into(), NoAnswer),
        (404, r#"{"error":{"message":"not found"}}"#.into(), NoAnswer),
        (404, r#"{"error":{"code":404,"message":"not found"}}"#.into(), NoAnswer),
        (404, r#"{"error":{"code":"not_found","message":"no"}}"#.into(), Refused),
        (400, r#"{"error":{"type":null,"code":"invalid_fields"}}"#.into(), Refused),
        (429, r#"{"error":{"code":"rate_limit"}}"#.into(), RateLimited),
        (500, r#"{"error":{"code":"unexpected"}}"#.into(), ServerError),
        (404, String::new(), NoAnswer),
        (302, stripe("invalid_request_error"), NoAnswer),
        (404, stripe("invalid_request_error"), Refused),
        (402, stripe("card_error"), Refused),
        (418, stripe("a_type_of_tomorrow"), Refused),
        (404, stripe("idempotency_error"), KeyReuse),
        (409, stripe("invalid_request_error"), Busy),
        (429, stripe("idempotency_error"), RateLimited),
        (502, stripe("api_error"), NoAnswer),
        (504, stripe("api_error"), NoAnswer),
        (500, stripe("api_error"), ServerError),
        (501, stripe("api_error"), ServerError),
    ];
    for (status, body, expected) in cases {
        let kind = Failure::of_answer(status, &HeaderMap::new(), body.as_bytes()).kind;
        assert_eq!(kind, expected, "{status} {body}");
    }
    let replay = headers(&[("idempotent-replayed", "true")]);
    assert_eq!(Failure::of_answer(503, &replay, stripe("api_error").as_bytes()).kind, ServerError);
}

#[test]
fn what_is_refused_here_is_what_the_table_of_refusals_sorts() {
    let codes = [None, Some("rate_limit"), Some("lock_timeout"), Some("idempotency_key_in_use"), Some("x")];
    let types = ["invalid_request_error", "idempotency_error", "api_error", "card_error"];
    for status in 400..=599 {
        for (error_type, code) in types.iter().flat_map(|t| codes.iter().map(move |code| (*t, *code))) {
            let body = serde_json::json!({"error": {"type": error_type, "code": code, "message": "no"}});
            let failure = Failure::of_answer(status, &HeaderMap::new(), body.to_string().as_bytes());
            let sorted = crate::domain::refusal::Refusal {
                status,
                error_type: failure.error_type.clone(),
                code: failure.code.clone(),
                param: None,
                message: String::new(),
                told_to_repeat: false,
            };
            let definite = !matches!(sorted.sort(), Sorted::SlowDown | Sorted::LookUp);
            assert_eq!(failure.kind == FailureKind::Refused, definite, "{status} {body}");
        }
    }
}

#[test]
fn a_kind_means_one_thing_for_reading_and_another_for_money() {
    use FailureKind::{Busy, KeyReuse, NoAnswer, NotSent, RateLimited, Refused, ServerError};
    let word = |error: &StripeError| match error {
        StripeError::Retry(_) => "retry",
        StripeError::Refused(_) => "refused",
        StripeError::Unknown(_) => "unknown",
    };
    for (kind, get, post) in [
        (NotSent, "retry", "retry"),
        (NoAnswer, "retry", "unknown"),
        (Busy, "retry", "unknown"),
        (RateLimited, "retry", "retry"),
        (ServerError, "retry", "unknown"),
        (KeyReuse, "refused", "unknown"),
        (Refused, "refused", "refused"),
    ] {
        let failure = Failure::local(kind, "x");
        assert_eq!(word(&StripeError::of_get(failure.clone())), get, "{kind:?}");
        assert_eq!(word(&StripeError::of_post(failure)), post, "{kind:?}");
    }
}

#[test]
fn a_refusal_that_names_no_type_proves_nothing_about_money() {
    for (status, code) in [(404, "not_found"), (400, "invalid_fields"), (429, "rate_limit")] {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#);
        let failure = Failure::of_answer(status, &HeaderMap::new(), body.as_bytes());
        assert!(matches!(StripeError::of_post(failure), StripeError::Unknown(_)), "{status} {code}");
    }
    let never_sent = Failure::local(FailureKind::Refused, "no path of Stripe's");
    assert!(matches!(StripeError::of_post(never_sent), StripeError::Refused(_)));
}

#[test]
fn headers_are_kept_and_secrets_are_not() {
    let sent = headers(&[("request-id", "req_1"), ("stripe-should-retry", "false"), ("retry-after", "7")]);
    let body = r#"{"error":{"type":"invalid_request_error","message":"key sk_test_abc is bad","code":"c"}}"#;
    let failure = Failure::of_answer(401, &sent, body.as_bytes()).without("sk_test_abc");
    assert_eq!(failure.should_retry, Some(false));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    let shown = StripeError::of_post(failure).to_string();
    assert_eq!(shown, "refused: key … is bad (refused, status 401, code c, request req_1)");
    let odd = headers(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), ("stripe-should-retry", "maybe")]);
    let failure = Failure::of_answer(503, &odd, b"");
    assert_eq!((failure.retry_after, failure.should_retry), (None, None));
}
