//! Where devices of one adapter have nothing of the system's in common.

use std::convert::Infallible;

use crate::error::Result;

/// There is none.
#[derive(Debug, PartialEq)]
pub(super) struct NativeDevice(Infallible);

impl NativeDevice {
    /// None.
    pub(super) fn of(_: &wgpu::Device) -> Option<Self> {
        None
    }

    /// Never called.
    pub(super) fn buffer(&self, _: u64) -> Result<NativeBuffer> {
        match self.0 {}
    }
}

/// Never made.
#[derive(Debug)]
pub(super) struct NativeBuffer(Infallible);

impl NativeBuffer {
    /// Never called.
    pub(super) fn on(&self, _: &wgpu::Device, _: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        match self.0 {}
    }
}
