//! What goes into the queue and comes out of it, and what bounds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::policy::Priority;
use super::report::Closed;
use super::row::Row;

/// How a request may be merged with others of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// Not at all: it runs as it is.
    Alone,
    /// Along axis 0, up to the last of these batch sizes (ascending, not empty), padded to one of them.
    Rows(Arc<[usize]>),
}

impl Join {
    /// Most rows in one batch, if they are merged at all.
    pub(super) fn rows_max(&self) -> Option<usize> {
        match self {
            Join::Alone => None,
            Join::Rows(sizes) => Some(sizes.last().copied().unwrap_or(1).max(1)),
        }
    }
}

/// The queue's bounds.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Longest that the oldest request of a batch waits for company while a slot is free.
    pub delay: Duration,
    /// Batches that may wait.
    pub batches_max: usize,
    /// Rows that count as a batch at least, though sizes as large may not be ready yet.
    pub rows_of_batch: usize,
    /// Whether who is refused learns how many rows there is room for: where requests are divided at somebody's wish.
    pub tells_capacity: bool,
    /// Longest that a request waits, a step of priority, only because more urgent ones came later.
    pub priority_wait_max: Duration,
    /// Bytes that the inputs of a batch may take in which requests are padded to each other's extents.
    pub padded_bytes_max: u64,
}

impl Bounds {
    /// The place of a request in its line: as if it had come the later, the less urgent it is.
    pub(super) fn rank(&self, arrived: Instant, priority: Priority) -> Instant {
        arrived + self.priority_wait_max * priority.steps_below(Priority::High)
    }
}

/// What the engine is doing when a batch is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// Batches in flight.
    pub busy: usize,
    /// Batches that may be in flight.
    pub all: usize,
    /// While something is in flight, how long a batch that is not full waits for company even if a slot is free.
    pub hold: Duration,
}

impl Slots {
    /// How long the oldest request of a batch waits for company.
    pub(super) fn delay(&self, bounds: &Bounds) -> Duration {
        if self.busy == 0 { bounds.delay } else { bounds.delay.max(self.hold) }
    }
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The request itself.
    pub payload: T,
    /// Its rows, at least 1. Means nothing to [`Join::Alone`].
    pub rows: usize,
    /// When it came.
    pub arrived: Instant,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether sizes were left out of those it may be merged to, since they would take too long.
    pub is_cut: bool,
    /// What it has in each row, where that may differ from others of its key; `None`: it does not.
    pub row: Option<Arc<Row>>,
}

/// A request, or some of its rows, in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<T> {
    /// The request.
    pub payload: T,
    /// The first of its rows that is in the batch.
    pub start: usize,
    /// How many of its rows are.
    pub rows: usize,
}

/// What to run next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// Requests in the order of their arrival; one if it is run alone.
    pub pieces: Vec<Piece<T>>,
    /// Rows to run, padding included; `None` when a request runs alone, as it is.
    pub size: Option<usize>,
    /// What each row is padded to; `None`: they are all alike.
    pub row: Option<Arc<Row>>,
    /// When its oldest request came.
    pub oldest: Instant,
    /// Why it was closed.
    pub closed: Closed,
}
