//! One opened wgpu device: its pipelines, its errors, and whether it is lost.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::adapter::Adapter;
use super::fate::Fate;
use super::layouts::Layouts;
use super::pipelines::Pipelines;
use super::refusals;
use super::replay::{RecorderOptions, Replay};
use super::sharing::Sharing;
use super::shelf::Shelf;
use super::vulkan::Recorder;
use crate::engine::ir::Kernel;
use crate::error::{Error, Result};

/// Compiled kernels from which on those that no executable holds are let go.
pub(super) const MAX_PIPELINES: usize = 4096;
/// How long an upload is waited for.
const FINISH_MAX: Duration = Duration::from_secs(120);

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub(super) struct GpuOptions<'a> {
    /// Keep bounds checks and loop bounds in kernels.
    pub(super) checked: bool,
    /// Where compiled kernels are kept, where that is possible.
    pub(super) cache: Option<&'a Path>,
    /// Enable fragments, where there are some.
    pub(super) fragments: bool,
    /// Told when it stops working.
    pub(super) ended: Option<mpsc::Sender<()>>,
    /// Which of the adapter's lanes it is for.
    pub(super) index: usize,
    /// What it has in common with others.
    pub(super) sharing: Option<&'a Sharing>,
    /// How batches are replayed.
    pub(super) replay: Replay,
}

/// A device and its queue.
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    pipelines: Mutex<HashMap<Kernel, Arc<Pipeline>>>,
    layouts: Layouts,
    kept: Option<Pipelines>,
    fate: Arc<Fate>,
    /// Pretends that no memory is left.
    starves: AtomicBool,
    checked: bool,
    /// Whether a CPU does the work.
    pub(super) software: bool,
    /// Host and device share their memory: kernels may use buffers that are mapped at other times.
    pub(super) unified: bool,
    /// Weights that it has in common with others.
    pub(super) shelf: Option<Arc<Shelf>>,
    /// What batches are recorded with; they are encoded where there is none.
    pub(super) recorder: Option<Recorder>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("fate", &self.fate).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens a device of its own on `adapter`.
    pub(super) fn open(adapter: &Adapter, options: &GpuOptions<'_>) -> Result<Self> {
        let wanted = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::SHADER_F64
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        let kind = adapter.info().device_type;
        let unified = matches!(kind, wgpu::DeviceType::Cpu | wgpu::DeviceType::IntegratedGpu)
            && adapter.raw.features().contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);
        // Where memory is not shared such buffers are slow ones.
        let wanted = if unified { wanted | wgpu::Features::MAPPABLE_PRIMARY_BUFFERS } else { wanted };
        let (wanted, experimental) = match options.fragments && adapter.fragments().is_some() {
            // SAFETY: kernels with fragments are made only where the adapter lists their shape, of text that naga validates.
            true => (wanted | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, unsafe {
                wgpu::ExperimentalFeatures::enabled()
            }),
            false => (wanted, wgpu::ExperimentalFeatures::disabled()),
        };
        let limits = adapter.raw.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("coracle"),
            required_features: adapter.raw.features() & wanted,
            required_limits: limits.clone(),
            experimental_features: experimental,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        };
        let (device, queue, shelf) = match options.sharing {
            Some(sharing) => sharing
                .open(adapter, &descriptor, options.index)
                .map(|(device, queue, shelf)| (device, queue, Some(shelf))),
            None => adapter.open(&descriptor).map(|(device, queue)| (device, queue, None)),
        }
        .map_err(|e| e.at(format_args!("adapter {:?} gives no device", adapter.name())))?;
        let fate = Arc::new(Fate::new(options.ended.clone()));
        let (lost, uncaptured) = (Arc::clone(&fate), Arc::clone(&fate));
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the device is no loss.
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost.record_gone(format!("device lost: {message}"));
            }
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if let Some(error) = refusals::keep(error) {
                uncaptured.record(error.to_string());
            }
        }));
        let recorder = recorder(adapter, &device, &fate, options)?;
        // wgpu compiles nothing for recordings.
        let folder = options.cache.filter(|_| recorder.is_none());
        let kept = folder.and_then(|folder| Pipelines::open(&device, adapter, folder));
        Ok(Self {
            device,
            queue,
            limits,
            pipelines: Mutex::default(),
            layouts: Layouts::default(),
            kept,
            fate,
            starves: AtomicBool::new(false),
            checked: options.checked,
            software: adapter.is_software(),
            unified,
            shelf,
            recorder,
        })
    }

    /// Waits until what was written is on the device.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it is lost.
    pub(super) fn finish(&self) -> Result<()> {
        let index = self.queue.submit([]);
        let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(FINISH_MAX) };
        match self.device.poll(wait) {
            _ if self.is_lost() => Err(self.loss()),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::unavailable(format!("waiting for an upload failed: {error}"))),
        }
    }

    /// Whether nothing more will come from this device.
    pub(super) fn is_lost(&self) -> bool {
        self.fate.is_lost()
    }

    /// Why it is lost, as an error for those whose work was on it.
    pub(super) fn loss(&self) -> Error {
        Error::unavailable(self.fate.reason())
    }

    /// Marks the device as lost.
    pub(super) fn lose(&self, reason: &str) {
        self.fate.record(reason.to_owned());
    }

    /// Marks the device as one whose work never ends.
    pub(super) fn hang(&self, reason: &str) {
        self.fate.record_hang(reason.to_owned());
    }

    /// Behaves from now on as if the driver had no memory left, or as it does: fault injection.
    pub(super) fn starve(&self, starves: bool) {
        self.starves.store(starves, Ordering::Release);
    }

    /// Whether work that was given to it never ends: then nothing that the driver may still use can be let go.
    pub(super) fn is_hung(&self) -> bool {
        self.fate.is_hung()
    }

    /// The pipeline of `kernel`, compiled on first use.
    pub(super) fn pipeline(&self, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let cached = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).get(kernel).cloned();
        if let Some(pipeline) = cached {
            return Ok(pipeline);
        }
        let pipeline = Arc::new(refusals::guarded(&format!("kernel {}", kernel.name), || self.compile(kernel))?);
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if pipelines.len() >= MAX_PIPELINES {
            // Those that executables hold stay; the others are compiled again if they are wanted.
            pipelines.retain(|_, pipeline| Arc::strong_count(pipeline) > 1);
        }
        pipelines.insert(kernel.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn compile(&self, kernel: &Kernel) -> Pipeline {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(std::borrow::Cow::Borrowed(&kernel.source)),
        };
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: kernels are ours: each ends its loops at bounds from its parameters and keeps its indices inside the
            // buffers that its operator sized, which the adapter tests hold against the host on every shape.
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let layout = self.layouts.of(&self.device, &kernel.bindings);
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout.pipeline),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: self.kept.as_ref().map(Pipelines::raw),
        });
        Pipeline { raw, layout: layout.group }
    }

    /// Compiles `kernel` for how batches are replayed, unless that is done.
    pub(super) fn make_ready(&self, kernel: &Kernel) -> Result<()> {
        match &self.recorder {
            Some(recorder) => recorder.compiled(kernel).map(drop),
            None => self.pipeline(kernel).map(drop),
        }
    }

    /// Whether `kernel` is compiled.
    pub(super) fn is_ready(&self, kernel: &Kernel) -> bool {
        match &self.recorder {
            Some(recorder) => recorder.has(kernel),
            None => self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).contains_key(kernel),
        }
    }

    /// Keeps compiled kernels for the next run of the process, where there is a place for them.
    pub(super) fn keep_pipelines(&self) -> std::io::Result<()> {
        self.recorder.as_ref().map_or(Ok(()), Recorder::keep)?;
        self.kept.as_ref().map_or(Ok(()), Pipelines::keep)
    }

    /// Compiled kernels held.
    pub(super) fn pipeline_count(&self) -> usize {
        let recorded = self.recorder.as_ref().map_or(0, Recorder::count);
        recorded + self.pipelines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A buffer, mapped if it can be written through a mapping, or `RESOURCE_EXHAUSTED` naming `what` and the limit.
    pub(super) fn buffer(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        self.check_bytes(what, bytes)?;
        let mapped_at_creation = usage.contains(wgpu::BufferUsages::MAP_WRITE);
        let descriptor = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation };
        refusals::guarded(what, || self.device.create_buffer(&descriptor))
    }

    /// Whether there may be a buffer of so many bytes, else `RESOURCE_EXHAUSTED` naming `what` and the limit.
    pub(super) fn check_bytes(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes > self.limits.max_buffer_size {
            return Err(Error::resource_exhausted(format!(
                "{what} needs a buffer of {bytes} bytes, the adapter's max_buffer_size is {}",
                self.limits.max_buffer_size
            )));
        }
        if self.starves.load(Ordering::Acquire) {
            return Err(Error::resource_exhausted(format!("{what}: out of device memory: {bytes} bytes, simulated")));
        }
        Ok(())
    }

    /// Has `buffer` hold zeros before what is submitted next, where that is not left to wgpu: it does not know that recordings
    /// use a buffer, and would clear what they have written when it first sees it.
    pub(super) fn clear_for_recordings(&self, buffer: &wgpu::Buffer) {
        if self.recorder.is_some() {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.clear_buffer(buffer, 0, None);
            self.queue.submit([encoder.finish()]);
        }
    }
}

/// What batches are recorded with, if they are.
fn recorder(
    adapter: &Adapter,
    device: &wgpu::Device,
    fate: &Arc<Fate>,
    options: &GpuOptions<'_>,
) -> Result<Option<Recorder>> {
    let how = RecorderOptions { adapter, device, fate, checked: options.checked, cache: options.cache };
    match options.replay {
        Replay::Auto if adapter.records() => Recorder::open(&how),
        Replay::Auto | Replay::Encoded => Ok(None),
        Replay::Recorded => Recorder::open(&how)?.map(Some).ok_or_else(|| {
            Error::failed_precondition(format!(
                "adapter {:?} is not one of Vulkan 1.1: batches cannot be recorded on it",
                adapter.name()
            ))
        }),
    }
}
