//! Adapters, lanes and executables: the only room that knows wgpu.

mod adapter;
mod budget;
mod cache;
mod ceilings;
mod completion;
mod description;
mod executable;
mod fate;
mod faults;
mod gates;
mod gpu;
mod heap;
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "what Vulkan alone imports"))]
mod host_block;
mod job;
mod lane;
mod lane_options;
mod layouts;
mod memory;
#[cfg_attr(windows, path = "dx12.rs")]
#[cfg_attr(target_os = "macos", path = "metal.rs")]
#[cfg_attr(not(any(windows, target_os = "macos")), path = "no_native.rs")]
mod native;
mod orders;
mod pace;
mod parallel;
mod pipeline_file;
mod pipelines;
mod profile;
mod promise;
mod refusals;
#[cfg_attr(target_os = "macos", allow(dead_code, reason = "what Vulkan alone records"))]
mod replay;
mod sharing;
mod shelf;
mod single;
mod slot;
#[cfg(not(target_os = "macos"))]
mod spirv;
mod submission;
mod transfer;
#[cfg_attr(target_os = "macos", path = "no_vulkan.rs")]
mod vulkan;
#[cfg(not(target_os = "macos"))]
mod vulkan_kernels;
#[cfg(not(target_os = "macos"))]
mod vulkan_queues;
#[cfg(not(target_os = "macos"))]
mod vulkan_recording;

pub use adapter::{Adapter, Mask};
pub use budget::{Account, AccountUse, MemoryBudget, MemoryUse, NoRoom, Tenancy};
pub use cache::{cache_folder, keep_driver_cache_in, replace};
pub use ceilings::{Ceilings, measure_ceilings};
pub use description::{Description, Limits};
pub use executable::Executable;
pub use faults::Faults;
pub use heap::{give_back_free_memory, heap_in_use};
pub use job::{Caller, Job, SegmentOutput, Times};
pub use lane::Lane;
pub use lane_options::LaneOptions;
pub use memory::Needs;
pub use promise::Promise;
pub use replay::Replay;
pub use sharing::{KeptWeights, ShareWeights, Sharing, Way, WeightUse};
