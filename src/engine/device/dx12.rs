//! DX12: every device that wgpu opens on an adapter is made of the same one of the system's, whose buffers all of them can bind.

use wgpu::hal;
use wgpu::hal::api::Dx12;
use windows::Win32::Foundation::E_OUTOFMEMORY;
use windows::Win32::Graphics::Direct3D12::{
    D3D12_HEAP_FLAG_NONE, D3D12_HEAP_PROPERTIES, D3D12_HEAP_TYPE_DEFAULT, D3D12_RESOURCE_DESC,
    D3D12_RESOURCE_DIMENSION_BUFFER, D3D12_RESOURCE_FLAG_ALLOW_UNORDERED_ACCESS, D3D12_RESOURCE_STATE_COMMON,
    D3D12_TEXTURE_LAYOUT_ROW_MAJOR, ID3D12Device, ID3D12Resource,
};
use windows::Win32::Graphics::Dxgi::Common::{DXGI_FORMAT_UNKNOWN, DXGI_SAMPLE_DESC};

use crate::error::{Error, Result};

/// The system's device; equal to those that are the same object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NativeDevice(ID3D12Device);

impl NativeDevice {
    /// What `device` is made of; `None` where it is none of DX12's.
    pub(super) fn of(device: &wgpu::Device) -> Option<Self> {
        // SAFETY: the handle is only counted once more.
        let device = unsafe { device.as_hal::<Dx12>() }?;
        Some(Self(device.raw_device().clone()))
    }

    /// New memory of so many bytes, whose contents are not said.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where there is none left, `UNAVAILABLE` when the device is lost.
    pub(super) fn buffer(&self, bytes: u64) -> Result<NativeBuffer> {
        let heap = D3D12_HEAP_PROPERTIES { Type: D3D12_HEAP_TYPE_DEFAULT, ..D3D12_HEAP_PROPERTIES::default() };
        let wanted = D3D12_RESOURCE_DESC {
            Dimension: D3D12_RESOURCE_DIMENSION_BUFFER,
            Width: bytes,
            Height: 1,
            DepthOrArraySize: 1,
            MipLevels: 1,
            Format: DXGI_FORMAT_UNKNOWN,
            SampleDesc: DXGI_SAMPLE_DESC { Count: 1, Quality: 0 },
            Layout: D3D12_TEXTURE_LAYOUT_ROW_MAJOR,
            // A kernel whose bindings are all written reads weights through such a one too.
            Flags: D3D12_RESOURCE_FLAG_ALLOW_UNORDERED_ACCESS,
            ..D3D12_RESOURCE_DESC::default()
        };
        let mut made: Option<ID3D12Resource> = None;
        // Committed: its memory is its own, and no part of what one lane's device would give out again.
        // SAFETY: what is pointed to lives beyond the call.
        let done = unsafe {
            self.0.CreateCommittedResource(
                &heap,
                D3D12_HEAP_FLAG_NONE,
                &wanted,
                D3D12_RESOURCE_STATE_COMMON,
                None,
                &mut made,
            )
        };
        let text = |error: &dyn std::fmt::Display| format!("{bytes} bytes that lanes have in common: {error}");
        done.map_err(|e| match e.code() {
            E_OUTOFMEMORY => Error::resource_exhausted(text(&e)),
            // SAFETY: the device only says whether it is lost.
            _ if unsafe { self.0.GetDeviceRemovedReason() }.is_err() => Error::unavailable(text(&e)),
            _ => Error::internal(text(&e)),
        })?;
        let raw = made.ok_or_else(|| Error::internal(text(&"no buffer")))?;
        Ok(NativeBuffer { raw, device: self.clone(), bytes })
    }
}

/// Memory that goes when the last buffer over it does.
#[derive(Debug)]
pub(super) struct NativeBuffer {
    raw: ID3D12Resource,
    device: NativeDevice,
    bytes: u64,
}

impl NativeBuffer {
    /// A buffer over it on `device`, which holds it as long as the GPU may use it.
    ///
    /// # Errors
    /// `INTERNAL` where that is made of another of the system's devices.
    pub(super) fn on(&self, device: &wgpu::Device, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        if NativeDevice::of(device).as_ref() != Some(&self.device) {
            return Err(Error::internal("a buffer of one of the system's devices is asked for on another"));
        }
        // SAFETY: it is a buffer as large as is said, counted once more for what is returned.
        let raw = unsafe { hal::dx12::Device::buffer_from_raw(self.raw.clone(), self.bytes) };
        let described = wgpu::BufferDescriptor { label: None, size: self.bytes, usage, mapped_at_creation: false };
        // SAFETY: the device is made of that which the buffer was made on. Between submissions a buffer is in no state, and all
        // lanes may read it at once. It has no contents only for whom it was made, who writes all of it first.
        Ok(unsafe { device.create_buffer_from_hal::<Dx12>(raw, &described) })
    }
}
