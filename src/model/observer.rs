//! What loaded versions tell whoever keeps statistics.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::id::ServableId;
use crate::batch::{self, BatchReport, Dropped, Tally};
use crate::engine::RunStats;
use crate::error::Result;

/// What came of a request that was to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The device was right.
    Agreed,
    /// It was not, beyond what rounding explains.
    Disagreed,
    /// It was not checked: there was no room or time, or nobody can tell.
    Skipped,
}

impl CheckOutcome {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Disagreed => "disagreed",
            Self::Skipped => "skipped",
        }
    }
}

/// What came of a try to load a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// From its begin to its end; replaying requests is no part of it.
    pub elapsed: Duration,
    /// The part of it until the model's file was read and understood; `None` where the version could not be loaded.
    pub read: Option<Duration>,
}

/// What came of replaying recorded requests.
#[derive(Debug)]
pub struct Replayed {
    /// Requests that were read.
    pub requests: usize,
    /// The first failure.
    pub result: Result<()>,
}

/// Receives statistics by version; must be quick and never block.
pub trait Observer: Send + Sync + 'static {
    /// A request of so many rows was queued.
    fn queued(&self, id: &ServableId, rows: usize);
    /// A batch has ended.
    fn batch(&self, id: &ServableId, report: &BatchReport);
    /// A request was dropped without being run.
    fn dropped(&self, id: &ServableId, why: Dropped);
    /// The engine has run something.
    fn ran(&self, id: &ServableId, stats: &RunStats);
    /// An answer was checked, or was to be.
    fn checked(&self, id: &ServableId, outcome: CheckOutcome);
    /// The version in `folder` was loaded, or was to be.
    fn tried(&self, folder: &Path, tried: &Tried);
    /// The requests that came with the version in `folder` were replayed.
    fn warmed(&self, folder: &Path, replayed: &Replayed, elapsed: Duration);
}

/// Keeps no statistics.
pub struct Silent;

impl Observer for Silent {
    fn queued(&self, _: &ServableId, _: usize) {}
    fn batch(&self, _: &ServableId, _: &BatchReport) {}
    fn dropped(&self, _: &ServableId, _: Dropped) {}
    fn ran(&self, _: &ServableId, _: &RunStats) {}
    fn checked(&self, _: &ServableId, _: CheckOutcome) {}
    fn tried(&self, _: &Path, _: &Tried) {}
    fn warmed(&self, _: &Path, _: &Replayed, _: Duration) {}
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
    fn queued(&self, rows: usize) {
        self.observer.queued(&self.id, rows);
    }

    fn batch(&self, report: &BatchReport) {
        self.tally().batch(report);
        self.observer.batch(&self.id, report);
    }

    fn dropped(&self, why: Dropped) {
        self.tally().dropped(why);
        self.observer.dropped(&self.id, why);
    }
}
