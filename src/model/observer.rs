//! What loaded versions tell whoever keeps statistics.

use std::sync::Arc;

use super::id::ServableId;
use crate::batch::{self, BatchReport, Dropped};
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

/// An observer of one version, as its batcher needs it.
pub(super) struct Scoped {
    pub(super) id: ServableId,
    pub(super) observer: Arc<dyn Observer>,
}

impl batch::Observer for Scoped {
    fn batch(&self, report: &BatchReport) {
        self.observer.batch(&self.id, report);
    }

    fn dropped(&self, why: Dropped) {
        self.observer.dropped(&self.id, why);
    }
}
