//! Merges requests into batches: a pure queue, and one task that runs what it forms.

mod batcher;
mod clock;
mod flight;
mod job;
mod merge;
mod parameters;
mod queue;
mod report;
mod tally;

pub use batcher::{Batcher, Pending};
pub use clock::{Clock, SystemClock};
pub use job::{Answer, Guard, Request, Timing};
pub use merge::{Rows, merge, split};
pub use parameters::Parameters;
pub use queue::{Batch, Bounds, Entry, Join, Piece, Queue, Slots};
pub use report::{BatchReport, Closed, Dropped, Observer, Waiting};
pub use tally::{OfSize, Spread, Tally};
