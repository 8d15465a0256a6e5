//! What the batcher tells whoever keeps statistics.

use std::collections::BTreeMap;
use std::time::Duration;

/// Why a batch was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Closed {
    /// Its largest size was reached, or the next request would not have fitted.
    Full,
    /// The same, of a size that was cut so that it would not take too long.
    Time,
    /// Its oldest request had waited as long as one may.
    Delay,
    /// A slot was free and nothing told it to wait.
    SlotFree,
    /// Its one request is not to be merged.
    Alone,
    /// Its one request runs by itself, since it could not run with those it was to be padded to.
    Apart,
}

impl Closed {
    /// As metrics and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Closed::Full => "full",
            Closed::Time => "time",
            Closed::Delay => "delay",
            Closed::SlotFree => "slot_free",
            Closed::Alone => "alone",
            Closed::Apart => "apart",
        }
    }
}

/// Why a request was dropped without being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// Its deadline passed in the queue.
    Expired,
    /// Its caller went away.
    Cancelled,
    /// The queue was full.
    QueueFull,
    /// It would have been answered after its deadline.
    Deadline,
    /// It would have been answered later than the model's latency target allows.
    LatencyTarget,
}

impl Dropped {
    /// As metrics and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Dropped::Expired => "expired",
            Dropped::Cancelled => "cancelled",
            Dropped::QueueFull => "queue_full",
            Dropped::Deadline => "deadline",
            Dropped::LatencyTarget => "latency_target",
        }
    }
}

/// What a batcher holds at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Requests that wait.
    pub requests: usize,
    /// Batches that would hold them.
    pub batches: usize,
    /// Batches being run.
    pub in_flight: usize,
    /// Batches that may be run at a time.
    pub slots: usize,
    /// Batches whose shapes are being made ready, or that wait for a turn since they are.
    pub preparing: usize,
    /// How long a batch waits for company while others are in flight, though a slot is free.
    pub hold: Duration,
    /// Device time of what waits, as far as it was measured.
    pub queued: Duration,
    /// When a request of one row that comes now would be answered, as far as it was measured.
    pub expected: Duration,
    /// Device time used since the start.
    pub spent: Duration,
    /// Device time by batch size (0: requests that run alone), measured on the inner shapes that ran last.
    pub costs: BTreeMap<usize, Duration>,
    /// The largest batch size in use, where batches are cut to the time that they may take.
    pub cut_to: Option<usize>,
}

/// One batch that was run.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// Requests, or parts of requests, in it.
    pub requests: usize,
    /// Rows that callers sent.
    pub rows: usize,
    /// Rows added to reach an allowed size.
    pub padded_rows: usize,
    /// Why it was closed.
    pub closed: Closed,
    /// How long its oldest request waited.
    pub queued: Duration,
    /// From handing over to having the answers.
    pub ran: Duration,
    /// Time on the device.
    pub device: Duration,
    /// Whether the run gave answers.
    pub succeeded: bool,
}

/// Receives statistics; called from the batcher's tasks, so it must be quick and never block.
pub trait Observer: Send + Sync + 'static {
    /// A request of so many rows was queued.
    fn queued(&self, rows: usize);
    /// A batch has ended.
    fn batch(&self, report: &BatchReport);
    /// A request was dropped.
    fn dropped(&self, why: Dropped);
}
