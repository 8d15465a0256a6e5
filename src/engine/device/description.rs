//! What a person or a script wants to know of an adapter, as plain data.

use serde::Serialize;

use super::adapter::{Adapter, Mask};
use super::sharing::Way;
use crate::engine::ir::Family;

/// One adapter as `coracle devices` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Its position in the order of preference, as `--device` takes it.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Which kernels suit it: `gpu` or `software`.
    pub family: &'static str,
    /// The driver's name and version as it gives them; empty where it gives none.
    pub driver: String,
    /// More that the driver says of itself.
    pub driver_info: String,
    /// `vendor:device` in hexadecimal.
    pub pci_id: String,
    /// Where it sits on the bus, if it does.
    pub pci_bus: Option<String>,
    /// Bytes of the largest device-local memory heap, where the backend tells.
    pub memory_bytes: Option<u64>,
    /// Whether 16-bit floats can be stored and loaded in shaders.
    pub f16: bool,
    /// Whether shaders have 64-bit integers.
    pub int64: bool,
    /// Whether shaders have 64-bit floats.
    pub f64: bool,
    /// The least and the most invocations of a subgroup, where there are subgroup operations.
    pub subgroup_sizes: Option<[u32; 2]>,
    /// Products that the adapter's matrix units do, e.g. `16x16x16 f16 -> f32`.
    pub cooperative_matrices: Vec<String>,
    /// Whether kernels can be timed on the device.
    pub timestamps: bool,
    /// Queues of one opened device. More lanes open more devices.
    pub queues_per_device: u32,
    /// How lanes can have one copy of weights in common; `None` where each has its own.
    pub shared_weights: Option<&'static str>,
    /// Whether they do so unasked.
    pub shares_unasked: bool,
    /// The limits that models meet.
    pub limits: Limits,
}

/// The limits that models meet.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Bytes of one allocation.
    pub max_buffer_bytes: u64,
    /// Bytes of one tensor.
    pub max_binding_bytes: u64,
    /// Tensors that one kernel reads and writes.
    pub max_storage_buffers: u32,
    /// Workgroups along each axis of a grid.
    pub max_workgroups: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Bytes that a workgroup shares.
    pub max_workgroup_bytes: u32,
}

impl Adapter {
    /// Bytes of the largest device-local memory heap, where the backend tells.
    pub fn memory_bytes(&self) -> Option<u64> {
        memory_bytes(&self.raw)
    }

    /// Everything that matters for us, unmasked.
    pub fn describe(&self) -> Description {
        let (info, features, limits) = (self.info(), self.raw.features(), self.raw.limits());
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        let matrices = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        Description {
            index: self.index(),
            name: info.name.clone(),
            backend: format!("{:?}", info.backend).to_lowercase(),
            kind: kind(info.device_type),
            family: match self.profile(&Mask::default()).family {
                Family::Gpu => "gpu",
                Family::Software => "software",
            },
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            pci_id: format!("{:04x}:{:04x}", info.vendor, info.device),
            pci_bus: Some(info.device_pci_bus_id.clone()).filter(|bus| !bus.is_empty()),
            memory_bytes: self.memory_bytes(),
            f16: features.contains(wgpu::Features::SHADER_F16),
            int64: features.contains(wgpu::Features::SHADER_INT64),
            f64: features.contains(wgpu::Features::SHADER_F64),
            subgroup_sizes: subgroups.then_some([info.subgroup_min_size, info.subgroup_max_size]),
            cooperative_matrices: if matrices { cooperative_matrices(&self.raw) } else { Vec::new() },
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            queues_per_device: 1,
            shared_weights: self.way_to_share().map(Way::describe),
            shares_unasked: self.way_trusted().is_some(),
            limits: Limits {
                max_buffer_bytes: limits.max_buffer_size,
                max_binding_bytes: limits.max_storage_buffer_binding_size,
                max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
                max_workgroups: limits.max_compute_workgroups_per_dimension,
                max_invocations: limits.max_compute_invocations_per_workgroup,
                max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            },
        }
    }
}

fn kind(device: wgpu::DeviceType) -> &'static str {
    match device {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}

fn cooperative_matrices(adapter: &wgpu::Adapter) -> Vec<String> {
    let shapes = adapter.cooperative_matrix_properties();
    let text = |p: &wgpu::CooperativeMatrixProperties| {
        format!("{}x{}x{} {:?} -> {:?}", p.m_size, p.n_size, p.k_size, p.ab_type, p.cr_type).to_lowercase()
    };
    shapes.iter().map(text).collect()
}

/// The largest device-local heap; wgpu itself has no word for it.
#[cfg(not(target_os = "macos"))]
fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handle is only read, and not kept beyond this function.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: the physical device belongs to this instance, which the adapter keeps alive.
    let memory = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

#[cfg(target_os = "macos")]
fn memory_bytes(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_agree_with_profiles_and_order() {
        for (index, adapter) in Adapter::all().iter().enumerate() {
            let (found, profile) = (adapter.describe(), adapter.profile(&Mask::default()));
            assert_eq!(found.index, index);
            assert_eq!(found.f16, profile.f16);
            assert_eq!(found.limits.max_binding_bytes, profile.max_binding_bytes);
            assert_eq!(found.kind == "software", adapter.is_software());
            assert!(found.memory_bytes.is_none_or(|bytes| bytes > 0));
        }
    }
}
