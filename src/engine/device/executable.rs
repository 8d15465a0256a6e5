//! A program prepared on a device: everything that a run needs but its inputs.

use std::sync::{Arc, Mutex, PoisonError};

use super::gpu::{Gpu, Pipeline};
use super::memory::{Held, Memory};
use super::parallel::compile_all;
use crate::engine::ir::{Binding, Buffer, Dispatch, Kernel, Program, Segment};
use crate::error::{Error, Result};

/// A program prepared on one lane's device.
#[derive(Debug)]
pub struct Executable {
    program: Arc<Program>,
    segments: Vec<PreparedSegment>,
    /// Kept alive for the bind groups' sake, and counted.
    _buffers: Vec<Arc<Held>>,
}

/// A segment's commands and copies.
#[derive(Debug)]
pub(super) struct PreparedSegment {
    pub(super) dispatches: Vec<PreparedDispatch>,
    /// The buffer of each upload port.
    pub(super) uploads: Vec<wgpu::Buffer>,
    /// The buffer of each download port, its place in the staging buffer and its bytes.
    pub(super) downloads: Vec<(wgpu::Buffer, u64, u64)>,
    pub(super) staging_bytes: u64,
    /// Read-back buffers not in flight.
    staging: Mutex<Vec<wgpu::Buffer>>,
}

#[derive(Debug)]
pub(super) struct PreparedDispatch {
    pub(super) kernel: Kernel,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) bind_group: wgpu::BindGroup,
    pub(super) groups: [u32; 3],
}

impl PreparedSegment {
    /// A read-back buffer, kept from an earlier run or new.
    pub(super) fn take_staging(&self, gpu: &Gpu) -> Result<Option<wgpu::Buffer>> {
        if self.staging_bytes == 0 {
            return Ok(None);
        }
        let kept = self.staging.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        kept.map_or_else(|| gpu.buffer("read-back", self.staging_bytes, usage), Ok).map(Some)
    }

    /// Gives back an unmapped read-back buffer.
    pub(super) fn return_staging(&self, buffer: wgpu::Buffer) {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
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
                Buffer::Constant { tensor, storage } => memory.weight(gpu, tensor, *storage)?,
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
        let mut position = 0;
        let segments = program.segments.iter().map(|segment| {
            let prepare = |dispatch| prepare_dispatch(gpu, dispatch, &buffers, uniforms.as_ref(), &mut position);
            let dispatches = segment.dispatches.iter().map(prepare).collect::<Result<Vec<_>>>()?;
            Ok(prepare_segment(segment, dispatches, &buffers))
        });
        let segments = segments.collect::<Result<Vec<_>>>()?;
        // Uploads of weights and tables are flushed now, not with the first request.
        gpu.queue.submit([]);
        if let Some(uniforms) = uniforms {
            buffers.push(uniforms.held);
        }
        Ok(Self { program: Arc::clone(program), segments, _buffers: buffers })
    }
}

fn prepare_segment(segment: &Segment, dispatches: Vec<PreparedDispatch>, buffers: &[Arc<Held>]) -> PreparedSegment {
    let mut staging_bytes = 0;
    let downloads = segment.downloads.iter().map(|port| {
        let bytes = ((port.shape.elements() * port.storage.bytes()) as u64).next_multiple_of(4);
        let at = staging_bytes;
        staging_bytes += bytes.next_multiple_of(wgpu::MAP_ALIGNMENT);
        (buffers[port.buffer.0].raw.clone(), at, bytes)
    });
    let downloads = downloads.collect();
    let uploads = segment.uploads.iter().map(|port| buffers[port.buffer.0].raw.clone()).collect();
    PreparedSegment { dispatches, uploads, downloads, staging_bytes, staging: Mutex::default() }
}

/// The parameters of every dispatch in one buffer.
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

fn prepare_dispatch(
    gpu: &Gpu,
    dispatch: &Dispatch,
    buffers: &[Arc<Held>],
    uniforms: Option<&Uniforms>,
    position: &mut usize,
) -> Result<PreparedDispatch> {
    let pipeline = gpu.pipeline(&dispatch.kernel)?;
    let mut storage = dispatch.buffers.iter();
    let short = || Error::internal(format!("kernel {} is bound to too few buffers", dispatch.kernel.name));
    let mut entries = Vec::with_capacity(dispatch.kernel.bindings.len());
    for (index, binding) in dispatch.kernel.bindings.iter().enumerate() {
        let resource = match binding {
            Binding::Uniform => {
                let uniforms = uniforms.ok_or_else(short)?;
                let (offset, bytes) = *uniforms.places.get(*position).ok_or_else(short)?;
                *position += 1;
                let size = std::num::NonZeroU64::new(bytes);
                wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &uniforms.held.raw, offset, size })
            }
            Binding::Read | Binding::ReadWrite => buffers[storage.next().ok_or_else(short)?.0].raw.as_entire_binding(),
        };
        entries.push(wgpu::BindGroupEntry { binding: index as u32, resource });
    }
    let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
    let what = format!("{} for {:?}", dispatch.kernel.name, dispatch.label);
    let bind_group = gpu.guarded(&what, || gpu.device.create_bind_group(&descriptor))?;
    Ok(PreparedDispatch { kernel: dispatch.kernel.clone(), pipeline, bind_group, groups: dispatch.groups })
}
