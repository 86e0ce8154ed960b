//! Progress of long work, on standard error and only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar towards a known end. It clears itself when it is dropped.
pub fn bar(total: u64, what: &'static str) -> Progress {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}").ok();
    begin(ProgressBar::new(total), style, what)
}

/// A count without a known end.
pub fn counter(what: &'static str) -> Progress {
    let style = ProgressStyle::with_template("{spinner} {msg}").ok();
    begin(ProgressBar::new_spinner(), style, what)
}

fn begin(bar: ProgressBar, style: Option<ProgressStyle>, what: &'static str) -> Progress {
    // It draws to standard error, and nothing at all where that is no terminal.
    let bar = bar.with_message(what);
    if let Some(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    Progress(bar)
}

/// Something that takes a while.
pub struct Progress(ProgressBar);

impl Progress {
    /// One more is done.
    pub fn step(&self) {
        self.0.inc(1);
    }

    /// A line on standard error, beside the bar.
    pub fn aside(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    /// How far it has come, in words.
    pub fn tell(&self, words: String) {
        self.0.set_message(words);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
