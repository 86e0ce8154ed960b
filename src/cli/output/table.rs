//! Tables: a list in columns, an object line by line with its lists beneath.
//!
//! Amounts stay whole minor units, as they are typed in; times are cut to the second. Control characters are
//! replaced: what somebody wrote into a description must not steer a terminal.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::is_colourless;

/// A column of a list: its heading and what it shows of an item.
#[derive(Clone, Copy, Debug)]
pub struct Column(pub &'static str, pub Show);

/// What a cell shows, by JSON pointers into the item.
#[derive(Clone, Copy, Debug)]
pub enum Show {
    /// A value as it is.
    Text(&'static str),
    /// A word that says how things stand; coloured on a terminal.
    State(&'static str),
    /// An amount in minor units and its currency.
    Money(&'static str, &'static str),
    /// A number.
    Number(&'static str),
}

/// A list in columns.
pub fn rows(items: &[Value], columns: &[Column]) -> String {
    let mut table = plain_table();
    table.set_header(columns.iter().map(|column| heading(column.0)));
    for item in items {
        table.add_row(columns.iter().map(|column| cell(item, column.1)));
    }
    for (at, column) in columns.iter().enumerate() {
        let right = matches!(column.1, Show::Money(..) | Show::Number(_));
        if let Some(column) = table.column_mut(at).filter(|_| right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    flush(table)
}

/// The text, its first column at the left edge and two blanks between columns.
fn flush(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn cell(item: &Value, show: Show) -> Cell {
    let at = |pointer| item.pointer(pointer).unwrap_or(&Value::Null);
    match show {
        Show::Text(pointer) | Show::Number(pointer) => Cell::new(plain(at(pointer))),
        Show::State(pointer) => state(&plain(at(pointer))),
        Show::Money(amount, currency) => Cell::new(format!("{} {}", plain(at(amount)), plain(at(currency)))),
    }
}

/// A word in its colour.
pub fn state(word: &str) -> Cell {
    let colour = match word {
        "ok" | "released" | "succeeded" | "processed" | "enabled" | "created" | "true" => Some(Color::Green),
        "warn" | "waiting" | "releasing" | "pending" | "repaired" | "partially_reversed" => {
            Some(Color::Yellow)
        }
        "fail" | "failed" | "reversed" | "disabled" | "false" => Some(Color::Red),
        _ => None,
    };
    match colour {
        Some(colour) => Cell::new(word).fg(colour),
        None => Cell::new(word),
    }
}

/// An object, a line a field; those named `first` in that order before the others, lists of objects beneath.
pub fn fields(value: &Value, first: &[&str]) -> String {
    let Value::Object(map) = value else { return plain(value) };
    let mut sheet = Sheet::default();
    let named = first.iter().filter_map(|name| map.get_key_value(*name));
    let others = map.iter().filter(|(name, _)| !first.contains(&name.as_str()));
    for (name, value) in named.chain(others) {
        sheet.note(name, value);
    }
    let mut table = plain_table();
    for (name, value) in &sheet.lines {
        table.add_row([heading(name), state(value)]);
    }
    let mut parts = if sheet.lines.is_empty() { Vec::new() } else { vec![flush(table)] };
    parts.extend(sheet.below.into_iter().map(|(title, text)| format!("{title}:\n{text}")));
    parts.join("\n\n")
}

#[derive(Default)]
struct Sheet {
    lines: Vec<(String, String)>,
    /// Titles and the tables under them.
    below: Vec<(String, String)>,
}

impl Sheet {
    fn note(&mut self, name: &str, value: &Value) {
        match value {
            // As Stripe wrote it.
            Value::Object(_) if name == "payload" => {
                let text = serde_json::to_string_pretty(value).unwrap_or_default();
                self.below.push((name.to_owned(), text));
            }
            Value::Object(map) if !map.is_empty() => {
                for (inner, value) in map {
                    self.note(&format!("{name}.{inner}"), value);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => self.table(name, items),
            other => self.lines.push((name.to_owned(), plain(other))),
        }
    }

    /// A list of objects as a table of its own; a list in one of its cells is counted there and follows.
    fn table(&mut self, title: &str, items: &[Value]) {
        let mut names: Vec<&String> = Vec::new();
        for name in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut table = plain_table();
        table.set_header(names.iter().map(|name| heading(&name.replace('_', " ").to_uppercase())));
        let mut inner = Vec::new();
        for (at, item) in items.iter().enumerate() {
            table.add_row(names.iter().map(|name| match item.get(name.as_str()) {
                Some(Value::Array(list)) if list.iter().any(Value::is_object) => {
                    inner.push((format!("{title}[{at}].{name}"), list));
                    Cell::new(list.len())
                }
                Some(value) => state(&plain(value)),
                None => Cell::new("-"),
            }));
        }
        self.below.push((title.to_owned(), flush(table)));
        for (title, list) in inner {
            self.table(&title, list);
        }
    }
}

/// No lines around, as wide as its content: an id that is broken in two can't be copied.
fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if is_colourless() {
        table.force_no_tty();
    }
    table
}

fn heading(text: &str) -> Cell {
    Cell::new(text).add_attribute(Attribute::Bold)
}

/// A value without JSON's quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => time(text).unwrap_or_else(|| printable(text)),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) if map.is_empty() => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// A time to the second, still as it can be given to a flag.
fn time(text: &str) -> Option<String> {
    let at = text.ends_with('Z').then(|| OffsetDateTime::parse(text, &Rfc3339).ok()).flatten()?;
    at.truncate_to_second().format(&Rfc3339).ok()
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_has_a_heading_and_aligned_columns() {
        const COLUMNS: &[Column] = &[
            Column("ID", Show::Text("/id")),
            Column("AMOUNT", Show::Money("/amount", "/currency")),
            Column("WAITS ON", Show::Text("/waiting_on")),
        ];
        let items = [
            json!({"id": "a", "amount": 5, "currency": "usd", "waiting_on": ["x", "y"]}),
            json!({"id": "longer", "amount": 12_345, "currency": "jpy", "waiting_on": []}),
        ];
        let shown = rows(&items, COLUMNS);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["ID         AMOUNT  WAITS ON", "a           5 usd  x, y", "longer  12345 jpy  -"]);
    }

    #[test]
    fn an_object_shows_its_lists_beneath_and_no_control_characters() {
        let shown = fields(
            &json!({
                "a": null, "id": "x\u{1b}[31m", "at": "2026-11-22T10:00:00.123456Z", "inner": {"deep": {"n": 1}},
                "history": [{"at": "2026-11-22T10:00:00Z", "calls": [{"code": "c"}]}],
            }),
            &["id", "absent"],
        );
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        assert_eq!(lines[0], "id            x\u{fffd}[31m");
        assert!(lines.contains(&"at            2026-11-22T10:00:00Z"), "{shown}");
        assert!(lines.contains(&"inner.deep.n  1"), "{shown}");
        assert!(lines.contains(&"history:") && lines.contains(&"history[0].calls:"), "{shown}");
    }
}
