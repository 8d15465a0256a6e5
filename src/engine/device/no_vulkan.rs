//! Where Vulkan is not: nothing is imported, nothing recorded.

use std::convert::Infallible;
use std::sync::Arc;

use super::host_block::HostBlock;
use super::replay::{RecorderOptions, Script};
use crate::engine::ir::Kernel;
use crate::error::{Error, Result};

/// There is none.
pub(super) fn import_alignment(_: &wgpu::Adapter) -> Option<usize> {
    None
}

/// Refused: no adapter has an alignment.
pub(super) fn open_importing(_: &wgpu::Adapter, _: &wgpu::DeviceDescriptor<'_>) -> Result<(wgpu::Device, wgpu::Queue)> {
    Err(Error::unimplemented("devices import host memory through Vulkan alone"))
}

/// Refused: no device can.
pub(super) fn import(_: &wgpu::Device, _: &Arc<HostBlock>, _: u64) -> Result<wgpu::Buffer> {
    Err(Error::unimplemented("devices import host memory through Vulkan alone"))
}

/// There are none.
pub(super) fn queue_count(_: &wgpu::Adapter) -> u32 {
    0
}

/// Never opened.
#[derive(Debug)]
pub(super) struct QueueFamily(Infallible);

impl QueueFamily {
    /// Refused: there are no queues.
    pub(super) fn open(_: &wgpu::Adapter, _: &wgpu::DeviceDescriptor<'_>, _: u32) -> Result<Self> {
        Err(Error::unimplemented("devices have several queues through Vulkan alone"))
    }

    /// Never called.
    pub(super) fn queue(&self, _: &wgpu::DeviceDescriptor<'_>, _: u32) -> Result<(wgpu::Device, wgpu::Queue)> {
        match self.0 {}
    }
}

/// Refused: no device shares its memory.
pub(super) fn alias(_: &wgpu::Device, _: &wgpu::Buffer) -> Result<wgpu::Buffer> {
    Err(Error::unimplemented("devices have several queues through Vulkan alone"))
}

/// Never made.
pub(super) type Compiled = Infallible;

/// Never opened.
#[derive(Debug)]
pub(super) struct Recorder(Infallible);

impl Recorder {
    /// There is none.
    pub(super) fn open(_: &RecorderOptions<'_>) -> Result<Option<Self>> {
        Ok(None)
    }

    /// Never called.
    pub(super) fn compiled(&self, _: &Kernel) -> Result<Arc<Compiled>> {
        match self.0 {}
    }

    /// Never called.
    pub(super) fn has(&self, _: &Kernel) -> bool {
        match self.0 {}
    }

    /// Never called.
    pub(super) fn count(&self) -> usize {
        match self.0 {}
    }

    /// Never called.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        match self.0 {}
    }
}

/// Never made.
#[derive(Debug)]
pub(super) struct Recording(Infallible);

impl Recording {
    /// Never called.
    pub(super) fn new(recorder: &Recorder, _: &Script<'_>) -> Result<Self> {
        match recorder.0 {}
    }

    /// Never called.
    pub(super) fn execute(&self, _: &mut wgpu::CommandEncoder) {
        match self.0 {}
    }

    /// Never called.
    pub(super) fn took_off(&self, _: &wgpu::SubmissionIndex) {
        match self.0 {}
    }

    /// Never called.
    pub(super) fn landed(&self) {
        match self.0 {}
    }

    /// Never called.
    pub(super) fn stamps(&self) -> Result<Vec<u64>> {
        match self.0 {}
    }
}
