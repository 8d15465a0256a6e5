//! A metric by labels, whose number of label sets is bounded: versions and names that come and go must not fill memory.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

/// Label sets of one metric; beyond it all are forgotten and begin anew, which readers take for a restart.
const SETS_MAX: usize = 4096;

/// A metric by labels `L`. Every request looks several up: hence a hash quicker than the library's own families have.
#[derive(Debug)]
pub(super) struct Series<L, M>(Arc<Sets<L, M>>);

/// What a registry and those who count share.
#[derive(Debug)]
struct Sets<L, M> {
    made: RwLock<HashMap<L, M, RandomState>>,
    make: fn() -> M,
}

/// As a registry holds it.
#[derive(Debug)]
struct Registered<L, M>(Arc<Sets<L, M>>);

/// What labels may be.
pub(super) trait Labels: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static {}
impl<L: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static> Labels for L {}

impl<L: Labels, M: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static> Series<L, M> {
    /// Called `name` in `registry`, a unit's name at its end, each made by `make`.
    pub(super) fn new(registry: &mut Registry, name: &str, unit: Option<Unit>, help: &str, make: fn() -> M) -> Self {
        let sets = Arc::new(Sets { made: RwLock::default(), make });
        let registered = Registered(Arc::clone(&sets));
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, registered),
            None => registry.register(name, help, registered),
        }
        Self(sets)
    }

    /// Does `then` with the one that has these labels.
    pub(super) fn with<T>(&self, labels: &L, then: impl FnOnce(&M) -> T) -> T {
        if let Some(metric) = self.0.made.read().unwrap_or_else(PoisonError::into_inner).get(labels) {
            return then(metric);
        }
        let mut made = self.0.made.write().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= SETS_MAX && !made.contains_key(labels) {
            made.clear();
        }
        then(made.entry(labels.clone()).or_insert_with(self.0.make))
    }
}

impl<L: Labels, M: EncodeMetric + TypedMetric> EncodeMetric for Registered<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let made = self.0.made.read().unwrap_or_else(PoisonError::into_inner);
        made.iter().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn label_sets_are_bounded() {
        let mut registry = Registry::default();
        let series: Series<[(&'static str, String); 1], Counter> =
            Series::new(&mut registry, "calls", None, "Calls", Counter::default);
        for version in 0..SETS_MAX + 10 {
            series.with(&[("version", version.to_string())], Counter::inc);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all");
        let samples = text.lines().filter(|line| line.starts_with("calls_total")).count();
        assert_eq!(samples, 10, "it began anew");
    }
}
