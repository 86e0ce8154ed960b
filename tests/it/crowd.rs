//! Callers who are slow, silent or many: what they may take, and that they keep nobody else waiting.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::domain::network::Network;
use sluicegate::http::{Serving, Tls};
use sluicegate::stripe::client::{Client, ClientConfig};
use sluicegate::stripe::error::FailureKind;
use sluicegate::stripe::rate::Lane;
use sluicegate::stripe::signature::{self, SigningSecret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::audit::log;
use crate::support::events::renewed;
use crate::support::world::{Api, PLATFORM_SECRET, World};

/// Raises this process's limit of open files, of which a thousand connections have two each here.
fn allow_many_files() {
    let pid = std::process::id().to_string();
    let raised = std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=8192:"]).output();
    assert!(raised.unwrap().status.success(), "a thousand connections need 8192 files: raise the hard limit");
}

fn address(world: &World) -> SocketAddr {
    world.api.base.trim_start_matches("http://").parse().unwrap()
}

/// A connection of somebody who wants no answer soon. Each kind owes us, or keeps us waiting, in its own way.
async fn slow(to: SocketAddr, kind: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // Little room on this side, so that an answer that is not read stays on the other.
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let sent: String = match kind % 4 {
        0 => String::new(),
        1 => "POST /webhooks/stripe HTTP/1.1\r\nHost: here\r\nStripe-Sig".to_owned(),
        2 => "POST /webhooks/stripe HTTP/1.1\r\nHost: here\r\nStripe-Signature: t=1,v1=00\r\n\
              Content-Length: 100000\r\n\r\n{"
            .to_owned(),
        _ => "GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n".repeat(60),
    };
    // Who was sent away already may not be written to any more.
    let _ = stream.write_all(sent.as_bytes()).await;
    stream
}

/// How long a delivery over a connection of its own takes until it is answered with 200.
async fn delivered(world: &World) -> Duration {
    let body = serde_json::to_vec(&renewed("topup.created", world.second())).unwrap();
    let secret = SigningSecret::parse(PLATFORM_SECRET).unwrap();
    let header = signature::sign(&body, &secret, world.clock.now().unix_timestamp());
    let started = Instant::now();
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let request = client.post(world.api.url("/webhooks/stripe")).header("Stripe-Signature", header);
    let answer = request.body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    started.elapsed()
}

async fn a_thousand_do_not_matter(most: usize) {
    allow_many_files();
    let world = World::with(|setting| setting.plan.serving.most = most).await;
    let mut crowd = Vec::new();
    for kind in 0..1_000 {
        crowd.push(slow(address(&world), kind).await);
    }
    for more in 0..5 {
        let took = delivered(&world).await;
        assert!(took < Duration::from_secs(1), "answered after {took:?}");
        for kind in 0..20 {
            crowd.push(slow(address(&world), more + kind).await);
        }
    }
    // And whoever comes after them finds the house as it was.
    drop(crowd);
    assert!(delivered(&world).await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_thousand_slow_or_half_open_connections_do_not_keep_a_delivery_from_being_answered_within_a_second()
{
    a_thousand_do_not_matter(4_096).await;
}

#[tokio::test]
async fn nor_do_they_where_not_all_of_them_find_a_seat() {
    a_thousand_do_not_matter(200).await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_left_after_ten_seconds_however_it_trickles() {
    let world = World::start().await;
    let mut stream = slow(address(&world), 1).await;
    let started = Instant::now();
    let mut trickle = tokio::time::interval(Duration::from_millis(250));
    let mut answer = [0; 1];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => {
                assert!(matches!(read, Ok(0) | Err(_)), "nothing is said to it");
                break;
            }
            _ = trickle.tick() => drop(stream.write_all(b"x").await),
        }
        assert!(started.elapsed() < Duration::from_secs(15), "it is still there");
    }
    assert!(started.elapsed() > Duration::from_secs(8), "others may be on a slow line");
}

/// Says this, and reads the status of the answer.
async fn status_of(world: &World, head: String) -> String {
    let mut stream = TcpStream::connect(address(world)).await.unwrap();
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_head_too_long_or_of_too_many_headers_is_refused() {
    let world = World::start().await;
    let end = "Connection: close\r\n\r\n";
    let many = |count| format!("GET /healthz HTTP/1.1\r\n{}{end}", "X-A: b\r\n".repeat(count));
    let long = |path: usize, header: usize| {
        format!("GET /healthz?{} HTTP/1.1\r\nX-A: {}\r\n{end}", "p".repeat(path), "h".repeat(header))
    };
    assert_eq!(status_of(&world, many(90)).await, "HTTP/1.1 200 OK");
    assert_eq!(status_of(&world, many(101)).await, "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(status_of(&world, long(10, 20_000)).await, "HTTP/1.1 200 OK");
    for (path, header) in [(10, 100_000), (100_000, 10)] {
        let status = status_of(&world, long(path, header)).await;
        // Where it goes on sending after the answer, the connection may be reset before that is read.
        assert!(status.contains(" 431 ") || status.is_empty(), "{status}");
    }
    assert_eq!(world.api.get("/healthz").await.0, 200);
}

/// From where the audit log says that a call was refused.
async fn refused_from(world: &World) -> Value {
    let (_, key) = world.api.post("/v1/keys", "k", &json!({"name": "looker", "scope": "read"})).await;
    let looker = world.api.with_key(key["secret"].as_str().unwrap());
    let request = looker.http.post(looker.url("/v1/releases/pause")).bearer_auth(&looker.key);
    let request = request.header("Idempotency-Key", "p").header("X-Forwarded-For", "192.0.2.1, 198.51.100.7");
    assert_eq!(request.send().await.unwrap().status(), 403);
    let rows = log(world).await;
    let refusal = rows.iter().find(|row| row.entry.action == "call.refused").unwrap();
    serde_json::from_str::<Value>(&refusal.entry.details).unwrap()["client"].clone()
}

#[tokio::test]
async fn a_callers_address_is_a_proxys_word_only_where_the_proxy_is_trusted() {
    let strict = World::start().await;
    assert_eq!(refused_from(&strict).await, json!("127.0.0.1"));
    let behind = World::with(|setting| {
        setting.plan.serving.proxies = [Network::parse("127.0.0.0/8").unwrap()].into();
    });
    assert_eq!(refused_from(&behind.await).await, json!("198.51.100.7"));
}

/// The file of a certificate or key that is there for tests.
fn pem(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Whoever trusts this authority alone.
fn trusting(authority: &str, world: &World) -> Api {
    let authority = reqwest::Certificate::from_pem(&std::fs::read(pem(authority)).unwrap()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    Api { http, ..world.api.clone() }
}

/// Whoever stands where Stripe should, with a certificate that this machine's authorities did not sign, is told nothing.
async fn not_taken_for_stripe(world: &World) {
    let somebody = ClientConfig { base: world.api.base.clone(), ..world.plan.stripe.clone() };
    let client = Client::new(somebody).unwrap();
    let refused = client.own_account(Lane::Release).await.unwrap_err();
    assert_eq!(refused.failure().kind, FailureKind::NotSent, "{refused}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[tokio::test]
async fn https_is_served_and_a_renewed_certificate_taken_up() {
    let folder = std::env::temp_dir().join(format!("sgt-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let put = |which: &str| {
        std::fs::copy(pem(&format!("{which}.cert.pem")), &cert).unwrap();
        std::fs::copy(pem(&format!("{which}.key.pem")), &key).unwrap();
    };
    put("first");
    let tls = Tls::load(&cert, &key).unwrap();
    let serving = Serving { tls: Some(tls.clone()), ..Serving::default() };
    let world = World::with(|setting| setting.plan.serving = serving).await;
    assert!(world.api.base.starts_with("https://127.0.0.1:"), "{}", world.api.base);
    assert_eq!(trusting("first.ca.pem", &world).get("/readyz").await.0, 200);
    let asked = trusting("second.ca.pem", &world).http.get(world.api.url("/readyz")).send().await;
    assert!(asked.is_err(), "that authority knows nothing of it");
    not_taken_for_stripe(&world).await;

    assert!(!tls.renew().unwrap(), "nothing is new");
    std::fs::copy(pem("second.cert.pem"), &cert).unwrap();
    tls.renew().expect_err("half of a pair");
    assert_eq!(trusting("first.ca.pem", &world).get("/readyz").await.0, 200);
    put("second");
    assert!(tls.renew().unwrap());
    assert_eq!(trusting("second.ca.pem", &world).get("/readyz").await.0, 200);
    std::fs::remove_dir_all(folder).unwrap();
}
