//! `accounts`: connected accounts, and whether they can be paid.

use clap::Subcommand;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use crate::cli::Failed;
use crate::cli::output::{Column, Show};

const COLUMNS: &[Column] = &[
    Column("ID", Show::Text("/account")),
    Column("READY", Show::State("/ready")),
    Column("REASONS", Show::Text("/reasons")),
    Column("COUNTRY", Show::Text("/country")),
    Column("CURRENCY", Show::Text("/default_currency")),
    Column("AS OF", Show::Text("/as_of")),
];
const FIRST: &[&str] = &["account", "ready", "reasons", "country", "default_currency", "as_of", "source"];

/// What is done with accounts.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List accounts by id
    #[command(after_help = "Example:\n  sluicegate accounts list --ready false --reason charges_disabled")]
    List {
        /// true or false
        #[arg(long, value_name = "BOOL")]
        ready: Option<String>,
        /// Only those that this code stands in the way of
        #[arg(long, value_name = "CODE")]
        reason: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one account, why it can't be paid, and how that changed
    #[command(after_help = "Example:\n  sluicegate accounts show acct_… --refresh")]
    Show {
        /// Stripe's id
        id: String,
        /// Ask Stripe first
        #[arg(long)]
        refresh: bool,
        #[command(flatten)]
        shown: Shown,
    },
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    match verb {
        Command::List { ready, reason, listing } => {
            let filters = [("ready", ready), ("reason", reason)];
            list(&listing, Needs::Mode, &["accounts"], &filters, COLUMNS).await
        }
        Command::Show { id, refresh, shown } => {
            let answer = with(&shown.flags, Needs::Mode, async |api: &Api| {
                if refresh {
                    let asked = [("refresh", "true".to_owned())];
                    api.get(&["accounts", &id, "readiness"], &asked, &[]).await?;
                }
                api.get(&["accounts", &id], &[], &[]).await
            });
            shown.form().object(&answer.await?.text, FIRST);
            Ok(())
        }
    }
}
