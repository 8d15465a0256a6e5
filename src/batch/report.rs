//! What the batcher tells whoever keeps statistics.

use std::time::Duration;

/// Why a batch was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Its largest size was reached, or the next request would not have fitted.
    Full,
    /// Its oldest request had waited as long as one may.
    Delay,
    /// A slot was free and nothing told it to wait.
    SlotFree,
}

/// Why a request was dropped without being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Its deadline passed in the queue.
    Expired,
    /// Its caller went away.
    Cancelled,
    /// The queue was full.
    QueueFull,
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
    /// Whether the run gave answers.
    pub succeeded: bool,
}

/// Receives statistics; called from the batcher's tasks, so it must be quick and never block.
pub trait Observer: Send + Sync + 'static {
    /// A batch has ended.
    fn batch(&self, report: &BatchReport);
    /// A request was dropped.
    fn dropped(&self, why: Dropped);
}
