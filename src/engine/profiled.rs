//! A program's dispatches as they were timed, with the arithmetic and the memory traffic of each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::device::{Executable, Lane};
use super::ir::{Buffer, BufferId, Program, Segment};
use crate::error::Result;

/// One dispatch of a run.
#[derive(Clone, Debug)]
pub struct Profiled {
    /// The nodes that it computes, joined by `+`.
    pub node: Arc<str>,
    /// The shader's name.
    pub kernel: &'static str,
    /// Workgroups along x, y, z.
    pub groups: [u32; 3],
    /// The median time on the device.
    pub time: Duration,
    /// 2 × multiply-adds. Those of a node of several dispatches belong to the kernel that takes longest: others lay its operands
    /// out.
    pub flops: f64,
    /// Bytes of all buffers that it reads or writes, each counted once: the least that can go to memory and back.
    pub bytes: u64,
}

/// Runs every device segment of `executable` `runs` times on what its buffers hold, at the clocks of a device that is busy.
pub(super) fn profile(lane: &Lane, executable: &Arc<Executable>, runs: usize) -> Result<Vec<Profiled>> {
    lane.wake(executable)?;
    let program = executable.program();
    let mut found = Vec::new();
    for (index, segment) in program.segments.iter().enumerate().filter(|(_, s)| !s.dispatches.is_empty()) {
        let timed = (0..runs.max(1)).map(|_| lane.profile(executable, index)).collect::<Result<Vec<_>>>()?;
        let times: Vec<Duration> = (0..segment.dispatches.len()).map(|d| median(&timed, d)).collect();
        let flops = flops(segment, &times);
        for ((dispatch, time), flops) in segment.dispatches.iter().zip(times).zip(flops) {
            found.push(Profiled {
                node: Arc::clone(&dispatch.label),
                kernel: dispatch.kernel.name,
                groups: dispatch.groups,
                time,
                flops,
                bytes: bytes(program, &dispatch.buffers),
            });
        }
    }
    Ok(found)
}

fn median(runs: &[Vec<Duration>], dispatch: usize) -> Duration {
    let mut times: Vec<_> = runs.iter().map(|run| run[dispatch]).collect();
    times.sort();
    times[times.len() / 2]
}

/// The arithmetic of each dispatch.
fn flops(segment: &Segment, times: &[Duration]) -> Vec<f64> {
    let mut flops = vec![0.0; times.len()];
    for node in &segment.arithmetic {
        let Some(longest) = node.dispatches.clone().max_by_key(|d| times[*d]) else { continue };
        let kernel = segment.dispatches[longest].kernel.name;
        let alike = || node.dispatches.clone().filter(|d| segment.dispatches[*d].kernel.name == kernel);
        let total: f64 = alike().map(|d| times[d].as_secs_f64()).sum();
        for dispatch in alike().filter(|_| total > 0.0) {
            flops[dispatch] += node.flops * times[dispatch].as_secs_f64() / total;
        }
    }
    flops
}

fn bytes(program: &Program, buffers: &[BufferId]) -> u64 {
    let distinct: BTreeSet<&BufferId> = buffers.iter().collect();
    let size = |id: &&BufferId| match &program.buffers[id.0] {
        Buffer::Scratch { bytes, .. } => *bytes,
        constant @ Buffer::Constant { .. } => constant.constant_bytes() as u64,
        Buffer::Table(words) => 4 * words.len() as u64,
    };
    distinct.iter().map(size).sum()
}
