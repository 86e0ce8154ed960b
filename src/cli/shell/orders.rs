//! Orders: what changes something, carried out once under a key.

use std::path::Path;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::Shown;
use super::api::{Answer, Api, Needs, with};
use super::problem::Names;
use crate::cli::Failed;

/// How an order is given.
#[derive(clap::Args, Debug)]
pub struct Order {
    /// Carried out once, however often it is repeated with this key; a new one is made and told unless given
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    #[command(flatten)]
    pub shown: Shown,
}

impl Order {
    /// The key that was given, or a new one, told before anything is done: where the answer is lost, the order can
    /// be repeated.
    pub fn key(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(|| {
            let key = Self::new_key();
            eprintln!("--idempotency-key {key}");
            key
        })
    }

    /// A key that was never used.
    pub fn new_key() -> String {
        format!("shell-{}", Uuid::now_v7().simple())
    }

    /// Gives the order and shows the object that it is answered with.
    pub async fn give(
        &self,
        needs: Needs,
        path: &[&str],
        body: Map<String, Value>,
        names: Names,
        first: &[&str],
    ) -> Result<Answer, Failed> {
        let answer = self.send(needs, path, body, names).await?;
        self.shown.form().object(&answer.text, first);
        Ok(answer)
    }

    /// Gives the order.
    pub async fn send(
        &self,
        needs: Needs,
        path: &[&str],
        body: Map<String, Value>,
        names: Names,
    ) -> Result<Answer, Failed> {
        with(&self.shown.flags, needs, async |api: &Api| {
            let answer = api.post(path, &self.key(), body, names).await?;
            if needs == Needs::Mode && !api.is_served().await {
                eprintln!("no service runs on this database: what waits for one goes on once it is started");
            }
            Ok(answer)
        })
        .await
    }
}

/// A reason that goes on record.
#[derive(clap::Args, Debug)]
pub struct Reason {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl Reason {
    /// The body that holds it.
    pub fn body(self) -> Map<String, Value> {
        body([("reason", self.reason.map(Value::from))])
    }
}

/// A body of the fields that were given.
pub fn body<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// An amount, as money is written here: 10.00 is not one, and the reader is told what it is instead.
pub fn minor_units(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "must be a whole number of minor units: 1000 for 10.00 usd".to_owned())
}

/// Pairs as an object; of two with one name it is not for us to choose.
pub fn object(pairs: Vec<(String, String)>) -> Result<Option<Value>, Failed> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut map = Map::new();
    for (name, value) in pairs {
        if map.contains_key(&name) {
            eprintln!("error: {name} is given twice: leave one");
            return Err(Failed::Usage);
        }
        map.insert(name, value.into());
    }
    Ok(Some(Value::Object(map)))
}

/// The JSON in a file, or on standard input where it is called `-`.
pub fn read_json(file: &Path) -> Result<Value, Failed> {
    let read = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let json = read.map_err(|error| error.to_string());
    json.and_then(|text| serde_json::from_str(&text).map_err(|error| format!("is not JSON: {error}")))
        .map_err(|why| {
            eprintln!("error: {}: {why}", file.display());
            Failed::Usage
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_whole_minor_units() {
        assert_eq!((minor_units("1000"), minor_units("-5")), (Ok(1000), Ok(-5)));
        for text in ["10.00", "x", "", "1e3", "99999999999999999999"] {
            assert!(minor_units(text).unwrap_err().contains("minor units"), "{text}");
        }
    }
}
