//! Transfers released a second against a stand-in that answers at once, and whether the books agree afterwards.
//!
//! All are ordered while releases are paused; the clock runs from the resumption until the last one is on record.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::api::{self, Api};
use super::figures::{PER_S, POSTGRES_US, SERVER_US};
use super::load::{self, Pace};
use super::payload::{Requests, SECRET};
use super::server::{Program, Server};
use super::turn::{Meters, Subject, until_applied};
use super::{Bench, EMPTY};
use crate::domain::account::Policy;
use crate::domain::topup::Rule;
use crate::flows::rebuild::{self, Rules};
use crate::sandbox::{self, Control, Delivery, Sandbox};
use crate::store::trial;

/// How the measure is called.
pub const RELEASES: &str = "transfers released, stand-in without delay";
/// How many of the rounds ended with books that agree.
pub const BOOKS: &str = "books right";

const ACCOUNTS: usize = 100;
const AMOUNT_MINOR: i64 = 1_000;
/// How many orders are placed side by side.
const ORDERING: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Round by round, on a database of its own as long as that is empty: then what is held can be rebuilt from what was
/// kept. On a filled table it can't, since the past was never applied there.
pub async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    for round in 1..=bench.args.rounds {
        bench.say(&format!("{} transfers, round {round}", bench.args.transfers));
        if bench.phase == EMPTY {
            let own = bench.stand.database(&format!("releases_{round}")).await?;
            one_round(bench, &own.url, &own.pool, true).await?;
            bench.stand.drop(own).await?;
        } else {
            let (url, pool) = (bench.database.url.clone(), bench.database.pool.clone());
            one_round(bench, &url, &pool, false).await?;
        }
    }
    Ok(())
}

async fn one_round(bench: &mut Bench<'_>, url: &str, pool: &PgPool, rebuildable: bool) -> anyhow::Result<()> {
    // What it gave out must not be given out again: the database may have met another.
    let stripe = sandbox::start(sandbox::Config {
        seed: fastrand::u64(..),
        settle_after: Duration::MAX,
        available_after: Duration::MAX,
        deliver: Delivery { concurrency: 4, ..Delivery::default() },
        ..sandbox::Config::default()
    })
    .await?;
    let server = Server::start(Program::Unlimited, url, &stripe.url(), &bench.stand.folder).await?;
    let released_before = trial::count_released(&mut *pool.acquire().await?).await?;
    order(bench, &server, &stripe, pool).await?;

    let before = Meters::read(bench.stand, &server, pool).await?;
    let began = Instant::now();
    Api::open(server.address).await?.post("/v1/releases/resume", &fresh_key(), "{}").await?;
    let all = released_before + i64::try_from(bench.args.transfers).unwrap_or(i64::MAX);
    let released = until_released(pool, all).await? - released_before;
    let took = began.elapsed();
    let after = Meters::read(bench.stand, &server, pool).await?;
    let cost = before.cost(&after, u64::try_from(released).unwrap_or(0));
    anyhow::ensure!(
        stripe.control().delivered(PATIENCE).await && until_applied(pool, PATIENCE).await?,
        "the events about the transfers were not delivered and applied within {PATIENCE:?}"
    );
    let right = books(&stripe.control(), pool, released, rebuildable).await?;
    server.stop().await?;
    stripe.stop().await;
    if released_before + released < all {
        bench.figures.note(format!("{released} of {} transfers went out in {took:?}", bench.args.transfers));
    }
    let mut add = |name, value| bench.figures.add(bench.phase, RELEASES, Subject::Whole.name(), name, value);
    add(PER_S, Some(released as f64 / took.as_secs_f64()));
    add(SERVER_US, cost.server_us);
    add(POSTGRES_US, cost.postgres_us);
    add(BOOKS, Some(if right { 1.0 } else { 0.0 }));
    if right { Ok(()) } else { anyhow::bail!("the books do not agree") }
}

/// Ready accounts, settled money, a pause, and the transfers, decided upon but for the pause.
async fn order(bench: &Bench<'_>, server: &Server, stripe: &Sandbox, pool: &PgPool) -> anyhow::Result<()> {
    let control = stripe.control();
    let webhooks = format!("{}/webhooks/stripe", server.url());
    control.add_endpoint(&webhooks, SECRET, false)?;
    control.add_endpoint(&webhooks, SECRET, true)?;
    let accounts: Vec<String> = (0..ACCOUNTS).map(|_| control.create_ready_account()).collect();
    let count = bench.args.transfers;
    let money = AMOUNT_MINOR * i64::try_from(count).context("so many transfers")?;
    let mut api = Api::open(server.address).await?;
    let had = available(&mut api).await?;
    let topup = control.create_topup("usd", money);
    control.make_available(&topup)?;
    for account in &accounts {
        until("an account is ready", async || {
            let readiness: Option<Value> = api.get(&api::readiness(account)).await?;
            Ok(readiness.is_some_and(|readiness| readiness["ready"] == json!(true)))
        })
        .await?;
    }
    until("the top-up has settled", async || Ok(available(&mut api).await? >= had + money)).await?;
    api.post("/v1/releases/pause", &fresh_key(), r#"{"reason":"bench"}"#).await?;
    let orders = Orders { host: server.address, accounts, run: fastrand::u64(..), left: count };
    let ordered = load::run(server.address, ORDERING, Pace::Through(PATIENCE), orders).await?.all_well()?;
    anyhow::ensure!(ordered.acked == count, "of {count} transfers {} were ordered", ordered.acked);
    until("every transfer is decided upon", async || {
        Ok(!trial::is_busy(&mut *pool.acquire().await?, OffsetDateTime::now_utc()).await?)
    })
    .await
}

/// A repeated key would be answered as before, and nothing would happen.
fn fresh_key() -> String {
    format!("bench-{:016x}", fastrand::u64(..))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds().await? {
        anyhow::ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Money that may be released, in minor units.
async fn available(api: &mut Api) -> anyhow::Result<i64> {
    let funds: Value = api.get("/v1/funds").await?.context("there are funds")?;
    let usd = funds["data"].as_array().and_then(|all| all.iter().find(|one| one["currency"] == json!("usd")));
    Ok(usd.and_then(|usd| usd["available"].as_i64()).unwrap_or(0))
}

async fn until_released(pool: &PgPool, all: i64) -> anyhow::Result<i64> {
    let began = Instant::now();
    loop {
        let released = trial::count_released(&mut *pool.acquire().await?).await?;
        if released >= all || began.elapsed() > PATIENCE {
            return Ok(released);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Stripe's side has each transfer once and of its amount; ours follows from what was kept.
async fn books(control: &Control, pool: &PgPool, released: i64, rebuildable: bool) -> anyhow::Result<bool> {
    let theirs = control.books().transfers;
    let ours = |metadata: &serde_json::Map<String, Value>| metadata.get("sluicegate_transfer").cloned();
    let distinct: BTreeSet<String> =
        theirs.iter().filter_map(|transfer| Some(ours(&transfer.metadata)?.to_string())).collect();
    let once = distinct.len() == theirs.len() && i64::try_from(theirs.len()).ok() == Some(released);
    let amounts =
        theirs.iter().all(|transfer| transfer.amount == AMOUNT_MINOR && transfer.amount_reversed == 0);
    let mut follows = true;
    if rebuildable {
        let rules = Rules { policy: Policy::default(), rule: Rule::default() };
        let report = rebuild::check(pool, &rules).await?;
        for difference in &report.told {
            let (subject, field) = (&difference.subject, &difference.field);
            eprintln!("{subject}: {field} is {}, and follows as {}", difference.held, difference.rebuilt);
        }
        follows = report.differences == 0;
    }
    Ok(once && amounts && follows)
}

/// One order after another.
struct Orders {
    host: SocketAddr,
    accounts: Vec<String>,
    run: u64,
    left: u64,
}

impl Requests for Orders {
    fn next(&mut self, into: &mut Vec<u8>) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let place = usize::try_from(left).unwrap_or(0) % self.accounts.len().max(1);
        let body =
            json!({"destination": self.accounts.get(place), "amount": AMOUNT_MINOR, "currency": "usd"});
        let key = format!("bench-{:016x}-{left}", self.run);
        into.clear();
        into.extend_from_slice(api::post(self.host, "/v1/transfers", &key, &body.to_string()).as_bytes());
        true
    }
}
