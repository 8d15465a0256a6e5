//! Where tensors cross between host and device: buffers that are mapped while the host has them.

use std::collections::HashMap;
use std::sync::Arc;

use super::budget::Account;
use super::executable::Executable;
use super::gpu::Gpu;
use super::memory::{Memory, Share};
use super::replay::BufferCopy;
use crate::engine::ir::{Buffer, BufferId, Port};
use crate::error::Result;

/// Where one tensor crosses.
#[derive(Debug)]
pub(super) struct Gate {
    /// Mapped while the host has it.
    pub(super) buffer: wgpu::Buffer,
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// What it is copied to or from; none where kernels use the mapped buffer itself.
    pub(super) device: Option<wgpu::Buffer>,
}

/// Gates of one direction and the buffers to map for them.
#[derive(Debug, Default)]
pub(super) struct Gates {
    pub(super) list: Vec<Gate>,
    pub(super) mapped: Vec<Share>,
}

impl Gates {
    /// What is copied for them.
    pub(super) fn copies(&self, direction: Direction) -> Vec<BufferCopy<'_>> {
        let mut copies = Vec::new();
        for gate in self.list.iter().filter(|gate| gate.bytes > 0) {
            let Some(device) = &gate.device else { continue };
            let (host, device) = ((&gate.buffer, gate.at), (device, 0));
            let (from, to) = match direction {
                Direction::ToDevice => (host, device),
                Direction::ToHost => (device, host),
            };
            copies.push(BufferCopy { from, to, bytes: gate.bytes });
        }
        copies
    }
}

/// Which way gates lead.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    ToDevice,
    ToHost,
}

/// How buffers of one direction are made.
pub(super) struct Way {
    what: &'static str,
    direct: wgpu::BufferUsages,
    staged: wgpu::BufferUsages,
}

pub(super) const INLET: Way = Way {
    what: "inputs",
    direct: wgpu::BufferUsages::MAP_WRITE.union(wgpu::BufferUsages::STORAGE).union(wgpu::BufferUsages::COPY_SRC),
    staged: wgpu::BufferUsages::MAP_WRITE.union(wgpu::BufferUsages::COPY_SRC),
};

pub(super) const OUTLET: Way = Way {
    what: "outputs",
    direct: wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::STORAGE).union(wgpu::BufferUsages::COPY_DST),
    staged: wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST),
};

/// What slots are made from.
pub(super) struct Maker<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) memory: &'a Memory,
    pub(super) executable: &'a Executable,
    /// Kernels may use mapped buffers. Not in programs of several segments: what a later one reads must stay the device's.
    pub(super) direct: bool,
    /// The mapped buffers that kernels use.
    pub(super) own: HashMap<BufferId, wgpu::Buffer>,
}

impl Maker<'_> {
    /// A gate for each of `ports`: a mapped buffer that kernels use, or a part of one that is copied from or to.
    pub(super) fn gates(&mut self, ports: &[Port], way: &Way) -> Result<Gates> {
        let mut gates = Gates::default();
        let mut staged = 0;
        for port in ports {
            let bytes = (port.storage.size(port.shape.elements()) as u64).next_multiple_of(4);
            // A buffer that is input and output at once is mapped as the former.
            let direct = self.direct && bytes > 0 && !self.own.contains_key(&port.buffer);
            let gate = match self.executable.program().buffers.get(port.buffer.0) {
                Some(Buffer::Scratch { bytes: whole, .. }) if direct => {
                    let account = self.executable.account();
                    let held = self.allocate(account, way, *whole, way.direct)?;
                    let buffer = held.raw.clone();
                    self.own.insert(port.buffer, buffer.clone());
                    gates.mapped.push(held);
                    Gate { buffer, at: 0, bytes, device: None }
                }
                _ => {
                    let base = self.executable.buffer(port.buffer);
                    let device = self.own.get(&port.buffer).unwrap_or(base).clone();
                    let at = staged;
                    staged += bytes.next_multiple_of(wgpu::MAP_ALIGNMENT);
                    // The staging buffer follows below, when its size is known.
                    Gate { buffer: device.clone(), at, bytes, device: Some(device) }
                }
            };
            gates.list.push(gate);
        }
        if staged > 0 {
            let account = self.executable.account();
            let held = self.allocate(account, way, staged, way.staged)?;
            gates.list.iter_mut().filter(|g| g.device.is_some()).for_each(|g| g.buffer = held.raw.clone());
            gates.mapped.push(held);
        }
        Ok(gates)
    }

    fn allocate(&self, account: &Arc<Account>, way: &Way, bytes: u64, usage: wgpu::BufferUsages) -> Result<Share> {
        let held = self.memory.allocate(self.gpu, account, way.what, bytes, usage)?;
        if usage.contains(wgpu::BufferUsages::MAP_READ) {
            self.gpu.clear_for_recordings(&held.raw);
        }
        Ok(held)
    }
}
