//! `/v1/accounts/{acct}/readiness` under load: 100,000 accounts stored, fifty clients that ask again as soon as they
//! were answered, with the service, the database and the clients on one machine.
//!
//! `cargo bench --bench readiness`; ends with 1 where the slowest hundredth of the answers took 10 ms or longer. The
//! database is DATABASE_URL's (a fresh one), else a private cluster that goes away again.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot go on has failed")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sluicegate::cli::service::{self, Plan, Roles};
use sluicegate::clock::Clock;
use sluicegate::domain::account::Policy;
use sluicegate::domain::limits::{Limits, ReleaseOrder};
use sluicegate::domain::topup::Rule;
use sluicegate::embedded::{self, Cluster, DATABASE, Durability, Options};
use sluicegate::stripe::client::ClientConfig;
use sluicegate::worker::driver;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ACCOUNTS: u64 = 100_000;
const CLIENTS: usize = 50;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
const GOAL: Duration = Duration::from_millis(10);
const KEY: &str = "a-key-of-32-characters-or-more-for-this";

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("nobody installed one before");
    let (cluster, url, dir) = database();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut took = runtime.block_on(measure(&url));
    drop(runtime);
    drop(cluster);
    if let Some(dir) = dir {
        let _ = embedded::remove_unused(&dir);
    }
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let rate = took.len() as f64 / MEASURED.as_secs_f64();
    println!("{} answers from {ACCOUNTS} accounts to {CLIENTS} clients: {rate:.0} a second", took.len());
    println!(
        "p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    if at(0.99) >= GOAL {
        println!("p99 is not below {GOAL:?}");
        std::process::exit(1);
    }
}

fn database() -> (Option<Cluster>, String, Option<PathBuf>) {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return (None, url, None);
    }
    let dir = std::env::temp_dir().join(format!("sluicegate-bench-{}", std::process::id()));
    let cluster = embedded::start(Options {
        data_dir: dir.clone(),
        pg_bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::Durable,
        allow_fetch: true,
        say: Box::new(|line| eprintln!("{line}")),
    });
    let cluster = cluster.expect("a private Postgres starts");
    let url = cluster.url(DATABASE);
    (Some(cluster), url, Some(dir))
}

/// What each answer took.
async fn measure(url: &str) -> Vec<Duration> {
    let sandbox = sluicegate::sandbox::start(sluicegate::sandbox::Config::default()).await.unwrap();
    let service = service::start(plan(url, sandbox.url()), Clock::system()).await.unwrap();
    fill(url).await;
    let address = service.url().trim_start_matches("http://").to_owned();
    let begin = Instant::now() + WARM_UP;
    // Apart from the service's threads, as other machines would be.
    let clients = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clients = (0..CLIENTS as u64).map(|seed| client(address.clone(), seed, begin));
            let took = futures_util::future::join_all(clients).await;
            took.concat()
        })
    });
    let took = tokio::task::spawn_blocking(move || clients.join().unwrap()).await.unwrap();
    service.stop().await;
    took
}

fn plan(url: &str, stripe: String) -> Plan {
    Plan {
        database_url: url.to_owned(),
        connections: 10,
        listen: "127.0.0.1:0".parse().unwrap(),
        ops_listen: None,
        public_url: None,
        admin_key: Some(KEY.to_owned().into()),
        stripe: ClientConfig {
            base: stripe,
            secret_key: "sk_test_bench".to_owned().into(),
            rate_per_s: 0,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        },
        livemode: false,
        webhook_secrets: Vec::new(),
        tolerance: Duration::from_secs(300),
        policy: Policy::default(),
        rule: Rule::default(),
        max_age: Duration::from_secs(24 * 60 * 60),
        grace: Duration::from_secs(600),
        source_type: None,
        funds_since: None,
        limits: Limits::default(),
        release_order: ReleaseOrder::default(),
        reconcile_every: None,
        backfill_every: None,
        retention: service::RETENTION,
        roles: Roles::ALL,
        serving: sluicegate::http::Serving::default(),
        worker: driver::Settings::default(),
    }
}

/// Accounts of which a third is not ready.
async fn fill(url: &str) {
    let pool = PgPool::connect(url).await.unwrap();
    let sql = "insert into accounts (account, livemode, known, details_submitted, charges_enabled, payouts_enabled,
            transfers_capability, requirements, country, default_currency, as_of, source, standing_at, standing_by,
            standing_seq, doubted, ready, reasons, first_seen, updated_at)
        select 'acct_' || n, false, true, true, n % 3 > 0, true, 'active',
            '{\"currently_due\": [\"individual.verification.document\"], \"past_due\": [], \"eventually_due\": []}',
            'US', 'usd', now(), 'evt_' || n, now(), 'event', n, false, n % 3 > 0,
            case when n % 3 > 0 then '{}'::text[] else '{charges_disabled}' end, now(), now()
        from generate_series(1, $1) n on conflict do nothing";
    sqlx::query(sql).bind(ACCOUNTS as i64).execute(&pool).await.unwrap();
    sqlx::query("vacuum analyze accounts").execute(&pool).await.unwrap();
    pool.close().await;
}

/// Asks about one account after the other over one connection until the time is up.
async fn client(address: String, seed: u64, begin: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut took = Vec::new();
    let mut answer = Vec::with_capacity(4_096);
    while begin.elapsed() < MEASURED {
        let account = 1 + random.u64(0..ACCOUNTS);
        let request = format!(
            "GET /v1/accounts/acct_{account}/readiness HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        );
        let started = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream, &mut answer).await;
        let ended = Instant::now();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        if started >= begin {
            took.push(ended - started);
        }
    }
    took
}

/// Reads one answer whole: its head, and as much as that announces.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    answer.clear();
    loop {
        assert!(stream.read_buf(answer).await.unwrap() > 0, "the service hung up");
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if answer.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return;
        }
    }
}
