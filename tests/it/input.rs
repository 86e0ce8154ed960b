//! What callers send: refused with the field named, nothing kept of it, and never a fault of ours.

mod places;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::reply::{Reply, ask};
use crate::support::world::World;

fn call(world: &World, method: Method, path: &str) -> reqwest::RequestBuilder {
    world.api.http.request(method, world.api.url(path)).bearer_auth(&world.api.key)
}

async fn post(world: &World, key: &str, body: &[u8]) -> Reply {
    let request = call(world, Method::POST, "/v1/transfers").header("Idempotency-Key", key);
    ask(request.header("Content-Type", "application/json").body(body.to_vec())).await
}

async fn get(world: &World, path: &str) -> Reply {
    ask(call(world, Method::GET, path)).await
}

fn good() -> Value {
    json!({"destination": "acct_1", "amount": 1_000, "currency": "usd"})
}

/// The good request with one thing changed.
fn but(name: &str, value: Value) -> Vec<u8> {
    let mut body = good();
    body[name] = value;
    body.to_string().into_bytes()
}

/// The good request with one more member, written as it is.
fn and(member: &str) -> Vec<u8> {
    format!(r#"{{"destination":"acct_1","amount":1000,"currency":"usd",{member}}}"#).into_bytes()
}

/// The good request with its amount written like this.
fn amount(text: &str) -> Vec<u8> {
    format!(r#"{{"destination":"acct_1","amount":{text},"currency":"usd"}}"#).into_bytes()
}

/// Bodies that are no JSON object that one could read in one way only.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    vec![
        ("no body", vec![]),
        ("white space", b" \n".to_vec()),
        ("half an object", b"{\"destination\":".to_vec()),
        ("a trailing comma", b"{\"amount\":1,}".to_vec()),
        ("two objects", b"{}{}".to_vec()),
        ("single quotes", b"{'amount':1}".to_vec()),
        ("a form", b"destination=acct_1&amount=1000&currency=usd".to_vec()),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), good().to_string().as_bytes()].concat()),
        ("UTF-16", good().to_string().encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (
            "invalid UTF-8",
            and("\"description\":\"\u{0}\"").iter().map(|b| if *b == 0 { 0xff } else { *b }).collect(),
        ),
        ("a raw control character", and("\"description\":\"a\u{1}b\"")),
        ("a lone high surrogate", and(r#""description":"\ud83d""#)),
        ("a lone low surrogate", and(r#""description":"\ude00x""#)),
        ("surrogates the wrong way round", and(r#""description":"\ude00\ud83d""#)),
        ("a key twice", and(r#""amount":1"#)),
        ("a key twice, once escaped", and(r#""\u0061mount":1"#)),
        ("a key twice, further in", and(r#""metadata":{"a":"1","a":"2"}"#)),
        ("nesting without end", format!(r#"{{"metadata":{deep}}}"#).into_bytes()),
        ("NaN", amount("NaN")),
        ("a leading zero", amount("01000")),
        ("a plus sign", amount("+1000")),
        ("a number too large for any reader", amount("1e999")),
    ]
}

/// Bodies that can be read, and the one field that is wrong.
fn wrong() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let pairs: serde_json::Map<String, Value> = (0..50).map(|i| (i.to_string(), json!("x"))).collect();
    vec![
        ("a list", b"[]".to_vec(), ""),
        ("a text", b"\"usd\"".to_vec(), ""),
        ("null", b"null".to_vec(), ""),
        ("a negative amount", amount("-1"), "/amount"),
        ("negative zero", amount("-0"), "/amount"),
        ("nothing", amount("0"), "/amount"),
        ("a fraction", amount("10.5"), "/amount"),
        ("more than a double tells apart", amount("1e16"), "/amount"),
        ("beyond twelve digits", amount("1000000000000"), "/amount"),
        ("the largest of 64 bits", amount("9223372036854775807"), "/amount"),
        ("beyond 64 bits", amount("9223372036854775808"), "/amount"),
        ("beyond 64 bits unsigned", amount("18446744073709551616"), "/amount"),
        ("the lowest of 64 bits", amount("-9223372036854775808"), "/amount"),
        ("a text for an amount", amount("\"1000\""), "/amount"),
        ("a list for an amount", amount("[1000]"), "/amount"),
        ("true for an amount", amount("true"), "/amount"),
        ("no amount", but("amount", json!(null)), "/amount"),
        (
            "finer than Stripe takes",
            b"{\"destination\":\"acct_1\",\"amount\":1005,\"currency\":\"kwd\"}".to_vec(),
            "",
        ),
        ("a currency nobody knows", but("currency", json!("xxx")), "/currency"),
        ("an upper-case currency", but("currency", json!("USD")), "/currency"),
        ("a currency with a space", but("currency", json!("usd ")), "/currency"),
        ("a currency that is a number", but("currency", json!(840)), "/currency"),
        ("a Cyrillic currency", but("currency", json!("uѕd")), "/currency"),
        ("no destination", but("destination", json!(null)), "/destination"),
        ("a destination of another kind", but("destination", json!("tu_1")), "/destination"),
        ("a destination that is only a prefix", but("destination", json!("acct_")), "/destination"),
        ("a destination with a path in it", but("destination", json!("acct_1/../acct_2")), "/destination"),
        ("a destination with a space", but("destination", json!("acct_1 ")), "/destination"),
        ("a destination with letters of elsewhere", but("destination", json!("acct_ä")), "/destination"),
        (
            "a destination that is too long",
            but("destination", json!(format!("acct_{}", "x".repeat(251)))),
            "/destination",
        ),
        ("a destination that is an object", but("destination", json!({"id": "acct_1"})), "/destination"),
        ("an unknown field", but("nope", json!(1)), "/nope"),
        ("an unknown field that is null", but("nope", json!(null)), "/nope"),
        ("a field in another case", but("Topup", json!("tu_1")), "/Topup"),
        ("an unknown field to be escaped", but("a/b~c", json!({"x": [{}]})), "/a~1b~0c"),
        ("garbage inside", and(r#""metadata":{"a":{"b":[{"c":null}]}}"#), "/metadata/a"),
        ("a top-up of another kind", but("topup", json!("xfer_1")), "/topup"),
        ("a top-up that is a number", but("topup", json!(1)), "/topup"),
        ("an empty group", but("transfer_group", json!("")), "/transfer_group"),
        ("a group that Stripe would trim", but("transfer_group", json!("g ")), "/transfer_group"),
        ("a group that is too long", but("transfer_group", json!("g".repeat(256))), "/transfer_group"),
        ("an empty description", but("description", json!("")), "/description"),
        ("a description that is too long", but("description", json!("d".repeat(1_001))), "/description"),
        ("a NUL", but("description", json!("a\u{0}b")), "/description"),
        ("a line end", but("description", json!("a\nb")), "/description"),
        ("a control character of C1", but("description", json!("a\u{85}b")), "/description"),
        ("a NUL in a name", and(r#""metadata":{"a\u0000":"1"}"#), "/metadata/a\u{0}"),
        ("a NUL in an id", but("destination", json!("acct_1\u{0}")), "/destination"),
        ("metadata that is a list", but("metadata", json!(["a"])), "/metadata"),
        ("too many pairs", but("metadata", json!(pairs)), "/metadata"),
        (
            "a pair of ours",
            but("metadata", json!({"sluicegate_transfer": "xfer_1"})),
            "/metadata/sluicegate_transfer",
        ),
        ("a pair without a name", but("metadata", json!({"": "1"})), "/metadata/"),
        (
            "a name that is too long",
            but("metadata", json!({"n".repeat(41): "1"})),
            "/metadata/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
        ),
        ("a name that is a path in a form", but("metadata", json!({"a[b]": "1"})), "/metadata/a[b]"),
        ("a value that is too long", but("metadata", json!({"a": "v".repeat(501)})), "/metadata/a"),
        ("a value that is a number", but("metadata", json!({"a": 1})), "/metadata/a"),
        ("a value that is null", but("metadata", json!({"a": null})), "/metadata/a"),
        ("a date without a time", but("release_after", json!("2026-11-22")), "/release_after"),
        ("a date that does not exist", but("release_after", json!("2026-02-30T00:00:00Z")), "/release_after"),
        ("a time without a zone", but("release_after", json!("2026-11-22T10:00:00")), "/release_after"),
        ("a date that is a number", but("release_after", json!(1_764_410_400)), "/release_after"),
        ("a date before all", but("release_after", json!("0001-01-01T00:00:00Z")), "/release_after"),
        ("a date after all", but("release_after", json!("9999-12-31T23:59:59Z")), "/release_after"),
        ("a priority above", but("priority", json!(1_001)), "/priority"),
        ("a priority below", but("priority", json!(-1_001)), "/priority"),
        ("a priority far below", but("priority", json!(i64::MIN)), "/priority"),
        ("half a priority", but("priority", json!(0.5)), "/priority"),
        ("a priority in words", but("priority", json!("high")), "/priority"),
    ]
}

#[tokio::test]
async fn every_kind_of_bad_request_names_its_fault_and_leaves_nothing_behind() {
    let world = World::start().await;
    for (what, body) in malformed() {
        let reply = post(&world, "one-key", &body).await;
        reply.must_be(400, "json_malformed", what);
    }
    for (what, body, pointer) in wrong() {
        let reply = post(&world, "one-key", &body).await;
        reply.must_be(422, "validation", what);
        let wanted = if what == "finer than Stripe takes" { "/amount" } else { pointer };
        assert_eq!(reply.pointers(), [wanted], "{what}: {reply:?}");
        let detail = reply.body["errors"][0]["detail"].as_str().unwrap_or_default();
        assert!(!detail.is_empty(), "{what}");
    }
    let large = but("description", json!("d".repeat(2 << 20)));
    post(&world, "one-key", &large).await.must_be(413, "body_too_large", "2 MiB");
    for table in ["transfers", "idempotency_keys", "transfer_history", "ledger_entries", "accounts"] {
        assert_eq!(world.rows(table).await, 0, "{table}");
    }
    let reply = post(&world, "one-key", good().to_string().as_bytes()).await;
    assert_eq!((reply.status, &reply.body["status"]), (201, &json!("waiting")), "the key was not used up");
    assert_eq!((world.rows("transfers").await, world.rows("idempotency_keys").await), (1, 1));
}

#[tokio::test]
async fn all_faults_of_a_request_are_named_at_once() {
    let world = World::start().await;
    let body = json!({"destination": 1, "amount": -1, "currency": "USD", "priority": 9_999, "metadata": {"a": 1}, "x": 0});
    let reply = post(&world, "k", body.to_string().as_bytes()).await;
    reply.must_be(422, "validation", "all");
    let mut pointers = reply.pointers();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/amount", "/currency", "/destination", "/metadata/a", "/priority", "/x"]);
    let many: serde_json::Map<String, Value> = (0..5_000).map(|i| (format!("f{i}"), json!(0))).collect();
    let reply = post(&world, "k", json!(many).to_string().as_bytes()).await;
    reply.must_be(422, "validation", "thousands of faults");
    assert!(reply.pointers().len() <= 100, "{}", reply.pointers().len());
}

#[tokio::test]
async fn what_is_merely_unusual_is_taken_and_comes_back_as_it_was() {
    let world = World::start().await;
    let pairs: serde_json::Map<String, Value> =
        (0..49).map(|i| (format!("{i:040}"), json!("v".repeat(500)))).collect();
    let rows = [
        (
            "emoji",
            json!({"description": "für 👩‍👩‍👧 ≥ 1 €", "metadata": {"naïve 🙂": "日本"}, "transfer_group": "🙂"}),
        ),
        (
            "the longest of all",
            json!({"description": "€".repeat(1_000), "transfer_group": "ü".repeat(255), "metadata": pairs}),
        ),
        (
            "the extremes",
            json!({"amount": 999_999_999_999_i64, "priority": -1_000, "release_after": "9998-12-31T00:00:00Z"}),
        ),
        ("the least", json!({"amount": 1, "priority": 1_000, "release_after": "1970-01-01T00:00:00Z"})),
        ("an empty value", json!({"metadata": {"a": ""}})),
    ];
    for (what, more) in rows {
        let mut body = good();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let reply = post(&world, what, body.to_string().as_bytes()).await;
        assert_eq!(reply.status, 201, "{what}: {reply:?}");
        let shown = get(&world, &format!("/v1/transfers/{}", reply.body["id"].as_str().unwrap())).await.body;
        for (name, value) in body.as_object().unwrap() {
            assert_eq!(&shown[name], value, "{what}: {name}");
        }
    }
    let nulls = and(r#""topup":null,"metadata":null,"priority":null,"release_after":null"#);
    let reply = post(&world, "nulls", &nulls).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let repeated = world.api.post_raw("/v1/transfers", "nulls", good().to_string().as_bytes()).await;
    assert_eq!(repeated, (201, reply.body), "null is as good as absent");
    let plain = post(&world, "a number", &amount("1000")).await;
    for same in ["1000.0", "1e3", "10.00E+2"] {
        let reply = post(&world, "a number", &amount(same)).await;
        assert_eq!((reply.status, &reply.body), (201, &plain.body), "{same} is the same number");
    }
    // The content type decides nothing: it is JSON or it is not.
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "nonsense"]
    {
        let request = call(&world, Method::POST, "/v1/transfers").header("Idempotency-Key", content_type);
        let reply = ask(request.header("Content-Type", content_type).body(good().to_string())).await;
        assert_eq!(reply.status, 201, "{content_type}: {reply:?}");
    }
}

#[tokio::test]
async fn a_key_is_required_plain_and_stands_once() {
    let world = World::start().await;
    let send = |keys: Vec<Vec<u8>>| {
        let mut request = call(&world, Method::POST, "/v1/transfers").json(&good());
        for key in keys {
            request =
                request.header("Idempotency-Key", reqwest::header::HeaderValue::from_bytes(&key).unwrap());
        }
        ask(request)
    };
    let without = send(vec![]).await;
    without.must_be(400, "idempotency_key_required", "none");
    let detail = without.body["detail"].as_str().unwrap();
    assert!(detail.contains("one for each order, the same when you repeat it"), "{detail}");
    for (what, keys) in [
        ("empty", vec![b"".to_vec()]),
        ("too long", vec![vec![b'k'; 256]]),
        ("not ASCII", vec!["ключ".as_bytes().to_vec()]),
        ("a tab", vec![b"a\tb".to_vec()]),
        ("two", vec![b"a".to_vec(), b"b".to_vec()]),
    ] {
        send(keys).await.must_be(400, "idempotency_key_invalid", what);
    }
    assert_eq!(world.rows("transfers").await, 0);
    let (one, same) = (send(vec![vec![b'k'; 255]]).await, send(vec![vec![b'k'; 255]]).await);
    assert_eq!((one.status, same.status, one.body == same.body), (201, 201, true));
    let other = post(&world, &"k".repeat(255), &but("amount", json!(2))).await;
    other.must_be(409, "idempotency_key_reused", "another body");
    assert_eq!(world.rows("transfers").await, 1);
}
