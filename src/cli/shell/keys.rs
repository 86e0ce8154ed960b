//! `keys`: who may call the API.

use clap::Subcommand;
use serde_json::Value;

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use super::orders::{Order, body};
use crate::cli::Failed;
use crate::cli::output::{Column, Show};

const COLUMNS: &[Column] = &[
    Column("ID", Show::Text("/id")),
    Column("NAME", Show::Text("/name")),
    Column("SCOPE", Show::Text("/scope")),
    Column("CREATED", Show::Text("/created_at")),
    Column("BY", Show::Text("/created_by")),
    Column("LAST USED", Show::Text("/last_used_at")),
    Column("REVOKED", Show::Text("/revoked_at")),
];
const FIRST: &[&str] = &["id", "name", "scope", "secret"];

/// What is done with keys.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a key; its secret is shown this once
    #[command(
        after_help = "Example:\n  sluicegate keys create --name payroll --scope operate --output json | jq -r .secret"
    )]
    Create {
        /// What its owner calls it
        #[arg(long)]
        name: String,
        /// How far it reaches: read, operate or admin
        #[arg(long)]
        scope: String,
        #[command(flatten)]
        order: Order,
    },
    /// List the keys, revoked ones too
    #[command(after_help = "Example:\n  sluicegate keys list --all")]
    List(Listing),
    /// Take a key back, at once and for good
    #[command(after_help = "Example:\n  sluicegate keys revoke key_…")]
    Revoke {
        /// The key's id, not its secret
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
}

/// Runs the verb.
pub async fn run(verb: Command) -> Result<(), Failed> {
    match verb {
        Command::Create { name, scope, order } => {
            let body = body([("name", Some(name.into())), ("scope", Some(scope.into()))]);
            let answer = order.give(Needs::Database, &["keys"], body, &[], FIRST).await?;
            match answer.value().get("secret") {
                Some(Value::String(_)) => {
                    eprintln!("the secret is shown this once: keep it where the caller reads it")
                }
                _ => {
                    eprintln!("this key was made before; its secret was shown then and can't be shown again")
                }
            }
            Ok(())
        }
        Command::List(listing) => list(&listing, Needs::Database, &["keys"], &[], COLUMNS).await,
        Command::Revoke { id, shown } => {
            let answer =
                with(&shown.flags, Needs::Database, async |api: &Api| api.delete(&["keys", &id]).await);
            shown.form().object(&answer.await?.text, FIRST);
            Ok(())
        }
    }
}
