//! Figures by round, and how they are shown: medians with their spread, for people and for programs.

use serde_json::{Value, json};

use crate::cli::output::say;

/// Requests answered 200 (or rows inserted) in a second.
pub const PER_S: &str = "per s";
/// That, over pgbench's in the same round.
pub const OF_PGBENCH: &str = "÷ pgbench";
/// That, over the naive handler's in the same round.
pub const OF_NAIVE: &str = "÷ naive";
/// All CPU of an event, the load's included, over all of a transaction of pgbench's, in the same round: what the ratio
/// of rates comes to where nothing but CPU limits either, also on a machine that does other things.
pub const CPU_OF_PGBENCH: &str = "CPU ÷ pgbench";
/// Half stayed within.
pub const P50: &str = "p50 ms";
/// 99 % stayed within.
pub const P99: &str = "p99 ms";
/// 99.9 % stayed within.
pub const P999: &str = "p99.9 ms";
/// Events acknowledged and applied in a second, the catching up after the load included: what can be kept up.
pub const APPLIED_PER_S: &str = "applied per s";
/// CPU of the server, an event (or request).
pub const SERVER_US: &str = "server µs";
/// CPU of Postgres, an event.
pub const POSTGRES_US: &str = "Postgres µs";
/// CPU of whoever makes the load, an event: it takes its share of the same cores.
pub const LOAD_US: &str = "load µs";
/// Bytes that Postgres wrote to its log, an event.
pub const WAL: &str = "WAL bytes";
/// The most memory the server's process held.
pub const PEAK_MIB: &str = "peak MiB";

/// One figure of one subject, round by round.
#[derive(Clone, Debug)]
pub struct Figure {
    phase: &'static str,
    measure: String,
    subject: String,
    name: &'static str,
    rounds: Vec<f64>,
}

/// All figures of a run, in the order in which they came.
#[derive(Default)]
pub struct Figures {
    list: Vec<Figure>,
    notes: Vec<String>,
}

/// The value in the middle; of two, the mean.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get((sorted.len().max(1) - 1) / 2), sorted.get(sorted.len() / 2));
    low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
}

impl Figure {
    fn median(&self) -> f64 {
        median(&self.rounds)
    }

    fn ends(&self) -> (f64, f64) {
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    fn shown(&self) -> String {
        let (least, most) = self.ends();
        let middle = number(self.median());
        if self.rounds.len() > 1 {
            format!("{middle} ({}–{})", number(least), number(most))
        } else {
            middle
        }
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Figures {
    /// Adds what one round brought.
    pub fn add(
        &mut self,
        phase: &'static str,
        measure: &str,
        subject: &str,
        name: &'static str,
        value: Option<f64>,
    ) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        let known = self.list.iter_mut().find(|figure| {
            (figure.phase, figure.measure.as_str(), figure.subject.as_str(), figure.name)
                == (phase, measure, subject, name)
        });
        match known {
            Some(figure) => figure.rounds.push(value),
            None => self.list.push(Figure {
                phase,
                measure: measure.to_owned(),
                subject: subject.to_owned(),
                name,
                rounds: vec![value],
            }),
        }
    }

    /// Says something that the figures do not; once.
    pub fn note(&mut self, text: String) {
        eprintln!("note: {text}");
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The median of a figure, if it was measured.
    pub fn median(&self, phase: &str, measure: &str, subject: &str, name: &str) -> Option<f64> {
        let wanted = self.list.iter().find(|figure| {
            (figure.phase, figure.measure.as_str(), figure.subject.as_str(), figure.name)
                == (phase, measure, subject, name)
        });
        wanted.map(Figure::median)
    }

    /// The largest median of a figure among all measures of one subject.
    pub fn best(&self, phase: &str, subject: &str, name: &str) -> Option<f64> {
        let wanted =
            self.list.iter().filter(|f| (f.phase, f.subject.as_str(), f.name) == (phase, subject, name));
        wanted.map(Figure::median).max_by(f64::total_cmp)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let figure = |figure: &Figure| {
            let (least, most) = figure.ends();
            json!({
                "phase": figure.phase, "measure": figure.measure, "subject": figure.subject, "figure": figure.name,
                "median": figure.median(), "least": least, "most": most, "rounds": figure.rounds,
            })
        };
        json!({"figures": self.list.iter().map(figure).collect::<Vec<_>>(), "notes": self.notes})
    }

    /// For people: a block a measure, a line a subject.
    pub fn print(&self) {
        let mut blocks: Vec<(&str, &str)> = Vec::new();
        for figure in &self.list {
            if !blocks.contains(&(figure.phase, &figure.measure)) {
                blocks.push((figure.phase, &figure.measure));
            }
        }
        for (phase, measure) in blocks {
            let of_block: Vec<&Figure> =
                self.list.iter().filter(|f| (f.phase, f.measure.as_str()) == (phase, measure)).collect();
            say(&format!("\n{phase}: {measure}"));
            print_block(&of_block);
        }
        for note in &self.notes {
            say(&format!("\nnote: {note}"));
        }
    }
}

fn print_block(figures: &[&Figure]) {
    let mut rows: Vec<&str> = Vec::new();
    let mut columns: Vec<&str> = Vec::new();
    for figure in figures {
        if !rows.contains(&figure.subject.as_str()) {
            rows.push(&figure.subject);
        }
        if !columns.contains(&figure.name) {
            columns.push(figure.name);
        }
    }
    let cell = |row: &str, column: &str| {
        let figure = figures.iter().find(|figure| (figure.subject.as_str(), figure.name) == (row, column));
        figure.map_or_else(String::new, |figure| figure.shown())
    };
    let mut lines = vec![String::new(); rows.len() + 1];
    let first = rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
    for (line, row) in lines.iter_mut().zip([""].iter().chain(&rows)) {
        line.push_str(&format!("  {row:first$}"));
    }
    for column in columns {
        let cells: Vec<String> =
            std::iter::once(column.to_owned()).chain(rows.iter().map(|row| cell(row, column))).collect();
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(&cells) {
            line.push_str(&format!("  {cell:>width$}"));
        }
    }
    for line in lines {
        say(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_make_a_median_with_a_spread() {
        let mut figures = Figures::default();
        for value in [Some(30.0), Some(10.0), None, Some(20.5), Some(f64::NAN)] {
            figures.add("empty", "64 connections", "intake", PER_S, value);
        }
        figures.add("empty", "1 connection", "intake", PER_S, Some(40.0));
        assert_eq!(figures.median("empty", "64 connections", "intake", PER_S), Some(20.5));
        assert_eq!(figures.best("empty", "intake", PER_S), Some(40.0));
        assert_eq!(figures.median("empty", "64 connections", "all roles", PER_S), None);
        assert_eq!(figures.list[0].shown(), "20.5 (10.0–30.0)");
    }
}
