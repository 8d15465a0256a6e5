//! Adapters, lanes and executables: the only room that knows wgpu.

mod adapter;
mod ceilings;
mod completion;
mod description;
mod executable;
mod gpu;
mod job;
mod lane;
mod memory;
mod slot;
mod submission;
mod transfer;

pub use adapter::{Adapter, Mask};
pub use ceilings::{Ceilings, measure_ceilings};
pub use description::{Description, Limits};
pub use executable::Executable;
pub use job::{Caller, Job, SegmentOutput, Times};
pub use lane::{Lane, LaneOptions};
