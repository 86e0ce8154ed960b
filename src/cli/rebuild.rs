//! `rebuild --check`: whether what the tables hold still follows from what was kept.

use serde_json::json;

use super::output::Output;
use super::{Failed, database, service};
use crate::config::{Flags, Settings};
use crate::flows::rebuild::{self, Rules};

/// What the command is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Compare and report; nothing is changed
    #[arg(long, required = true)]
    check: bool,
    /// How to show the result; a table on a terminal, else JSON
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    #[command(flatten)]
    pub flags: Box<Flags>,
}

/// Compares; false where something differs. The differences go to standard error, one a line.
pub async fn run(settings: Settings, output: Option<Output>) -> Result<bool, Failed> {
    let rules = Rules { policy: settings.readiness.clone(), rule: settings.settlement };
    let database =
        database::reach(settings.database_url.as_ref(), settings.data_dir, settings.pg_bin_dir).await?;
    let pool = service::connect(&database.url, 2).await?;
    let report = rebuild::check(&pool, &rules).await;
    pool.close().await;
    database.stop().await;
    let report = report?;
    for difference in &report.told {
        let mode = if difference.livemode { "live" } else { "test" };
        let (kind, subject, field) = (&difference.kind, &difference.subject, &difference.field);
        let (held, rebuilt) = (&difference.held, &difference.rebuilt);
        eprintln!("{mode} {kind} {subject}: {field} is {held}, and follows as {rebuilt}");
    }
    Output::or_fitting(output).print(&json!({
        "differences": report.differences,
        "accounts": report.accounts,
        "topups": report.topups,
        "transfers": report.transfers,
        "left_out": report.left_out,
    }));
    Ok(report.differences == 0)
}
