//! The metrics that TensorFlow Serving's dashboards are built on: its names, labels and units (microseconds).
//!
//! `runtime_latency` is by batch and not by request, `queuing_latency` is that of each batch's oldest request.

use std::path::Path;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::buckets::{example_counts, latencies, micros, sizes, waits};
use super::count::Count;
use super::series::Series;
use crate::api::{Call, Entrypoint, Logged};
use crate::batch::BatchReport;
use crate::error::Code;
use crate::model::{Replayed, ServableId};

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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WarmUpLabels {
    model_path: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LogLabels {
    model_name: String,
    status_code: &'static str,
}

/// The pool is not named where there is none.
const POOL: PoolLabels = PoolLabels { thread_pool_name: "" };

/// Every one of them.
#[derive(Debug)]
pub(super) struct TensorflowMetrics {
    requests: Series<StatusLabels, Count>,
    latency: Series<LatencyLabels, Histogram>,
    runtime: Series<RuntimeLabels, Histogram>,
    queuing: Series<PoolLabels, Histogram>,
    padding: Series<PaddingLabels, Histogram>,
    inputs: Series<PoolLabels, Histogram>,
    processed: Series<PoolLabels, Histogram>,
    runs: Series<PoolLabels, Count>,
    example_counts: Series<ModelLabels, Histogram>,
    examples: Series<ModelLabels, Count>,
    warm_up: Series<WarmUpLabels, Histogram>,
    warm_up_records: Series<WarmUpLabels, Count>,
    logged: Series<LogLabels, Count>,
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
            inputs: Series::new(r, &session("input_batch_size"), None, "Rows of each request", sizes),
            processed: Series::new(r, &session("processed_batch_size"), None, "Rows of each batch, padded", sizes),
            runs: Series::new(r, &session("wrapped_run_count"), None, "Batches run", Count::default),
            example_counts: Series::new(
                r,
                &name("request_example_counts"),
                None,
                "Examples of each request that brings some",
                example_counts,
            ),
            examples: Series::new(
                r,
                &name("request_example_count_total"),
                None,
                "Examples of requests",
                Count::default,
            ),
            warm_up: Series::new(
                r,
                &name("model_warmup_latency"),
                None,
                "Microseconds of replaying a version's recorded requests",
                latencies,
            ),
            warm_up_records: Series::new(
                r,
                &name("model_warmup_records_read"),
                None,
                "Recorded requests read from versions' folders",
                Count::default,
            ),
            logged: Series::new(r, &name("request_log_count"), None, "Requests to be written down", Count::default),
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

    /// A request brought examples.
    pub(super) fn took_examples(&self, model: &str, count: usize) {
        let labels = ModelLabels { model: model.to_owned() };
        self.example_counts.with(&labels, |counts| counts.observe(count as f64));
        self.examples.with(&labels, |examples| examples.0.inc_by(count as u64));
    }

    /// Recorded requests were replayed to the version in `folder`.
    pub(super) fn warmed(&self, folder: &Path, replayed: &Replayed, elapsed: Duration) {
        let status = replayed.result.as_ref().err().map_or("OK", |error| error.code().name());
        let labels = WarmUpLabels { model_path: folder.display().to_string(), status };
        self.warm_up.with(&labels, |latency| latency.observe(micros(elapsed)));
        self.warm_up_records.with(&labels, |records| records.0.inc_by(replayed.requests as u64));
    }

    /// A request was to be written down.
    pub(super) fn logged(&self, id: &ServableId, outcome: Logged) {
        let status_code = match outcome {
            Logged::Written => "OK",
            Logged::Dropped => Code::ResourceExhausted.name(),
            Logged::Failed => Code::Internal.name(),
        };
        self.logged.with(&LogLabels { model_name: id.name.to_string(), status_code }, |count| count.0.inc());
    }

    /// A request was queued.
    pub(super) fn queued(&self, rows: usize) {
        self.inputs.with(&POOL, |inputs| inputs.observe(rows as f64));
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
