//! `releases`: the emergency stop.

use clap::Subcommand;

use super::api::Needs;
use super::orders::{Order, Reason};
use crate::cli::Failed;

const FIRST: &[&str] = &["paused", "reason", "by", "at"];

/// What is done with releases as a whole.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Stop every release until they are resumed; what is under way at Stripe ends as it ends
    #[command(after_help = "Example:\n  sluicegate releases pause --reason \"month end\"")]
    Pause {
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        order: Order,
    },
    /// Let releases go on
    #[command(after_help = "Example:\n  sluicegate releases resume --reason \"checked with finance\"")]
    Resume {
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        order: Order,
    },
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    let (word, reason, order) = match verb {
        Command::Pause { reason, order } => ("pause", reason, order),
        Command::Resume { reason, order } => ("resume", reason, order),
    };
    order.give(Needs::Mode, &["releases", word], reason.body(), &[], FIRST).await.map(drop)
}
