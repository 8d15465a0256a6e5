//! What is read off when somebody asks for the metrics: how lanes, queues, models and memory are at that moment.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{DeviceLabels, LaneLabels, ModelLabels, ServableLabels, TenantLabels};
use crate::api::Budget;
use crate::batch::Waiting;
use crate::engine::{Engine, heap_in_use};
use crate::fleet::Fleet;
use crate::model::{Board, ServableId, State};

type Seconds = Gauge<f64, AtomicU64>;

/// Every one of them.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    waiting_requests: Family<ServableLabels, Gauge>,
    waiting_time: Family<ServableLabels, Seconds>,
    expected_latency: Family<ServableLabels, Seconds>,
    request_memory: Gauge,
    heap: Gauge,
    lane_promised: Family<LaneLabels, Seconds>,
    lane_busy: Family<LaneLabels, Seconds>,
    lane_backlog: Family<LaneLabels, Gauge>,
    lane_memory: Family<LaneLabels, Gauge>,
    lane_lost: Family<LaneLabels, Gauge>,
    lanes_replaced: Gauge,
    cache_unwritten: Gauge,
    model_available: Family<ServableLabels, Gauge>,
    folder_unusable: Family<ModelLabels, Gauge>,
    device_memory: Family<DeviceLabels, Gauge>,
    device_memory_limit: Family<DeviceLabels, Gauge>,
    weights: Family<DeviceLabels, Gauge>,
    weight_copies: Family<DeviceLabels, Gauge>,
    model_memory: Family<TenantLabels, Gauge>,
    model_memory_reserved: Family<TenantLabels, Gauge>,
}

impl Gauges {
    /// Registers them.
    pub(super) fn new(r: &mut Registry) -> Self {
        let made = Self::default();
        made.register_queues(r);
        made.register_lanes(r);
        made.register_models(r);
        made
    }

    fn register_queues(&self, r: &mut Registry) {
        r.register("waiting_requests", "Requests in the queue", self.waiting_requests.clone());
        let (unit, waiting) = (Unit::Seconds, self.waiting_time.clone());
        r.register_with_unit("waiting", "Device time of what is in the queue, as measured before", unit, waiting);
        let (unit, expected) = (Unit::Seconds, self.expected_latency.clone());
        r.register_with_unit("expected_latency", "Time to the answer of a row that would come now", unit, expected);
        let (unit, memory) = (Unit::Bytes, self.request_memory.clone());
        r.register_with_unit("request_memory", "Memory that requests hold", unit, memory);
    }

    fn register_lanes(&self, r: &mut Registry) {
        let (unit, promised) = (Unit::Seconds, self.lane_promised.clone());
        r.register_with_unit("lane_promised", "Device time of what is on its way to the lane", unit, promised);
        r.register_with_unit("lane_busy", "Time with work in flight", Unit::Seconds, self.lane_busy.clone());
        r.register("lane_backlog", "Jobs handed over and not done", self.lane_backlog.clone());
        r.register_with_unit(
            "lane_memory",
            "Device memory allocated for the lane alone",
            Unit::Bytes,
            self.lane_memory.clone(),
        );
        r.register("lanes_replaced", "Devices opened in the place of lost ones", self.lanes_replaced.clone());
        let help = "Times that the cache folder could not be written";
        r.register("cache_unwritten", help, self.cache_unwritten.clone());
        r.register("lane_lost", "1 when the lane's device is lost", self.lane_lost.clone());
    }

    fn register_models(&self, r: &mut Registry) {
        r.register("model_available", "1 while the version answers requests", self.model_available.clone());
        let help = "1 while a model's folder is missing, unreadable or empty: what serves stays";
        r.register("model_folder_unusable", help, self.folder_unusable.clone());
        let help = "The C library's heap in use, drivers' part included; -1: unknown";
        r.register_with_unit("heap", help, Unit::Bytes, self.heap.clone());
        let help = "Device memory that models have allocated";
        r.register_with_unit("device_memory", help, Unit::Bytes, self.device_memory.clone());
        let help = "Device memory that models may allocate; -1: any";
        r.register_with_unit("device_memory_limit", help, Unit::Bytes, self.device_memory_limit.clone());
        let help = "Weights on the lanes, equal ones once";
        r.register_with_unit("weights", help, Unit::Bytes, self.weights.clone());
        let help = "Device memory that weights take, all copies together";
        r.register_with_unit("weight_copies", help, Unit::Bytes, self.weight_copies.clone());
        let help = "Device memory in use by a model; what models share counts for each";
        r.register_with_unit("model_memory", help, Unit::Bytes, self.model_memory.clone());
        let help = "Device memory kept for a model, in use or not";
        r.register_with_unit("model_memory_reserved", help, Unit::Bytes, self.model_memory_reserved.clone());
    }

    /// Reads memory and lanes off.
    pub(super) fn read_fleet(&self, fleet: Option<&Fleet>, budget: &Budget) {
        self.request_memory.set(bytes(budget.used()));
        self.heap.set(heap_in_use().map_or(-1, bytes));
        self.cache_unwritten.set(fleet.map_or(0, |fleet| fleet.unkept() as i64));
        self.lanes_replaced.set(fleet.map_or(0, |fleet| fleet.lanes_replaced() as i64));
        self.model_memory.clear();
        self.model_memory_reserved.clear();
        fleet.into_iter().flat_map(Fleet::engines).for_each(|(device, engine)| self.read_engine(device, engine));
    }

    fn read_engine(&self, device: &str, engine: &Engine) {
        for lane in engine.lanes() {
            let labels = LaneLabels { device: device.to_owned(), lane: lane.number() as u64 };
            self.lane_promised.get_or_create(&labels).set(lane.promised().as_secs_f64());
            self.lane_busy.get_or_create(&labels).set(lane.busy().as_secs_f64());
            self.lane_backlog.get_or_create(&labels).set(lane.backlog() as i64);
            self.lane_memory.get_or_create(&labels).set(bytes(lane.memory_bytes()));
            self.lane_lost.get_or_create(&labels).set(i64::from(lane.is_lost()));
        }
        let (memory, weights) = (engine.memory(), engine.weights());
        let labels = DeviceLabels { device: device.to_owned() };
        self.weights.get_or_create(&labels).set(bytes(weights.distinct));
        self.weight_copies.get_or_create(&labels).set(bytes(weights.taken));
        self.device_memory.get_or_create(&labels).set(bytes(memory.allocated));
        self.device_memory_limit.get_or_create(&labels).set(memory.limit.map_or(-1, bytes));
        for account in &memory.accounts {
            let labels = TenantLabels { device: device.to_owned(), model: account.name.clone() };
            self.model_memory.get_or_create(&labels).set(bytes(account.held));
            self.model_memory_reserved.get_or_create(&labels).set(bytes(account.reserved));
        }
    }

    /// Reads the models' states and queues off.
    pub(super) fn read_models(&self, board: &Board, waiting: impl Iterator<Item = (ServableId, Waiting)>) {
        self.waiting_requests.clear();
        self.waiting_time.clear();
        self.expected_latency.clear();
        for (id, waiting) in waiting {
            let labels = ServableLabels::from(&id);
            self.waiting_requests.get_or_create(&labels).set(waiting.requests as i64);
            self.waiting_time.get_or_create(&labels).set(waiting.queued.as_secs_f64());
            self.expected_latency.get_or_create(&labels).set(waiting.expected.as_secs_f64());
        }
        self.model_available.clear();
        for id in board.in_state(State::Available) {
            self.model_available.get_or_create(&ServableLabels::from(&id)).set(1);
        }
        self.folder_unusable.clear();
        for (name, model) in &board.models {
            let labels = ModelLabels { model: name.to_string() };
            self.folder_unusable.get_or_create(&labels).set(i64::from(model.error.is_some()));
        }
    }
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
