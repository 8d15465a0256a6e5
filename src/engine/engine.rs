//! The engine: the chosen adapters' lanes, and models made runnable on them.

use std::sync::Arc;

use super::ir::Graph;
use super::session::Session;
use crate::error::{Error, Result};

/// Which devices to use and how.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// `auto`, `software`, an index, or part of an adapter's name.
    pub device: String,
    /// Queues to open on the adapter, at least 1.
    pub lanes: usize,
    /// Submissions in flight on each lane, at least 2.
    pub in_flight: usize,
    /// Features to do without: `subgroups`, `f16`.
    pub without: Vec<String>,
    /// `software` or `gpu`, to override what the adapter's kind suggests.
    pub family: Option<String>,
    /// Device memory that models may use in all, in bytes; `None` for no bound.
    pub memory_bytes: Option<u64>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { device: "auto".into(), lanes: 1, in_flight: 2, without: Vec::new(), family: None, memory_bytes: None }
    }
}

/// How to load one model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The model's name, for messages.
    pub name: String,
    /// Batch sizes to compile, ascending; empty: powers of two up to what fits 250 ms and the budget, at most 64.
    pub batch_sizes: Vec<usize>,
    /// Never merge requests; compile batch sizes on demand only.
    pub single: bool,
    /// New shapes that requests may make us compile each minute.
    pub max_shapes_per_minute: usize,
    /// Requests that may wait for one compile at a time.
    pub max_waiting: usize,
}

/// Lanes on the chosen adapter; shared by all models.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Opens and self-tests the adapter.
    ///
    /// # Errors
    /// `NOT_FOUND` when no adapter fits, `INTERNAL` when its arithmetic is wrong.
    pub fn start(_options: &EngineOptions) -> Result<Arc<Self>> {
        Err(Error::unimplemented("not yet"))
    }

    /// Makes `graph` runnable: optimised, weights uploaded, its two smallest batch sizes warm on one lane. The rest warm in
    /// the background. Blocks for seconds; call it on a thread of its own.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for what cannot run here, `RESOURCE_EXHAUSTED` naming the numbers when memory does not suffice.
    pub fn load(self: &Arc<Self>, _graph: Graph, _options: LoadOptions) -> Result<Arc<Session>> {
        Err(Error::unimplemented("not yet"))
    }
}
