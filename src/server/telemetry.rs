//! What operators see in numbers.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::buckets::{refusals, rows, seconds};
use super::series::Series;
use super::tensorflow_metrics::TensorflowMetrics;
use crate::api::{Budget, Call, Entrypoint, Logged};
use crate::batch::{BatchReport, Dropped, Waiting};
use crate::engine::{Engine, RunStats};
use crate::model::{Board, CheckOutcome, Replayed, ServableId};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    model: String,
    version: i64,
    entrypoint: &'static str,
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    model: String,
    version: i64,
    signature: String,
    entrypoint: &'static str,
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
struct CheckLabels {
    model: String,
    version: i64,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunLabels {
    model: String,
    version: i64,
    device: String,
    lane: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EntrypointLabels {
    entrypoint: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusedLabels {
    port: &'static str,
    reason: &'static str,
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There were as many as there may be.
    Full,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// Its first request did not come in time.
    Slow,
    /// Its replies were not taken in time.
    Unread,
}

/// A connection, counted until it is dropped.
pub(super) struct Opened(Gauge);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    device: String,
    lane: u64,
}

/// How names that do not exist are counted.
const UNKNOWN: &str = "_unknown";

/// Methods whose latency is kept.
const INFERENCE: [&str; 4] = ["Predict", "Classify", "Regress", "MultiInference"];

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Every metric, once.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    /// For the names that TensorFlow Serving's metrics have.
    foreign: Registry,
    /// What the lanes are of, once it is known.
    device: OnceLock<String>,
    requests: Series<CallLabels, Counter>,
    latency: Series<AnswerLabels, Histogram>,
    batch_rows: Series<ServableLabels, Histogram>,
    padded_rows: Series<ServableLabels, Counter>,
    batches: Series<ReasonLabels, Counter>,
    queue: Series<ServableLabels, Histogram>,
    device_time: Series<RunLabels, Histogram>,
    dropped: Series<ReasonLabels, Counter>,
    refusal_latency: Series<EntrypointLabels, Histogram>,
    checked: Series<CheckLabels, Counter>,
    tensorflow: TensorflowMetrics,
    waiting_requests: Family<ServableLabels, Gauge>,
    waiting_time: Family<ServableLabels, Seconds>,
    expected_latency: Family<ServableLabels, Seconds>,
    lane_promised: Family<LaneLabels, Seconds>,
    request_memory: Gauge,
    lane_busy: Family<LaneLabels, Seconds>,
    lane_backlog: Family<LaneLabels, Gauge>,
    lane_memory: Family<LaneLabels, Gauge>,
    lane_lost: Family<LaneLabels, Gauge>,
    lanes_replaced: Gauge,
    cache_unwritten: Gauge,
    model_available: Family<ServableLabels, Gauge>,
    folder_unusable: Family<ModelLabels, Gauge>,
    connections: Family<PortLabels, Gauge>,
    connections_refused: Family<RefusedLabels, Counter>,
    spans_dropped: Counter,
    request_log: Family<ReasonLabels, Counter>,
    device_memory: Gauge,
    device_memory_limit: Gauge,
    model_memory: Family<ModelLabels, Gauge>,
    model_memory_reserved: Family<ModelLabels, Gauge>,
}

impl Metrics {
    pub(super) fn new() -> Arc<Self> {
        let (mut registry, mut foreign) = (Registry::with_prefix("coracle"), Registry::default());
        let r = &mut registry;
        let unit = || Some(Unit::Seconds);
        let help = "Calls that ended, by canonical code";
        let requests = Series::new(r, "requests", None, help, Counter::default);
        let latency = Series::new(r, "request_latency", unit(), "From a request's arrival to its reply", seconds);
        let batch_rows = Series::new(r, "batch_rows", None, "Rows of each batch, without padding", rows);
        let help = "Rows added to reach an allowed batch size";
        let padded_rows = Series::new(r, "padded_rows", None, help, Counter::default);
        let batches = Series::new(r, "batches", None, "Batches run, by why they were closed", Counter::default);
        let queue = Series::new(r, "queue_time", unit(), "Wait of each batch's oldest request", seconds);
        let device_time = Series::new(r, "device_time", unit(), "From submission to completion", seconds);
        let dropped = Series::new(r, "dropped", None, "Requests not run, by why", Counter::default);
        let help = "From a request's headers to its answer where it was refused at once";
        let refusal_latency = Series::new(r, "refusal_latency", unit(), help, refusals);
        let checked =
            Series::new(r, "checked", None, "Answers computed again on the host, by outcome", Counter::default);
        let mut metrics = Self {
            checked,
            tensorflow: TensorflowMetrics::new(&mut foreign),
            registry: Registry::default(),
            foreign,
            device: OnceLock::new(),
            requests,
            latency,
            batch_rows,
            padded_rows,
            batches,
            queue,
            device_time,
            dropped,
            refusal_latency,
            waiting_requests: Family::default(),
            waiting_time: Family::default(),
            expected_latency: Family::default(),
            request_memory: Gauge::default(),
            lane_busy: Family::default(),
            lane_backlog: Family::default(),
            lane_promised: Family::default(),
            lane_memory: Family::default(),
            lane_lost: Family::default(),
            lanes_replaced: Gauge::default(),
            cache_unwritten: Gauge::default(),
            model_available: Family::default(),
            folder_unusable: Family::default(),
            connections: Family::default(),
            connections_refused: Family::default(),
            spans_dropped: Counter::default(),
            request_log: Family::default(),
            device_memory: Gauge::default(),
            device_memory_limit: Gauge::default(),
            model_memory: Family::default(),
            model_memory_reserved: Family::default(),
        };
        r.register("waiting_requests", "Requests in the queue", metrics.waiting_requests.clone());
        let (unit, waiting) = (Unit::Seconds, metrics.waiting_time.clone());
        r.register_with_unit("waiting", "Device time of what is in the queue, as measured before", unit, waiting);
        let (unit, expected) = (Unit::Seconds, metrics.expected_latency.clone());
        r.register_with_unit("expected_latency", "Time to the answer of a row that would come now", unit, expected);
        let (unit, promised) = (Unit::Seconds, metrics.lane_promised.clone());
        r.register_with_unit("lane_promised", "Device time of what is on its way to the lane", unit, promised);
        let (unit, memory) = (Unit::Bytes, metrics.request_memory.clone());
        r.register_with_unit("request_memory", "Memory that requests hold", unit, memory);
        let (unit, busy) = (Unit::Seconds, metrics.lane_busy.clone());
        r.register_with_unit("lane_busy", "Time with work in flight", unit, busy);
        r.register("lane_backlog", "Jobs handed over and not done", metrics.lane_backlog.clone());
        let (unit, memory) = (Unit::Bytes, metrics.lane_memory.clone());
        r.register_with_unit("lane_memory", "Device memory allocated", unit, memory);
        r.register("lanes_replaced", "Devices opened in the place of lost ones", metrics.lanes_replaced.clone());
        r.register(
            "cache_unwritten",
            "Times that the cache folder could not be written",
            metrics.cache_unwritten.clone(),
        );
        r.register("lane_lost", "1 when the lane's device is lost", metrics.lane_lost.clone());
        r.register("model_available", "1 while the version answers requests", metrics.model_available.clone());
        r.register(
            "model_folder_unusable",
            "1 while a model's folder is missing, unreadable or empty: what serves stays",
            metrics.folder_unusable.clone(),
        );
        r.register("connections", "Connections that are open", metrics.connections.clone());
        let refused = metrics.connections_refused.clone();
        r.register("connections_refused", "Connections that were not served, or not to the end, by why", refused);
        r.register("spans_dropped", "Spans that did not reach the collector", metrics.spans_dropped.clone());
        let log = metrics.request_log.clone();
        r.register("request_log", "Requests that were to be written down, by what became of that", log);
        let memory = [
            ("device_memory", "Device memory that models have allocated", &metrics.device_memory),
            ("device_memory_limit", "Device memory that models may allocate; -1: any", &metrics.device_memory_limit),
        ];
        for (name, help, gauge) in memory {
            r.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        let (unit, held) = (Unit::Bytes, metrics.model_memory.clone());
        r.register_with_unit(
            "model_memory",
            "Device memory in use by a model; what models share counts for each",
            unit,
            held,
        );
        let (unit, reserved) = (Unit::Bytes, metrics.model_memory_reserved.clone());
        r.register_with_unit("model_memory_reserved", "Device memory kept for a model, in use or not", unit, reserved);
        metrics.registry = registry;
        Arc::new(metrics)
    }

    /// Counts a connection of the port as long as what it gives is kept.
    pub(super) fn opened(&self, port: &'static str) -> Opened {
        let open = self.connections.get_or_create(&PortLabels { port }).clone();
        open.inc();
        Opened(open)
    }

    /// Counts spans that are lost.
    pub(super) fn spans_dropped(&self, count: u64) {
        self.spans_dropped.inc_by(count);
    }

    /// Counts a connection that was not served.
    pub(super) fn turned_away(&self, port: &'static str, why: Refused) {
        let reason = match why {
            Refused::Full => "full",
            Refused::Handshake => "handshake",
            Refused::Slow => "slow",
            Refused::Unread => "unread",
        };
        self.connections_refused.get_or_create(&RefusedLabels { port, reason }).inc();
    }

    /// Counts the examples of a request.
    pub(super) fn took_examples(&self, model: &str, count: usize) {
        self.tensorflow.took_examples(model, count);
    }

    /// Says what the lanes are of.
    pub(super) fn name_device(&self, name: &str) {
        // There is one engine.
        let _ = self.device.set(name.to_owned());
    }

    fn device(&self) -> String {
        self.device.get().cloned().unwrap_or_default()
    }

    /// The metrics in Prometheus' text form, with those that are read off now.
    pub(super) fn encode(
        &self,
        engine: Option<&Engine>,
        budget: &Budget,
        board: &Board,
        waiting: impl Iterator<Item = (ServableId, Waiting)>,
    ) -> String {
        self.request_memory.set(i64::try_from(budget.used()).unwrap_or(i64::MAX));
        for lane in engine.map(Engine::lanes).unwrap_or_default() {
            let labels = LaneLabels { device: self.device(), lane: lane.index() as u64 };
            self.lane_promised.get_or_create(&labels).set(lane.promised().as_secs_f64());
            self.lane_busy.get_or_create(&labels).set(lane.busy().as_secs_f64());
            self.lane_backlog.get_or_create(&labels).set(lane.backlog() as i64);
            let bytes = i64::try_from(lane.memory_bytes()).unwrap_or(i64::MAX);
            self.lane_memory.get_or_create(&labels).set(bytes);
            self.lane_lost.get_or_create(&labels).set(i64::from(lane.is_lost()));
        }
        self.cache_unwritten.set(engine.map_or(0, |e| e.unkept() as i64));
        self.lanes_replaced.set(engine.map_or(0, |e| e.lanes_replaced() as i64));
        self.encode_memory(engine);
        self.waiting_requests.clear();
        self.waiting_time.clear();
        self.expected_latency.clear();
        for (id, waiting) in waiting {
            let labels = servable(&id);
            self.waiting_requests.get_or_create(&labels).set(waiting.requests as i64);
            self.waiting_time.get_or_create(&labels).set(waiting.queued.as_secs_f64());
            self.expected_latency.get_or_create(&labels).set(waiting.expected.as_secs_f64());
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
        let _ = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.foreign))
            .and_then(|()| encode_eof(&mut text));
        text
    }
}

impl Metrics {
    fn encode_memory(&self, engine: Option<&Engine>) {
        let Some(memory) = engine.map(Engine::memory) else { return };
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.device_memory.set(gauge(memory.allocated));
        self.device_memory_limit.set(memory.limit.map_or(-1, gauge));
        self.model_memory.clear();
        self.model_memory_reserved.clear();
        for account in &memory.accounts {
            let labels = ModelLabels { model: account.name.clone() };
            self.model_memory.get_or_create(&labels).set(gauge(account.held));
            self.model_memory_reserved.get_or_create(&labels).set(gauge(account.reserved));
        }
    }
}

fn servable(id: &ServableId) -> ServableLabels {
    ServableLabels { model: id.name.to_string(), version: id.version }
}

impl crate::api::Observer for Metrics {
    fn called(&self, call: &Call<'_>) {
        // Names that no model has would fill memory: they are one.
        let model = if call.model.is_empty() { UNKNOWN } else { call.model };
        let version = call.version.unwrap_or(-1);
        let code = call.code().map_or("OK", crate::error::Code::name);
        let entrypoint = call.entrypoint.name();
        let labels = CallLabels { model: model.to_owned(), version, entrypoint, method: call.method, code };
        self.requests.with(&labels, |requests| requests.inc());
        if INFERENCE.contains(&call.method) && !call.model.is_empty() {
            let signature = if call.signature.is_empty() { UNKNOWN } else { call.signature }.to_owned();
            let labels = AnswerLabels { model: model.to_owned(), version, signature, entrypoint };
            self.latency.with(&labels, |latency| latency.observe(call.latency.as_secs_f64()));
        }
        self.tensorflow.called(call, model);
    }

    fn refused(&self, entrypoint: Entrypoint, latency: Duration) {
        let labels = EntrypointLabels { entrypoint: entrypoint.name() };
        self.refusal_latency.with(&labels, |histogram| histogram.observe(latency.as_secs_f64()));
    }

    fn logged(&self, id: &ServableId, outcome: Logged) {
        let labels = ReasonLabels { model: id.name.to_string(), version: id.version, reason: outcome.name() };
        self.request_log.get_or_create(&labels).inc();
        self.tensorflow.logged(id, outcome);
    }
}

impl crate::model::Observer for Metrics {
    fn queued(&self, _: &ServableId, rows: usize) {
        self.tensorflow.queued(rows);
    }

    fn warmed(&self, folder: &Path, replayed: &Replayed, elapsed: Duration) {
        self.tensorflow.warmed(folder, replayed, elapsed);
    }

    fn batch(&self, id: &ServableId, report: &BatchReport) {
        let labels = servable(id);
        self.batch_rows.with(&labels, |rows| rows.observe(report.rows as f64));
        self.padded_rows.with(&labels, |rows| rows.inc_by(report.padded_rows as u64));
        self.queue.with(&labels, |queue| queue.observe(report.queued.as_secs_f64()));
        let reason = report.closed.name();
        let labels = ReasonLabels { model: labels.model, version: id.version, reason };
        self.batches.with(&labels, |batches| batches.inc());
        self.tensorflow.batch(id, report);
    }

    fn dropped(&self, id: &ServableId, why: Dropped) {
        let reason = why.name();
        let labels = ReasonLabels { model: id.name.to_string(), version: id.version, reason };
        self.dropped.with(&labels, |dropped| dropped.inc());
    }

    fn ran(&self, id: &ServableId, stats: &RunStats) {
        let (model, device) = (id.name.to_string(), self.device());
        let labels = RunLabels { model, version: id.version, device, lane: stats.lane as u64 };
        self.device_time.with(&labels, |time| time.observe(stats.times.device.as_secs_f64()));
    }

    fn checked(&self, id: &ServableId, outcome: CheckOutcome) {
        let (model, outcome) = (id.name.to_string(), outcome.name());
        self.checked.with(&CheckLabels { model, version: id.version, outcome }, |checked| checked.inc());
    }
}
