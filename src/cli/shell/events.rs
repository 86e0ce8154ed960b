//! `events`: what Stripe told.

use clap::Subcommand;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use crate::cli::Failed;
use crate::cli::output::{Column, Show};

const COLUMNS: &[Column] = &[
    Column("ID", Show::Text("/id")),
    Column("TYPE", Show::Text("/type")),
    Column("SUBJECT", Show::Text("/subject")),
    Column("STATUS", Show::State("/status")),
    Column("REASON", Show::Text("/reason")),
    Column("RECEIVED", Show::Text("/received_at")),
];
const FIRST: &[&str] = &["id", "type", "status", "reason", "subject", "account", "created", "received_at"];

/// What is done with events.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List what was received, newest first
    #[command(after_help = "Example:\n  sluicegate events list --type topup.succeeded --status processed")]
    List {
        /// pending, processed, ignored or failed
        #[arg(long)]
        status: Option<String>,
        /// Stripe's type, like topup.succeeded
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// The connected account it came from
        #[arg(long, value_name = "ACCT")]
        account: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one event with what Stripe wrote
    #[command(after_help = "Example:\n  sluicegate events show evt_… --output json | jq .payload")]
    Show {
        /// The event's id
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    match verb {
        Command::List { status, event_type, account, listing } => {
            let filters = [("status", status), ("type", event_type), ("account", account)];
            list(&listing, Needs::Database, &["events"], &filters, COLUMNS).await
        }
        Command::Show { id, shown } => {
            let answer = with(&shown.flags, Needs::Database, async |api: &Api| {
                api.get(&["events", &id], &[], &[]).await
            });
            shown.form().object(&answer.await?.text, FIRST);
            Ok(())
        }
    }
}
