//! What wgpu has no words for and Vulkan has: devices that import host memory, those with several queues, and commands that are
//! recorded once.

use std::sync::Arc;

use ash::ext::external_memory_host;
use ash::vk;
use wgpu::hal;
use wgpu::hal::api::Vulkan;

use super::host_block::HostBlock;
pub(super) use super::vulkan_kernels::{Compiled, Recorder};
pub(super) use super::vulkan_queues::{QueueFamily, alias, queue_count};
pub(super) use super::vulkan_recording::Recording;
use crate::error::{Error, Result};

/// How host memory is handed over.
const HANDLE: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;

/// What `what` that Vulkan refused is told as.
pub(super) fn refused(what: &str, result: vk::Result) -> Error {
    let text = format!("{what}: {result}");
    match result {
        vk::Result::ERROR_DEVICE_LOST => Error::unavailable(text),
        vk::Result::ERROR_OUT_OF_HOST_MEMORY
        | vk::Result::ERROR_OUT_OF_DEVICE_MEMORY
        | vk::Result::ERROR_TOO_MANY_OBJECTS => Error::resource_exhausted(text),
        _ => Error::internal(text),
    }
}

/// What host memory must begin at multiples of for devices of `adapter` to import it; `None` where they cannot.
pub(super) fn import_alignment(adapter: &wgpu::Adapter) -> Option<usize> {
    // SAFETY: the handle is only read, and not kept beyond this function.
    let vulkan = unsafe { adapter.as_hal::<Vulkan>() }?;
    let capabilities = vulkan.physical_device_capabilities();
    let instance = vulkan.shared_instance();
    let api = instance.instance_api_version().min(capabilities.properties().api_version);
    if api < vk::API_VERSION_1_1 || !capabilities.supports_extension(external_memory_host::NAME) {
        return None;
    }
    let mut host = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut host);
    // SAFETY: the physical device belongs to this instance; both know Vulkan 1.1, and the device the extension.
    unsafe {
        instance.raw_instance().get_physical_device_properties2(vulkan.raw_physical_device(), &mut properties);
    }
    usize::try_from(host.min_imported_host_pointer_alignment).ok().filter(|alignment| alignment.is_power_of_two())
}

/// Opens a device that can import host memory, on an adapter that has an [`import_alignment`].
pub(super) fn open_importing(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    let open = {
        // SAFETY: the handle is used for the call below alone.
        let vulkan = unsafe { adapter.as_hal::<Vulkan>() }.ok_or_else(|| Error::internal("no Vulkan adapter"))?;
        let extend = |args: hal::vulkan::CreateDeviceCallbackArgs<'_, '_, '_>| {
            args.extensions.push(external_memory_host::NAME);
        };
        // SAFETY: the features are some of the adapter's; the callback adds one extension, which the adapter has.
        unsafe {
            vulkan.open_with_callback(
                descriptor.required_features,
                &descriptor.required_limits,
                &descriptor.memory_hints,
                Some(Box::new(extend)),
            )
        }
    };
    let open = open.map_err(|e| Error::unavailable(format!("no device that imports host memory: {e}")))?;
    // SAFETY: the device was opened above, by this adapter, with these features.
    unsafe { adapter.create_device_from_hal::<Vulkan>(open, descriptor) }
        .map_err(|e| Error::unavailable(format!("no device that imports host memory: {e}")).with_source(e))
}

/// A buffer over imported memory. It ends before the device does, and the memory after it.
struct Imported {
    device: ash::Device,
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    _block: Arc<HostBlock>,
}

impl Drop for Imported {
    fn drop(&mut self) {
        // SAFETY: both are this device's, or null; wgpu is done with the buffer, and lets go of it before the device.
        unsafe {
            self.device.destroy_buffer(self.buffer, None);
            self.device.free_memory(self.memory, None);
        }
    }
}

/// A read-only storage buffer of `bytes` bytes over `block`, which must be as large, on a device of [`open_importing`].
///
/// # Errors
/// `RESOURCE_EXHAUSTED` or `INTERNAL` with what the driver says.
pub(super) fn import(device: &wgpu::Device, block: &Arc<HostBlock>, bytes: u64) -> Result<wgpu::Buffer> {
    // SAFETY: nothing is destroyed through the handle.
    let vulkan = unsafe { device.as_hal::<Vulkan>() }.ok_or_else(|| Error::internal("no Vulkan device"))?;
    if !vulkan.enabled_device_extensions().contains(&external_memory_host::NAME) {
        return Err(Error::internal("a device that cannot import host memory is asked to"));
    }
    let (raw, instance) = (vulkan.raw_device(), vulkan.shared_instance().raw_instance());
    let host = external_memory_host::Device::new(instance, raw);
    let mut importable = vk::MemoryHostPointerPropertiesEXT::default();
    // SAFETY: the extension is enabled; the block lives and begins where the adapter wants it to.
    let asked = unsafe {
        let ask = host.fp().get_memory_host_pointer_properties_ext;
        ask(raw.handle(), HANDLE, block.start().as_ptr().cast(), &mut importable)
    };
    asked.result().map_err(|e| refused("host memory is not importable", e))?;
    let mut imported = Imported {
        device: raw.clone(),
        buffer: vk::Buffer::null(),
        memory: vk::DeviceMemory::null(),
        _block: Arc::clone(block),
    };
    let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(HANDLE);
    let wanted = vk::BufferCreateInfo::default()
        .size(bytes)
        .usage(vk::BufferUsageFlags::STORAGE_BUFFER)
        .sharing_mode(vk::SharingMode::EXCLUSIVE)
        .push_next(&mut external);
    // SAFETY: the device lives, and `imported` destroys the buffer.
    imported.buffer = unsafe { raw.create_buffer(&wanted, None) }.map_err(|e| refused("a buffer", e))?;
    // SAFETY: both were made by this device.
    let needs = unsafe { raw.get_buffer_memory_requirements(imported.buffer) };
    // SAFETY: the physical device is the one that the device was opened on.
    let memory = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let kind = coherent_type(&memory, needs.memory_type_bits & importable.memory_type_bits)
        .filter(|_| needs.size <= block.bytes())
        .ok_or_else(|| {
            Error::internal(format!(
                "{bytes} bytes over a block of {} are no buffer: it needs {} bytes and coherent memory of types {:#b} and \
                 {:#b}",
                block.bytes(),
                needs.size,
                needs.memory_type_bits,
                importable.memory_type_bits
            ))
        })?;
    let mut import =
        vk::ImportMemoryHostPointerInfoEXT::default().handle_type(HANDLE).host_pointer(block.start().as_ptr().cast());
    let allocation =
        vk::MemoryAllocateInfo::default().allocation_size(block.bytes()).memory_type_index(kind).push_next(&mut import);
    // SAFETY: the block's start and size are multiples of what the adapter asks for, and it outlives the memory.
    imported.memory = unsafe { raw.allocate_memory(&allocation, None) }.map_err(|e| refused("imported memory", e))?;
    // SAFETY: buffer and memory are this device's, the memory is large enough and of a type that the buffer takes.
    unsafe { raw.bind_buffer_memory(imported.buffer, imported.memory, 0) }
        .map_err(|e| refused("a buffer over imported memory", e))?;
    let buffer = imported.buffer;
    // SAFETY: `imported` keeps the buffer until wgpu lets go of it.
    let buffer = unsafe { hal::vulkan::Buffer::from_raw_externally_owned(buffer, Box::new(move || drop(imported))) };
    drop(vulkan);
    // SAFETY: the buffer is this device's, of this size and use, and every byte of it was written.
    Ok(unsafe { device.create_buffer_from_hal::<Vulkan>(buffer, &described(bytes)) })
}

/// How wgpu knows a buffer whose contents others brought.
pub(super) fn described(bytes: u64) -> wgpu::BufferDescriptor<'static> {
    wgpu::BufferDescriptor { label: None, size: bytes, usage: wgpu::BufferUsages::STORAGE, mapped_at_creation: false }
}

/// The first of these types whose memory the device sees as the host has written it.
fn coherent_type(memory: &vk::PhysicalDeviceMemoryProperties, allowed: u32) -> Option<u32> {
    let wanted = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
    let is_coherent = |kind: &u32| memory.memory_types[*kind as usize].property_flags.contains(wanted);
    (0..memory.memory_type_count.min(32)).filter(|kind| allowed >> kind & 1 == 1).find(is_coherent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_coherent_type_is_taken() {
        let mut memory = vk::PhysicalDeviceMemoryProperties { memory_type_count: 3, ..Default::default() };
        let coherent = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
        memory.memory_types[0].property_flags = vk::MemoryPropertyFlags::DEVICE_LOCAL;
        memory.memory_types[1].property_flags = coherent | vk::MemoryPropertyFlags::DEVICE_LOCAL;
        memory.memory_types[2].property_flags = coherent;
        assert_eq!(coherent_type(&memory, 0b111), Some(1));
        assert_eq!(coherent_type(&memory, 0b101), Some(2));
        assert_eq!(coherent_type(&memory, 0b001), None);
        assert_eq!(coherent_type(&memory, 0b1000), None, "there is no such type");
    }
}
