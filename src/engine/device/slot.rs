//! The host's side of one run: where inputs are written and outputs read, and the commands between. A segment has as many
//! slots as runs are in flight; each serves one run after the other.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::executable::{Executable, PreparedDispatch, PreparedReplay, PreparedSegment};
use super::gates::{Direction, Gates, INLET, Maker, OUTLET};
use super::gpu::Gpu;
use super::memory::Memory;
use super::pace::{Cuts, parts};
use super::transfer::{from_device, to_device};
use super::vulkan::{Recorder, Recording};
use crate::engine::ir::{BufferId, Port};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Callbacks of work that is done come at once; later than this the driver is broken.
const CALLBACK_TIME_MAX: Duration = Duration::from_secs(10);
/// How often they are asked for while they do not come.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// What one submission holds: its commands, and behind the last that are a recording's what tells wgpu of the mapped buffers.
pub(super) type Commands = [Option<wgpu::CommandBuffer>; 2];

/// The commands of a run's parts, in order. One part, the usual case, takes no memory of the heap.
#[derive(Default)]
pub(super) struct Parts {
    first: Option<Commands>,
    others: VecDeque<Commands>,
}

impl Parts {
    fn push(&mut self, commands: Commands) {
        match &self.first {
            None => self.first = Some(commands),
            Some(_) => self.others.push_back(commands),
        }
    }
}

impl Iterator for Parts {
    type Item = Commands;

    fn next(&mut self) -> Option<Commands> {
        self.first.take().or_else(|| self.others.pop_front())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.first.is_some()) + self.others.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Parts {}

/// The commands of one run.
pub(super) struct Ready {
    pub(super) parts: Parts,
    pub(super) cuts: Cuts,
    /// What encoding them took.
    pub(super) took: Duration,
}

/// What commands are made of.
enum Work {
    /// Of each dispatch that uses a mapped buffer, its own bind group.
    Encoded(Vec<Option<wgpu::BindGroup>>),
    Recorded(Mutex<Recordings>),
}

/// What each part of a run executes.
struct Recordings {
    cuts: Cuts,
    parts: Vec<Recording>,
}

/// See the module.
pub(super) struct Slot {
    uploads: Gates,
    downloads: Gates,
    /// Commands for the next run: they name buffers only, so they are encoded while the device works.
    next: Mutex<Option<Ready>>,
    /// Outlives the commands, which may name recordings.
    work: Work,
    /// The mapped buffers that kernels use.
    own: HashMap<BufferId, wgpu::Buffer>,
    landed: Arc<Landed>,
    /// Memory of the last outputs, used again once nobody holds them.
    pools: Mutex<Vec<BytesMut>>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("uploads", &self.uploads)
            .field("downloads", &self.downloads)
            .finish_non_exhaustive()
    }
}

/// Whether the run's buffers are mapped for the host again.
#[derive(Default)]
struct Landed {
    is: Mutex<bool>,
    changed: Condvar,
}

impl Landed {
    fn set(&self, is: bool) {
        *self.is.lock().unwrap_or_else(PoisonError::into_inner) = is;
        self.changed.notify_all();
    }

    /// Whether it came to be. wgpu hangs a callback on the newest submission, which may be another thread's that came between:
    /// then it is called only when somebody polls after that one.
    fn wait(&self, gpu: &Gpu) -> bool {
        let end = Instant::now() + CALLBACK_TIME_MAX;
        loop {
            let is = self.is.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.changed.wait_timeout_while(is, POLL_INTERVAL, |is| !*is);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return true;
            }
            if Instant::now() > end || gpu.device.poll(wgpu::PollType::Poll).is_err() {
                return false;
            }
        }
    }
}

impl Slot {
    /// A slot of segment `index`, its input buffers mapped.
    pub(super) fn new(gpu: &Gpu, memory: &Memory, executable: &Executable, index: usize) -> Result<Self> {
        let program = executable.program();
        let segment = &program.segments[index];
        let direct = gpu.unified && program.segments.len() == 1;
        let mut maker = Maker { gpu, memory, executable, direct, own: HashMap::new() };
        let (uploads, downloads) = (maker.gates(&segment.uploads, &INLET)?, maker.gates(&segment.downloads, &OUTLET)?);
        let prepared = executable.segment(index)?;
        let work = match &gpu.recorder {
            Some(recorder) => {
                let both = [&uploads, &downloads];
                Work::Recorded(Mutex::new(Recordings::new(recorder, executable, index, both, &maker.own)?))
            }
            None => {
                let bind = |(dispatch, prepared): (_, &PreparedDispatch)| {
                    executable.rebind(gpu, dispatch, prepared, &maker.own)
                };
                let dispatches = segment.dispatches.iter().zip(&prepared.dispatches);
                Work::Encoded(dispatches.map(bind).collect::<Result<_>>()?)
            }
        };
        Ok(Self {
            uploads,
            work,
            own: maker.own,
            next: Mutex::default(),
            landed: Arc::default(),
            pools: Mutex::new(vec![BytesMut::new(); downloads.list.len()]),
            downloads,
        })
    }

    /// Writes `tensors`, one a port, and gives the buffers to the device.
    pub(super) fn write(&self, ports: &[Port], tensors: &[Tensor], scratch: &mut Vec<u8>) -> Result<()> {
        for ((port, gate), tensor) in ports.iter().zip(&self.uploads.list).zip(tensors) {
            let bytes = to_device(tensor, port.storage, scratch)?;
            if !bytes.is_empty() {
                let range = gate.at..gate.at + gate.bytes;
                let mut view = gate.buffer.get_mapped_range_mut(range).map_err(|e| unmapped(&e))?;
                view.slice(..bytes.len()).copy_from_slice(bytes);
            }
        }
        self.uploads.mapped.iter().for_each(|held| held.raw.unmap());
        Ok(())
    }

    /// The commands of one run, which are submitted one after the other.
    ///
    /// # Errors
    /// Those of the driver where they must be recorded anew.
    pub(super) fn commands(&self, gpu: &Gpu, executable: &Executable, index: usize) -> Result<Ready> {
        let segment = executable.segment(index)?;
        let ready = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Parts that have become too long since are cut again: nothing of the slot's is on the device now.
        let ready = ready.filter(|ready| Arc::ptr_eq(&ready.cuts, &segment.pace.cuts()));
        self.landed.set(false);
        if let Some(ready) = ready {
            return Ok(ready);
        }
        if let (Work::Recorded(recordings), Some(recorder)) = (&self.work, &gpu.recorder) {
            let mut recordings = recordings.lock().unwrap_or_else(PoisonError::into_inner);
            if !Arc::ptr_eq(&recordings.cuts, &segment.pace.cuts()) {
                *recordings =
                    Recordings::new(recorder, executable, index, [&self.uploads, &self.downloads], &self.own)?;
            }
        }
        Ok(self.encode(gpu, segment))
    }

    /// Encodes the commands of the next run.
    pub(super) fn encode_next(&self, gpu: &Gpu, executable: &Executable, index: usize) {
        if let Ok(segment) = executable.segment(index) {
            let ready = self.encode(gpu, segment);
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready);
        }
    }

    /// Notes that submission `index` executes commands of the slot's, and none that comes later does yet.
    pub(super) fn took_off(&self, index: &wgpu::SubmissionIndex) {
        if let Work::Recorded(recordings) = &self.work {
            let recordings = recordings.lock().unwrap_or_else(PoisonError::into_inner);
            recordings.parts.iter().for_each(|recording| recording.took_off(index));
        }
    }

    fn encode(&self, gpu: &Gpu, segment: &PreparedSegment) -> Ready {
        let start = Instant::now();
        let (parts, cuts) = match &self.work {
            Work::Encoded(bind_groups) => {
                let cuts = segment.pace.cuts();
                (self.encode_all(gpu, segment, bind_groups, &cuts), cuts)
            }
            Work::Recorded(recordings) => {
                let recordings = recordings.lock().unwrap_or_else(PoisonError::into_inner);
                (self.execute_all(gpu, &recordings.parts), Arc::clone(&recordings.cuts))
            }
        };
        Ready { parts, cuts, took: start.elapsed() }
    }

    fn execute_all(&self, gpu: &Gpu, recordings: &[Recording]) -> Parts {
        let mut commands = Parts::default();
        for (part, recording) in recordings.iter().enumerate() {
            // What goes around wgpu must have an encoder of its own.
            let mut around = encoder(gpu);
            recording.execute(&mut around);
            let is_last = part + 1 == recordings.len();
            let through = is_last.then(|| {
                let mut through = encoder(gpu);
                // As long as wgpu takes the buffers for used, it maps them only after this submission.
                let (uploads, downloads) = (self.uploads.mapped.iter(), self.downloads.mapped.iter());
                let used = uploads
                    .map(|held| (held, wgpu::BufferUses::MAP_WRITE))
                    .chain(downloads.map(|held| (held, wgpu::BufferUses::MAP_READ)))
                    .map(|(held, state)| wgpu::BufferTransition { buffer: &held.raw, state });
                through.transition_resources(used, std::iter::empty());
                self.have_mapped(&through);
                through.finish()
            });
            commands.push([Some(around.finish()), through]);
        }
        commands
    }

    fn encode_all(
        &self,
        gpu: &Gpu,
        segment: &PreparedSegment,
        bind_groups: &[Option<wgpu::BindGroup>],
        cuts: &[usize],
    ) -> Parts {
        let (mut encoder, mut commands) = (encoder(gpu), Parts::default());
        for gate in &self.uploads.list {
            if let (Some(device), 1..) = (&gate.device, gate.bytes) {
                encoder.copy_buffer_to_buffer(&gate.buffer, gate.at, device, 0, Some(gate.bytes));
            }
        }
        for part in parts(cuts) {
            if part.start > 0 {
                commands.push([Some(std::mem::replace(&mut encoder, self::encoder(gpu)).finish()), None]);
            }
            if !part.is_empty() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                encode_pass(&segment.dispatches[part.clone()], &bind_groups[part], &mut pass);
            }
        }
        for gate in &self.downloads.list {
            if let (Some(device), 1..) = (&gate.device, gate.bytes) {
                encoder.copy_buffer_to_buffer(device, 0, &gate.buffer, gate.at, Some(gate.bytes));
            }
        }
        self.have_mapped(&encoder);
        commands.push([Some(encoder.finish()), None]);
        commands
    }

    /// Has buffers mapped as soon as the work is done; whether that worked is seen when they are used.
    fn have_mapped(&self, encoder: &wgpu::CommandEncoder) {
        for (gates, mode) in [(&self.downloads, wgpu::MapMode::Read), (&self.uploads, wgpu::MapMode::Write)] {
            for held in &gates.mapped {
                encoder.map_buffer_on_submit(&held.raw, mode, .., |_| {});
            }
        }
        let landed = Arc::clone(&self.landed);
        encoder.on_submitted_work_done(move || landed.set(true));
    }

    /// Appends the outputs of a run that is done to `tensors`. After an error the slot is of no use.
    pub(super) fn read(&self, gpu: &Gpu, ports: &[Port], tensors: &mut Vec<Tensor>) -> Result<()> {
        if let Work::Recorded(recordings) = &self.work {
            let recordings = recordings.lock().unwrap_or_else(PoisonError::into_inner);
            recordings.parts.iter().for_each(Recording::landed);
        }
        if !self.landed.wait(gpu) {
            return Err(Error::unavailable("the device is done but does not give its buffers back"));
        }
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        for ((port, gate), pool) in ports.iter().zip(&self.downloads.list).zip(pools.iter_mut()) {
            if gate.bytes == 0 {
                tensors.push(from_device(&[], port.storage, port.dtype, &port.shape, pool)?);
                continue;
            }
            let view = gate.buffer.get_mapped_range(gate.at..gate.at + gate.bytes).map_err(|e| unmapped(&e))?;
            tensors.push(from_device(&view, port.storage, port.dtype, &port.shape, pool)?);
        }
        self.downloads.mapped.iter().for_each(|held| held.raw.unmap());
        Ok(())
    }
}

impl Recordings {
    /// Those of segment `index`, as it is cut now, with what leads in and out.
    fn new(
        recorder: &Recorder,
        executable: &Executable,
        index: usize,
        [uploads, downloads]: [&Gates; 2],
        own: &HashMap<BufferId, wgpu::Buffer>,
    ) -> Result<Self> {
        let cuts = executable.segment(index)?.pace.cuts();
        let record = |(number, part): (usize, Range<usize>)| {
            let mut script = executable.script(index, part, own)?;
            if number == 0 {
                script.uploads = uploads.copies(Direction::ToDevice);
            }
            if number + 1 == cuts.len() {
                script.downloads = downloads.copies(Direction::ToHost);
            }
            Recording::new(recorder, &script)
        };
        let parts = parts(&cuts).enumerate().map(record).collect::<Result<_>>()?;
        Ok(Self { cuts, parts })
    }
}

fn encoder(gpu: &Gpu) -> wgpu::CommandEncoder {
    gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

fn encode_pass(
    dispatches: &[PreparedDispatch],
    bind_groups: &[Option<wgpu::BindGroup>],
    pass: &mut wgpu::ComputePass<'_>,
) {
    let mut current = None;
    for (dispatch, own) in dispatches.iter().zip(bind_groups) {
        let PreparedReplay::Encoded { pipeline, bind_group } = &dispatch.replay else { continue };
        if current != Some(&pipeline.raw) {
            pass.set_pipeline(&pipeline.raw);
            current = Some(&pipeline.raw);
        }
        pass.set_bind_group(0, own.as_ref().unwrap_or(bind_group), &[]);
        let [x, y, z] = dispatch.groups;
        pass.dispatch_workgroups(x, y, z);
    }
}

fn unmapped(error: &dyn fmt::Display) -> Error {
    Error::unavailable(format!("a buffer could not be mapped: {error}"))
}
