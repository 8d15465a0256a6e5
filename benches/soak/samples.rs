//! How things stand, second by second.

use std::time::Duration;

use super::callers::Callers;
use super::process::Server;

/// Lines that are printed of all samples.
const LINES: usize = 30;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Right answers since the sample before.
    pub(crate) answered: usize,
    /// Refused so far.
    pub(crate) refused: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) resident_kib: u64,
    pub(crate) heap_bytes: f64,
    pub(crate) threads: u64,
    pub(crate) open_files: usize,
    pub(crate) device_bytes: f64,
}

impl Sample {
    pub(crate) fn take(at: Duration, server: &Server, callers: &Callers) -> Self {
        let mut recent = callers.recent();
        recent.sort_unstable();
        let part = |part: f64| recent.get((recent.len() as f64 * part) as usize).map_or(0.0, |us| *us as f64 / 1e3);
        Self {
            at,
            answered: recent.len(),
            refused: callers.refused(),
            p50_ms: part(0.5),
            p99_ms: part(0.99),
            resident_kib: server.status("VmRSS"),
            heap_bytes: server.metric("coracle_heap_bytes"),
            threads: server.status("Threads"),
            open_files: server.open_files(),
            device_bytes: server.metric("coracle_lane_memory_bytes"),
        }
    }
}

pub(crate) fn print(samples: &[Sample]) {
    println!("     s  answers  p50 ms  p99 ms  refused  resident MiB  heap MiB  device MiB  threads  files");
    let step = samples.len().div_ceil(LINES).max(1);
    for sample in samples.iter().step_by(step).chain(samples.last()) {
        println!(
            "{:6.0}  {:7}  {:6.1}  {:6.1}  {:7}  {:12.1}  {:8.2}  {:10.2}  {:7}  {:5}",
            sample.at.as_secs_f64(),
            sample.answered,
            sample.p50_ms,
            sample.p99_ms,
            sample.refused,
            sample.resident_kib as f64 / 1024.0,
            sample.heap_bytes / 1048576.0,
            sample.device_bytes / 1048576.0,
            sample.threads,
            sample.open_files
        );
    }
}
