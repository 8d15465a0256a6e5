//! The flags that choose a device, shared by every command that opens one.

use clap::Args;

use crate::engine::EngineOptions;

/// Which adapter to use and what to do without.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// auto (the best one), software, an index or part of a name as `coracle devices` prints them.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Features to do without although the adapter has them: subgroups, f16, int64, f64. Repeatable or comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "FEATURE")]
    pub without: Vec<String>,
    /// Kernels to use whatever the adapter's kind: software or gpu.
    #[arg(long)]
    pub family: Option<String>,
}

impl DeviceArgs {
    /// Options for an engine with these lanes, each with this many submissions in flight.
    pub fn engine_options(&self, lanes: usize, in_flight: usize) -> EngineOptions {
        EngineOptions {
            device: self.device.clone(),
            without: self.without.clone(),
            family: self.family.clone(),
            lanes,
            in_flight,
            ..EngineOptions::default()
        }
    }
}
