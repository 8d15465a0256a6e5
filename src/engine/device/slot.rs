//! The host's side of one run: where inputs are written and outputs read, and the commands between. A segment has as many
//! slots as runs are in flight; each serves one run after the other.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::executable::{Executable, PreparedDispatch, PreparedSegment};
use super::gpu::Gpu;
use super::memory::{Memory, Share};
use super::pace::{Cuts, parts};
use super::transfer::{from_device, to_device};
use crate::engine::ir::{Buffer, BufferId, Port};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Callbacks of work that is done come at once; later than this the driver is broken.
const CALLBACK_TIME_MAX: Duration = Duration::from_secs(10);
/// How often they are asked for while they do not come.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Where one tensor crosses.
#[derive(Debug)]
struct Gate {
    /// Mapped while the host has it.
    buffer: wgpu::Buffer,
    at: u64,
    bytes: u64,
    /// What it is copied to or from; none where kernels use the mapped buffer itself.
    device: Option<wgpu::Buffer>,
}

/// Gates of one direction and the buffers to map for them.
#[derive(Debug, Default)]
struct Gates {
    list: Vec<Gate>,
    mapped: Vec<Share>,
}

/// The commands of one run, a buffer a part.
pub(super) struct Recorded {
    pub(super) parts: Vec<wgpu::CommandBuffer>,
    pub(super) cuts: Cuts,
    /// What recording them took.
    pub(super) took: Duration,
}

/// See the module.
pub(super) struct Slot {
    uploads: Gates,
    downloads: Gates,
    /// Of each dispatch that uses a mapped buffer.
    bind_groups: Vec<Option<wgpu::BindGroup>>,
    /// Commands for the next run: they name buffers only, so they are recorded while the device works.
    next: Mutex<Option<Recorded>>,
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
        let bind =
            |(dispatch, prepared): (_, &PreparedDispatch)| executable.rebind(gpu, dispatch, prepared, &maker.own);
        let bind_groups = segment.dispatches.iter().zip(&prepared.dispatches).map(bind).collect::<Result<_>>()?;
        Ok(Self {
            uploads,
            bind_groups,
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

    /// The commands of one run.
    pub(super) fn commands(&self, gpu: &Gpu, segment: &PreparedSegment) -> Recorded {
        let ready = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ready = ready.filter(|recorded| Arc::ptr_eq(&recorded.cuts, &segment.pace.cuts()));
        self.landed.set(false);
        ready.unwrap_or_else(|| self.record(gpu, segment))
    }

    /// Records the commands of the next run.
    pub(super) fn record_next(&self, gpu: &Gpu, segment: &PreparedSegment) {
        let recorded = self.record(gpu, segment);
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
    }

    fn record(&self, gpu: &Gpu, segment: &PreparedSegment) -> Recorded {
        let (start, cuts) = (Instant::now(), segment.pace.cuts());
        let new = || gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let (mut encoder, mut commands) = (new(), Vec::with_capacity(cuts.len()));
        for gate in &self.uploads.list {
            if let (Some(device), 1..) = (&gate.device, gate.bytes) {
                encoder.copy_buffer_to_buffer(&gate.buffer, gate.at, device, 0, Some(gate.bytes));
            }
        }
        for part in parts(&cuts) {
            if part.start > 0 {
                commands.push(std::mem::replace(&mut encoder, new()).finish());
            }
            if !part.is_empty() {
                let pass = &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                self.record_pass(segment, part, pass);
            }
        }
        for gate in &self.downloads.list {
            if let (Some(device), 1..) = (&gate.device, gate.bytes) {
                encoder.copy_buffer_to_buffer(device, 0, &gate.buffer, gate.at, Some(gate.bytes));
            }
        }
        // Buffers are mapped as soon as the work is done; whether that worked is seen when they are used.
        for (gates, mode) in [(&self.downloads, wgpu::MapMode::Read), (&self.uploads, wgpu::MapMode::Write)] {
            for held in &gates.mapped {
                encoder.map_buffer_on_submit(&held.raw, mode, .., |_| {});
            }
        }
        let landed = Arc::clone(&self.landed);
        encoder.on_submitted_work_done(move || landed.set(true));
        commands.push(encoder.finish());
        Recorded { parts: commands, cuts, took: start.elapsed() }
    }

    fn record_pass(&self, segment: &PreparedSegment, part: Range<usize>, pass: &mut wgpu::ComputePass<'_>) {
        let mut current = None;
        for (dispatch, own) in segment.dispatches[part.clone()].iter().zip(&self.bind_groups[part]) {
            if current != Some(&dispatch.pipeline.raw) {
                pass.set_pipeline(&dispatch.pipeline.raw);
                current = Some(&dispatch.pipeline.raw);
            }
            pass.set_bind_group(0, own.as_ref().unwrap_or(&dispatch.bind_group), &[]);
            let [x, y, z] = dispatch.groups;
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// Appends the outputs of a run that is done to `tensors`. After an error the slot is of no use.
    pub(super) fn read(&self, gpu: &Gpu, ports: &[Port], tensors: &mut Vec<Tensor>) -> Result<()> {
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

fn unmapped(error: &dyn fmt::Display) -> Error {
    Error::unavailable(format!("a buffer could not be mapped: {error}"))
}

/// How buffers of one direction are made.
struct Way {
    what: &'static str,
    direct: wgpu::BufferUsages,
    staged: wgpu::BufferUsages,
}

const INLET: Way = Way {
    what: "inputs",
    direct: wgpu::BufferUsages::MAP_WRITE.union(wgpu::BufferUsages::STORAGE).union(wgpu::BufferUsages::COPY_SRC),
    staged: wgpu::BufferUsages::MAP_WRITE.union(wgpu::BufferUsages::COPY_SRC),
};

const OUTLET: Way = Way {
    what: "outputs",
    direct: wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::STORAGE),
    staged: wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST),
};

/// What slots are made from.
struct Maker<'a> {
    gpu: &'a Gpu,
    memory: &'a Memory,
    executable: &'a Executable,
    /// Kernels may use mapped buffers. Not in programs of several segments: what a later one reads must stay the device's.
    direct: bool,
    /// The mapped buffers that kernels use.
    own: HashMap<BufferId, wgpu::Buffer>,
}

impl Maker<'_> {
    /// A gate for each of `ports`: a mapped buffer that kernels use, or a part of one that is copied from or to.
    fn gates(&mut self, ports: &[Port], way: &Way) -> Result<Gates> {
        let mut gates = Gates::default();
        let mut staged = 0;
        for port in ports {
            let bytes = (port.storage.size(port.shape.elements()) as u64).next_multiple_of(4);
            // A buffer that is input and output at once is mapped as the former.
            let direct = self.direct && bytes > 0 && !self.own.contains_key(&port.buffer);
            let gate = match self.executable.program().buffers.get(port.buffer.0) {
                Some(Buffer::Scratch { bytes: whole, .. }) if direct => {
                    let account = self.executable.account();
                    let held = self.memory.allocate(self.gpu, account, way.what, *whole, way.direct)?;
                    let buffer = held.raw.clone();
                    self.own.insert(port.buffer, buffer.clone());
                    gates.mapped.push(held);
                    Gate { buffer, at: 0, bytes, device: None }
                }
                _ => {
                    let base = self.executable.buffer(port.buffer);
                    let device = self.own.get(&port.buffer).unwrap_or(base).clone();
                    let at = staged;
                    staged += bytes.next_multiple_of(wgpu::MAP_ALIGNMENT);
                    // The staging buffer follows below, when its size is known.
                    Gate { buffer: device.clone(), at, bytes, device: Some(device) }
                }
            };
            gates.list.push(gate);
        }
        if staged > 0 {
            let account = self.executable.account();
            let held = self.memory.allocate(self.gpu, account, way.what, staged, way.staged)?;
            gates.list.iter_mut().filter(|g| g.device.is_some()).for_each(|g| g.buffer = held.raw.clone());
            gates.mapped.push(held);
        }
        Ok(gates)
    }
}
