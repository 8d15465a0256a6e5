//! Adapters, lanes and executables: the only room that knows wgpu.

mod adapter;
mod ceilings;
mod completion;
mod description;
mod executable;
mod gpu;
mod lane;
mod memory;
mod submission;
mod transfer;

pub use adapter::{Adapter, Mask};
pub use ceilings::{Ceilings, measure_ceilings};
pub use description::{Description, Limits};
pub use executable::Executable;
pub use lane::{Job, Lane, LaneOptions, SegmentOutput};
