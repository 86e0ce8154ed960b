//! `accounts`: connected accounts, and whether they can be paid.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value};

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, list};
use super::orders::{Order, body, pair, read_json};
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
    /// Create an Express account, prefilled with what is known of the person
    #[command(
        after_help = "Example:\n  sluicegate accounts create --param country=US --param email=ada@example.com \\\n    --param individual.first_name=Ada --idempotency-key writer-7"
    )]
    Create {
        /// One of Stripe's parameters of an account; a dot leads deeper. May be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        param: Vec<(String, String)>,
        /// A JSON file of Stripe's parameters; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        order: Order,
    },
    /// Make a link to Stripe's onboarding, for one visit within minutes
    #[command(
        after_help = "Example:\n  sluicegate accounts link acct_… --return-url https://example.com/done"
    )]
    Link {
        /// Stripe's id
        id: String,
        /// account_onboarding (without it) or account_update
        #[arg(long = "type", value_name = "TYPE")]
        link_type: Option<String>,
        /// Where the person is sent in the end; a small page without it
        #[arg(long, value_name = "URL")]
        return_url: Option<String>,
        #[command(flatten)]
        order: Order,
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
        Command::Create { param, json, order } => {
            let parameters = parameters(json.map(|file| read_json(&file)).transpose()?, param)?;
            order.give(Needs::Mode, &["accounts"], parameters, &[("", "--param")], FIRST).await.map(drop)
        }
        Command::Link { id, link_type, return_url, order } => {
            let fields = [("type", link_type.map(Value::from)), ("return_url", return_url.map(Value::from))];
            order
                .give(Needs::Mode, &["accounts", &id, "onboarding-links"], body(fields), &[], &["url"])
                .await?;
            eprintln!("it opens the person's data: send them there yourself, and never mail or log it");
            Ok(())
        }
    }
}

/// The file's parameters and the single ones; which of two for one name is meant is not for us to choose.
fn parameters(file: Option<Value>, single: Vec<(String, String)>) -> Result<Map<String, Value>, Failed> {
    let mut all = match file {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            eprintln!("error: --json must hold one JSON object");
            return Err(Failed::Usage);
        }
    };
    for (name, value) in single {
        let path: Vec<&str> = name.split('.').collect();
        if !place(&mut all, &path, value) {
            eprintln!("error: {name} is given twice, by --param or in the file: leave one");
            return Err(Failed::Usage);
        }
    }
    Ok(all)
}

/// Puts a value where its path leads; false where something stands there, or in the way.
fn place(map: &mut Map<String, Value>, path: &[&str], value: String) -> bool {
    match path {
        [] => false,
        [last] => map.insert((*last).to_owned(), value.into()).is_none(),
        [first, rest @ ..] => {
            let inner = map.entry(*first).or_insert_with(|| Value::Object(Map::new()));
            inner.as_object_mut().is_some_and(|inner| place(inner, rest, value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn single_parameters_and_the_files_go_together_each_named_once() {
        let given = |names: &[(&str, &str)]| {
            names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let file = json!({"country": "US", "individual": {"last_name": "Lovelace"}});
        assert!(parameters(Some(file.clone()), given(&[("country", "CA")])).is_err());
        assert!(parameters(Some(file.clone()), given(&[("individual", "Ada")])).is_err());
        assert!(parameters(Some(file.clone()), given(&[("country.code", "CA")])).is_err());
        let all = parameters(Some(file), given(&[("email", "a@b.c"), ("individual.first_name", "Ada")]));
        let expected = json!({"country": "US", "email": "a@b.c", "individual": {"last_name": "Lovelace", "first_name": "Ada"}});
        assert_eq!(all.ok().map(Value::Object), Some(expected));
        assert!(parameters(None, given(&[("a", "1"), ("a", "2")])).is_err());
        assert!(parameters(None, given(&[("a", "1"), ("a.b", "2")])).is_err());
        assert!(parameters(Some(json!([])), Vec::new()).is_err());
    }
}
