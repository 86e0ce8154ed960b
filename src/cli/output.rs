//! How a command shows its result: a table for people, JSON for programs.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde_json::Value;

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

    /// Prints one result: its JSON, or its names and values line by line.
    pub fn print(self, result: &Value) {
        match (self, result) {
            (Self::Table, Value::Object(fields)) => {
                let width = fields.keys().map(String::len).max().unwrap_or(0);
                for (name, value) in fields {
                    println!("{name:width$}  {}", plain(value));
                }
            }
            (Self::Table | Self::Json, _) => println!("{result}"),
        }
    }
}

/// A value without JSON's quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
