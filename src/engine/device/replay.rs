//! How batches are replayed, and what a recording of one is made from.

use std::collections::HashSet;
use std::hash::Hash;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::adapter::Adapter;
use super::fate::Fate;
use super::vulkan::Compiled;
use crate::engine::ir::Binding;
use crate::error::{Error, Result};

/// How the commands of a batch come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// Recorded through Vulkan where a test at the start finds that it works, else encoded.
    #[default]
    Auto,
    /// Recorded once into a command buffer of Vulkan's, which every batch executes.
    Recorded,
    /// Encoded anew for every batch, through wgpu.
    Encoded,
}

impl FromStr for Replay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "recorded" => Ok(Self::Recorded),
            "encoded" => Ok(Self::Encoded),
            other => Err(Error::invalid_argument(format!("replay is {other:?}: say auto, recorded or encoded"))),
        }
    }
}

/// How what records batches is opened.
pub(super) struct RecorderOptions<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) device: &'a wgpu::Device,
    pub(super) fate: &'a Arc<Fate>,
    /// Keep bounds checks and loop bounds in kernels.
    pub(super) checked: bool,
    /// Where compiled kernels are kept.
    pub(super) cache: Option<&'a Path>,
}

/// What one submission does, in order.
#[derive(Debug, Default)]
pub(super) struct Script<'a> {
    pub(super) uploads: Vec<BufferCopy<'a>>,
    pub(super) steps: Vec<Step<'a>>,
    pub(super) downloads: Vec<BufferCopy<'a>>,
    /// Take the device's time before and after each step, which then run one by one.
    pub(super) stamped: bool,
}

/// Bytes that go from the start or the middle of one buffer to those of another.
#[derive(Debug)]
pub(super) struct BufferCopy<'a> {
    pub(super) from: (&'a wgpu::Buffer, u64),
    pub(super) to: (&'a wgpu::Buffer, u64),
    pub(super) bytes: u64,
}

/// A kernel run over a grid.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) kernel: Arc<Compiled>,
    /// What its bindings are bound to, and what it does with each.
    pub(super) bindings: Vec<(wgpu::BufferBinding<'a>, Binding)>,
    pub(super) groups: [u32; 3],
}

/// Which steps must wait for those before them: one that reads what was written since the last wait, or writes what was read or
/// written. Each step gives its buffers and whether it writes them.
pub(super) fn waits<B: Eq + Hash + Copy>(steps: &[Vec<(B, bool)>]) -> Vec<bool> {
    let (mut read, mut written) = (HashSet::new(), HashSet::new());
    let wait = |step: &Vec<(B, bool)>| {
        let waits = step.iter().any(|(b, writes)| written.contains(b) || *writes && read.contains(b));
        if waits {
            read.clear();
            written.clear();
        }
        for (buffer, writes) in step {
            if *writes {
                written.insert(*buffer)
            } else {
                read.insert(*buffer)
            };
        }
        waits
    };
    steps.iter().map(wait).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_wait_for_what_they_need_and_for_nothing_else() {
        const R: bool = false;
        const W: bool = true;
        let waits = |steps: &[&[(u32, bool)]]| waits(&steps.iter().map(|step| step.to_vec()).collect::<Vec<_>>());
        // A chain, and a step beside it.
        assert_eq!(waits(&[&[(0, R), (1, W)], &[(1, R), (2, W)], &[(0, R), (3, W)]]), [false, true, false]);
        // Written after it was read, and after it was written.
        assert_eq!(waits(&[&[(0, R), (1, W)], &[(2, R), (0, W)], &[(3, R), (0, W)]]), [false, true, true]);
        // One wait does for all that was before.
        assert_eq!(waits(&[&[(1, W)], &[(2, W)], &[(1, R), (3, W)], &[(2, R), (4, W)]]), [false, false, true, false]);
        // Reading is no reason.
        assert_eq!(waits(&[&[(0, R)], &[(0, R)], &[(0, R)]]), [false; 3]);
    }
}
