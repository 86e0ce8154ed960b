//! A worker meets a backlog: how fast it is worked off, until readiness shows the last of it.
//!
//! The backlog is brought in by intake alone. How far the work has come is read from a sample of the bells, which
//! costs next to nothing; the first and the last fifth tell whether the pace holds while dead rows pile up.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::PgPool;

use super::api::Api;
use super::figures::{PER_S, POSTGRES_US, SERVER_US, WAL};
use super::load::{self, Pace};
use super::payload::ROUND;
use super::server::{Program, Server};
use super::turn::Meters;
use super::{Bench, OPEN_CONNECTIONS};
use crate::store::trial;

/// How the measure is called.
pub const DRAIN: &str = "worker draining a backlog";
/// Who drains.
pub const WORKER: &str = "worker and API";
/// The pace of the last fifth over that of the first.
pub const LAST_OF_FIRST: &str = "last ÷ first fifth";
/// Objects that were asked of Stripe meanwhile.
pub const FETCHES: &str = "fetches";

/// How long a backlog may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// About how many bells are watched.
const MARKS: u64 = 2_000;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many accounts are read afterwards.
const READ_AFTER: u64 = 300;

/// One round after another.
pub async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    for round in 1..=bench.args.rounds {
        bench.say(&format!("a backlog of {} events, round {round}", bench.args.backlog));
        fill(bench).await?;
        let end = bench.cast.made();
        one_round(bench, end).await?;
        trial::clear_bells(&mut *bench.database.pool.acquire().await?).await?;
    }
    Ok(())
}

/// Brings the backlog in.
async fn fill(bench: &Bench<'_>) -> anyhow::Result<()> {
    let server = bench.stand.serve(Program::Serve("intake"), &bench.database.url).await?;
    let deliveries = bench.cast.deliveries(bench.args.backlog);
    let outcome = load::run(server.address, OPEN_CONNECTIONS, Pace::Through(PATIENCE), deliveries).await?;
    server.stop().await?;
    let taken = outcome.all_well()?.acked;
    anyhow::ensure!(taken == bench.args.backlog, "of {} events {taken} were taken", bench.args.backlog);
    Ok(())
}

async fn one_round(bench: &mut Bench<'_>, end: u64) -> anyhow::Result<()> {
    let pool = bench.database.pool.clone();
    let backlog = bench.args.backlog;
    let marks = trial::list_marks(&mut *pool.acquire().await?, apart(backlog)).await?;
    let fetched = bench.stand.fetches();
    // It works from its first moment on, before it says that it listens: all that counts.
    let (began, postgres, wal) = (
        Instant::now(),
        bench.stand.postgres_cpu(),
        trial::get_wal_bytes(&mut *pool.acquire().await?).await?,
    );
    let server = bench.stand.serve(Program::Serve("worker,api"), &bench.database.url).await?;
    let steps = watch(&pool, &marks, began).await?;
    let after = Meters::read(bench.stand, &server, &pool).await?;
    let left = trial::count_unapplied(&mut *pool.acquire().await?).await?;
    let done = backlog.saturating_sub(u64::try_from(left).unwrap_or(0));
    let took = steps.last().map_or(began.elapsed(), |step| step.at);
    if left == 0 {
        every_account_shows(bench, &server, end).await?;
    } else {
        bench.figures.note(format!("{left} of {backlog} events were still not applied after {PATIENCE:?}"));
    }
    server.stop().await?;
    let per_event_us = |spent: Duration| spent.as_secs_f64() * 1e6 / done.max(1) as f64;
    let postgres = bench.stand.postgres_cpu().zip(postgres).map(|(to, from)| to.saturating_sub(from));
    let fetches = bench.stand.fetches() - fetched;
    let mut add = |name, value| bench.figures.add(bench.phase, DRAIN, WORKER, name, value);
    add(PER_S, Some(done as f64 / took.as_secs_f64()));
    add(LAST_OF_FIRST, last_of_first(&of_both_shares(&steps)));
    add(SERVER_US, after.server_cpu().map(per_event_us));
    add(POSTGRES_US, postgres.map(per_event_us));
    add(WAL, Some((after.wal_bytes() - wal) as f64 / done.max(1) as f64));
    add(FETCHES, Some(fetches as f64));
    Ok(())
}

/// So many bells apart are those that are watched: one more than whole rounds of the mix, so that each kind has its
/// share among them. Kinds are drained beside each other, and not at one pace.
fn apart(backlog: u64) -> i64 {
    i64::try_from(backlog / MARKS / ROUND * ROUND + 1).unwrap_or(i64::MAX)
}

/// A look at a drain.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Which part of the backlog was done.
    done: f64,
    /// When, since the beginning.
    at: Duration,
    /// Both shares had something left: events about accounts, and all others.
    both: bool,
}

/// How far it has come, moment by moment, until all is done.
async fn watch(pool: &PgPool, marks: &[i64], began: Instant) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut conn = pool.acquire().await?;
    let all = marks.len().max(1) as f64;
    while began.elapsed() < PATIENCE {
        let (of_accounts, others) = trial::count_marks(&mut conn, marks).await?;
        let left = of_accounts + others;
        let done = if left > 0 || trial::has_unapplied(&mut conn).await? {
            // Never the whole while something is left.
            (1.0 - left as f64 / all).min(1.0 - 1e-6)
        } else {
            1.0
        };
        steps.push(Step { done, at: began.elapsed(), both: of_accounts > 0 && others > 0 });
        if done == 1.0 {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(steps)
}

/// The drain for as long as both shares had something left, as if that were all. They are drained beside each other,
/// not at one pace and not at one price: what only one is left of has a pace of its own.
fn of_both_shares(steps: &[Step]) -> Vec<Step> {
    let end = steps.iter().position(|step| !step.both).unwrap_or(steps.len());
    let all = end.checked_sub(1).and_then(|last| steps.get(last)).map_or(1.0, |last| last.done);
    steps.iter().take(end).map(|step| Step { done: step.done / all, ..*step }).collect()
}

/// When this part was done, between the two looks around it.
fn reached(steps: &[Step], part: f64) -> Option<f64> {
    let place = steps.iter().position(|step| step.done >= part)?;
    let (step, before) = (steps.get(place)?, steps.get(place.checked_sub(1)?)?);
    let between = (part - before.done) / (step.done - before.done).max(f64::EPSILON);
    Some(before.at.as_secs_f64() + between * step.at.saturating_sub(before.at).as_secs_f64())
}

/// The pace of the last fifth over that of the first. The start of the program is not the first fifth's fault, nor is
/// it a help to the last: both are counted from one per cent inside.
fn last_of_first(steps: &[Step]) -> Option<f64> {
    let first = reached(steps, 0.2)? - reached(steps, 0.01)?;
    let last = reached(steps, 0.99)? - reached(steps, 0.8)?;
    (last > 0.0).then(|| first / last)
}

/// Readiness shows the last event of accounts that came last.
async fn every_account_shows(bench: &Bench<'_>, server: &Server, end: u64) -> anyhow::Result<()> {
    let mut reader = Api::open(server.address).await?;
    for (account, event) in bench.cast.last_before(end, READ_AFTER.min(bench.args.backlog / 2)) {
        let source = reader.source(&account).await?.with_context(|| format!("{account} is not known"))?;
        anyhow::ensure!(source == event, "{account} shows {source}, and its last event is {event}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(done: f64, ms: u64) -> Step {
        Step { done, at: Duration::from_millis(ms), both: true }
    }

    #[test]
    fn every_kind_of_the_mix_is_watched() {
        for backlog in [1_000, 39_999, 100_000, 200_000] {
            let apart = u64::try_from(apart(backlog)).unwrap();
            let kinds: BTreeSet<u64> = (0..ROUND).map(|nth| nth * apart % ROUND).collect();
            assert_eq!(kinds.len() as u64, ROUND, "{backlog} events, every {apart}th");
            assert!(backlog / apart >= 1_000.min(backlog), "{backlog} events, every {apart}th");
        }
    }

    #[test]
    fn a_slow_end_shows_and_a_slow_start_of_the_program_does_not() {
        let even = [at(0.0, 0), at(0.0, 500), at(0.5, 1_000), at(1.0, 1_500)];
        assert!((last_of_first(&even).unwrap() - 1.0).abs() < 1e-9);
        let slowing = [at(0.0, 0), at(0.5, 500), at(0.8, 800), at(1.0, 1_200)];
        assert!((last_of_first(&slowing).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(last_of_first(&even[..3]), None);
    }

    #[test]
    fn what_only_one_share_is_left_of_is_not_compared_with_what_was_done_beside_the_other() {
        let alone = |done, ms| Step { both: false, ..at(done, ms) };
        let steps = [at(0.0, 0), at(0.0, 500), at(0.5, 1_000), alone(0.6, 2_000), alone(1.0, 9_000)];
        assert!((last_of_first(&of_both_shares(&steps)).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(last_of_first(&of_both_shares(&steps[3..])), None);
    }
}
