//! The client against a server that keeps to a script: what goes over the wire, and what each way to fail means.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::API_VERSION;
use super::client::{Answer, BuildError, Client, ClientConfig, Lane, TransferQuery};
use super::error::{FailureKind, StripeError};
use super::wire::Transfer;
use crate::domain::ids::{AccountId, StripeTransferId, TopupId};

const KEY: &str = "sk_test_neverShown4eC39HqLyjWD";
const TRANSFER: &str = r#"{"id":"tr_1","object":"transfer","amount":1000,"amount_reversed":0,"currency":"usd",
    "destination":"acct_1","livemode":false}"#;

/// What the server does with one request.
enum Reply {
    /// Status, further header lines, body.
    Say(u16, &'static str, String),
    /// Reads the request, then closes.
    Close,
    /// Announces more of the body than it sends.
    Cut(&'static str),
    /// Reads the request and says nothing.
    Silence(Duration),
}

/// A request as it came: the head's first line, the header by lower-case name, the body.
#[derive(Debug)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        (stream.read(&mut byte).ok()? == 1).then(|| bytes.push(byte[0]))?;
    }
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()));
    let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { line, headers, body: String::from_utf8(body).ok()? })
}

/// Serves one connection a reply, in order, and hands back what was asked.
fn server(replies: Vec<Reply>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let Some(request) = read_request(&mut stream) else { continue };
            let _ = asked.send(request);
            let _ = match reply {
                Reply::Say(status, headers, body) => write!(
                    stream,
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                ),
                Reply::Close => Ok(()),
                Reply::Cut(part) => {
                    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{part}")
                }
                Reply::Silence(time) => {
                    std::thread::sleep(time);
                    Ok(())
                }
            };
        }
    });
    (base, requests)
}

fn say(status: u16, body: impl Into<String>) -> Reply {
    Reply::Say(status, "", body.into())
}

fn config(base: &str) -> ClientConfig {
    ClientConfig {
        base: base.to_owned(),
        secret_key: SecretString::from(KEY),
        rate_per_s: 0,
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(5),
    }
}

fn client(base: &str) -> Client {
    Client::new(config(base)).unwrap()
}

/// Sends a transfer as soon as it may go.
async fn send(client: &Client, body: &str, key: &str) -> Result<Answer<Transfer>, StripeError> {
    let turn = client.turn(Lane::Release).await.unwrap();
    client.create_transfer(turn, body, key).await
}

/// Sends a transfer against one reply and gives back how it failed.
async fn post_fails(reply: Reply) -> StripeError {
    let (base, _requests) = server(vec![reply]);
    send(&client(&base), "amount=1", "xfer_1.1").await.unwrap_err()
}

#[tokio::test]
async fn a_transfer_goes_out_byte_for_byte_under_the_pinned_version() {
    let headers = "request-id: req_7\r\nidempotent-replayed: true\r\n";
    let (base, requests) = server(vec![Reply::Say(200, headers, TRANSFER.into())]);
    let body = "amount=1000&metadata[sluicegate_transfer]=xfer_1&description=%20+%C3%A4&amount=1";
    let answer = send(&client(&format!("{base}/")), body, "xfer_1.1").await.unwrap();
    assert_eq!((answer.object.id.as_str(), answer.object.amount), ("tr_1", 1000));
    assert_eq!(answer.raw, TRANSFER);
    assert_eq!((answer.request_id.as_deref(), answer.replayed), (Some("req_7"), true));
    let request = requests.recv().unwrap();
    assert_eq!(request.line, "POST /v1/transfers HTTP/1.1");
    assert_eq!(request.body, body);
    for (name, value) in [
        ("stripe-version", API_VERSION),
        ("authorization", &format!("Bearer {KEY}")),
        ("idempotency-key", "xfer_1.1"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("user-agent", concat!("sluicegate/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(request.headers.get(name).map(String::as_str), Some(value));
    }
}

#[tokio::test]
async fn a_broken_exchange_leaves_the_outcome_of_a_transfer_unknown() {
    let huge = " ".repeat(8 * 1024 * 1024 + 1);
    for (name, reply) in [
        ("closed", Reply::Close),
        ("cut", Reply::Cut(r#"{"id":"tr_1","#)),
        ("page", say(200, "<html>welcome</html>")),
        ("empty", say(200, "")),
        ("not text", say(200, "\u{0}")),
        ("no amount", say(200, r#"{"id":"tr_1"}"#)),
        ("too long", say(200, huge)),
        ("elsewhere", Reply::Say(307, "location: http://127.0.0.1:9/\r\n", TRANSFER.into())),
        ("gateway", say(502, "<html>Bad Gateway</html>")),
        ("proxy", say(403, "<html>Forbidden</html>")),
    ] {
        let error = post_fails(reply).await;
        let StripeError::Unknown(failure) = error else { panic!("{name}: {error}") };
        assert_eq!(failure.kind, FailureKind::NoAnswer, "{name}: {failure}");
    }
}

#[tokio::test]
async fn a_timeout_leaves_the_outcome_unknown() {
    let (base, _requests) = server(vec![Reply::Silence(Duration::from_secs(2))]);
    let client = Client::new(ClientConfig { timeout: Duration::from_millis(100), ..config(&base) }).unwrap();
    let began = Instant::now();
    let error = send(&client, "amount=1", "xfer_1.1").await.unwrap_err();
    assert!(matches!(&error, StripeError::Unknown(f) if f.kind == FailureKind::NoAnswer), "{error}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn what_never_left_may_be_sent_again() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for base in [format!("http://{unused}"), format!("https://{unused}")] {
        let error = send(&client(&base), "amount=1", "xfer_1.1").await.unwrap_err();
        assert!(matches!(&error, StripeError::Retry(f) if f.kind == FailureKind::NotSent), "{error}");
    }
    // A server that never gets through the TLS handshake: nothing of the request was sent.
    let (base, _requests) = server(vec![Reply::Close]);
    let connect_timeout = Duration::from_millis(200);
    let hasty = ClientConfig { connect_timeout, ..config(&base.replace("http:", "https:")) };
    let error = send(&Client::new(hasty).unwrap(), "a=1", "k").await.unwrap_err();
    assert!(matches!(&error, StripeError::Retry(f) if f.kind == FailureKind::NotSent), "{error}");
    // Nor is anything sent that would wait too long for its turn.
    let slow =
        ClientConfig { rate_per_s: 1, timeout: Duration::from_millis(200), ..config("http://127.0.0.1:9") };
    let client = Client::new(slow).unwrap();
    client.set_share(100);
    let _ = send(&client, "a=1", "k").await;
    assert!(client.turn(Lane::Release).await.is_none());
    let error = client.post::<Transfer>("/v1/transfers", "a=1", "k").await.unwrap_err();
    assert!(error.to_string().contains("no turn"), "{error}");
    assert!(matches!(error, StripeError::Retry(_)));
}

#[tokio::test]
async fn each_known_error_is_sorted_for_money_and_for_reading() {
    let text = include_str!("../../tests/fixtures/stripe/api/errors.json");
    let answers: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    for (name, answer) in answers {
        let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
        let body = answer["body"].to_string();
        let error = post_fails(say(status, body.clone())).await;
        let (post, get) = match name.as_str() {
            "400_idempotency_params_differ" => ("unknown", "refused"),
            name if name.starts_with("409") || name.starts_with('5') => ("unknown", "retry"),
            name if name.starts_with("429") => ("retry", "retry"),
            _ => ("refused", "refused"),
        };
        assert_eq!(word(&error), post, "{name}: {error}");
        let (base, requests) = server((0..3).map(|_| say(status, body.clone())).collect());
        let error = client(&base).balance(Lane::Sweep).await.unwrap_err();
        assert_eq!(word(&error), get, "{name}: {error}");
        assert_eq!(requests.try_iter().count(), if get == "retry" { 3 } else { 1 }, "{name}");
    }
}

fn word(error: &StripeError) -> &'static str {
    match error {
        StripeError::Retry(_) => "retry",
        StripeError::Refused(_) => "refused",
        StripeError::Unknown(_) => "unknown",
    }
}

#[tokio::test]
async fn a_reading_obeys_what_stripe_says_about_trying_again() {
    let balance = r#"{"object":"balance","available":[],"pending":[],"livemode":false}"#;
    let error = |kind: &str| format!(r#"{{"error":{{"type":"{kind}"}}}}"#);
    let no = Reply::Say(500, "stripe-should-retry: false\r\n", error("api_error"));
    let (base, requests) = server(vec![no]);
    assert!(client(&base).balance(Lane::Release).await.is_err());
    assert_eq!(requests.iter().count(), 1);

    let yes = Reply::Say(400, "stripe-should-retry: true\r\n", error("invalid_request_error"));
    let (base, _requests) = server(vec![yes, Reply::Close, say(200, balance)]);
    assert!(client(&base).balance(Lane::Release).await.is_ok());

    let later = Reply::Say(429, "retry-after: 3\r\n", error("invalid_request_error"));
    let (base, _requests) = server(vec![later]);
    let failed = client(&base).balance(Lane::Release).await.unwrap_err();
    assert_eq!(failed.failure().retry_after, Some(Duration::from_secs(3)));

    let soon = Reply::Say(429, "retry-after: 1\r\n", error("invalid_request_error"));
    let (base, _requests) = server(vec![soon, say(200, balance)]);
    let began = Instant::now();
    assert!(client(&base).balance(Lane::Release).await.is_ok());
    assert!(began.elapsed() >= Duration::from_secs(1));
}

fn page(ids: &[&str], has_more: bool) -> Reply {
    let transfer = |id: &&str| {
        let mut transfer: Value = serde_json::from_str(TRANSFER).unwrap();
        transfer["id"] = json!(id);
        transfer
    };
    let data: Vec<_> = ids.iter().map(transfer).collect();
    say(200, json!({"object": "list", "data": data, "has_more": has_more}).to_string())
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page_or_not_at_all() {
    let query = TransferQuery {
        transfer_group: Some("xfer 1".into()),
        destination: AccountId::parse("acct_1").ok(),
        created_gte: Some(1_760_000_000),
    };
    let pages = vec![page(&["tr_5", "tr_4"], true), page(&["tr_3", "tr_2"], true), page(&["tr_1"], false)];
    let (base, requests) = server(pages);
    let found = client(&base).list_transfers(Lane::Release, &query).await.unwrap();
    let ids: Vec<_> = found.iter().map(|item| item.object.id.as_str()).collect();
    assert_eq!(ids, ["tr_5", "tr_4", "tr_3", "tr_2", "tr_1"]);
    let lines: Vec<_> = requests.iter().map(|request| request.line).collect();
    let first = "created[gte]=1760000000&destination=acct_1&limit=100";
    let last = "transfer_group=xfer%201 HTTP/1.1";
    assert_eq!(lines[0], format!("GET /v1/transfers?{first}&{last}"));
    assert_eq!(lines[1], format!("GET /v1/transfers?{first}&starting_after=tr_4&{last}"));
    assert_eq!(lines[2], format!("GET /v1/transfers?{first}&starting_after=tr_2&{last}"));

    let all = TransferQuery::default();
    let (base, _requests) = server(vec![page(&[], true)]);
    assert!(client(&base).list_transfers(Lane::Sweep, &all).await.is_err());
    let (base, _requests) = server(vec![page(&["tr_1"], true), page(&["not a transfer"], false)]);
    assert!(client(&base).list_transfers(Lane::Sweep, &all).await.is_err());
    let (base, _requests) = server(vec![page(&["tr_2"], true), page(&["tr_1"], true)]);
    let cut = client(&base).list_all::<Value>(Lane::Sweep, "/v1/events", &Value::Null, 2).await;
    assert!(matches!(cut, Err(StripeError::Retry(_))));
}

#[tokio::test]
async fn the_other_calls_go_where_stripe_wants_them() {
    let topup = r#"{"id":"tu_1","amount":5,"currency":"usd","status":"canceled"}"#;
    let account = r#"{"id":"acct_1","object":"account"}"#;
    let link = r#"{"object":"account_link","url":"https://connect.stripe.com/setup/e/once","expires_at":1}"#;
    let reversal = r#"{"id":"trr_1","amount":5,"currency":"usd","transfer":"tr_1"}"#;
    let booking = r#"{"id":"txn_1","amount":5,"net":5,"fee":0,"currency":"usd","status":"pending"}"#;
    let bodies = [account, topup, booking, TRANSFER, topup, account, link, reversal, topup];
    let (base, requests) = server(bodies.into_iter().map(|body| say(200, body)).collect());
    let client = client(&base);
    let topup_id = TopupId::parse("tu_1").unwrap();
    let transfer_id = StripeTransferId::parse("tr_1").unwrap();
    client.account(Lane::Release, &AccountId::parse("acct_1").unwrap()).await.unwrap();
    client.topup(Lane::Release, &topup_id).await.unwrap();
    client.balance_transaction(Lane::Sweep, "txn_1").await.unwrap();
    client.transfer(Lane::Sweep, &transfer_id).await.unwrap();
    client.cancel_topup(&topup_id, "k").await.unwrap();
    client.create_account(&json!({"type": "express"}), "k").await.unwrap();
    let answer = client.create_account_link(&json!({"account": "acct_1"}), "k").await.unwrap();
    assert!(!format!("{answer:?}").contains("once"));
    client.create_reversal(&transfer_id, "amount=5", "k").await.unwrap();
    client.create_topup("amount=5", "k").await.unwrap();
    let lines: Vec<_> =
        requests.iter().take(9).map(|request| request.line.replace(" HTTP/1.1", "")).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/accounts/acct_1",
            "GET /v1/topups/tu_1?expand[0]=balance_transaction",
            "GET /v1/balance_transactions/txn_1",
            "GET /v1/transfers/tr_1",
            "POST /v1/topups/tu_1/cancel",
            "POST /v1/accounts",
            "POST /v1/account_links",
            "POST /v1/transfers/tr_1/reversals",
            "POST /v1/topups",
        ]
    );
}

#[tokio::test]
async fn nothing_is_sent_that_would_go_astray() {
    let client = client("http://127.0.0.1:9");
    for id in ["", "../accounts", "txn_1?expand=x", "txn_1#", "txn_1/", "a//b", "%2e"] {
        let error = client.balance_transaction(Lane::Release, id).await.unwrap_err();
        assert!(matches!(error, StripeError::Refused(_)), "{id}: {error}");
    }
    for key in ["", "two words", "line\r\nbreak", &"x".repeat(256)] {
        let error = send(&client, "amount=1", key).await.unwrap_err();
        assert!(matches!(error, StripeError::Refused(_)), "{key}: {error}");
    }
}

#[tokio::test]
async fn the_key_is_shown_nowhere() {
    let (base, _requests) = server(vec![]);
    assert!(!format!("{:?} {:?}", client(&base), config(&base)).contains(KEY));
    let echo = json!({"error": {"type": "invalid_request_error", "message": format!("bad key {KEY}")}});
    let error = post_fails(say(401, echo.to_string())).await;
    assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    let error = post_fails(Reply::Close).await;
    assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
}

#[test]
fn a_base_or_key_that_cannot_be_right_makes_no_client() {
    let made = |base: &str, key: &str| {
        Client::new(ClientConfig { secret_key: SecretString::from(key), ..config(base) }).map(|_| ())
    };
    for base in ["", "api.stripe.com", "ftp://x", "https://u:p@x", "https://x/?a", "https://x/#a", "http://"]
    {
        assert!(matches!(made(base, KEY), Err(BuildError::Base)), "{base}");
    }
    for key in ["", " ", "sk_test_1\n", "sk test", "sk_test_ä"] {
        assert!(matches!(made("https://x", key), Err(BuildError::Key)), "{key:?}");
    }
    assert!(matches!(made("http://sandbox:1", "sk_live_1"), Err(BuildError::LiveInClear)));
    for fine in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "https://api.stripe.com"] {
        assert!(made(fine, "sk_live_1").is_ok(), "{fine}");
    }
    assert!(made("http://sandbox:1", KEY).is_ok());
}
