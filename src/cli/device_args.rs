//! The flags that choose a device, shared by every command that opens one.

use clap::Args;

use crate::engine::{
    EngineOptions, LaneCount, Precision, Replay, ShareWeights, Tune, cache_folder, keep_driver_cache_in,
};

/// Which adapter to use and what to do without.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// auto (the best one), software, an index or part of a name as `coracle devices` prints them.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Features to do without although the adapter has them: subgroups, f16, int64, f64, matrices. Repeatable or
    /// comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "FEATURE")]
    pub without: Vec<String>,
    /// Features to use although they have not been seen to work with this driver: matrices (16-bit floats that a subgroup
    /// multiplies as one; used unasked with NVIDIA's).
    #[arg(long, value_delimiter = ',', value_name = "FEATURE")]
    pub with: Vec<String>,
    /// Kernels to use whatever the adapter's kind: software or gpu.
    #[arg(long)]
    pub family: Option<String>,
    /// How floats are stored: auto (as the model has them), f32, or f16 (where the adapter can); computed in 32 bits. A
    /// model's own settings go before.
    #[arg(long, default_value = "auto", value_name = "TYPE")]
    pub precision: Precision,
    /// How kernels are chosen: off (the same on every machine), cached (as the cache folder's tuning.json says), load (and
    /// what it lacks is measured when a model is loaded).
    #[arg(long, default_value = "cached", value_name = "MODE")]
    pub tune: Tune,
    /// Where measured choices and compiled kernels are kept, or none [default: coracle in the user's cache folder].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "DIR")]
    pub cache_dir: String,
    /// One copy of weights for all lanes: auto (on Vulkan's software adapters, where a test finds that it works), on (also where
    /// nobody has tried it on hardware yet), off (a copy on each lane).
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub share_weights: ShareWeights,
    /// How batches are replayed: recorded (once into a command buffer of Vulkan's), encoded (anew for each, through wgpu), auto
    /// (recorded on software adapters, where a test finds that it works).
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub replay: Replay,
    /// Keep the driver's checks of indices and loops in kernels: slower, for hunting faults.
    #[arg(long)]
    pub checked_kernels: bool,
}

impl DeviceArgs {
    /// Has the driver keep what it compiles in the cache folder. For the start of a process, when it has one thread.
    pub fn claim_driver_cache(&self) {
        if let Some(folder) = cache_folder(&self.cache_dir) {
            keep_driver_cache_in(&folder);
        }
    }

    /// Options for an engine with these lanes, each with this many submissions in flight.
    pub fn engine_options(&self, lanes: LaneCount, in_flight: usize) -> EngineOptions {
        EngineOptions {
            device: self.device.clone(),
            without: self.without.clone(),
            with: self.with.clone(),
            family: self.family.clone(),
            lanes,
            in_flight,
            tune: self.tune,
            precision: self.precision,
            cache: cache_folder(&self.cache_dir),
            checked_kernels: self.checked_kernels,
            share_weights: self.share_weights,
            replay: self.replay,
            ..EngineOptions::default()
        }
    }
}
