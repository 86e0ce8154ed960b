//! What the process counts, each by name, kind and meaning, and the recorder that keeps them for Prometheus.
//!
//! Names follow Prometheus: base units, `_total` on counters, money in a currency's minor units with that said in
//! the name.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use self::Kind::{Counter, Gauge, Histogram};
use super::process;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What the process itself counts. What only the database can tell stands in `http::measures`.
const METRICS: &[(&str, Kind, &str)] = &[
    ("sluicegate_build_info", Gauge, "Always 1; version and commit of the program"),
    ("sluicegate_intake_events_total", Counter, "Webhook deliveries, by outcome"),
    ("sluicegate_intake_seconds", Histogram, "From a webhook's arrival to its answer, the commit included"),
    (
        "sluicegate_backfilled_events_total",
        Counter,
        "Events that were never delivered and were found in Stripe's list",
    ),
    (
        "sluicegate_reconcile_differences_total",
        Counter,
        "Objects that Stripe's lists showed otherwise than held, by kind",
    ),
    ("sluicegate_release_seconds", Histogram, "From a transfer's request to its release at Stripe"),
    (
        "sluicegate_release_reserved_seconds",
        Histogram,
        "From a transfer being ready with its money reserved to its release at Stripe",
    ),
    (
        "sluicegate_released_minor_units_total",
        Counter,
        "Money released to accounts in the currency's minor units, by currency",
    ),
    ("sluicegate_transfers_adopted_total", Counter, "Transfers found at Stripe after a restore and taken in"),
    (
        "sluicegate_transfer_mismatches_total",
        Counter,
        "Transfers at Stripe that carry our id and differ from ours",
    ),
    (
        "sluicegate_topup_mismatches_total",
        Counter,
        "Top-ups at Stripe that carry our id and differ from what was ordered",
    ),
    (
        "sluicegate_stripe_calls_total",
        Counter,
        "Calls to Stripe, by method, endpoint, outcome and HTTP status (0 where none came)",
    ),
    ("sluicegate_stripe_call_seconds", Histogram, "Duration of a call to Stripe, by method and endpoint"),
    ("sluicegate_streams", Gauge, "Open listeners of /v1/stream"),
    ("sluicegate_waiting_callers", Gauge, "Callers who wait for an account to become ready"),
    (
        "sluicegate_refused_calls_total",
        Counter,
        "Calls of the API with a known key that was taken back or does not reach so far",
    ),
    (
        "sluicegate_connections_closed_total",
        Counter,
        "Connections that were left though their other end had not ended them, by reason",
    ),
    ("sluicegate_trace_spans_total", Counter, "Spans handed to the collector, by outcome (sent, failed)"),
];

/// Words that are counted from zero, so that the first of a kind is an increase and not a new series.
const FROM_ZERO: &[(&str, &str, &[&str])] = &[
    (
        "sluicegate_intake_events_total",
        "outcome",
        &["stored", "duplicate", "signature_invalid", "event_malformed", "unreadable", "full", "unavailable"],
    ),
    ("sluicegate_backfilled_events_total", "", &[""]),
    ("sluicegate_reconcile_differences_total", "kind", &["account", "topup", "transfer"]),
    ("sluicegate_connections_closed_total", "reason", &["crowded", "overdue", "refused"]),
    ("sluicegate_transfers_adopted_total", "", &[""]),
    ("sluicegate_transfer_mismatches_total", "", &[""]),
    ("sluicegate_topup_mismatches_total", "", &[""]),
    ("sluicegate_refused_calls_total", "", &[""]),
];

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

/// The process's metrics, as the text that Prometheus reads.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// The text at this moment.
    pub fn render(&self) -> String {
        let mut text = self.0.render();
        process::render_into(&mut text);
        text
    }
}

/// The process's metrics; the first call makes this process's recorder and describes every metric.
///
/// Call it before the first measurement: what was measured earlier is lost.
pub fn metrics() -> &'static Metrics {
    static HANDLE: OnceLock<Metrics> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        // A recorder that is there already, as in an embedding program, keeps what is measured.
        if metrics::set_global_recorder(recorder).is_ok() {
            describe();
            keep_up(handle.clone());
        }
        Metrics(handle)
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
    for (name, kind, help) in METRICS {
        match kind {
            Counter => describe_counter!(*name, *help),
            Gauge => describe_gauge!(*name, *help),
            Histogram => describe_histogram!(*name, *help),
        }
    }
    for (name, label, words) in FROM_ZERO {
        for word in *words {
            if label.is_empty() {
                metrics::counter!(*name).increment(0);
            } else {
                metrics::counter!(*name, *label => *word).increment(0);
            }
        }
    }
    for name in ["sluicegate_streams", "sluicegate_waiting_callers"] {
        metrics::gauge!(name).set(0.0);
    }
    // As `--version` shows it: ` (commit)`, or nothing where the build does not know it.
    let commit = match env!("SLUICEGATE_BUILD").trim_matches([' ', '(', ')']) {
        "" => "unknown",
        commit => commit,
    };
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!("sluicegate_build_info", "version" => version, "commit" => commit).set(1.0);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metrics_are_rendered_with_their_help_and_buckets() {
        let handle = metrics();
        metrics::counter!("sluicegate_intake_events_total", "outcome" => "stored").increment(2);
        metrics::histogram!("sluicegate_intake_seconds").record(0.003);
        metrics::histogram!("sluicegate_release_seconds").record(7_200.0);
        metrics::gauge!("sluicegate_event_lag_seconds").set(1.5);
        let text = handle.render();
        for line in [
            "# HELP sluicegate_intake_events_total Webhook deliveries, by outcome",
            "# TYPE sluicegate_intake_events_total counter",
            "sluicegate_intake_events_total{outcome=\"stored\"} 2",
            "sluicegate_intake_events_total{outcome=\"signature_invalid\"} 0",
            "# TYPE sluicegate_intake_seconds histogram",
            "sluicegate_intake_seconds_bucket{le=\"0.002\"} 0",
            "sluicegate_intake_seconds_bucket{le=\"0.005\"} 1",
            "sluicegate_release_seconds_bucket{le=\"14400\"} 1",
            "sluicegate_event_lag_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(std::ptr::eq(handle, metrics()));
    }

    #[test]
    fn names_say_kind_and_unit_and_each_stands_once() {
        let mut seen = BTreeSet::new();
        for (name, kind, help) in METRICS {
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("sluicegate_") && !help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Counter), "{name}");
            assert!(!matches!(kind, Histogram) || name.ends_with("_seconds"), "{name} has no unit");
        }
        for (name, ..) in FROM_ZERO {
            assert!(seen.contains(name), "{name} is not described");
        }
    }
}
