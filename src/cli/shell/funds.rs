//! `funds`: the money of each currency.

use clap::Subcommand;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use super::orders::{Order, body, minor_units};
use crate::cli::Failed;
use crate::cli::output::{Column, Show};

const FUNDS: &[Column] = &[
    Column("CURRENCY", Show::Text("/currency")),
    Column("SETTLED", Show::Number("/settled")),
    Column("RESERVED", Show::Number("/reserved")),
    Column("RELEASED", Show::Number("/released")),
    Column("AVAILABLE", Show::Number("/available")),
    Column("PENDING", Show::Number("/pending")),
    Column("AT STRIPE", Show::Number("/stripe_available")),
    Column("DRIFT", Show::Number("/drift")),
    Column("CHECKED", Show::Text("/checked_at")),
];
const FORECAST: &[Column] = &[
    Column("DAY", Show::Text("/day")),
    Column("CURRENCY", Show::Text("/currency")),
    Column("ARRIVES", Show::Number("/arrivals")),
    Column("WAITS", Show::Number("/waiting")),
    Column("SHORTFALL", Show::Number("/shortfall")),
];
const ADJUSTMENTS: &[Column] = &[
    Column("ID", Show::Text("/id")),
    Column("AMOUNT", Show::Money("/amount", "/currency")),
    Column("REASON", Show::Text("/reason")),
    Column("BY", Show::Text("/created_by")),
    Column("CREATED", Show::Text("/created_at")),
];

/// How `funds` is called; alone it shows them.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Command>,
    #[command(flatten)]
    shown: Shown,
}

/// What is done with funds.
#[derive(Subcommand, Debug)]
enum Command {
    /// What is settled, reserved, released, available and on its way, in minor units
    #[command(after_help = "Example:\n  sluicegate funds show --output json")]
    Show(Shown),
    /// By day: what arrives, what waits for it, what will be missing
    #[command(after_help = "Example:\n  sluicegate funds forecast")]
    Forecast(Shown),
    /// Count money in or out by hand: an opening balance, a payout made in the Dashboard
    #[command(
        after_help = "Example:\n  sluicegate funds adjust --currency usd --amount -50000 --reason \"payout of 22 Nov\""
    )]
    Adjust {
        /// Lower-case ISO code
        #[arg(long)]
        currency: String,
        /// Minor units; negative counts out
        #[arg(long, allow_negative_numbers = true, value_parser = minor_units)]
        amount: i64,
        /// Why, for the record
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        order: Order,
    },
    /// What was counted in or out by hand
    #[command(after_help = "Example:\n  sluicegate funds adjustments --all")]
    Adjustments(Listing),
}

/// Runs the verb.
pub async fn run(args: Args) -> Result<(), Failed> {
    match args.verb.unwrap_or(Command::Show(args.shown)) {
        Command::Show(shown) => show(shown, &["funds"], FUNDS).await,
        Command::Forecast(shown) => show(shown, &["funds", "forecast"], FORECAST).await,
        Command::Adjust { currency, amount, reason, order } => {
            let fields = [
                ("currency", Some(currency.into())),
                ("amount", Some(amount.into())),
                ("reason", Some(reason.into())),
            ];
            let first = &["id", "amount", "currency", "reason"];
            order.give(Needs::Mode, &["funds", "adjustments"], body(fields), &[], first).await.map(drop)
        }
        Command::Adjustments(listing) => {
            list(&listing, Needs::Mode, &["funds", "adjustments"], &[], ADJUSTMENTS).await
        }
    }
}

/// A list that is always whole.
async fn show(shown: Shown, path: &[&str], columns: &[Column]) -> Result<(), Failed> {
    let answer = with(&shown.flags, Needs::Mode, async |api: &Api| api.get(path, &[], &[]).await).await?;
    shown.form().whole(&answer.text, columns);
    Ok(())
}
