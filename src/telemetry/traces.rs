//! Spans for a collector that speaks OTLP over HTTP, where the environment names one.
//!
//! The variables are OpenTelemetry's own and most are read by its library. Spans wait in a bounded queue and are sent
//! by a thread of its own: a collector that is slow or away costs spans and nothing else.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter};

/// Whoever ends the service does not wait longer for a collector.
const LAST_WORDS: Duration = Duration::from_secs(3);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The layer that hands spans over; none where no collector is named. An error says why it can't be made.
pub fn layer<S>() -> Result<Option<impl Layer<S>>, String>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if !is_wanted(set) {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| error.to_string())?;
    let named = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", "sluicegate"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    // What the environment says of the service comes later, and counts more.
    let mut resource = named
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    if let Some(name) = set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(name);
    }
    let mut provider = SdkTracerProvider::builder()
        .with_batch_exporter(Watched { exporter, failing: AtomicBool::new(false) })
        .with_resource(resource.build());
    if let Some(sampler) = sampler(set) {
        provider = provider.with_sampler(sampler);
    }
    let tracer = PROVIDER.get_or_init(|| provider.build()).tracer("sluicegate");
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false);
    // Asked anew each time. Whoever only asks whether something is wanted, as sqlx does before it words a statement,
    // leaves the answer lying about, and a span whose own answer were remembered would be taken by that.
    let ours = filter::dynamic_filter_fn(|metadata, _| is_ours(metadata));
    let ours = ours.with_max_level_hint(LevelFilter::DEBUG);
    Ok(Some(layer.with_filter(ours)))
}

/// Sends what is left. Call it at the end, outside of any runtime: it blocks, for three seconds at most.
pub fn finish() {
    if let Some(provider) = PROVIDER.get() {
        // Whether it went well was counted and said by the exporter.
        let _ = provider.shutdown_with_timeout(LAST_WORDS);
    }
}

/// Our own spans, and of our lines those that an operator sees too.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let finest = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
    metadata.target().starts_with("sluicegate") && *metadata.level() <= finest
}

fn is_wanted(set: impl Fn(&str) -> Option<String>) -> bool {
    let endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    endpoint.is_some() && !disabled && !none
}

/// A trace's id follows from what it is about, so every process decides alike by the id alone. The library would take
/// a parent of another process as decided upon, and keep all.
fn sampler(set: impl Fn(&str) -> Option<String>) -> Option<Sampler> {
    let by_ratio = set("OTEL_TRACES_SAMPLER")? == "parentbased_traceidratio";
    let ratio = set("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse().ok()).unwrap_or(1.0);
    by_ratio.then_some(Sampler::TraceIdRatioBased(ratio))
}

/// Counts what is sent, and says when that stops working and when it works again.
#[derive(Debug)]
struct Watched {
    exporter: opentelemetry_otlp::SpanExporter,
    failing: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.exporter.export(batch).await;
        let outcome = if result.is_ok() { "sent" } else { "failed" };
        metrics::counter!("sluicegate_trace_spans_total", "outcome" => outcome).increment(spans);
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "spans can't be handed to the collector; they are lost until it answers");
            }
            Ok(()) if failed_before => tracing::info!("spans are handed to the collector again"),
            _ => {}
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn spans_are_exported_where_a_collector_is_named_and_nothing_speaks_against_it() {
        let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for (pairs, wanted) in [
            (vec![], false),
            (vec![collector], true),
            (vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")], true),
            (vec![collector, ("OTEL_SDK_DISABLED", "TRUE")], false),
            (vec![collector, ("OTEL_SDK_DISABLED", "false")], true),
            (vec![collector, ("OTEL_TRACES_EXPORTER", "none")], false),
        ] {
            assert_eq!(is_wanted(environment(&pairs)), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn a_ratio_is_decided_by_the_traces_id_alone() {
        let chosen =
            |pairs: &[(&str, &str)]| sampler(environment(pairs)).map(|sampler| format!("{sampler:?}"));
        let by_parent = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        let ratio = chosen(&[by_parent, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]);
        assert_eq!(ratio.as_deref(), Some("TraceIdRatioBased(0.25)"));
        assert_eq!(chosen(&[("OTEL_TRACES_SAMPLER", "always_off")]), None, "the library knows");
        assert_eq!(chosen(&[]), None);
    }
}
