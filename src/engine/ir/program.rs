//! A compiled graph for concrete shapes, free of any device.

use std::ops::Range;
use std::sync::Arc;

use super::choices::Problem;
use super::form::Form;
use super::graph::Graph;
use super::kernel::Kernel;
use super::op::Op;
use super::profile::Storage;
use crate::tensor::{DType, Shape, Tensor};

/// A device buffer of a program: the index of its [`Buffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// A host tensor of one run: inputs, outputs, and what host steps pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// Where a buffer's contents come from.
#[derive(Clone, Debug)]
pub enum Buffer {
    /// Written by uploads and dispatches. Buffers of equal `pool` are one allocation, never live at once.
    Scratch {
        /// Bytes needed, a multiple of 4, at least 4.
        bytes: u64,
        /// Which allocation of the arena holds it.
        pool: usize,
    },
    /// A weight, uploaded once a device and shared by every program that reads it.
    Constant {
        /// The contents.
        tensor: Tensor,
        /// How they lie on the device.
        storage: Storage,
        /// How they are laid out anew before, if they are.
        form: Option<Form>,
    },
    /// A small read-only table made for these shapes.
    Table(Arc<[u32]>),
}

impl Buffer {
    /// Bytes of a constant on the device; 0 for other buffers.
    pub fn constant_bytes(&self) -> usize {
        match self {
            Buffer::Constant { storage, form: Some(form), .. } => storage.size(form.elements()),
            Buffer::Constant { tensor, storage, form: None } => storage.size(tensor.shape().elements()),
            _ => 0,
        }
    }
}

/// A tensor that crosses between host and device.
#[derive(Clone, Debug)]
pub struct Port {
    /// Where it is on the host.
    pub slot: Slot,
    /// Where it is on the device.
    pub buffer: BufferId,
    /// Element type on the host.
    pub dtype: DType,
    /// How elements lie on the device.
    pub storage: Storage,
    /// Extents.
    pub shape: Shape,
}

/// One kernel run over a grid.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The node it is for.
    pub label: Arc<str>,
    /// What runs.
    pub kernel: Kernel,
    /// The buffers of the storage bindings, in binding order.
    pub buffers: Vec<BufferId>,
    /// The contents of each uniform binding, in binding order.
    pub uniforms: Vec<Vec<u32>>,
    /// Workgroups along x, y, z.
    pub groups: [u32; 3],
}

/// An operator that runs on the host between two segments.
#[derive(Clone, Debug)]
pub struct HostStep {
    /// The node's name.
    pub node: String,
    /// What it does.
    pub op: Arc<dyn Op>,
    /// Why it is not on the device.
    pub reason: String,
    /// What it reads.
    pub inputs: Vec<Option<Slot>>,
    /// What it writes.
    pub outputs: Vec<Option<Slot>>,
}

impl HostStep {
    /// `Operator:node:reason`.
    pub fn describe(&self) -> String {
        format!("{}:{}:{}", self.op.name(), self.node, self.reason)
    }
}

/// Arithmetic of the dispatches that compute one node.
#[derive(Clone, Debug)]
pub struct Arithmetic {
    /// Those dispatches of the segment.
    pub dispatches: Range<usize>,
    /// 2 × multiply-adds that they do in all.
    pub flops: f64,
}

/// Device work that needs no word from the host: one encoder, one pass, one submit.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Tensors copied to the device before it.
    pub uploads: Vec<Port>,
    /// The work, in order.
    pub dispatches: Vec<Dispatch>,
    /// Tensors copied to the host after it.
    pub downloads: Vec<Port>,
    /// Host steps that follow it, in order.
    pub host_steps: Vec<HostStep>,
    /// What was chosen while the dispatches were recorded.
    pub problems: Vec<Problem>,
    /// What the nodes with arithmetic worth counting cost.
    pub arithmetic: Vec<Arithmetic>,
}

/// Where an output is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputPlace {
    /// In host memory when the program has run.
    Slot(Slot),
    /// Among the outputs of the rest.
    Rest(usize),
}

/// The part of a graph behind a value that must be seen first.
#[derive(Clone, Debug)]
pub struct Rest {
    /// Its nodes; its inputs are what the program hands over.
    pub graph: Arc<Graph>,
    /// Where each of its inputs is found, and whether the value must be known to compile (else the extents suffice).
    pub inputs: Vec<(Slot, bool)>,
}

/// A compiled graph for concrete shapes.
#[derive(Clone, Debug)]
pub struct Program {
    /// Device buffers.
    pub buffers: Vec<Buffer>,
    /// Work in order; programs without host steps have one segment.
    pub segments: Vec<Segment>,
    /// How many host tensors a run keeps.
    pub slots: usize,
    /// Where the request's inputs go, in the signature's order.
    pub inputs: Vec<Slot>,
    /// Where the outputs are found, in the signature's order.
    pub outputs: Vec<OutputPlace>,
    /// What can be compiled only when this program has run: shapes or control flow depend on what it gives.
    pub rest: Option<Rest>,
    /// Host tensors known beforehand: constants that host steps or outputs read.
    pub known: Vec<(Slot, Tensor)>,
    /// Graph nodes left after folding and fusion.
    pub nodes: usize,
    /// 2 × multiply-adds of the graph before fusion.
    pub flops: f64,
}

impl Program {
    /// Bytes of each pool, the largest buffer in it.
    pub fn pool_bytes(&self) -> Vec<u64> {
        let mut pools = Vec::new();
        for buffer in &self.buffers {
            if let Buffer::Scratch { bytes, pool } = buffer {
                pools.resize(pools.len().max(pool + 1), 0);
                pools[*pool] = pools[*pool].max(*bytes);
            }
        }
        pools
    }

    /// What was chosen, in order.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.segments.iter().flat_map(|s| &s.problems)
    }

    /// Whether host steps stand between device segments.
    pub fn has_host_steps(&self) -> bool {
        self.segments.iter().any(|s| !s.host_steps.is_empty())
    }

    /// Every host step as `Operator:node:reason`.
    pub fn host_steps(&self) -> Vec<String> {
        let steps = self.segments.iter().flat_map(|s| &s.host_steps);
        steps.map(HostStep::describe).collect()
    }

    /// Whether one submission is all there is.
    pub fn is_plain(&self) -> bool {
        self.segments.len() == 1 && !self.has_host_steps() && self.rest.is_none()
    }

    /// Bytes of the weights read, each counted once.
    pub fn constant_bytes(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.constant_bytes() as u64).sum()
    }
}
