//! What loaded versions tell whoever keeps statistics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::id::ServableId;
use crate::batch::{self, BatchReport, Dropped, Tally};
use crate::engine::RunStats;

/// Receives statistics by version; must be quick and never block.
pub trait Observer: Send + Sync + 'static {
    /// A batch has ended.
    fn batch(&self, id: &ServableId, report: &BatchReport);
    /// A request was dropped without being run.
    fn dropped(&self, id: &ServableId, why: Dropped);
    /// The engine has run something.
    fn ran(&self, id: &ServableId, stats: &RunStats);
}

/// Keeps no statistics.
pub struct Silent;

impl Observer for Silent {
    fn batch(&self, _: &ServableId, _: &BatchReport) {}
    fn dropped(&self, _: &ServableId, _: Dropped) {}
    fn ran(&self, _: &ServableId, _: &RunStats) {}
}

/// An observer of one version, as its batcher needs it. Keeps a tally of its own.
pub(super) struct Scoped {
    pub(super) id: ServableId,
    pub(super) observer: Arc<dyn Observer>,
    tally: Mutex<Tally>,
}

impl Scoped {
    pub(super) fn new(id: ServableId, observer: Arc<dyn Observer>) -> Arc<Self> {
        Arc::new(Self { id, observer, tally: Mutex::default() })
    }

    /// What was counted so far.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl batch::Observer for Scoped {
    fn batch(&self, report: &BatchReport) {
        self.tally().batch(report);
        self.observer.batch(&self.id, report);
    }

    fn dropped(&self, why: Dropped) {
        self.tally().dropped(why);
        self.observer.dropped(&self.id, why);
    }
}
