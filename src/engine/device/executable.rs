//! A program prepared on a device: everything that a run needs but its inputs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::gpu::{Gpu, Pipeline};
use super::memory::{Held, Memory};
use super::parallel::compile_all;
use super::slot::Slot;
use crate::engine::ir::{Binding, Buffer, BufferId, Dispatch, Kernel, Program};
use crate::error::{Error, Result};

/// A program prepared on one lane's device.
#[derive(Debug)]
pub struct Executable {
    program: Arc<Program>,
    segments: Vec<PreparedSegment>,
    buffers: Vec<Arc<Held>>,
    uniforms: Option<Uniforms>,
}

/// A segment's commands, and slots for its runs.
#[derive(Debug)]
pub(super) struct PreparedSegment {
    pub(super) dispatches: Vec<PreparedDispatch>,
    /// Those not in flight.
    slots: Mutex<Vec<Arc<Slot>>>,
}

#[derive(Debug)]
pub(super) struct PreparedDispatch {
    pub(super) kernel: Kernel,
    pub(super) pipeline: Arc<Pipeline>,
    /// Of the arena's buffers; slots have others where mapped ones take their place.
    pub(super) bind_group: wgpu::BindGroup,
    pub(super) groups: [u32; 3],
    /// Where its parameters start in [`Uniforms::places`].
    first_uniform: usize,
}

impl Executable {
    /// What was prepared.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    pub(super) fn segment(&self, index: usize) -> Result<&PreparedSegment> {
        self.segments.get(index).ok_or_else(|| Error::internal(format!("the program has no segment {index}")))
    }

    pub(super) fn segments(&self) -> &[PreparedSegment] {
        &self.segments
    }

    /// Pipelines compiled, weights uploaded, bind groups made.
    pub(super) fn prepare(gpu: &Gpu, memory: &Memory, program: &Arc<Program>) -> Result<Self> {
        let pools = program.pool_bytes();
        let limit = gpu.limits.max_storage_buffer_binding_size;
        if let Some(bytes) = pools.iter().find(|b| **b > limit) {
            return Err(Error::resource_exhausted(format!(
                "an activation of {bytes} bytes is over the adapter's max_storage_buffer_binding_size of {limit}"
            )));
        }
        let arena =
            if program.segments.len() > 1 { memory.private_arena(gpu, &pools) } else { memory.arena(gpu, &pools) }?;
        let mut buffers = Vec::with_capacity(program.buffers.len());
        for buffer in &program.buffers {
            buffers.push(match buffer {
                Buffer::Scratch { pool, .. } => Arc::clone(&arena[*pool]),
                Buffer::Constant { tensor, storage, form } => memory.weight(gpu, tensor, *storage, form.as_ref())?,
                Buffer::Table(words) => {
                    let bytes: &[u8] = bytemuck::cast_slice(words);
                    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                    let held = memory.allocate(gpu, "a table", bytes.len() as u64, usage)?;
                    gpu.queue.write_buffer(&held.raw, 0, bytes);
                    held
                }
            });
        }
        compile_all(gpu, program)?;
        let uniforms = Uniforms::upload(gpu, memory, program)?;
        let mut executable = Self { program: Arc::clone(program), segments: Vec::new(), buffers, uniforms };
        let mut first_uniform = 0;
        for segment in &program.segments {
            let prepare = |dispatch| executable.prepare_dispatch(gpu, dispatch, &mut first_uniform);
            let dispatches = segment.dispatches.iter().map(prepare).collect::<Result<Vec<_>>>()?;
            executable.segments.push(PreparedSegment { dispatches, slots: Mutex::default() });
        }
        // What does not fit shall be known now, not with the first request.
        for (index, segment) in executable.segments.iter().enumerate() {
            segment.return_slot(Arc::new(Slot::new(gpu, memory, &executable, index)?));
        }
        // Uploads of weights and tables are flushed now, too.
        gpu.queue.submit([]);
        Ok(executable)
    }

    /// The device's buffer `id`, shared by all slots.
    pub(super) fn buffer(&self, id: BufferId) -> &wgpu::Buffer {
        &self.buffers[id.0].raw
    }

    /// A slot of segment `index` that no run uses, kept from an earlier run or new.
    pub(super) fn take_slot(&self, gpu: &Gpu, memory: &Memory, index: usize) -> Result<Arc<Slot>> {
        let kept = self.segment(index)?.slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| Slot::new(gpu, memory, self, index).map(Arc::new), Ok)
    }

    fn prepare_dispatch(&self, gpu: &Gpu, dispatch: &Dispatch, uniform: &mut usize) -> Result<PreparedDispatch> {
        let (pipeline, first_uniform) = (gpu.pipeline(&dispatch.kernel)?, *uniform);
        *uniform += dispatch.uniforms.len();
        let bind_group = self.bind(gpu, dispatch, &pipeline, first_uniform, &HashMap::new())?;
        Ok(PreparedDispatch {
            kernel: dispatch.kernel.clone(),
            pipeline,
            bind_group,
            groups: dispatch.groups,
            first_uniform,
        })
    }

    /// The bind group of `dispatch` with those of its buffers replaced that are in `own`; `None` if none is.
    pub(super) fn rebind(
        &self,
        gpu: &Gpu,
        dispatch: &Dispatch,
        prepared: &PreparedDispatch,
        own: &HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<Option<wgpu::BindGroup>> {
        let touched = dispatch.buffers.iter().any(|id| own.contains_key(id));
        touched.then(|| self.bind(gpu, dispatch, &prepared.pipeline, prepared.first_uniform, own)).transpose()
    }

    fn bind(
        &self,
        gpu: &Gpu,
        dispatch: &Dispatch,
        pipeline: &Pipeline,
        mut uniform: usize,
        own: &HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<wgpu::BindGroup> {
        let mut storage = dispatch.buffers.iter();
        let short = || Error::internal(format!("kernel {} is bound to too few buffers", dispatch.kernel.name));
        let mut entries = Vec::with_capacity(dispatch.kernel.bindings.len());
        for (index, binding) in dispatch.kernel.bindings.iter().enumerate() {
            let resource = match binding {
                Binding::Uniform => {
                    let uniforms = self.uniforms.as_ref().ok_or_else(short)?;
                    let (offset, bytes) = *uniforms.places.get(uniform).ok_or_else(short)?;
                    uniform += 1;
                    let size = std::num::NonZeroU64::new(bytes);
                    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &uniforms.held.raw, offset, size })
                }
                Binding::Read | Binding::ReadWrite => {
                    let id = storage.next().ok_or_else(short)?;
                    own.get(id).unwrap_or_else(|| self.buffer(*id)).as_entire_binding()
                }
            };
            entries.push(wgpu::BindGroupEntry { binding: index as u32, resource });
        }
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        let what = format!("{} for {:?}", dispatch.kernel.name, dispatch.label);
        gpu.guarded(&what, || gpu.device.create_bind_group(&descriptor))
    }
}

impl PreparedSegment {
    /// Gives back a slot whose run is over.
    pub(super) fn return_slot(&self, slot: Arc<Slot>) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }
}

/// The parameters of every dispatch in one buffer.
#[derive(Debug)]
struct Uniforms {
    held: Arc<Held>,
    /// (offset, bytes) of each, in the order of segments, dispatches and bindings.
    places: Vec<(u64, u64)>,
}

impl Uniforms {
    fn upload(gpu: &Gpu, memory: &Memory, program: &Program) -> Result<Option<Self>> {
        let align = gpu.limits.min_uniform_buffer_offset_alignment as usize;
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for words in program.segments.iter().flat_map(|s| &s.dispatches).flat_map(|d| &d.uniforms) {
            bytes.resize(bytes.len().next_multiple_of(align), 0);
            // Uniform blocks are sized in vec4s.
            let length = (words.len() * 4).next_multiple_of(16);
            places.push((bytes.len() as u64, length as u64));
            bytes.extend_from_slice(bytemuck::cast_slice(words));
            bytes.resize(bytes.len().next_multiple_of(16), 0);
        }
        if places.is_empty() {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let held = memory.allocate(gpu, "parameters", bytes.len() as u64, usage)?;
        gpu.queue.write_buffer(&held.raw, 0, &bytes);
        Ok(Some(Self { held, places }))
    }
}
