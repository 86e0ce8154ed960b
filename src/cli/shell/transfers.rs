//! `transfers`: asking for them, seeing why they wait, and deciding about them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use super::orders::{Order, Reason, body, minor_units, object, pair, read_json};
use super::problem::Names;
use crate::cli::Failed;
use crate::cli::output::{Column, Show};

const COLUMNS: &[Column] = &[
    Column("ID", Show::Text("/id")),
    Column("STATUS", Show::State("/status")),
    Column("WAITS ON", Show::Text("/waiting_on")),
    Column("AMOUNT", Show::Money("/amount", "/currency")),
    Column("DESTINATION", Show::Text("/destination")),
    Column("EXPECTED", Show::Text("/expected_release_at")),
    Column("CREATED", Show::Text("/created_at")),
];
const FIRST: &[&str] = &[
    "id",
    "status",
    "waiting_on",
    "amount",
    "currency",
    "destination",
    "expected_release_at",
    "stripe_transfer",
    "failure",
    "amount_reversed",
];

const CHECKS: &[Column] = &[
    Column("HOLDS", Show::State("/passed")),
    Column("CHECK", Show::Text("/check")),
    Column("CODE", Show::Text("/code")),
    Column("EVIDENCE", Show::Text("/evidence/what")),
    Column("GOES ON WHEN", Show::Text("/unblocked_by")),
    Column("EXPECTED", Show::Text("/expected_at")),
];

/// What is done with transfers.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List transfers, newest first
    #[command(after_help = "Example:\n  sluicegate transfers list --status waiting --currency usd --all")]
    List(Box<ListArgs>),
    /// Show one transfer: why it waits, its history, and every call to Stripe about it
    #[command(after_help = "Example:\n  sluicegate transfers show xfer_…")]
    Show {
        /// The transfer's id
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Explain why a transfer stands where it stands: every check, on what evidence, and what it waits for
    #[command(after_help = "Example:\n  sluicegate transfers explain xfer_…")]
    Explain {
        /// The transfer's id
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Ask for a transfer: it goes out once its account is ready and its money has settled
    #[command(
        after_help = "Example:\n  sluicegate transfers create --destination acct_… --amount 1000 --currency usd \\\n    --idempotency-key invoice-42"
    )]
    Create(Box<CreateArgs>),
    /// Ask for up to 1000 transfers together: all of them are taken, or none
    #[command(
        after_help = "Example:\n  sluicegate transfers batch november.json --idempotency-key november\n\nThe file is a JSON array of what POST /v1/transfers takes:\n  [{\"destination\":\"acct_…\",\"amount\":1000,\"currency\":\"usd\"}, …]"
    )]
    Batch {
        /// The file; `-` reads standard input
        file: PathBuf,
        #[command(flatten)]
        order: Order,
    },
    /// Call a transfer off, as long as it waits
    #[command(after_help = "Example:\n  sluicegate transfers cancel xfer_… --reason \"paid otherwise\"")]
    Cancel(About),
    /// Keep a transfer back until it is resumed
    #[command(after_help = "Example:\n  sluicegate transfers hold xfer_… --reason \"question to the payee\"")]
    Hold(About),
    /// Let a held transfer go on
    #[command(after_help = "Example:\n  sluicegate transfers resume xfer_…")]
    Resume(About),
    /// Approve a large transfer that somebody else asked for
    #[command(after_help = "Example:\n  sluicegate transfers approve xfer_… --reason \"seen the invoice\"")]
    Approve(About),
    /// Try a failed transfer once more, after a look at Stripe
    #[command(after_help = "Example:\n  sluicegate transfers retry xfer_…")]
    Retry(About),
    /// Take back money that went out
    #[command(
        after_help = "Examples:\n  sluicegate transfers reverse xfer_… --amount 500 --reason \"paid twice\"\n  sluicegate transfers reverse xfer_…    # all that is left"
    )]
    Reverse {
        /// Minor units; all that is left of the transfer without it
        #[arg(long, value_parser = minor_units)]
        amount: Option<i64>,
        #[command(flatten)]
        about: About,
    },
}

/// Which transfers are listed.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// waiting, releasing, released, partially_reversed, reversed, failed or canceled
    #[arg(long)]
    status: Option<String>,
    /// Only those that wait for this reason, like funds_insufficient
    #[arg(long, value_name = "CODE")]
    waiting_on: Option<String>,
    /// The connected account
    #[arg(long, value_name = "ACCT")]
    destination: Option<String>,
    /// Lower-case ISO code
    #[arg(long)]
    currency: Option<String>,
    /// The top-up they are tied to
    #[arg(long, value_name = "TU")]
    topup: Option<String>,
    /// The caller's label
    #[arg(long, value_name = "TEXT")]
    transfer_group: Option<String>,
    /// Stripe's id of the transfer
    #[arg(long, value_name = "TR")]
    stripe_transfer: Option<String>,
    /// The Idempotency-Key it was asked for with
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Asked for then or later, like 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    created_from: Option<String>,
    /// Asked for before then
    #[arg(long, value_name = "TIME")]
    created_to: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

/// What is asked for.
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// The connected account to pay
    #[arg(long, value_name = "ACCT")]
    destination: String,
    /// Minor units
    #[arg(long, allow_negative_numbers = true, value_parser = minor_units)]
    amount: i64,
    /// Lower-case ISO code
    #[arg(long)]
    currency: String,
    /// Pay it from this top-up's money alone
    #[arg(long, value_name = "TU")]
    topup: Option<String>,
    /// A label at Stripe; the transfer's own id without it
    #[arg(long, value_name = "TEXT")]
    transfer_group: Option<String>,
    /// Shown at Stripe
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Kept at Stripe with the transfer; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Not before then, like 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    release_after: Option<String>,
    /// Higher goes first, from -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    #[command(flatten)]
    order: Order,
}

/// A decision about one transfer.
#[derive(clap::Args, Debug)]
pub struct About {
    /// The transfer's id
    id: String,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    order: Order,
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    match verb {
        Command::List(args) => show_list(*args).await,
        Command::Show { id, shown } => {
            let answer = with(&shown.flags, Needs::Mode, async |api: &Api| {
                api.get(&["transfers", &id], &[], &[]).await
            });
            shown.form().object(&answer.await?.text, FIRST);
            Ok(())
        }
        Command::Explain { id, shown } => {
            let answer = with(&shown.flags, Needs::Mode, async |api: &Api| {
                api.get(&["transfers", &id, "explanation"], &[], &[]).await
            });
            let first = ["transfer", "status", "summary", "expected_release_at"];
            shown.form().sheet(&answer.await?.text, &first, "checks", CHECKS);
            Ok(())
        }
        Command::Create(args) => create(*args).await,
        Command::Batch { file, order } => batch(&file, &order).await,
        Command::Cancel(about) => decide("cancel", about, None).await,
        Command::Hold(about) => decide("hold", about, None).await,
        Command::Resume(about) => decide("resume", about, None).await,
        Command::Approve(about) => decide("approve", about, None).await,
        Command::Retry(about) => decide("retry", about, None).await,
        Command::Reverse { amount, about } => decide("reverse", about, amount.map(Value::from)).await,
    }
}

async fn show_list(args: ListArgs) -> Result<(), Failed> {
    let filters = [
        ("status", args.status),
        ("waiting_on", args.waiting_on),
        ("destination", args.destination),
        ("currency", args.currency),
        ("topup", args.topup),
        ("transfer_group", args.transfer_group),
        ("stripe_transfer", args.stripe_transfer),
        ("idempotency_key", args.idempotency_key),
        ("created_from", args.created_from),
        ("created_to", args.created_to),
    ];
    list(&args.listing, Needs::Mode, &["transfers"], &filters, COLUMNS).await
}

async fn create(args: CreateArgs) -> Result<(), Failed> {
    let fields = [
        ("destination", Some(args.destination.into())),
        ("amount", Some(args.amount.into())),
        ("currency", Some(args.currency.into())),
        ("topup", args.topup.map(Value::from)),
        ("transfer_group", args.transfer_group.map(Value::from)),
        ("description", args.description.map(Value::from)),
        ("metadata", object(args.metadata)?),
        ("release_after", args.release_after.map(Value::from)),
        ("priority", args.priority.map(Value::from)),
    ];
    args.order.give(Needs::Mode, &["transfers"], body(fields), &[], FIRST).await.map(drop)
}

async fn batch(file: &Path, order: &Order) -> Result<(), Failed> {
    // A field is named after its transfer: `transfer 3.amount`, counted from 0 as in the file's array.
    const NAMES: Names = &[("/transfers", "transfer")];
    let transfers = read_json(file)?;
    let fields = [("transfers", Some(transfers))];
    let answer = order.send(Needs::Mode, &["transfers", "batch"], body(fields), NAMES).await?;
    order.shown.form().whole(&answer.text, COLUMNS);
    Ok(())
}

async fn decide(verb: &str, about: About, amount: Option<Value>) -> Result<(), Failed> {
    let About { id, reason, order } = about;
    let mut body = reason.body();
    body.extend(amount.map(|amount| ("amount".to_owned(), amount)));
    order.give(Needs::Mode, &["transfers", &id, verb], body, &[], FIRST).await.map(drop)
}
