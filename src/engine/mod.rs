//! Runs graphs on devices.

mod ahead;
mod batches;
mod demand;
#[allow(clippy::module_inception)]
mod engine;
mod lane_count;
mod lane_file;
mod lanes;
mod load_times;
mod memory;
mod plan;
mod plans;
mod profiled;
mod replay_choice;
mod runner;
mod self_test;
mod session;
mod sharing_test;
mod tuning;
mod tuning_file;

#[cfg(test)]
mod tests;

pub mod compile;
pub mod device;
pub mod ir;
pub mod kernels;
pub mod ops;

pub use ahead::Ahead;
pub use device::{
    Account, AccountUse, Adapter, Lane, MemoryUse, NoRoom, Replay, ShareWeights, Way, WeightUse, cache_folder,
    heap_in_use, keep_driver_cache_in,
};
pub use engine::{Engine, EngineOptions, LoadOptions};
pub use ir::Precision;
pub use lane_count::LaneCount;
pub use load_times::LoadTimes;
pub use memory::{MemoryBound, MemoryShare, MemoryTotal};
pub use profiled::Profiled;
pub use session::{Demand, Merging, NotBegun, Reference, RunOutput, RunStats, Session};
pub use tuning::Tune;
