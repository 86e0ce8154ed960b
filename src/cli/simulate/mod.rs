//! `simulate`: the whole service, as real processes, under everything a network, a process and Stripe can do.
//!
//! Each seed is a run of its own, with replicas, a Postgres and a stand-in for Stripe; the same story is then told
//! without any mishap, and both must end alike. What must hold at any moment is judged by Stripe's side.

mod ending;
mod judge;
mod mess;
mod mishaps;
mod play;
pub mod replica;
mod schedule;
mod stage;
mod story;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::schedule::Schedule;
use self::stage::Stage;
use super::output::Output;
use crate::planted::Bug;
use crate::store::inspect;

/// Runs side by side: they mostly wait.
const SIDE_BY_SIDE: usize = 8;

/// What the command is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which runs, like 1..200, both ends included; or one, like 17
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: RangeInclusive<u64>,
    /// Replicas of the service in each run, 1 to 9
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    replicas: u8,
    /// Runs side by side, each with a Postgres of its own
    #[arg(long, default_value_t = SIDE_BY_SIDE)]
    side_by_side: usize,
    /// Where the replicas' logs of runs that failed are kept
    #[arg(long, value_name = "FOLDER", default_value = "simulated")]
    logs: PathBuf,
    /// Stop everything once a run has failed
    #[arg(long)]
    fail_fast: bool,
    /// A bug to plant in the replicas of a debug build
    #[arg(long, hide = true, value_parser = planted)]
    planted: Option<String>,
    /// The folder of initdb and postgres
    #[arg(long)]
    pg_bin_dir: Option<PathBuf>,
    /// How to show the result; a table on a terminal, else JSON
    #[arg(long, value_enum)]
    output: Option<Output>,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| "is written A..B, like 1..200".to_owned());
    match text.split_once("..") {
        None => number(text).map(|seed| seed..=seed),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
            if first <= last { Ok(first..=last) } else { Err("the first seed comes first".to_owned()) }
        }
    }
}

fn planted(name: &str) -> Result<String, String> {
    if !cfg!(debug_assertions) {
        return Err("bugs can be planted in debug builds only".to_owned());
    }
    let known = Bug::ALL.iter().any(|bug| bug.as_str() == name);
    let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.as_str()).collect();
    if known { Ok(name.to_owned()) } else { Err(format!("must be one of {}", names.join(", "))) }
}

/// What all runs together came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    failed: BTreeMap<u64, Vec<String>>,
    calls: u64,
    faults: u64,
    kills: u64,
    transfers: u64,
    slowest: Duration,
}

/// Runs every seed; false where one failed.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let began = Instant::now();
    let (tally, next) = (Mutex::new(Tally::default()), AtomicU64::new(*args.seeds.start()));
    let enough = CancellationToken::new();
    let seeds = args.seeds.end() - args.seeds.start() + 1;
    let places = args.side_by_side.clamp(1, usize::try_from(seeds).unwrap_or(usize::MAX));
    let workers = (0..places).map(|number| work(number, args, &next, &tally, &enough));
    for ended in futures_util::future::join_all(workers).await {
        ended?;
    }
    let tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Output::or_fitting(args.output).print(&json!({
        "runs": tally.runs,
        "failed": tally.failed.keys().collect::<Vec<_>>(),
        "calls": tally.calls,
        "faults": tally.faults,
        "kills": tally.kills,
        "transfers": tally.transfers,
        "slowest_seconds": tally.slowest.as_secs_f64(),
        "seconds": began.elapsed().as_secs_f64(),
    }));
    Ok(tally.failed.is_empty())
}

async fn work(
    number: usize,
    args: &Args,
    next: &AtomicU64,
    tally: &Mutex<Tally>,
    enough: &CancellationToken,
) -> anyhow::Result<()> {
    let mut stage = Stage::open(number, bin_dir(args)).await.context("no stage for the runs")?;
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > *args.seeds.end() {
            break;
        }
        let began = Instant::now();
        let logs = args.logs.join(format!("seed-{seed}"));
        let judged = tokio::select! {
            judged = one(seed, args, &mut stage, &logs, tally) => judged,
            () = enough.cancelled() => break,
        };
        let findings = judged.unwrap_or_else(|error| vec![format!("the run could not be made: {error:#}")]);
        let took = began.elapsed();
        tell(seed, args, &findings, &logs, took);
        if findings.is_empty() {
            let _ = std::fs::remove_dir_all(&logs);
        }
        let mut tally = locked(tally);
        tally.runs += 1;
        tally.slowest = tally.slowest.max(took);
        if !findings.is_empty() {
            tally.failed.insert(seed, findings);
            if args.fail_fast {
                enough.cancel();
            }
        }
    }
    stage.close().await;
    Ok(())
}

/// As the service finds it: by the flag, else by the environment.
fn bin_dir(args: &Args) -> Option<PathBuf> {
    args.pg_bin_dir.clone().or_else(|| std::env::var_os("PG_BIN_DIR").map(PathBuf::from))
}

fn locked(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn tell(seed: u64, args: &Args, findings: &[String], logs: &Path, took: Duration) {
    if findings.is_empty() {
        eprintln!("seed {seed}: well, {:.1} s", took.as_secs_f64());
        return;
    }
    let planted = args.planted.as_ref().map(|bug| format!(" --planted {bug}")).unwrap_or_default();
    eprintln!("seed {seed} failed after {:.1} s:", took.as_secs_f64());
    for finding in findings {
        eprintln!("  {finding}");
    }
    eprintln!("  logs: {}", logs.display());
    eprintln!("  replay: sluicegate simulate --seeds {seed} --replicas {}{planted}", args.replicas);
}

/// One seed: with its mishaps, without them, and what is to be said about it.
async fn one(
    seed: u64,
    args: &Args,
    stage: &mut Stage,
    logs: &Path,
    tally: &Mutex<Tally>,
) -> anyhow::Result<Vec<String>> {
    let _ = std::fs::remove_dir_all(logs);
    let logs_without = logs.join("without-mishaps");
    std::fs::create_dir_all(&logs_without).with_context(|| format!("{} can't be made", logs.display()))?;
    let schedule = Schedule::of(seed, usize::from(args.replicas));
    let played =
        play::play(&schedule, stage, usize::from(args.replicas), args.planted.as_deref(), logs).await?;
    let mut findings = judge::judge(&schedule, &played).await?;
    if !findings.is_empty() {
        keep(&schedule, &played, logs).await?;
    }
    let (calls, transfers) = (played.control.calls(), played.control.books().transfers.len());
    played.pool.close().await;
    {
        let mut tally = locked(tally);
        tally.calls += calls.len() as u64;
        tally.faults += calls.iter().filter(|call| call.outcome.fault.is_some()).count() as u64;
        tally.kills += played.kills;
        tally.transfers += transfers as u64;
    }
    if !findings.is_empty() {
        return Ok(findings);
    }
    let calm = schedule.without_mess();
    let without = play::play(&calm, stage, 1, None, &logs_without).await?;
    let wrong = judge::judge(&calm, &without).await?;
    findings.extend(wrong.into_iter().map(|finding| format!("without mishaps: {finding}")));
    findings.extend(played.ending.differences(&without.ending));
    without.pool.close().await;
    Ok(findings)
}

/// Keeps what a failed run can be understood by, beside the replicas' logs.
async fn keep(schedule: &Schedule, played: &play::Played, logs: &Path) -> anyhow::Result<()> {
    let lines = |all: Vec<String>| all.join("\n");
    let control = &played.control;
    std::fs::write(logs.join("schedule.txt"), format!("{schedule:#?}"))?;
    std::fs::write(logs.join("cast.txt"), format!("{:#?}\n{:#?}", played.cast, played.ending))?;
    let calls = control.calls().iter().map(|call| serde_json::json!(call).to_string()).collect();
    std::fs::write(logs.join("stripe-calls.jsonl"), lines(calls))?;
    let movements = control.movements().iter().map(|moved| serde_json::json!(moved).to_string()).collect();
    std::fs::write(logs.join("stripe-movements.jsonl"), lines(movements))?;
    let deliveries = control.attempts().iter().map(|tried| serde_json::json!(tried).to_string()).collect();
    std::fs::write(logs.join("stripe-deliveries.jsonl"), lines(deliveries))?;
    let readiness = inspect::list_readiness(&mut *played.pool.acquire().await?).await?;
    let readiness = readiness.iter().map(|(account, at, reasons)| format!("{at} {account} {reasons:?}"));
    std::fs::write(logs.join("readiness.txt"), lines(readiness.collect()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_one_or_a_range() {
        assert_eq!(seeds("1..200"), Ok(1..=200));
        assert_eq!(seeds("17"), Ok(17..=17));
        for bad in ["", "a..b", "3..2", "1.."] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }
}
