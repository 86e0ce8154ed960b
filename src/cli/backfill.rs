//! `backfill` and `replay`: what the API offers about events, from the shell.

use std::io::IsTerminal;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output::Output;
use super::{Failed, database, serve, service};
use crate::clock::Clock;
use crate::config::{Flags, Settings};
use crate::domain::ids::EventId;
use crate::flows::order::{Answer, Ordered};
use crate::flows::{Actor, Context, FlowError, backfill, operate};

/// Whose orders from the shell are, for the record.
const SHELL: &str = "shell";

/// What `backfill` is called with.
#[derive(clap::Args, Debug)]
pub struct BackfillArgs {
    /// Events created then or later, like 2026-11-22T10:00:00Z; as far back as Stripe lists (30 days) without it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<OffsetDateTime>,
    /// How to show the result; a table on a terminal, else JSON
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    #[command(flatten)]
    pub flags: Box<Flags>,
}

/// What `replay` is called with.
#[derive(clap::Args, Debug)]
pub struct ReplayArgs {
    /// The ids of stored events
    #[arg(required = true, value_name = "EVENT")]
    pub events: Vec<String>,
    #[command(flatten)]
    pub flags: Box<Flags>,
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be RFC 3339, like 2026-11-22T10:00:00Z".to_owned())
}

fn shell() -> Actor {
    Actor { id: SHELL.to_owned() }
}

/// Opens the database, and Stripe's API, as the service would.
async fn open(settings: Settings) -> Result<(Context, database::Database), Failed> {
    let (data_dir, bin_dir) = (settings.data_dir.clone(), settings.pg_bin_dir.clone());
    let plan = serve::plan(&settings, String::new(), false)?;
    let database = database::provide(settings.database_url.as_ref(), data_dir, bin_dir).await?;
    let pool = service::connect(&database.url, 2).await?;
    let ctx = service::context(&plan, pool, Clock::system())?;
    Ok((ctx, database))
}

async fn close(ctx: Context, database: database::Database) {
    ctx.pool.close().await;
    database.stop().await;
}

/// Searches Stripe's event list for what was never delivered; a service that runs applies what is found.
pub async fn run(settings: Settings, args: &BackfillArgs) -> Result<bool, Failed> {
    let (ctx, database) = open(settings).await?;
    let ended = search(&ctx, args.since).await;
    close(ctx, database).await;
    let progress = ended?;
    Output::or_fitting(args.output).print(&json!({
        "since": progress.since.format(&Rfc3339).unwrap_or_default(),
        "found": progress.seen,
        "stored": progress.found,
        "complete": progress.done,
    }));
    Ok(true)
}

async fn search(ctx: &Context, since: Option<OffsetDateTime>) -> Result<backfill::Progress, FlowError> {
    let mut progress = backfill::start(ctx, since).await?;
    let shown = std::io::stderr().is_terminal();
    while !progress.done {
        progress = backfill::step(ctx, &progress).await?;
        if shown {
            eprint!("\r{} events read, {} were missing", progress.seen, progress.found);
        }
    }
    if shown {
        eprintln!();
    }
    let body = json!({});
    backfill::end(ctx, &shell(), None, &progress, Answer { status: 200, body }).await?;
    Ok(progress)
}

/// Has stored events applied once more.
pub async fn replay(settings: Settings, events: &[String]) -> Result<bool, Failed> {
    let (ctx, database) = open(settings).await?;
    let mut well = true;
    for event in events {
        match replay_one(&ctx, event).await {
            Ok(()) => println!("{event} is applied again"),
            Err(problem) => {
                well = false;
                eprintln!("error: {event}: {problem}");
            }
        }
    }
    close(ctx, database).await;
    Ok(well)
}

async fn replay_one(ctx: &Context, event: &str) -> Result<(), String> {
    let id = EventId::parse(event).map_err(|error| error.to_string())?;
    let ordered = operate::replay(ctx, &shell(), None, &id, |_| json!({})).await;
    match ordered {
        Ok(Ordered::Answer(_) | Ordered::KeyReused) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
