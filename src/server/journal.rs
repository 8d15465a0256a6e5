//! What becomes known of each call: metrics, a line in the log, a span.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::collector::{Collector, Otlp};
use super::spans::{Sending, Spans};
use super::telemetry::Metrics;
use crate::api::{Call, Entrypoint, Logged, Observer, Seldom, Span, TraceParent, Trail, Value, random};
use crate::error::Code;
use crate::model::ServableId;

/// Tells of calls.
#[derive(Debug)]
pub(super) struct Journal {
    metrics: Arc<Metrics>,
    /// `None`: spans are not recorded.
    spans: Option<Spans>,
    failures: Seldom<(&'static str, &'static str)>,
}

impl Journal {
    /// Also gives what sends spans, if they are to be sent. To be called within a runtime.
    pub(super) fn start(metrics: Arc<Metrics>, otlp: Option<Otlp>) -> (Arc<Self>, Option<Sending>) {
        let started = otlp.map(|otlp| {
            let fraction = otlp.fraction;
            Spans::start(Collector::new(otlp), fraction, Arc::clone(&metrics))
        });
        let (spans, sending) = started.unzip();
        (Arc::new(Self { metrics, spans, failures: Seldom::new() }), sending)
    }

    /// A line for each failed call, but one a method and code a second. Messages on what callers sent stay away: they may show it.
    fn tell(&self, call: &Call<'_>, trail: Option<&Trail>) {
        let id = trail.map_or("", Trail::id);
        let trace = || trail.and_then(|trail| trail.own).map(|own| format!("{:032x}", own.trace_id));
        let Some(error) = call.error else {
            tracing::debug!(
                request_id = id, trace_id = trace(), method = call.method, model = call.model, version = call.version,
                latency = ?call.latency, "answered"
            );
            return;
        };
        let (entrypoint, code) = (call.entrypoint.name(), error.code());
        let Some(left_out) = self.failures.pass((call.method, code.name())) else { return };
        if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable) {
            tracing::warn!(
                request_id = id,
                trace_id = trace(),
                entrypoint,
                method = call.method,
                model = call.model,
                version = call.version,
                code = code.name(),
                left_out,
                "a call failed: {error}"
            );
        } else {
            tracing::info!(
                request_id = id,
                trace_id = trace(),
                entrypoint,
                method = call.method,
                model = call.model,
                version = call.version,
                code = code.name(),
                left_out,
                "a call was refused"
            );
        }
    }

    fn record(&self, spans: &Spans, call: &Call<'_>, trail: &Trail) {
        let own = match trail.own {
            Some(own) => Some(own).filter(|own| own.is_sampled),
            None => ((random() as f64) < spans.fraction() * u64::MAX as f64).then(TraceParent::root),
        };
        let Some(own) = own else { return };
        let start = trail.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let microseconds = |time: Duration| Value::Number(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        let number = |count: usize| Value::Number(i64::try_from(count).unwrap_or(i64::MAX));
        let text = |text: &str| Value::Text(text.to_owned());
        let mut attributes =
            vec![("coracle.request_id", text(trail.id())), ("coracle.entrypoint", text(call.entrypoint.name()))];
        if !call.model.is_empty() {
            attributes.push(("coracle.model", text(call.model)));
        }
        attributes.extend(call.version.map(|version| ("coracle.version", Value::Number(version))));
        let noted = trail.noted();
        if let Some(timing) = noted.timing {
            attributes.extend([
                ("coracle.signature", Value::Text(noted.signature)),
                ("coracle.batch_rows", number(timing.batch_rows)),
                ("coracle.batches", number(timing.batches)),
                ("coracle.queue_us", microseconds(timing.queued)),
                ("coracle.run_us", microseconds(timing.ran)),
            ]);
        }
        spans.push(Span {
            own,
            parent_id: trail.parent.map(|parent| parent.span_id),
            name: call.method,
            start_ns: nanoseconds(start),
            end_ns: nanoseconds(start + call.latency),
            attributes,
            failure: call.code().map(Code::name),
        });
    }
}

impl Observer for Journal {
    fn called(&self, call: &Call<'_>) {
        self.metrics.called(call);
        let trail = Trail::current();
        if let Some(examples) = trail.as_ref().map(|trail| trail.examples()).filter(|count| *count > 0) {
            self.metrics.took_examples(call.model, examples);
        }
        self.tell(call, trail.as_deref());
        if let Some((spans, trail)) = self.spans.as_ref().zip(trail) {
            self.record(spans, call, &trail);
        }
    }

    fn logged(&self, id: &ServableId, outcome: Logged) {
        self.metrics.logged(id, outcome);
    }

    fn refused(&self, entrypoint: Entrypoint, latency: Duration) {
        self.metrics.refused(entrypoint, latency);
    }
}
