//! One Vulkan device with several queues, each of which wgpu takes for a device of its own: what is in the memory of one, all
//! can read.
//!
//! What keeps that sound: the queues are of one family, so that buffers need not change owners; the family draws, too, because
//! wgpu's barriers name stages of drawing; each wrapper is told that it does not own the device; and no wrapper writes to what
//! another has made.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use ash::vk;
use wgpu::hal;
use wgpu::hal::api::Vulkan;

use super::vulkan::{described, refused};
use crate::error::{Error, Result};

/// The family that wgpu takes its queue of.
const FAMILY: u32 = 0;
/// Queues opened at most.
const QUEUES_MAX: u32 = 64;

/// Queues that one device of `adapter` can have, each a lane's; 0 where the adapter is not Vulkan's.
pub(super) fn queue_count(adapter: &wgpu::Adapter) -> u32 {
    // SAFETY: the handle is only read, and not kept beyond this function.
    let Some(vulkan) = (unsafe { adapter.as_hal::<Vulkan>() }) else { return 0 };
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: the physical device belongs to this instance, which the adapter keeps alive.
    let families = unsafe { instance.get_physical_device_queue_family_properties(vulkan.raw_physical_device()) };
    families.first().map_or(0, usable)
}

fn usable(family: &vk::QueueFamilyProperties) -> u32 {
    if family.queue_flags.contains(vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE) {
        family.queue_count.min(QUEUES_MAX)
    } else {
        // Enough for wgpu itself, which asks no more of it than we do of a lane.
        family.queue_count.min(1)
    }
}

/// The device itself, destroyed when its last wrapper is gone.
struct Owner {
    raw: ash::Device,
    /// Keeps the instance.
    _adapter: wgpu::Adapter,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: every wrapper holds the owner until it is gone itself, and with it all that it made of the device.
        unsafe { self.raw.destroy_device(None) };
    }
}

/// A device with several queues of one family.
pub(super) struct QueueFamily {
    owner: Arc<Owner>,
    adapter: wgpu::Adapter,
    extensions: Vec<&'static CStr>,
    count: u32,
}

impl fmt::Debug for QueueFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueFamily").field("count", &self.count).finish_non_exhaustive()
    }
}

impl QueueFamily {
    /// Opens a device with `count` queues, of [`queue_count`] at most.
    pub(super) fn open(adapter: &wgpu::Adapter, descriptor: &wgpu::DeviceDescriptor<'_>, count: u32) -> Result<Self> {
        let available = queue_count(adapter);
        if count == 0 || count > available {
            return Err(Error::failed_precondition(format!("{count} queues are wanted, the adapter has {available}")));
        }
        // SAFETY: the handle is used within this function alone.
        let vulkan = unsafe { adapter.as_hal::<Vulkan>() }.ok_or_else(|| Error::internal("no Vulkan adapter"))?;
        let extensions = vulkan.required_device_extensions(descriptor.required_features);
        let mut features = vulkan.physical_device_features(&extensions, descriptor.required_features);
        let names: Vec<_> = extensions.iter().map(|name| name.as_ptr()).collect();
        let priorities = vec![1.0; count as usize];
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(FAMILY).queue_priorities(&priorities)];
        let info = vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&names);
        let info = features.add_to_device_create(info);
        let instance = vulkan.shared_instance().raw_instance();
        // SAFETY: the adapter has the queues, and wgpu says which extensions and features its own devices are made with.
        let raw = unsafe { instance.create_device(vulkan.raw_physical_device(), &info, None) }
            .map_err(|e| refused("a device with several queues", e))?;
        let owner = Arc::new(Owner { raw, _adapter: adapter.clone() });
        Ok(Self { owner, adapter: adapter.clone(), extensions: extensions.clone(), count })
    }

    /// Queue `index` as a device. Nobody may ask for the same one twice: a queue is used by one thread at a time.
    pub(super) fn queue(
        &self,
        descriptor: &wgpu::DeviceDescriptor<'_>,
        index: u32,
    ) -> Result<(wgpu::Device, wgpu::Queue)> {
        if index >= self.count {
            return Err(Error::internal(format!("queue {index} of {}", self.count)));
        }
        let open = {
            // SAFETY: the handle is used for the call below alone.
            let vulkan =
                unsafe { self.adapter.as_hal::<Vulkan>() }.ok_or_else(|| Error::internal("no Vulkan adapter"))?;
            let owner = Arc::clone(&self.owner);
            // SAFETY: the device was opened on this adapter with these extensions, features and queues; it stays until the
            // callback has been dropped.
            unsafe {
                vulkan.device_from_raw(
                    self.owner.raw.clone(),
                    Some(Box::new(move || drop(owner))),
                    &self.extensions,
                    descriptor.required_features,
                    &descriptor.required_limits,
                    &descriptor.memory_hints,
                    FAMILY,
                    index,
                )
            }
        };
        let open = open.map_err(|e| Error::unavailable(format!("queue {index}: {e}")))?;
        // SAFETY: the device was made above, by this adapter, with these features.
        unsafe { self.adapter.create_device_from_hal::<Vulkan>(open, descriptor) }
            .map_err(|e| Error::unavailable(format!("queue {index}: {e}")).with_source(e))
    }
}

/// `buffer`, made on one queue of a family and never written again, as a buffer of another's.
pub(super) fn alias(device: &wgpu::Device, buffer: &wgpu::Buffer) -> Result<wgpu::Buffer> {
    let kept = buffer.clone();
    let raw = {
        // SAFETY: the handle is not destroyed through this.
        let vulkan = unsafe { buffer.as_hal::<Vulkan>() }.ok_or_else(|| Error::unavailable("a buffer is gone"))?;
        // SAFETY: as above; `kept` holds the buffer as long as the alias needs it.
        unsafe { vulkan.raw_handle() }
    };
    // SAFETY: the buffer outlives the alias, which holds it.
    let alias = unsafe { hal::vulkan::Buffer::from_raw_externally_owned(raw, Box::new(move || drop(kept))) };
    // SAFETY: both devices are wrappers of one; size and use are within the buffer's, and all of it was written.
    Ok(unsafe { device.create_buffer_from_hal::<Vulkan>(alias, &described(buffer.size())) })
}

#[cfg(test)]
mod tests {
    use super::super::adapter::Adapter;
    use super::*;

    #[test]
    fn queues_of_families_that_only_compute_are_not_wrapped_together() {
        let family = |flags, count| vk::QueueFamilyProperties {
            queue_flags: flags,
            queue_count: count,
            ..vk::QueueFamilyProperties::default()
        };
        let both = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE;
        assert_eq!(usable(&family(both | vk::QueueFlags::TRANSFER, 16)), 16);
        assert_eq!(usable(&family(both, 1000)), QUEUES_MAX);
        assert_eq!(usable(&family(vk::QueueFlags::COMPUTE, 8)), 1);
        assert_eq!(usable(&family(both, 0)), 0);
    }

    #[test]
    fn more_queues_than_there_are_are_refused() {
        for adapter in Adapter::all() {
            let count = queue_count(&adapter.raw);
            let descriptor = wgpu::DeviceDescriptor::default();
            for wrong in [0, count + 1] {
                let error = QueueFamily::open(&adapter.raw, &descriptor, wrong).expect_err("not so many");
                assert_eq!(error.message(), format!("{wrong} queues are wanted, the adapter has {count}"));
            }
        }
    }
}
