//! Logs to stderr and metrics for Prometheus: set up once a process, and nothing about what is measured.
//!
//! Whoever measures uses the `metrics` and `tracing` macros with the names described here; labels hold
//! words of closed lists, never ids, so that the number of series stays bounded.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// What is logged unless the operator says otherwise.
pub const DEFAULT_FILTER: &str = "info,sqlx=warn,hyper=warn,h2=warn,rustls=warn";

/// Sends log lines to stderr; stdout is for results.
///
/// `format` of `None` is pretty on a terminal and JSON elsewhere; `filter` of `None` is [`DEFAULT_FILTER`].
/// Returns false, and changes nothing, where the process already has a logger.
pub fn init(format: Option<LogFormat>, filter: Option<&str>) -> bool {
    let terminal = std::io::stderr().is_terminal();
    let by_output = if terminal { LogFormat::Pretty } else { LogFormat::Json };
    let filter = EnvFilter::builder().parse_lossy(filter.unwrap_or(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match format.unwrap_or(by_output) {
        LogFormat::Pretty => lines.with_ansi(terminal && wants_colour()).finish().try_init().is_ok(),
        LogFormat::Json => lines
            .with_ansi(false)
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .finish()
            .try_init()
            .is_ok(),
    }
}

/// <https://no-color.org>
fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// From half a millisecond, a commit, to minutes, a backlog.
const SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// From a second, funds and readiness at hand, to eight days, a slow top-up.
const LONG_SECONDS: &[f64] = &[
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0, 345_600.0,
    691_200.0,
];

/// How often histograms are folded into their buckets, so that an unscraped process does not grow.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The process's metrics; the first call makes this process's recorder and describes every metric.
///
/// `render()` gives the text that Prometheus reads. Call it before the first measurement: what was measured
/// earlier is lost.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        // A recorder that is there already, as in an embedding program, keeps what is measured.
        if metrics::set_global_recorder(recorder).is_ok() {
            describe();
            keep_up(handle.clone());
        }
        handle
    })
}

fn recorder() -> PrometheusRecorder {
    let with_buckets = || -> Result<PrometheusBuilder, BuildError> {
        let long = Matcher::Full("sluicegate_release_seconds".to_owned());
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
            .set_buckets_for_metric(long, LONG_SECONDS)
    };
    // Only an empty list of buckets is refused, and neither is; summaries would be the next best.
    with_buckets().unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder()
}

/// Folds histograms on a thread of its own, as the exporter's own servers do.
fn keep_up(handle: PrometheusHandle) {
    let work = move || {
        loop {
            std::thread::sleep(UPKEEP_EVERY);
            handle.run_upkeep();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(work) {
        tracing::warn!(%error, "no thread for metrics: histograms are folded only when scraped");
    }
}

fn describe() {
    describe_counter!("sluicegate_intake_events_total", "Webhook deliveries, by outcome");
    describe_histogram!(
        "sluicegate_intake_seconds",
        Unit::Seconds,
        "From a webhook's arrival to its answer, the commit included"
    );
    describe_gauge!(
        "sluicegate_lag_seconds",
        Unit::Seconds,
        "Age of the oldest task that is due and not done"
    );
    describe_gauge!("sluicegate_tasks", "Tasks, by kind and state");
    describe_gauge!("sluicegate_transfers_waiting", "Waiting transfers, by reason and currency");
    describe_gauge!(
        "sluicegate_transfers_waiting_amount_minor",
        "Money of waiting transfers in minor units, by reason and currency"
    );
    describe_gauge!(
        "sluicegate_funds_minor",
        "Money in minor units, by currency and state (settled, reserved, released, available, pending)"
    );
    describe_counter!("sluicegate_stripe_calls_total", "Calls to Stripe, by endpoint and outcome");
    describe_histogram!(
        "sluicegate_stripe_call_seconds",
        Unit::Seconds,
        "Duration of a call to Stripe, by endpoint"
    );
    describe_histogram!(
        "sluicegate_release_seconds",
        Unit::Seconds,
        "From a transfer's creation to its release at Stripe"
    );
    describe_gauge!("sluicegate_dead_letters", "Events that failed for a fault of their own");
    describe_gauge!("sluicegate_db_pool_connections", "Connections to Postgres, by state (idle, used)");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_their_help_and_buckets() {
        let handle = metrics();
        metrics::counter!("sluicegate_intake_events_total", "outcome" => "stored").increment(2);
        metrics::histogram!("sluicegate_intake_seconds").record(0.003);
        metrics::histogram!("sluicegate_release_seconds").record(7_200.0);
        metrics::gauge!("sluicegate_lag_seconds").set(1.5);
        let text = handle.render();
        for line in [
            "# HELP sluicegate_intake_events_total Webhook deliveries, by outcome",
            "# TYPE sluicegate_intake_events_total counter",
            "sluicegate_intake_events_total{outcome=\"stored\"} 2",
            "# TYPE sluicegate_intake_seconds histogram",
            "sluicegate_intake_seconds_bucket{le=\"0.002\"} 0",
            "sluicegate_intake_seconds_bucket{le=\"0.005\"} 1",
            "sluicegate_release_seconds_bucket{le=\"14400\"} 1",
            "sluicegate_lag_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(std::ptr::eq(handle, metrics()));
    }

    #[test]
    fn a_second_logger_is_refused_without_harm() {
        init(Some(LogFormat::Json), Some("off"));
        assert!(!init(None, None));
        assert!(EnvFilter::builder().parse(DEFAULT_FILTER).is_ok());
    }
}
