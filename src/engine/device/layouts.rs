//! Layouts of bindings, one for all kernels that bind alike: where a pipeline follows another of the same layout, wgpu need not
//! compare their bindings.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::engine::ir::Binding;

/// Bytes that every storage buffer has at least, and no kernel asks for more: a vector of four 64-bit numbers. Said beforehand,
/// sizes are compared when a buffer is bound to a group, not at every dispatch.
pub(super) const STORAGE_BYTES_MIN: u64 = 32;

/// How a kernel's bindings lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) group: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::PipelineLayout,
}

/// The layouts of a device. They are as many as there are sequences of bindings: some dozens.
#[derive(Debug, Default)]
pub(super) struct Layouts(Mutex<HashMap<Vec<Binding>, Layout>>);

impl Layouts {
    /// The layout of `bindings` in group 0.
    pub(super) fn of(&self, device: &wgpu::Device, bindings: &[Binding]) -> Layout {
        let mut layouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layouts.get(bindings) {
            return layout.clone();
        }
        let entries: Vec<_> = bindings.iter().enumerate().map(|(i, b)| entry(i, *b)).collect();
        let group =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        let layout = Layout { group, pipeline };
        layouts.insert(bindings.to_vec(), layout.clone());
        layout
    }
}

fn entry(index: usize, binding: Binding) -> wgpu::BindGroupLayoutEntry {
    let (ty, min_binding_size) = match binding {
        Binding::Read => (wgpu::BufferBindingType::Storage { read_only: true }, STORAGE_BYTES_MIN),
        Binding::ReadWrite => (wgpu::BufferBindingType::Storage { read_only: false }, STORAGE_BYTES_MIN),
        // Each kernel's own.
        Binding::Uniform => (wgpu::BufferBindingType::Uniform, 0),
    };
    wgpu::BindGroupLayoutEntry {
        binding: index as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: std::num::NonZeroU64::new(min_binding_size),
        },
        count: None,
    }
}
