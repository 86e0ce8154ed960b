//! `topups`: money on its way to the platform's balance.

use clap::Subcommand;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use crate::cli::Failed;
use crate::cli::output::{Column, Show};

const COLUMNS: &[Column] = &[
    Column("ID", Show::Text("/id")),
    Column("AMOUNT", Show::Money("/amount", "/currency")),
    Column("STATUS", Show::State("/status")),
    Column("SETTLED", Show::State("/settled")),
    Column("AVAILABLE ON", Show::Text("/available_on")),
    Column("EXPECTED", Show::Text("/expected_availability_date")),
    Column("FAILURE", Show::Text("/failure/code")),
    Column("DESCRIPTION", Show::Text("/description")),
];
const FIRST: &[&str] = &["id", "status", "amount", "currency", "settled", "settled_at", "available_on"];

/// What is done with top-ups.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List top-ups, newest first
    #[command(after_help = "Example:\n  sluicegate topups list --limit 100")]
    List(Listing),
    /// Show one top-up
    #[command(after_help = "Example:\n  sluicegate topups show tu_…")]
    Show {
        /// Stripe's id
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    match verb {
        Command::List(listing) => list(&listing, Needs::Mode, &["topups"], &[], COLUMNS).await,
        Command::Show { id, shown } => {
            let answer =
                with(&shown.flags, Needs::Mode, async |api: &Api| api.get(&["topups", &id], &[], &[]).await);
            shown.form().object(&answer.await?.text, FIRST);
            Ok(())
        }
    }
}
