//! What operators see: logs and metrics.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::api::{Budget, Call, Entrypoint};
use crate::batch::{BatchReport, Dropped};
use crate::engine::{Engine, RunStats};
use crate::error::Error;
use crate::model::{Board, ServableId};

/// Sends logs to standard error.
///
/// # Errors
/// `INVALID_ARGUMENT` for a filter that is none.
pub(super) fn start_logging(level: &str, json: bool) -> Result<(), Error> {
    let filter = tracing_subscriber::EnvFilter::try_new(format!("wgpu_core=warn,wgpu_hal=error,naga=warn,{level}"))
        .map_err(|e| Error::invalid_argument(format!("log_level is {level:?}: {e}")))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let started = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
    started.map_err(|e| Error::internal(format!("logs are set up already: {e}")))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    model: String,
    version: i64,
    entrypoint: &'static str,
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServableLabels {
    model: String,
    version: i64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    model: String,
    version: i64,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunLabels {
    model: String,
    version: i64,
    lane: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EntrypointLabels {
    entrypoint: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    lane: u64,
}

/// A microsecond to about a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-5, 2.0, 23))
}

/// 20 microseconds to about a second, in steps of a half: fine enough to tell a third of a millisecond.
fn refusals() -> Histogram {
    Histogram::new(exponential_buckets(2e-5, 1.5, 27))
}

/// 1 to 1024 rows.
fn rows() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

/// Methods whose latency is kept.
const INFERENCE: [&str; 4] = ["Predict", "Classify", "Regress", "MultiInference"];

/// Every metric, once.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<CallLabels, Counter>,
    latency: Family<ServableLabels, Histogram>,
    batch_rows: Family<ServableLabels, Histogram>,
    padded_rows: Family<ServableLabels, Counter>,
    batches: Family<ReasonLabels, Counter>,
    queue: Family<ServableLabels, Histogram>,
    device: Family<RunLabels, Histogram>,
    dropped: Family<ReasonLabels, Counter>,
    refusal_latency: Family<EntrypointLabels, Histogram>,
    request_memory: Gauge,
    lane_busy: Family<LaneLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    lane_backlog: Family<LaneLabels, Gauge>,
    lane_memory: Family<LaneLabels, Gauge>,
    lane_lost: Family<LaneLabels, Gauge>,
    model_available: Family<ServableLabels, Gauge>,
    folder_unusable: Family<ModelLabels, Gauge>,
}

impl Metrics {
    pub(super) fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("coracle"),
            requests: Family::default(),
            latency: Family::new_with_constructor(seconds),
            batch_rows: Family::new_with_constructor(rows),
            padded_rows: Family::default(),
            batches: Family::default(),
            queue: Family::new_with_constructor(seconds),
            device: Family::new_with_constructor(seconds),
            dropped: Family::default(),
            refusal_latency: Family::new_with_constructor(refusals),
            request_memory: Gauge::default(),
            lane_busy: Family::default(),
            lane_backlog: Family::default(),
            lane_memory: Family::default(),
            lane_lost: Family::default(),
            model_available: Family::default(),
            folder_unusable: Family::default(),
        };
        let mut registry = std::mem::take(&mut metrics.registry);
        let r = &mut registry;
        r.register("requests", "Calls that ended, by canonical code", metrics.requests.clone());
        let (unit, latency) = (Unit::Seconds, metrics.latency.clone());
        r.register_with_unit("request_latency", "From a request's arrival to its reply", unit, latency);
        r.register("batch_rows", "Rows of each batch, without padding", metrics.batch_rows.clone());
        r.register("padded_rows", "Rows added to reach an allowed batch size", metrics.padded_rows.clone());
        r.register("batches", "Batches run, by why they were closed", metrics.batches.clone());
        let (unit, queue) = (Unit::Seconds, metrics.queue.clone());
        r.register_with_unit("queue_time", "Wait of each batch's oldest request", unit, queue);
        let (unit, device) = (Unit::Seconds, metrics.device.clone());
        r.register_with_unit("device_time", "From submission to completion", unit, device);
        r.register("dropped", "Requests dropped without being run", metrics.dropped.clone());
        let (unit, refusals) = (Unit::Seconds, metrics.refusal_latency.clone());
        let help = "From a request's headers to its answer where it was refused at once";
        r.register_with_unit("refusal_latency", help, unit, refusals);
        let (unit, memory) = (Unit::Bytes, metrics.request_memory.clone());
        r.register_with_unit("request_memory", "Memory that requests hold", unit, memory);
        let (unit, busy) = (Unit::Seconds, metrics.lane_busy.clone());
        r.register_with_unit("lane_busy", "Time with work in flight", unit, busy);
        r.register("lane_backlog", "Jobs handed over and not done", metrics.lane_backlog.clone());
        let (unit, memory) = (Unit::Bytes, metrics.lane_memory.clone());
        r.register_with_unit("lane_memory", "Device memory allocated", unit, memory);
        r.register("lane_lost", "1 when the lane's device is lost", metrics.lane_lost.clone());
        r.register("model_available", "1 while the version answers requests", metrics.model_available.clone());
        r.register(
            "model_folder_unusable",
            "1 while a model's folder is missing, unreadable or empty: what serves stays",
            metrics.folder_unusable.clone(),
        );
        metrics.registry = registry;
        Arc::new(metrics)
    }

    /// The metrics in Prometheus' text form, with those that are read off now.
    pub(super) fn encode(&self, engine: Option<&Engine>, budget: &Budget, board: &Board) -> String {
        self.request_memory.set(i64::try_from(budget.used()).unwrap_or(i64::MAX));
        for lane in engine.map(Engine::lanes).unwrap_or_default() {
            let labels = LaneLabels { lane: lane.index() as u64 };
            self.lane_busy.get_or_create(&labels).set(lane.busy().as_secs_f64());
            self.lane_backlog.get_or_create(&labels).set(lane.backlog() as i64);
            let bytes = i64::try_from(lane.memory_bytes()).unwrap_or(i64::MAX);
            self.lane_memory.get_or_create(&labels).set(bytes);
            self.lane_lost.get_or_create(&labels).set(i64::from(lane.is_lost()));
        }
        self.model_available.clear();
        for id in board.in_state(crate::model::State::Available) {
            self.model_available.get_or_create(&servable(&id)).set(1);
        }
        self.folder_unusable.clear();
        for (name, model) in &board.models {
            let labels = ModelLabels { model: name.to_string() };
            self.folder_unusable.get_or_create(&labels).set(i64::from(model.error.is_some()));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

fn servable(id: &ServableId) -> ServableLabels {
    ServableLabels { model: id.name.to_string(), version: id.version }
}

impl crate::api::Observer for Metrics {
    fn called(&self, call: &Call<'_>) {
        // Names that no model has would fill memory: they are one.
        let model = if call.model.is_empty() { "_unknown" } else { call.model };
        let version = call.version.unwrap_or(-1);
        let code = call.code.map_or("OK", crate::error::Code::name);
        let entrypoint = call.entrypoint.name();
        let labels = CallLabels { model: model.to_owned(), version, entrypoint, method: call.method, code };
        self.requests.get_or_create(&labels).inc();
        if INFERENCE.contains(&call.method) && !call.model.is_empty() {
            let labels = ServableLabels { model: model.to_owned(), version };
            self.latency.get_or_create(&labels).observe(call.latency.as_secs_f64());
        }
    }

    fn refused(&self, entrypoint: Entrypoint, latency: Duration) {
        let labels = EntrypointLabels { entrypoint: entrypoint.name() };
        self.refusal_latency.get_or_create(&labels).observe(latency.as_secs_f64());
    }
}

impl crate::model::Observer for Metrics {
    fn batch(&self, id: &ServableId, report: &BatchReport) {
        let labels = servable(id);
        self.batch_rows.get_or_create(&labels).observe(report.rows as f64);
        self.padded_rows.get_or_create(&labels).inc_by(report.padded_rows as u64);
        self.queue.get_or_create(&labels).observe(report.queued.as_secs_f64());
        let reason = report.closed.name();
        let labels = ReasonLabels { model: labels.model, version: id.version, reason };
        self.batches.get_or_create(&labels).inc();
    }

    fn dropped(&self, id: &ServableId, why: Dropped) {
        let reason = why.name();
        let labels = ReasonLabels { model: id.name.to_string(), version: id.version, reason };
        self.dropped.get_or_create(&labels).inc();
    }

    fn ran(&self, id: &ServableId, stats: &RunStats) {
        let labels = RunLabels { model: id.name.to_string(), version: id.version, lane: stats.lane as u64 };
        self.device.get_or_create(&labels).observe(stats.times.device.as_secs_f64());
    }
}
