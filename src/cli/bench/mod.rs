//! `bench`: the whole path under load, beside yardsticks of the same run.
//!
//! A private Postgres with its own defaults, the service as real child processes, the load from this one. What is
//! compared takes turns on the same machine within the same minute, so that ratios hold where absolute figures drift.

mod api;
mod drain;
mod figures;
mod fill;
mod goals;
mod load;
mod memory;
#[path = "../../../benches/naive.rs"]
mod naive;
mod payload;
mod pgbench;
mod proc;
mod readable;
mod reads;
mod releases;
mod server;
mod stand;
mod throughput;
mod turn;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Value, json};

use self::figures::Figures;
use self::payload::Cast;
use self::pgbench::Pgbench;
use self::stand::{Database, Stand};
use super::output::{Output, say};
use super::told_to_stop;
use crate::store::{db, trial};

/// On tables that hold nothing but what the measures bring.
const EMPTY: &str = "empty table";
/// On an outbox of millions of rows.
const FILLED: &str = "filled table";
/// While a transaction holds a snapshot.
const HELD: &str = "snapshot held open";
/// Connections of a load at a constant rate, and of a backlog that is brought in.
const OPEN_CONNECTIONS: usize = 64;
/// Clients that read at once.
const READERS: usize = 50;

/// What to measure beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Against {
    /// pgbench's one-row inserts and reads, and the naive handler
    Pgbench,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Deliveries acknowledged a second, their latency, CPU, memory and log
    Throughput,
    /// A worker and a backlog
    Drain,
    /// From 200 to readable
    Readable,
    /// GET readiness
    Reads,
    /// Transfers released a second
    Releases,
    /// Large bodies over many connections
    Memory,
}

/// What the command is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Run yardsticks beside it, turn by turn
    #[arg(long, value_enum)]
    against: Option<Against>,
    /// Only these measures
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    only: Vec<Measure>,
    /// How often each turn is taken; medians and spread are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// How long a turn counts; pgbench takes a whole second at least
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Connections of the closed loop
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256", value_name = "LIST", value_parser = connections)]
    connections: Vec<usize>,
    /// Events in the backlog
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..=2_000_000))]
    backlog: u64,
    /// Accounts that events are about
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    accounts: u64,
    /// Accounts that are stored when readiness is asked for
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    stored: u64,
    /// Transfers that are released
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    transfers: u64,
    /// Megabytes of large bodies
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    flood: u64,
    /// Do all again with the outbox filled to so many rows; ten million take about 20 GB
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rows: Option<u64>,
    /// Do all again while a transaction holds a snapshot, on the fullest table there is
    #[arg(long)]
    open_transaction: bool,
    /// A Postgres to measure on, where databases are made and dropped; without it a private one is started. Read from
    /// no variable, so that no load falls on a server by accident
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The folder of initdb, postgres and pgbench [env: PG_BIN_DIR]
    #[arg(long, value_name = "DIR")]
    pg_bin_dir: Option<PathBuf>,
    /// Where the private server keeps its data meanwhile; default: the folder for temporary files
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// How to show the result; a table on a terminal, else JSON
    #[arg(long, value_enum)]
    output: Option<Output>,
}

fn connections(text: &str) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|number| (1..=1_000).contains(number));
    number.ok_or_else(|| "is a number from 1 to 1000".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim().parse().ok().filter(|number| (0.1..=120.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "is a number from 0.1 to 120".to_owned())
}

impl Args {
    fn length(&self) -> Duration {
        self.seconds
    }

    fn measures(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }

    /// As the service finds it: by the flag, else by the environment.
    fn bin_dir(&self) -> Option<PathBuf> {
        self.pg_bin_dir.clone().or_else(|| std::env::var_os("PG_BIN_DIR").map(PathBuf::from))
    }
}

/// What the service is compared with, on a database apart.
struct Yardsticks {
    url: String,
    pgbench: Pgbench,
}

/// One phase: the same measures on tables in one state.
struct Bench<'a> {
    args: &'a Args,
    stand: &'a Stand,
    phase: &'static str,
    database: &'a Database,
    yardsticks: Option<Yardsticks>,
    cast: Arc<Cast>,
    figures: &'a mut Figures,
}

impl Bench<'_> {
    /// Tells how far it is.
    fn say(&self, what: &str) {
        eprintln!("{}: {what}", self.phase);
    }
}

/// The hidden command: the naive handler alone.
pub async fn naive() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    naive::run(&url, payload::SECRET).await
}

/// Measures, shows, and leaves nothing behind.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let pgbench = match args.against {
        Some(Against::Pgbench) => Some(pgbench::find(args.bin_dir().as_deref())?),
        None => None,
    };
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing (cargo run --release -- bench …)");
    }
    let (stand, mut figures) = (Stand::open(args).await?, Figures::default());
    let outcome = tokio::select! {
        measured = phases(args, &stand, pgbench, &mut figures) => measured,
        () = told_to_stop() => Err(anyhow::anyhow!("stopped before the end")),
    };
    let machine = machine(&stand);
    stand.close().await;
    show(args, &machine, &figures);
    outcome.map(|()| true)
}

async fn phases(
    args: &Args,
    stand: &Stand,
    pgbench: Option<PathBuf>,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut database = stand.database("empty").await?;
    phase(args, stand, EMPTY, &database, pgbench.as_ref(), figures).await?;
    if let Some(rows) = args.rows {
        stand.drop(database).await?;
        database = stand.database("filled").await?;
        eprintln!("{FILLED}: storing {rows} past events");
        let told = fill::fill(stand, &database, rows).await?;
        figures.note(told);
        phase(args, stand, FILLED, &database, pgbench.as_ref(), figures).await?;
    }
    if args.open_transaction {
        let held = trial::hold_snapshot(&database.url).await?;
        phase(args, stand, HELD, &database, pgbench.as_ref(), figures).await?;
        drop(held);
    }
    stand.drop(database).await
}

async fn phase(
    args: &Args,
    stand: &Stand,
    phase: &'static str,
    database: &Database,
    pgbench: Option<&PathBuf>,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let yardsticks = match pgbench {
        Some(program) => Some(yardsticks(stand, phase, program.clone()).await?),
        None => None,
    };
    let cast = Cast::new(args.accounts)?;
    let mut bench = Bench { args, stand, phase, database, yardsticks, cast, figures };
    if args.measures(Measure::Throughput) {
        throughput::measure(&mut bench).await?;
    }
    if args.measures(Measure::Drain) {
        drain::measure(&mut bench).await?;
    }
    if args.measures(Measure::Readable) {
        readable::measure(&mut bench).await?;
    }
    if args.measures(Measure::Reads) {
        reads::measure(&mut bench).await?;
    }
    if args.measures(Measure::Releases) {
        releases::measure(&mut bench).await?;
    }
    if args.measures(Measure::Memory) {
        memory::measure(&mut bench).await?;
    }
    Ok(())
}

async fn yardsticks(stand: &Stand, phase: &str, program: PathBuf) -> anyhow::Result<Yardsticks> {
    let name = phase.split(' ').next().unwrap_or_default();
    let url = stand.empty_database(&format!("yardsticks_{name}")).await?;
    let mut conn = db::connect_one(&url).await?;
    trial::make_yardstick(&mut conn).await?;
    let pgbench = Pgbench::prepare(program, &url, &stand.folder)?;
    Ok(Yardsticks { url, pgbench })
}

/// What the figures were measured on.
fn machine(stand: &Stand) -> Value {
    let server = &stand.server;
    json!({
        "processor": proc::processor(),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "postgres": server.version,
        "shared_buffers": server.shared_buffers,
        "durable": server.durable,
    })
}

fn show(args: &Args, machine: &Value, figures: &Figures) {
    match Output::or_fitting(args.output) {
        Output::Json => {
            let mut told = figures.json();
            told["machine"] = machine.clone();
            told["goals"] = goals::json(figures);
            say(&told.to_string());
        }
        Output::Table => {
            Output::Table.print(machine);
            figures.print();
            goals::print(figures);
        }
    }
}
