//! `backfill`: the search of Stripe's event list, page by page while one looks on.
//!
//! The API bounds the same search by a caller's patience; here there is none to bound.

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Failed;
use super::output::progress;
use super::shell::{Needs, Shown, open, person};
use crate::domain::count::counted;
use crate::flows::order::{Answer, Claim};
use crate::flows::{Actor, Context, FlowError, backfill};
use crate::store::tasks;

/// What `backfill` is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Events created then or later, like 2026-11-22T10:00:00Z; as far back as Stripe lists (30 days) without it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<OffsetDateTime>,
    #[command(flatten)]
    shown: Shown,
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be RFC 3339, like 2026-11-22T10:00:00Z".to_owned())
}

/// Searches Stripe's event list for what was never delivered; a service that runs applies what is found.
pub async fn run(args: &Args) -> Result<(), Failed> {
    let (ctx, database) = open(&args.shown.flags, Needs::Mode).await?;
    let ended = search(&ctx, args.since).await;
    ctx.pool.close().await;
    database.stop().await;
    let progress = ended.map_err(failed)?;
    args.shown.form().print(&json!({
        "since": progress.since.format(&Rfc3339).unwrap_or_default(),
        "found": progress.seen,
        "stored": progress.found,
        "complete": progress.done,
    }));
    Ok(())
}

/// What Stripe said stands in the error's text already: as its cause it would be said twice.
fn failed(error: FlowError) -> anyhow::Error {
    match error {
        FlowError::Stripe(error) => anyhow::anyhow!("Stripe: {error}\n`sluicegate doctor` tells the mend"),
        error => error.into(),
    }
}

async fn search(ctx: &Context, since: Option<OffsetDateTime>) -> Result<backfill::Progress, FlowError> {
    let shown = progress::counter("searching");
    let mut progress = backfill::start(ctx, since).await?;
    while !progress.done {
        progress = backfill::step(ctx, &progress).await?;
        shown.tell(format!(
            "{} read, {} missing",
            counted(progress.seen, "event", "events"),
            counted(progress.found, "was", "were")
        ));
    }
    let answer = Answer { status: 200, body: json!({}) };
    let claim = Claim::without_key(ctx, &Actor { id: person::on_record() });
    backfill::end(ctx, claim, &progress, answer).await?;
    let mut conn = ctx.pool.acquire().await?;
    tasks::announce(&mut conn).await?;
    Ok(progress)
}
