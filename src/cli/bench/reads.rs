//! `GET readiness` by many clients over many stored accounts, beside `pgbench -S`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::api::{self, Api};
use super::figures::{LOAD_US, OF_PGBENCH, P50, P99, P999, PER_S, POSTGRES_US, SERVER_US};
use super::load::{self, Outcome, Pace, within_ms};
use super::payload::Requests;
use super::server::Program;
use super::turn::Meters;
use super::wire::Connection;
use super::{Bench, READERS};
use crate::store::trial;

/// How the measure is called.
pub const READS: &str = "GET readiness, 50 clients";
/// The service.
pub const SERVICE: &str = "GET readiness";
/// `pgbench -S` as it comes.
pub const PLAIN: &str = "pgbench -S";
/// The same with prepared statements.
const PREPARED: &str = "pgbench -S -M prepared";
/// What every account that is read is named by, before ten digits.
const PREFIX: &str = "acct_1Read_";
const PATIENCE: Duration = Duration::from_secs(30);

/// Round by round, turn by turn.
pub async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    store_accounts(bench).await?;
    if let Some(yardsticks) = &bench.yardsticks {
        yardsticks.pgbench.fill().await?;
    }
    for round in 1..=bench.args.rounds {
        bench.say(&format!("GET readiness over {} accounts, round {round}", bench.args.stored));
        let mut plain_per_s = None;
        if let Some(yardsticks) = &bench.yardsticks {
            for (name, prepared) in [(PLAIN, false), (PREPARED, true)] {
                let run = yardsticks.pgbench.selects(READERS, bench.args.length(), prepared).await?;
                let mut add = |figure, value| bench.figures.add(bench.phase, READS, name, figure, value);
                add(PER_S, Some(run.per_s));
                for (figure, share) in [(P50, 0.5), (P99, 0.99), (P999, 0.999)] {
                    add(figure, Some(within_ms(&run.latencies, share)));
                }
                if !prepared {
                    plain_per_s = Some(run.per_s);
                }
            }
        }
        one_turn(bench, plain_per_s).await?;
    }
    Ok(())
}

async fn one_turn(bench: &mut Bench<'_>, plain_per_s: Option<f64>) -> anyhow::Result<()> {
    let roles = Program::Serve("intake,worker,api,console");
    let server = bench.stand.serve(roles, &bench.database.url).await?;
    let reads = || Reads { host: server.address, accounts: bench.args.stored };
    let warm = Pace::Closed(Duration::from_secs(1).min(bench.args.length() / 4));
    load::run(server.address, READERS, warm, reads()).await?;
    let before = Meters::read(bench.stand, &server, &bench.database.pool).await?;
    let pace = Pace::Closed(bench.args.length());
    let outcome = load::run(server.address, READERS, pace, reads()).await?.all_well()?;
    let after = Meters::read(bench.stand, &server, &bench.database.pool).await?;
    let cost = before.cost(&after, outcome.acked);
    server.stop().await?;
    let mut add = |figure, value| bench.figures.add(bench.phase, READS, SERVICE, figure, value);
    add(PER_S, Some(outcome.per_s()));
    add(OF_PGBENCH, plain_per_s.map(|plain| outcome.per_s() / plain));
    keep_latencies(&outcome, &mut add);
    add(SERVER_US, cost.server_us);
    add(POSTGRES_US, cost.postgres_us);
    Ok(())
}

fn keep_latencies(outcome: &Outcome, add: &mut impl FnMut(&'static str, Option<f64>)) {
    for (figure, share) in [(P50, 0.5), (P99, 0.99), (P999, 0.999)] {
        add(figure, Some(outcome.within_ms(share)));
    }
    add(LOAD_US, Some(outcome.cpu.as_secs_f64() * 1e6 / outcome.acked.max(1) as f64));
}

/// One account by an event, as the service stores it; the others like it.
async fn store_accounts(bench: &Bench<'_>) -> anyhow::Result<()> {
    let server = bench.stand.serve(Program::Serve("intake,worker,api,console"), &bench.database.url).await?;
    let (request, account, event) = bench.cast.account_event();
    let answer = Connection::open(server.address).await?.exchange(&request).await?;
    anyhow::ensure!(answer.status == 200, "a delivery was answered {}", answer.status);
    let mut reader = Api::open(server.address).await?;
    let began = Instant::now();
    while reader.source(&account).await?.as_deref() != Some(event.as_str()) {
        anyhow::ensure!(began.elapsed() < PATIENCE, "{event} is not readable {PATIENCE:?} after its 200");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await?;
    let mut conn = bench.database.pool.acquire().await?;
    let count = i64::try_from(bench.args.stored).unwrap_or(i64::MAX);
    trial::multiply_account(&mut conn, &account, PREFIX, count).await?;
    trial::settle(&mut conn).await?;
    Ok(())
}

/// One account after another, at random.
struct Reads {
    host: SocketAddr,
    accounts: u64,
}

impl Requests for Reads {
    fn next(&mut self, into: &mut Vec<u8>) -> bool {
        let account = format!("{PREFIX}{:010}", fastrand::u64(1..=self.accounts));
        into.clear();
        into.extend_from_slice(api::get(self.host, &api::readiness(&account)).as_bytes());
        true
    }
}
