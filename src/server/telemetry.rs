//! What operators see in numbers.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::buckets::{refusals, rows, seconds};
use super::gauges::Gauges;
use super::labels::{
    AnswerLabels, CallLabels, CheckLabels, EntrypointLabels, PortLabels, ReasonLabels, RefusedLabels, RunLabels,
    ServableLabels,
};
use super::runtime_metrics::RuntimeMetrics;
use super::series::Series;
use super::tensorflow_metrics::TensorflowMetrics;
use crate::api::{Budget, Call, Entrypoint, Logged};
use crate::batch::{BatchReport, Dropped, Waiting};
use crate::engine::RunStats;
use crate::fleet::Fleet;
use crate::model::{Board, CheckOutcome, Replayed, ServableId, Tried};

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

/// How names that do not exist are counted.
const UNKNOWN: &str = "_unknown";

/// Methods whose latency is kept.
const INFERENCE: [&str; 4] = ["Predict", "Classify", "Regress", "MultiInference"];

/// Every metric, once.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    /// For the names that TensorFlow Serving's metrics have.
    foreign: Registry,
    /// What each lane is of, by number, once it is known.
    devices: OnceLock<Vec<String>>,
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
    runtime: RuntimeMetrics,
    gauges: Gauges,
    connections: Family<PortLabels, Gauge>,
    connections_refused: Family<RefusedLabels, Counter>,
    spans_dropped: Counter,
    request_log: Family<ReasonLabels, Counter>,
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
        let (connections, connections_refused) = (Family::default(), Family::default());
        r.register("connections", "Connections that are open", Family::clone(&connections));
        let help = "Connections that were not served, or not to the end, by why";
        r.register("connections_refused", help, Family::clone(&connections_refused));
        let (spans_dropped, request_log) = (Counter::default(), Family::default());
        r.register("spans_dropped", "Spans that did not reach the collector", Counter::clone(&spans_dropped));
        let help = "Requests that were to be written down, by what became of that";
        r.register("request_log", help, Family::clone(&request_log));
        Arc::new(Self {
            gauges: Gauges::new(r),
            tensorflow: TensorflowMetrics::new(&mut foreign),
            runtime: RuntimeMetrics::new(&mut foreign),
            registry,
            foreign,
            devices: OnceLock::new(),
            requests,
            latency,
            batch_rows,
            padded_rows,
            batches,
            queue,
            device_time,
            dropped,
            refusal_latency,
            checked,
            connections,
            connections_refused,
            spans_dropped,
            request_log,
        })
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

    /// Says what the lanes are of, by number.
    pub(super) fn name_devices(&self, names: Vec<String>) {
        // There is one fleet.
        let _ = self.devices.set(names);
    }

    fn device(&self, lane: usize) -> String {
        self.devices.get().and_then(|names| names.get(lane).cloned()).unwrap_or_default()
    }

    /// The metrics in Prometheus' text form, with those that are read off now.
    pub(super) fn encode(
        &self,
        fleet: Option<&Fleet>,
        budget: &Budget,
        board: &Board,
        waiting: impl Iterator<Item = (ServableId, Waiting)>,
    ) -> String {
        self.gauges.read_fleet(fleet, budget);
        self.gauges.read_models(board, waiting);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &self.foreign))
            .and_then(|()| encode_eof(&mut text));
        text
    }
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

    fn tried(&self, folder: &Path, tried: &Tried) {
        self.runtime.tried(folder, tried);
    }

    fn warmed(&self, folder: &Path, replayed: &Replayed, elapsed: Duration) {
        self.tensorflow.warmed(folder, replayed, elapsed);
    }

    fn batch(&self, id: &ServableId, report: &BatchReport) {
        let labels = ServableLabels::from(id);
        self.batch_rows.with(&labels, |rows| rows.observe(report.rows as f64));
        self.padded_rows.with(&labels, |rows| rows.inc_by(report.padded_rows as u64));
        self.queue.with(&labels, |queue| queue.observe(report.queued.as_secs_f64()));
        let reason = report.closed.name();
        let labels = ReasonLabels { model: labels.model, version: id.version, reason };
        self.batches.with(&labels, |batches| batches.inc());
        self.tensorflow.batch(id, report);
        self.runtime.ran(report.ran);
    }

    fn dropped(&self, id: &ServableId, why: Dropped) {
        let reason = why.name();
        let labels = ReasonLabels { model: id.name.to_string(), version: id.version, reason };
        self.dropped.with(&labels, |dropped| dropped.inc());
    }

    fn ran(&self, id: &ServableId, stats: &RunStats) {
        let (model, device) = (id.name.to_string(), self.device(stats.lane));
        let labels = RunLabels { model, version: id.version, device, lane: stats.lane as u64 };
        self.device_time.with(&labels, |time| time.observe(stats.times.device.as_secs_f64()));
    }

    fn checked(&self, id: &ServableId, outcome: CheckOutcome) {
        let (model, outcome) = (id.name.to_string(), outcome.name());
        self.checked.with(&CheckLabels { model, version: id.version, outcome }, |checked| checked.inc());
    }
}
