//! What the API offers, from the shell: a noun a file, each verb one call of the API within this process.
//!
//! Nothing is decided or checked here. A verb names its flags after the API's fields, and shows the answer.

pub mod accounts;
mod api;
pub mod events;
pub mod funds;
pub mod keys;
mod lists;
mod orders;
pub mod person;
mod problem;
pub mod releases;
pub mod replay;
pub mod topups;
pub mod transfers;

use clap::Subcommand;

use super::Failed;
use super::output::Output;
use crate::config::Flags;

pub use api::{Needs, open};

/// The operators' commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create connected accounts, send people to onboarding, and see whether they can be paid
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate accounts list --ready false")]
    Accounts(accounts::Command),
    /// Order top-ups, call them off, and see whether their money has arrived
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate topups list --all")]
    Topups(topups::Command),
    /// Ask for transfers, see why they wait, and decide about them
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate transfers list --status waiting --waiting-on on_hold")]
    Transfers(transfers::Command),
    /// Look at the money of each currency, and count some in or out by hand
    #[command(args_conflicts_with_subcommands = true)]
    #[command(after_help = "Examples:\n  sluicegate funds\n  sluicegate funds forecast")]
    Funds(funds::Args),
    /// Stop all releases, or let them go on
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate releases pause --reason \"month end\"")]
    Releases(releases::Command),
    /// Look at what Stripe told and what became of it
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate events list --status failed")]
    Events(events::Command),
    /// Hand out API keys and take them back; needs no Stripe key
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate keys create --name payroll --scope operate")]
    Keys(keys::Command),
    /// Have stored events applied once more
    #[command(
        after_help = "Examples:\n  sluicegate replay evt_1 evt_2\n  sluicegate replay --failed    # every dead letter"
    )]
    Replay(replay::Args),
}

/// How any verb is called.
#[derive(clap::Args, Debug)]
pub struct Shown {
    /// How to show the result; a table on a terminal, else JSON
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    #[command(flatten)]
    pub flags: Box<Flags>,
}

impl Shown {
    /// The form that was asked for, or fits.
    pub fn form(&self) -> Output {
        Output::or_fitting(self.output)
    }
}

/// Runs the verb.
pub async fn run(command: Command) -> Result<(), Failed> {
    match command {
        Command::Accounts(verb) => accounts::run(verb).await,
        Command::Topups(verb) => topups::run(verb).await,
        Command::Transfers(verb) => transfers::run(verb).await,
        Command::Funds(args) => funds::run(args).await,
        Command::Releases(verb) => releases::run(verb).await,
        Command::Events(verb) => events::run(verb).await,
        Command::Keys(verb) => keys::run(verb).await,
        Command::Replay(args) => replay::run(args).await,
    }
}
