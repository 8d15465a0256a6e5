//! Where Vulkan is not: nothing is imported.

use std::convert::Infallible;
use std::sync::Arc;

use super::host_block::HostBlock;
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
