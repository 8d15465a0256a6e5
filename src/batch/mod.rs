//! Merges requests into batches: a pure queue, one task a model that runs what it forms, and the turns they share.

mod admission;
mod batcher;
mod clock;
mod figure;
mod flight;
mod formed;
mod job;
mod merge;
mod padding;
mod parameters;
mod policy;
mod priced;
mod prices;
mod queue;
mod report;
mod row;
mod shapes;
mod shares;
mod tally;
mod task;
mod turns;

pub use batcher::{Batcher, Pending, Setting};
pub use clock::{Clock, SystemClock};
pub use flight::{Order, Ran};
pub use job::{Answer, Guard, Request, Timing};
pub use merge::{Rows, merge, split};
pub use padding::merge_padded;
pub use parameters::Parameters;
pub use policy::{Policy, Priority, Scheduling};
pub use queue::{Ahead, Batch, Bounds, Entry, Join, Piece, Queue, Slots};
pub use report::{BatchReport, Closed, Dropped, Observer, Waiting};
pub use row::Row;
pub use shapes::{Preparing, Shapes};
pub use tally::{OfSize, Spread, Tally};
pub use turns::Turns;
