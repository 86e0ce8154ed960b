//! From 200 to readable: an event is delivered, and readiness is asked for until it shows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::api::Api;
use super::figures::{P50, P99};
use super::load::{self, Pace, within_ms};
use super::payload::Cast;
use super::server::Program;
use super::turn::{self, Subject};
use super::wire::Connection;
use super::{Bench, OPEN_CONNECTIONS, throughput};
use crate::store::trial;

/// How the measures are called.
pub const IDLE: &str = "200 to readable, idle";
/// At half of the best of the closed loop.
pub const HALF_LOAD: &str = "200 to readable, at half load";
/// How many events were followed.
const FOLLOWED: &str = "events";
/// The accounts that are followed, apart from those of the load.
const ACCOUNTS: u64 = 200;
/// Between two events that are followed.
const PAUSE: Duration = Duration::from_millis(25);
/// An event that is not readable after this is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Idle and at half load, round by round.
pub async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let half_load = throughput::half_load(bench, Subject::Whole).await?;
    let followed = Cast::new(ACCOUNTS)?;
    for round in 1..=bench.args.rounds {
        bench.say(&format!("200 to readable, round {round}"));
        let roles = Program::Serve("intake,worker,api,console");
        let server = bench.stand.serve(roles, &bench.database.url).await?;
        let length = bench.args.length();
        let idle = follow(server.address, Arc::clone(&followed), length).await?;
        keep(bench, IDLE, idle);
        let count = (half_load * (length + PAUSE).as_secs_f64()).ceil() as u64;
        let deliveries = bench.cast.deliveries(count + 1);
        let load = load::run(server.address, OPEN_CONNECTIONS, Pace::Constant(half_load, length), deliveries);
        let following = follow(server.address, Arc::clone(&followed), length);
        let (load, loaded) = tokio::try_join!(load, following)?;
        load.all_well()?;
        keep(bench, HALF_LOAD, loaded);
        turn::until_applied(&bench.database.pool, PATIENCE).await?;
        server.stop().await?;
        trial::clear_bells(&mut *bench.database.pool.acquire().await?).await?;
    }
    Ok(())
}

fn keep(bench: &mut Bench<'_>, measure: &str, mut latencies: Vec<u32>) {
    latencies.sort_unstable();
    let mut add =
        |name, value| bench.figures.add(bench.phase, measure, Subject::Whole.name(), name, Some(value));
    add(P50, within_ms(&latencies, 0.5));
    add(P99, within_ms(&latencies, 0.99));
    add(FOLLOWED, latencies.len() as f64);
}

/// Follows one event after another, on a thread of its own: microseconds from the 200 until the first answer that shows
/// the event was there.
async fn follow(address: SocketAddr, cast: Arc<Cast>, length: Duration) -> anyhow::Result<Vec<u32>> {
    let (done, ended) = oneshot::channel();
    let on_its_own = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let followed = runtime
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(follow_all(address, &cast, length)));
        let _ = done.send(followed);
    };
    std::thread::Builder::new().name("follower".to_owned()).spawn(on_its_own)?;
    ended.await.context("the follower ended without an outcome")?
}

async fn follow_all(address: SocketAddr, cast: &Arc<Cast>, length: Duration) -> anyhow::Result<Vec<u32>> {
    let (mut sender, mut reader) = (Connection::open(address).await?, Api::open(address).await?);
    let (began, mut latencies) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let (request, account, event) = cast.account_event();
        let answer = sender.exchange(&request).await?;
        anyhow::ensure!(answer.status == 200, "a delivery was answered {}", answer.status);
        let acked = Instant::now();
        // One that takes longer is counted with what it took so far: it was stored, and a worker that is far behind is
        // what the figure is there to show.
        while reader.source(&account).await?.as_deref() != Some(event.as_str()) && acked.elapsed() < PATIENCE
        {
        }
        latencies.push(u32::try_from(acked.elapsed().as_micros()).unwrap_or(u32::MAX));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(latencies)
}
