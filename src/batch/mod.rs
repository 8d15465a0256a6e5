//! Merges requests into batches: a pure queue, one task a model that runs what it forms, and the turns they share.

mod admission;
mod batcher;
mod clock;
mod figure;
mod flight;
mod job;
mod merge;
mod parameters;
mod policy;
mod prices;
mod queue;
mod report;
mod shares;
mod tally;
mod task;
mod turns;

pub use batcher::{Batcher, Pending, Setting};
pub use clock::{Clock, SystemClock};
pub use flight::{Order, Ran};
pub use job::{Answer, Guard, Request, Timing};
pub use merge::{Rows, merge, split};
pub use parameters::Parameters;
pub use policy::{Policy, Priority, Scheduling};
pub use queue::{Ahead, Batch, Bounds, Entry, Join, Piece, Queue, Slots};
pub use report::{BatchReport, Closed, Dropped, Observer, Waiting};
pub use tally::{OfSize, Spread, Tally};
pub use turns::Turns;
