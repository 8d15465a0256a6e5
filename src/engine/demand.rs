//! What is demanded of one model's plans, and what is done when nothing is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batches::Measured;
use super::device::{KeptWeights, Tenancy};
use super::plan::{Key, Plan};
use crate::error::{Error, Result};

/// Plans made on demand that are kept beside those made at load.
const MAX_DEMANDED: usize = 256;

/// What may be demanded of a model.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) name: String,
    /// New shapes compiled in one minute.
    pub(super) max_shapes_per_minute: usize,
    /// Requests waiting for compiles at a time.
    pub(super) max_waiting: usize,
    /// Whose device memory it takes.
    pub(super) tenancy: Arc<Tenancy>,
}

/// Who waits for a plan.
type Waiter = oneshot::Sender<Result<Arc<Plan>>>;

/// What is there, what is wanted, and what is to be done.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) ready: HashMap<Key, Arc<Plan>>,
    pub(super) waiting: HashMap<Key, Vec<Waiter>>,
    pub(super) demands: VecDeque<Key>,
    pub(super) background: VecDeque<Task>,
    recent: VecDeque<Instant>,
    pub(super) batch_sizes: Vec<usize>,
    /// The batch that was run last.
    pub(super) measured: Option<Measured>,
    pub(super) closed: bool,
}

/// Work for when nobody waits.
#[derive(Debug)]
pub(super) enum Task {
    /// Make a batch size of these input shapes available; then, if it was quick enough, the next.
    Batch { key: Key, rows: usize, rest: Vec<usize>, asked: bool },
    /// Make a plan's executable on another lane, of weights that stayed.
    Lane { plan: Arc<Plan>, lane: usize, _kept: KeptWeights },
}

impl State {
    /// Counts a new shape against the minute's allowance.
    pub(super) fn admit(&mut self, limits: &Limits) -> Result<()> {
        let now = Instant::now();
        while self.recent.front().is_some_and(|t| now.duration_since(*t) >= Duration::from_secs(60)) {
            self.recent.pop_front();
        }
        if self.recent.len() >= limits.max_shapes_per_minute {
            return Err(Error::resource_exhausted(format!(
                "model {}: more than {} new input shapes in a minute (max_shapes_per_model)",
                limits.name, limits.max_shapes_per_minute
            )));
        }
        self.recent.push_back(now);
        Ok(())
    }

    /// Makes room among the plans made on demand: the one unused for longest goes; pinned ones stay.
    pub(super) fn evict(&mut self) {
        let demanded = self.ready.iter().filter(|(_, p)| !p.pinned);
        if demanded.clone().count() < MAX_DEMANDED {
            return;
        }
        let used = |p: &Plan| *p.last_used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = demanded.min_by_key(|(_, p)| used(p)).map(|(k, _)| k.clone()) {
            self.ready.remove(&key);
        }
    }
}
