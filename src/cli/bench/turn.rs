//! One turn of one subject: a fresh process, a short run to warm it up, then the run that counts, and what it cost.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::Bench;
use super::figures::{
    APPLIED_PER_S, CPU_OF_PGBENCH, LOAD_US, OF_NAIVE, OF_PGBENCH, P50, P99, P999, PEAK_MIB, PER_S,
    POSTGRES_US, SERVER_US, WAL,
};
use super::load::{self, Outcome, Pace, within_ms};
use super::pgbench::{Pgbench, Run};
use super::server::{Program, Server};
use super::stand::Stand;
use crate::domain::count::counted;
use crate::store::trial;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The service with all its roles.
    Whole,
    /// The service with intake alone.
    Intake,
    /// The naive handler.
    Naive,
}

impl Subject {
    /// How it is called in the figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "all roles",
            Self::Intake => "intake alone",
            Self::Naive => "naive",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Whole => Program::Serve("intake,worker,api,console"),
            Self::Intake => Program::Serve("intake"),
            Self::Naive => Program::Naive,
        }
    }
}

/// How pgbench is called in the figures.
pub const PGBENCH: &str = "pgbench";
/// The most deliveries a second that a run is prepared for: no server that verifies signatures took more.
const MOST_PER_S: f64 = 40_000.0;
/// The most that a single connection can bring.
const MOST_PER_CONNECTION: f64 = 5_000.0;
/// How long the worker may take to catch up with a turn.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Looking walks over what was worked off already: often, it would cost what it is to measure.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was used up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Meters {
    server: Option<Duration>,
    postgres: Option<Duration>,
    wal_bytes: i64,
}

/// What an event cost, in microseconds of CPU and bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Of the server.
    pub server_us: Option<f64>,
    /// Of Postgres.
    pub postgres_us: Option<f64>,
    /// Of Postgres's log.
    pub wal_bytes: f64,
}

impl Meters {
    /// Reads them now.
    pub async fn read(stand: &Stand, server: &Server, pool: &PgPool) -> anyhow::Result<Self> {
        let wal_bytes = trial::get_wal_bytes(&mut *pool.acquire().await?).await?;
        Ok(Self { server: server.cpu(), postgres: stand.postgres_cpu(), wal_bytes })
    }

    /// What the server has used.
    pub fn server_cpu(&self) -> Option<Duration> {
        self.server
    }

    /// What Postgres has logged.
    pub fn wal_bytes(&self) -> i64 {
        self.wal_bytes
    }

    /// What each of `events` cost from here to `later`.
    pub fn cost(&self, later: &Self, events: u64) -> Cost {
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / events.max(1) as f64;
        let between = |from: Option<Duration>, to: Option<Duration>| {
            from.zip(to).map(|(from, to)| each(to.saturating_sub(from)))
        };
        Cost {
            server_us: between(self.server, later.server),
            postgres_us: between(self.postgres, later.postgres),
            wal_bytes: (later.wal_bytes - self.wal_bytes) as f64 / events.max(1) as f64,
        }
    }
}

/// What a turn brought.
pub struct Turn {
    /// Of the load.
    pub outcome: Outcome,
    /// Acknowledged and applied in a second, where a worker runs.
    applied_per_s: Option<f64>,
    /// Until the last event was applied, where a worker runs.
    cost: Option<Cost>,
    peak_mib: Option<f64>,
}

/// How a measure with so many connections is called.
pub fn closed(connections: usize) -> String {
    format!("{}, closed loop", counted(connections, "connection", "connections"))
}

/// Runs a turn.
pub async fn take(
    bench: &mut Bench<'_>,
    subject: Subject,
    connections: usize,
    pace: Pace,
) -> anyhow::Result<Turn> {
    let url = match (subject, &bench.yardsticks) {
        (Subject::Naive, Some(yardsticks)) => yardsticks.url.clone(),
        _ => bench.database.url.clone(),
    };
    let server = bench.stand.serve(subject.program(), &url).await?;
    let pool = bench.database.pool.clone();
    let warm = bench.args.length() / 4;
    run(bench, &server, connections, Pace::Closed(warm.min(Duration::from_secs(1)))).await?;
    if subject == Subject::Whole {
        until_applied(&pool, CATCH_UP).await?;
    }
    let before = Meters::read(bench.stand, &server, &pool).await?;
    let began = Instant::now();
    let outcome = run(bench, &server, connections, pace).await?.all_well()?;
    let applied = subject != Subject::Whole || until_applied(&pool, CATCH_UP).await?;
    let took = began.elapsed();
    let after = Meters::read(bench.stand, &server, &pool).await?;
    let peak_mib = server.peak_mib();
    server.stop().await?;
    let mut left = 0;
    if !applied {
        left = trial::count_unapplied(&mut *pool.acquire().await?).await?;
        bench.figures.note(format!(
            "{}: {left} events were still not applied {CATCH_UP:?} after a turn, so what an event costs is not told",
            closed(connections)
        ));
    }
    trial::clear_bells(&mut *pool.acquire().await?).await?;
    let kept_up = outcome.acked.saturating_sub(u64::try_from(left).unwrap_or(0)) as f64 / took.as_secs_f64();
    Ok(Turn {
        cost: applied.then(|| before.cost(&after, outcome.acked)),
        applied_per_s: (subject == Subject::Whole).then_some(kept_up),
        outcome,
        peak_mib,
    })
}

async fn run(bench: &Bench<'_>, server: &Server, connections: usize, pace: Pace) -> anyhow::Result<Outcome> {
    let count = match pace {
        Pace::Closed(length) | Pace::Through(length) => {
            length.as_secs_f64() * MOST_PER_S.min(MOST_PER_CONNECTION * connections as f64)
        }
        Pace::Constant(per_s, length) => per_s * length.as_secs_f64(),
    };
    let deliveries = bench.cast.deliveries(count.ceil() as u64 + 1);
    load::run(server.address, connections, pace, deliveries).await
}

/// Waits until every event is applied; false where that takes longer than `patience`.
pub async fn until_applied(pool: &PgPool, patience: Duration) -> anyhow::Result<bool> {
    let began = Instant::now();
    while trial::has_unapplied(&mut *pool.acquire().await?).await? {
        if began.elapsed() > patience {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(true)
}

impl Turn {
    /// What it could have gone on with for ever, in a second.
    pub fn sustained_per_s(&self) -> f64 {
        self.applied_per_s.unwrap_or(self.outcome.per_s())
    }

    /// Keeps its figures.
    pub fn keep(&self, bench: &mut Bench<'_>, measure: &str, subject: Subject) {
        let mut add = |name, value| bench.figures.add(bench.phase, measure, subject.name(), name, value);
        add(PER_S, Some(self.outcome.per_s()));
        add(APPLIED_PER_S, self.applied_per_s);
        for (name, share) in [(P50, 0.5), (P99, 0.99), (P999, 0.999)] {
            add(name, Some(self.outcome.within_ms(share)));
        }
        add(SERVER_US, self.cost.and_then(|cost| cost.server_us));
        add(POSTGRES_US, self.cost.and_then(|cost| cost.postgres_us));
        add(LOAD_US, Some(self.load_us()));
        add(PEAK_MIB, self.peak_mib);
        add(WAL, self.cost.map(|cost| cost.wal_bytes));
    }

    /// Keeps its ratios to the yardsticks of the same round.
    pub fn keep_ratios(
        &self,
        bench: &mut Bench<'_>,
        measure: &str,
        subject: Subject,
        pgbench: &Pgbenched,
        naive: &Turn,
    ) {
        let mut add = |name, value| bench.figures.add(bench.phase, measure, subject.name(), name, value);
        add(OF_PGBENCH, Some(self.outcome.per_s() / pgbench.run.per_s));
        add(CPU_OF_PGBENCH, self.all_us().zip(pgbench.all_us()).map(|(own, pgbench)| own / pgbench));
        if subject != Subject::Naive {
            add(OF_NAIVE, Some(self.outcome.per_s() / naive.outcome.per_s()));
        }
    }

    fn load_us(&self) -> f64 {
        self.outcome.cpu.as_secs_f64() * 1e6 / self.outcome.acked.max(1) as f64
    }

    fn all_us(&self) -> Option<f64> {
        let cost = self.cost?;
        Some(cost.server_us? + cost.postgres_us? + self.load_us())
    }
}

/// What a run of pgbench's brought.
pub struct Pgbenched {
    run: Run,
    postgres: Option<Duration>,
    wal_bytes: i64,
}

impl Pgbenched {
    /// Runs its inserts.
    pub async fn take(bench: &Bench<'_>, pgbench: &Pgbench, clients: usize) -> anyhow::Result<Self> {
        let pool = &bench.database.pool;
        let wal = trial::get_wal_bytes(&mut *pool.acquire().await?).await?;
        let before = bench.stand.postgres_cpu();
        let run = pgbench.inserts(clients, bench.args.length()).await?;
        let after = bench.stand.postgres_cpu();
        let postgres = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        let wal_bytes = trial::get_wal_bytes(&mut *pool.acquire().await?).await? - wal;
        Ok(Self { run, postgres, wal_bytes })
    }

    fn each_us(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.run.count.max(1) as f64
    }

    fn all_us(&self) -> Option<f64> {
        Some(self.each_us(self.postgres? + self.run.cpu?)).filter(|us| *us > 0.0)
    }

    /// Keeps its figures.
    pub fn keep(&self, bench: &mut Bench<'_>, measure: &str) {
        let mut add = |name, value| bench.figures.add(bench.phase, measure, PGBENCH, name, value);
        add(PER_S, Some(self.run.per_s));
        for (name, share) in [(P50, 0.5), (P99, 0.99), (P999, 0.999)] {
            add(name, Some(within_ms(&self.run.latencies, share)));
        }
        add(POSTGRES_US, self.postgres.map(|spent| self.each_us(spent)));
        add(LOAD_US, self.run.cpu.map(|spent| self.each_us(spent)));
        add(WAL, Some(self.wal_bytes as f64 / self.run.count.max(1) as f64));
    }
}
