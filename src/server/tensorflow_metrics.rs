//! The metrics that TensorFlow Serving's dashboards are built on: its names, labels and units (microseconds).
//!
//! `runtime_latency` is by batch and not by request, `queuing_latency` is that of each batch's oldest request.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::series::Series;
use crate::api::{Call, Entrypoint};
use crate::batch::BatchReport;
use crate::error::Code;
use crate::model::ServableId;

/// A counter whose name does not end in `_total`, as TensorFlow Serving's do not; OpenMetrics then calls it unknown.
#[derive(Clone, Debug, Default)]
struct Count(Counter);

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Unknown;
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabels {
    model_name: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[allow(non_snake_case)]
struct LatencyLabels {
    model_name: String,
    API: &'static str,
    entrypoint: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[allow(non_snake_case)]
struct RuntimeLabels {
    model_name: String,
    API: &'static str,
    runtime: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PoolLabels {
    thread_pool_name: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PaddingLabels {
    execution_batch_size: u64,
}

/// The pool is not named where there is none.
const POOL: PoolLabels = PoolLabels { thread_pool_name: "" };

/// 10 microseconds to about 20 minutes.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(10.0, 1.8, 33))
}

fn waits() -> Histogram {
    Histogram::new(exponential_buckets(100.0, 1.2, 52))
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 14))
}

/// Every one of them.
#[derive(Debug)]
pub(super) struct TensorflowMetrics {
    requests: Series<StatusLabels, Count>,
    latency: Series<LatencyLabels, Histogram>,
    runtime: Series<RuntimeLabels, Histogram>,
    queuing: Series<PoolLabels, Histogram>,
    padding: Series<PaddingLabels, Histogram>,
    processed: Series<PoolLabels, Histogram>,
    runs: Series<PoolLabels, Count>,
}

impl TensorflowMetrics {
    /// Registers them under names of their own.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let name = |rest: &str| format!(":tensorflow:serving:{rest}");
        let session = |rest: &str| name(&format!("batching_session:{rest}"));
        let r = registry;
        Self {
            requests: Series::new(r, &name("request_count"), None, "Requests by model and status", Count::default),
            latency: Series::new(
                r,
                &name("request_latency"),
                None,
                "Microseconds of requests that succeeded",
                latencies,
            ),
            runtime: Series::new(r, &name("runtime_latency"), None, "Microseconds of runs", latencies),
            queuing: Series::new(r, &session("queuing_latency"), None, "Microseconds in the batching queue", waits),
            padding: Series::new(r, &session("padding_size"), None, "Rows added to each batch", sizes),
            processed: Series::new(r, &session("processed_batch_size"), None, "Rows of each batch, padded", sizes),
            runs: Series::new(r, &session("wrapped_run_count"), None, "Batches run", Count::default),
        }
    }

    /// A call has ended; `model` is its label.
    pub(super) fn called(&self, call: &Call<'_>, model: &str) {
        let (api, is_counted) = match (call.entrypoint, call.method) {
            (Entrypoint::Rest, "Predict") => (Some("predict"), true),
            (Entrypoint::Rest, "Classify") => (Some("classify"), true),
            (Entrypoint::Rest, "Regress") => (Some("regress"), true),
            (Entrypoint::Rest, _) => (None, true),
            (Entrypoint::Grpc, method @ ("Predict" | "Classify" | "Regress")) => (Some(method), true),
            (Entrypoint::Grpc, _) => (None, false),
        };
        if is_counted {
            let status = call.code().map_or("OK", Code::name);
            self.requests.with(&StatusLabels { model_name: model.to_owned(), status }, |count| count.0.inc());
        }
        if let (Some(api), None) = (api, call.code()) {
            let entrypoint = call.entrypoint.name();
            let labels = LatencyLabels { model_name: model.to_owned(), API: api, entrypoint };
            self.latency.with(&labels, |latency| latency.observe(micros(call.latency)));
        }
    }

    /// A batch has ended.
    pub(super) fn batch(&self, id: &ServableId, report: &BatchReport) {
        let size = report.rows + report.padded_rows;
        let labels = RuntimeLabels { model_name: id.name.to_string(), API: "Predict", runtime: "TF1" };
        self.runtime.with(&labels, |runtime| runtime.observe(micros(report.ran)));
        self.queuing.with(&POOL, |queuing| queuing.observe(micros(report.queued)));
        let labels = PaddingLabels { execution_batch_size: size as u64 };
        self.padding.with(&labels, |padding| padding.observe(report.padded_rows as f64));
        self.processed.with(&POOL, |processed| processed.observe(size as f64));
        self.runs.with(&POOL, |runs| runs.0.inc());
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
