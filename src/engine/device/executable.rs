//! A program prepared on a device: everything that a run needs but its inputs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::budget::{Account, Tenancy};
use super::gpu::{Gpu, Pipeline};
use super::memory::{ArenaClass, Memory, Needs, Share, rounded, write};
use super::pace::Pace;
use super::parallel::compile_all;
use super::refusals;
use super::replay::{Script, Step};
use super::sharing::KeptWeights;
use super::slot::Slot;
use super::vulkan::Compiled;
use crate::engine::ir::{Binding, Buffer, BufferId, Dispatch, Kernel, Program};
use crate::error::{Code, Error, Result};

/// How long a run that there is no memory for waits until another has given its buffers back.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(10);

/// A program prepared on one lane's device.
#[derive(Debug)]
pub struct Executable {
    program: Arc<Program>,
    segments: Vec<PreparedSegment>,
    buffers: Vec<Arc<Share>>,
    uniforms: Option<Uniforms>,
    /// Of the arena that it computes in; `None`: it has one of its own.
    class: Option<ArenaClass>,
    /// Goes last.
    tenancy: Arc<Tenancy>,
}

/// A segment's commands, and slots for its runs.
#[derive(Debug)]
pub(super) struct PreparedSegment {
    pub(super) dispatches: Vec<PreparedDispatch>,
    pub(super) pace: Pace,
    /// Those not in flight.
    slots: Mutex<Vec<Arc<Slot>>>,
    returned: Condvar,
}

#[derive(Debug)]
pub(super) struct PreparedDispatch {
    pub(super) kernel: Kernel,
    pub(super) replay: PreparedReplay,
    pub(super) groups: [u32; 3],
    /// Where its parameters start in [`Uniforms::places`].
    first_uniform: usize,
}

/// What a dispatch is replayed with.
#[derive(Debug)]
pub(super) enum PreparedReplay {
    /// Encoded for each run.
    Encoded {
        pipeline: Arc<Pipeline>,
        /// Of the arena's buffers; slots have others where mapped ones take their place.
        bind_group: wgpu::BindGroup,
    },
    /// Recorded by each slot.
    Recorded(Arc<Compiled>),
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

    /// Whose memory it takes.
    pub(super) fn account(&self) -> &Arc<Account> {
        self.tenancy.account()
    }

    /// Pipelines compiled, weights uploaded, bind groups made. Memory is the tenancy's.
    pub(super) fn prepare(gpu: &Gpu, memory: &Memory, tenancy: &Arc<Tenancy>, program: &Arc<Program>) -> Result<Self> {
        let (account, pools) = (tenancy.account(), program.pool_bytes());
        let limit = gpu.limits.max_storage_buffer_binding_size;
        if let Some(bytes) = pools.iter().find(|b| **b > limit) {
            return Err(Error::resource_exhausted(format!(
                "an activation of {bytes} bytes is over the adapter's max_storage_buffer_binding_size of {limit}"
            )));
        }
        let class = ArenaClass::of(program);
        let arena = match class {
            Some(class) => memory.arena(gpu, account, class, &pools),
            None => memory.private_arena(gpu, account, &pools),
        }?;
        let arena: Vec<_> = arena.into_iter().map(Arc::new).collect();
        let mut buffers = Vec::with_capacity(program.buffers.len());
        for buffer in &program.buffers {
            buffers.push(match buffer {
                Buffer::Scratch { pool, .. } => Arc::clone(&arena[*pool]),
                Buffer::Constant { .. } => Arc::new(memory.weight(gpu, account, buffer)?),
                Buffer::Table(words) => {
                    let bytes: &[u8] = bytemuck::cast_slice(words);
                    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                    let held = memory.allocate(gpu, account, "a table", bytes.len() as u64, usage)?;
                    write(gpu, &held.raw, bytes);
                    Arc::new(held)
                }
            });
        }
        compile_all(gpu, program)?;
        let uniforms = Uniforms::upload(gpu, memory, account, program)?;
        let mut executable = Self {
            program: Arc::clone(program),
            segments: Vec::new(),
            buffers,
            uniforms,
            class,
            tenancy: Arc::clone(tenancy),
        };
        let mut first_uniform = 0;
        let all: usize = program.segments.iter().map(|segment| segment.dispatches.len()).sum();
        for segment in &program.segments {
            let prepare = |dispatch| executable.prepare_dispatch(gpu, dispatch, &mut first_uniform);
            let dispatches = segment.dispatches.iter().map(prepare).collect::<Result<Vec<_>>>()?;
            let pace = Pace::new(dispatches.len(), program.flops * dispatches.len() as f64 / all.max(1) as f64);
            let segment = PreparedSegment { dispatches, pace, slots: Mutex::default(), returned: Condvar::new() };
            executable.segments.push(segment);
        }
        // What does not fit shall be known now, not with the first request.
        for (index, segment) in executable.segments.iter().enumerate() {
            segment.return_slot(Arc::new(Slot::new(gpu, memory, &executable, index)?));
        }
        // Uploads of weights and tables are flushed now, too.
        gpu.queue.submit([]);
        Ok(executable)
    }

    /// What [`Executable::prepare`] would allocate, nearly: what runs beside the first need comes to it.
    pub(super) fn needs(gpu: &Gpu, memory: &Memory, program: &Program) -> Needs {
        let ports = program.segments.iter().flat_map(|s| s.uploads.iter().chain(&s.downloads));
        let staged: u64 = ports.map(|port| port.storage.size(port.shape.elements()) as u64).sum();
        let missing = memory.missing(gpu, program);
        let parameters = uniform_words(gpu, program).0.len() as u64;
        Needs { own: missing.own + rounded(staged) + rounded(parameters), ..missing }
    }

    /// What of its weights stays when the device is lost: they can be bound again on the one that takes its place.
    pub fn kept_weights(&self) -> KeptWeights {
        let common = self.buffers.iter().filter_map(|share| share.common());
        let kept = common.filter(|common| common.outlives_devices());
        // They are held already: another use is within every bound.
        let held = kept.map(|common| (Arc::clone(common), self.account().hold(&common.allocation).ok()));
        KeptWeights::new(held.collect())
    }

    /// Whether it may run between the parts of a run of `other`: it writes nothing that the other reads later.
    pub(super) fn passes(&self, other: &Self) -> bool {
        match (self.class, other.class) {
            (None, None) => !std::ptr::eq(self, other),
            (own, others) => own != others,
        }
    }

    /// The device's buffer `id`, shared by all slots.
    pub(super) fn buffer(&self, id: BufferId) -> &wgpu::Buffer {
        &self.buffers[id.0].raw
    }

    /// A slot of segment `index` that no run uses, kept from an earlier run or new. Where there is no memory for another, the
    /// one of a run in flight: that is waited for.
    pub(super) fn take_slot(&self, gpu: &Gpu, memory: &Memory, index: usize) -> Result<Arc<Slot>> {
        let segment = self.segment(index)?;
        let kept = segment.slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let made = kept.map_or_else(|| Slot::new(gpu, memory, self, index).map(Arc::new), Ok);
        match made {
            Err(error) if error.code() == Code::ResourceExhausted => segment.wait_for_slot().ok_or(error),
            made => made,
        }
    }

    fn prepare_dispatch(&self, gpu: &Gpu, dispatch: &Dispatch, uniform: &mut usize) -> Result<PreparedDispatch> {
        let first_uniform = *uniform;
        *uniform += dispatch.uniforms.len();
        let replay = match &gpu.recorder {
            Some(recorder) => PreparedReplay::Recorded(recorder.compiled(&dispatch.kernel)?),
            None => {
                let pipeline = gpu.pipeline(&dispatch.kernel)?;
                let bind_group = self.bind(gpu, dispatch, &pipeline, first_uniform, &HashMap::new())?;
                PreparedReplay::Encoded { pipeline, bind_group }
            }
        };
        Ok(PreparedDispatch { kernel: dispatch.kernel.clone(), replay, groups: dispatch.groups, first_uniform })
    }

    /// The bind group of `dispatch` with those of its buffers replaced that are in `own`; `None` if none is, or it is recorded.
    pub(super) fn rebind(
        &self,
        gpu: &Gpu,
        dispatch: &Dispatch,
        prepared: &PreparedDispatch,
        own: &HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<Option<wgpu::BindGroup>> {
        match &prepared.replay {
            PreparedReplay::Encoded { pipeline, .. } if dispatch.buffers.iter().any(|id| own.contains_key(id)) => {
                self.bind(gpu, dispatch, pipeline, prepared.first_uniform, own).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The script of those `dispatches` of segment `index` that are recorded: all of them or none. Buffers in `own` take the
    /// place of others.
    pub(super) fn script<'a>(
        &'a self,
        index: usize,
        dispatches: Range<usize>,
        own: &'a HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<Script<'a>> {
        let prepared = &self.segment(index)?.dispatches[dispatches.clone()];
        let mut script = Script::default();
        for (dispatch, prepared) in self.program.segments[index].dispatches[dispatches].iter().zip(prepared) {
            if let PreparedReplay::Recorded(kernel) = &prepared.replay {
                let bindings = self.bindings(dispatch, prepared.first_uniform, own)?;
                let bindings = bindings.into_iter().zip(dispatch.kernel.bindings.iter().copied()).collect();
                script.steps.push(Step { kernel: Arc::clone(kernel), bindings, groups: prepared.groups });
            }
        }
        Ok(script)
    }

    fn bind(
        &self,
        gpu: &Gpu,
        dispatch: &Dispatch,
        pipeline: &Pipeline,
        first_uniform: usize,
        own: &HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<wgpu::BindGroup> {
        let entry = |(index, binding)| {
            let resource = wgpu::BindingResource::Buffer(binding);
            wgpu::BindGroupEntry { binding: index as u32, resource }
        };
        let bindings = self.bindings(dispatch, first_uniform, own)?;
        let entries: Vec<_> = bindings.into_iter().enumerate().map(entry).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
        let what = format!("{} for {:?}", dispatch.kernel.name, dispatch.label);
        refusals::guarded(&what, || gpu.device.create_bind_group(&descriptor))
    }

    /// What each binding of a dispatch is bound to.
    fn bindings<'a>(
        &'a self,
        dispatch: &Dispatch,
        mut uniform: usize,
        own: &'a HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<Vec<wgpu::BufferBinding<'a>>> {
        let mut storage = dispatch.buffers.iter();
        let short = || Error::internal(format!("kernel {} is bound to too few buffers", dispatch.kernel.name));
        let mut bound = Vec::with_capacity(dispatch.kernel.bindings.len());
        for binding in &dispatch.kernel.bindings {
            bound.push(match binding {
                Binding::Uniform => {
                    let uniforms = self.uniforms.as_ref().ok_or_else(short)?;
                    let (offset, bytes) = *uniforms.places.get(uniform).ok_or_else(short)?;
                    uniform += 1;
                    wgpu::BufferBinding { buffer: &uniforms.held.raw, offset, size: std::num::NonZeroU64::new(bytes) }
                }
                Binding::Read | Binding::ReadWrite => {
                    let id = storage.next().ok_or_else(short)?;
                    let buffer = own.get(id).unwrap_or_else(|| self.buffer(*id));
                    wgpu::BufferBinding { buffer, offset: 0, size: None }
                }
            });
        }
        Ok(bound)
    }
}

impl PreparedSegment {
    /// Gives back a slot whose run is over.
    pub(super) fn return_slot(&self, slot: Arc<Slot>) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        self.returned.notify_one();
    }

    fn wait_for_slot(&self) -> Option<Arc<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.returned.wait_timeout_while(slots, SLOT_WAIT_MAX, |slots| slots.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.pop()
    }
}

/// The parameters of every dispatch in one buffer.
#[derive(Debug)]
struct Uniforms {
    held: Share,
    /// (offset, bytes) of each, in the order of segments, dispatches and bindings.
    places: Vec<(u64, u64)>,
}

impl Uniforms {
    fn upload(gpu: &Gpu, memory: &Memory, account: &Arc<Account>, program: &Program) -> Result<Option<Self>> {
        let (bytes, places) = uniform_words(gpu, program);
        if places.is_empty() {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let held = memory.allocate(gpu, account, "parameters", bytes.len() as u64, usage)?;
        write(gpu, &held.raw, &bytes);
        Ok(Some(Self { held, places }))
    }
}

/// The contents of that buffer, and where each dispatch's are.
fn uniform_words(gpu: &Gpu, program: &Program) -> (Vec<u8>, Vec<(u64, u64)>) {
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
    (bytes, places)
}
