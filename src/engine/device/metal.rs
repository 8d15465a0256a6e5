//! Metal: every device that wgpu opens on an adapter is made of the same one of the system's, whose buffers all of them can bind.

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLDevice, MTLResourceOptions};
use wgpu::hal;
use wgpu::hal::api::Metal;

use crate::error::{Error, Result};

/// The system's device; equal to those that are the same object.
#[derive(Clone, Debug)]
pub(super) struct NativeDevice(Retained<ProtocolObject<dyn MTLDevice>>);

impl PartialEq for NativeDevice {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Retained::as_ptr(&self.0), Retained::as_ptr(&other.0))
    }
}

impl NativeDevice {
    /// What `device` is made of; `None` where it is none of Metal's.
    pub(super) fn of(device: &wgpu::Device) -> Option<Self> {
        // SAFETY: the handle is only counted once more.
        let device = unsafe { device.as_hal::<Metal>() }?;
        Some(Self(device.raw_device().clone()))
    }

    /// New memory of so many bytes, whose contents are not said.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where there is none left.
    pub(super) fn buffer(&self, bytes: u64) -> Result<NativeBuffer> {
        let length =
            usize::try_from(bytes).map_err(|_| Error::resource_exhausted(format!("a buffer of {bytes} bytes")))?;
        let options = MTLResourceOptions::StorageModePrivate;
        let raw = autoreleasepool(|_| self.0.newBufferWithLength_options(length, options))
            .ok_or_else(|| Error::resource_exhausted(format!("{bytes} bytes that lanes have in common")))?;
        Ok(NativeBuffer { raw, device: self.clone(), bytes })
    }
}

/// Memory that goes when the last buffer over it does.
#[derive(Debug)]
pub(super) struct NativeBuffer {
    raw: Retained<ProtocolObject<dyn MTLBuffer>>,
    device: NativeDevice,
    bytes: u64,
}

// SAFETY: Metal counts holders of its objects on any thread, and nothing else is done with the buffer here.
unsafe impl Send for NativeBuffer {}
// SAFETY: as above.
unsafe impl Sync for NativeBuffer {}

impl NativeBuffer {
    /// A buffer over it on `device`, which holds it as long as the GPU may use it.
    ///
    /// # Errors
    /// `INTERNAL` where that is made of another of the system's devices.
    pub(super) fn on(&self, device: &wgpu::Device, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        if NativeDevice::of(device).as_ref() != Some(&self.device) {
            return Err(Error::internal("a buffer of one of the system's devices is asked for on another"));
        }
        // SAFETY: it is as large as is said, and counted once more for what is returned.
        let raw = unsafe { hal::metal::Device::buffer_from_raw(self.raw.clone(), self.bytes) };
        let described = wgpu::BufferDescriptor { label: None, size: self.bytes, usage, mapped_at_creation: false };
        // SAFETY: the device is made of that which the buffer was made on. It has no contents only for whom it was made, who writes
        // all of it first.
        Ok(unsafe { device.create_buffer_from_hal::<Metal>(raw, &described) })
    }
}
