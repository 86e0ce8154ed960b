//! Which trace a span belongs to: that of the event, or of the order, that it is about.
//!
//! What is done about one transfer is done by several processes, days apart. So a trace's id is not handed on: it
//! follows from the id of what it is about, nothing has to be kept, and whoever knows an id finds its trace. Where
//! nothing is exported, all of this does nothing.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use sha2::{Digest, Sha256};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// More links than this say nothing more to a reader.
const MOST_LINKS: usize = 32;

/// Puts a span into the trace of what has this id. Only before it is first entered.
pub fn begin(span: &Span, id: &str) {
    if span.is_disabled() {
        return;
    }
    // It fails where nothing is exported, which is as well.
    let _ = span.set_parent(Context::new().with_remote_span_context(context_of(id)));
}

/// Leads from a span to the traces of what has these ids.
pub fn link<'a>(span: &Span, ids: impl IntoIterator<Item = &'a str>) {
    if span.is_disabled() {
        return;
    }
    ids.into_iter().take(MOST_LINKS).for_each(|id| span.add_link(context_of(id)));
}

/// The trace's id, as a collector shows it.
pub fn trace_id(id: &str) -> String {
    context_of(id).trace_id().to_string()
}

fn context_of(id: &str) -> SpanContext {
    let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let (mut trace, mut parent) = ([0_u8; 16], [0_u8; 8]);
    trace.copy_from_slice(&hash[..16]);
    parent.copy_from_slice(&hash[16..24]);
    let (trace, parent) = (TraceId::from_bytes(trace), SpanId::from_bytes(parent));
    SpanContext::new(trace, parent, TraceFlags::SAMPLED, true, TraceState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_trace_of_its_own() {
        // printf xfer_1 | sha256sum | cut -c-32
        assert_eq!(trace_id("xfer_1"), "15ec4e41d46c3d45ea5146f5fb437dc6");
        assert_ne!(trace_id("xfer_1"), trace_id("xfer_2"));
        assert!(context_of("evt_1").is_valid() && context_of("evt_1").is_sampled());
    }
}
