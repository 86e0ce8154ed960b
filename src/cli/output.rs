//! How a command shows its result: a table for people, JSON for programs.
//!
//! JSON is what the API answered, byte for byte; a table leaves out what does not help a reader. Results go to
//! standard output and nothing else does: notes, bars and errors go to standard error.

pub mod progress;
mod table;

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;
use serde_json::value::RawValue;

pub use table::{Column, Show};

/// The two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns.
    Table,
    /// JSON.
    Json,
}

impl Output {
    /// What was asked for; else a table on a terminal and JSON in a pipe.
    pub fn or_fitting(asked: Option<Self>) -> Self {
        let fitting = if std::io::stdout().is_terminal() { Self::Table } else { Self::Json };
        asked.unwrap_or(fitting)
    }

    /// Prints one result that this program made.
    pub fn print(self, result: &Value) {
        self.object(&result.to_string(), &[]);
    }

    /// Prints one object, given as JSON: as it is, or a line a field, those named `first` before the others.
    pub fn object(self, json: &str, first: &[&str]) {
        match (self, serde_json::from_str::<Value>(json)) {
            (Self::Table, Ok(value)) => say(&table::fields(&value, first)),
            (Self::Table | Self::Json, _) => say(json),
        }
    }

    /// Prints one object whose list of this name has columns of its own.
    pub fn sheet(self, json: &str, first: &[&str], list: &str, columns: &[Column]) {
        match (self, serde_json::from_str::<Value>(json)) {
            (Self::Table, Ok(Value::Object(mut fields))) => {
                let items = fields.remove(list).and_then(|items| items.as_array().cloned());
                say(&table::fields(&Value::Object(fields), first));
                say(&format!("\n{}", table::rows(&items.unwrap_or_default(), columns)));
            }
            (Self::Table | Self::Json, _) => say(json),
        }
    }

    /// Prints a list that is always whole, given as the JSON of the answer that holds it.
    pub fn whole(self, json: &str, columns: &[Column]) {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        match (self, value["data"].as_array()) {
            (Self::Table, Some(items)) if items.is_empty() => eprintln!("nothing"),
            (Self::Table, Some(items)) => say(&table::rows(items, columns)),
            (Self::Table, None) | (Self::Json, _) => say(json),
        }
    }

    /// Prints a list; `next` is where it goes on.
    pub fn list(self, items: &[Box<RawValue>], next: Option<&str>, columns: &[Column]) {
        match self {
            Self::Table if items.is_empty() => eprintln!("nothing"),
            Self::Table => {
                let items: Vec<Value> =
                    items.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect();
                say(&table::rows(&items, columns));
            }
            Self::Json => {
                let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
                say(&format!("{{\"data\":[{}],\"next\":{}}}", items.join(","), serde_json::json!(next)));
            }
        }
    }
}

/// Prints a line, or several, to standard output. Whoever reads it may have seen enough, like `head`.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Whether a terminal wants no colour, see <https://no-color.org>.
pub fn is_colourless() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
