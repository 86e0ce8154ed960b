//! Logs to stderr, metrics for Prometheus, and spans for whoever collects them: set up once a process, and nothing
//! about what is measured.
//!
//! Whoever measures uses the `metrics` and `tracing` macros with the names that stand in `metrics`; labels hold
//! words of closed lists, never ids, so that the number of series stays bounded.

mod metrics;
mod process;
mod traces;

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::layer::Layered;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::LogFormat;

pub use self::metrics::metrics;
pub use self::traces::finish;

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// What is logged unless the operator says otherwise.
pub const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,h2=warn,rustls=warn";

/// Sends log lines to stderr; stdout is for results.
///
/// `format` of `None` is pretty on a terminal and JSON elsewhere; `filter` of `None` is [`DEFAULT_FILTER`].
/// Returns false, and changes nothing, where the process already has a logger.
pub fn init(format: Option<LogFormat>, filter: Option<&str>) -> bool {
    lines_alone(format, filter).try_init().is_ok()
}

/// The same for a service, whose spans also go to a collector where the environment names one; [`finish`] sends the
/// last of them.
pub fn init_with_traces(format: Option<LogFormat>, filter: Option<&str>) -> bool {
    match traces::layer::<Layered<Lines, Registry>>() {
        Ok(None) => init(format, filter),
        Ok(Some(exported)) => {
            let lines = lines(format).with_filter(shown(filter)).boxed();
            tracing_subscriber::registry().with(lines).with(exported).try_init().is_ok()
        }
        // A service that can't be watched still pays people out.
        Err(why) => {
            let began = init(format, filter);
            tracing::warn!(why, "spans are not exported");
            began
        }
    }
}

/// Without a collector the filter is everybody's: what it does not show is not even made.
fn lines_alone(format: Option<LogFormat>, filter: Option<&str>) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(lines(format)).with(shown(filter))
}

fn shown(filter: Option<&str>) -> EnvFilter {
    EnvFilter::builder().parse_lossy(filter.unwrap_or(DEFAULT_FILTER))
}

fn lines(format: Option<LogFormat>) -> Lines {
    let terminal = std::io::stderr().is_terminal();
    let by_output = if terminal { LogFormat::Pretty } else { LogFormat::Json };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format.unwrap_or(by_output) {
        LogFormat::Pretty => lines.with_ansi(terminal && wants_colour()).boxed(),
        LogFormat::Json => lines.with_ansi(false).json().flatten_event(true).with_span_list(false).boxed(),
    }
}

/// <https://no-color.org>
fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn a_second_logger_is_refused_without_harm() {
        init(Some(LogFormat::Json), Some("off"));
        assert!(!init(None, None));
        assert!(EnvFilter::builder().parse(DEFAULT_FILTER).is_ok());
    }

    #[test]
    fn without_a_collector_the_spans_of_a_delivery_cost_one_comparison_of_levels() {
        let all = lines_alone(Some(LogFormat::Json), None);
        assert_eq!(all.max_level_hint(), Some(LevelFilter::INFO));
    }
}
