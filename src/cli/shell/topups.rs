//! `topups`: money on its way to the platform's balance.

use clap::Subcommand;
use serde_json::Value;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use super::orders::{Order, Reason, body, minor_units, object, pair};
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
    #[command(after_help = "Example:\n  sluicegate topups list --status succeeded --settled false")]
    List {
        /// pending, succeeded, failed, canceled or reversed
        #[arg(long)]
        status: Option<String>,
        /// Whether their money may be released: true or false
        #[arg(long, value_name = "BOOL")]
        settled: Option<String>,
        /// Lower-case ISO code
        #[arg(long)]
        currency: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one top-up
    #[command(after_help = "Example:\n  sluicegate topups show tu_…")]
    Show {
        /// Stripe's id
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Have the platform's bank debited; a repetition under the same key debits it no second time
    #[command(
        after_help = "Example:\n  sluicegate topups create --amount 500000 --currency usd --description \"payroll of November\" \\\n    --idempotency-key november"
    )]
    Create(Box<CreateArgs>),
    /// Call a top-up off, as long as it is pending
    #[command(after_help = "Example:\n  sluicegate topups cancel tu_…")]
    Cancel {
        /// Stripe's id
        id: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        order: Order,
    },
}

/// What the bank is asked for.
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// Minor units
    #[arg(long, allow_negative_numbers = true, value_parser = minor_units)]
    amount: i64,
    /// Lower-case ISO code
    #[arg(long)]
    currency: String,
    /// Shown at Stripe
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// On the bank's statement, 15 characters at most
    #[arg(long, value_name = "TEXT")]
    statement_descriptor: Option<String>,
    /// The bank account's id or token; the platform's default without it
    #[arg(long, value_name = "BANK")]
    source: Option<String>,
    /// A label at Stripe
    #[arg(long, value_name = "TEXT")]
    transfer_group: Option<String>,
    /// Kept at Stripe with the top-up; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    order: Order,
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    match verb {
        Command::List { status, settled, currency, listing } => {
            let filters = [("status", status), ("settled", settled), ("currency", currency)];
            list(&listing, Needs::Mode, &["topups"], &filters, COLUMNS).await
        }
        Command::Show { id, shown } => {
            let answer =
                with(&shown.flags, Needs::Mode, async |api: &Api| api.get(&["topups", &id], &[], &[]).await);
            shown.form().object(&answer.await?.text, FIRST);
            Ok(())
        }
        Command::Create(args) => create(*args).await,
        Command::Cancel { id, reason, order } => {
            order.give(Needs::Mode, &["topups", &id, "cancel"], reason.body(), &[], FIRST).await.map(drop)
        }
    }
}

async fn create(args: CreateArgs) -> Result<(), Failed> {
    let fields = [
        ("amount", Some(args.amount.into())),
        ("currency", Some(args.currency.into())),
        ("description", args.description.map(Value::from)),
        ("statement_descriptor", args.statement_descriptor.map(Value::from)),
        ("source", args.source.map(Value::from)),
        ("transfer_group", args.transfer_group.map(Value::from)),
        ("metadata", object(args.metadata)?),
    ];
    let answer = args.order.give(Needs::Mode, &["topups"], body(fields), &[], FIRST).await?;
    if answer.is_final {
        return Ok(());
    }
    eprintln!(
        "it is not known yet whether Stripe made it: repeat the command with the same --idempotency-key"
    );
    Err(Failed::Told)
}
