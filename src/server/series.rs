//! A metric by labels, whose number of label sets is bounded: versions and names that come and go must not fill memory.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

/// Label sets of one metric; beyond it all are forgotten and begin anew, which readers take for a restart.
const SETS_MAX: usize = 4096;

/// A metric by labels `L`.
#[derive(Debug)]
pub(super) struct Series<L, M> {
    family: Family<L, M>,
    sets: AtomicUsize,
}

/// What labels may be.
pub(super) trait Labels: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static {}
impl<L: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static> Labels for L {}

impl<L: Labels, M: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static> Series<L, M> {
    /// Called `name` in `registry`, a unit's name at its end, each made by `make`.
    pub(super) fn new(registry: &mut Registry, name: &str, unit: Option<Unit>, help: &str, make: fn() -> M) -> Self {
        let family = Family::new_with_constructor(make);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
            None => registry.register(name, help, family.clone()),
        }
        Self { family, sets: AtomicUsize::new(0) }
    }

    /// Does `then` with the one that has these labels.
    pub(super) fn with<T>(&self, labels: &L, then: impl FnOnce(&M) -> T) -> T {
        if self.family.get(labels).is_none() && self.sets.fetch_add(1, Ordering::Relaxed) >= SETS_MAX {
            self.clear();
        }
        then(&self.family.get_or_create(labels))
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.family.clear();
        self.sets.store(0, Ordering::Relaxed);
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
