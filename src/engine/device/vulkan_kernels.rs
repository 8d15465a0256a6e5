//! Kernels that Vulkan compiles for recordings: wgpu does not hand out the handles of its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ash::vk;
use wgpu::hal::api::Vulkan;

use super::fate::Fate;
use super::gpu::MAX_PIPELINES;
use super::pipeline_file::PipelineFile;
use super::replay::RecorderOptions;
use super::spirv::{Dialect, ENTRY_POINT};
use super::vulkan::refused;
use crate::engine::ir::{Binding, Kernel};
use crate::error::{Error, Result};

/// How long work that is still under way is waited for before what it uses is let go.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// A device of wgpu's as Vulkan knows it. Whatever is made of it holds it, so that it goes last.
pub(super) struct Driver {
    pub(super) raw: ash::Device,
    /// The queue family that all work is submitted to.
    pub(super) family: u32,
    fate: Arc<Fate>,
    device: wgpu::Device,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("family", &self.family).finish_non_exhaustive()
    }
}

impl Driver {
    /// Waits until a submission is done. False if it may not be: then nothing that it uses can be let go.
    pub(super) fn has_done(&self, index: wgpu::SubmissionIndex) -> bool {
        // wgpu panics where it waits for a device that is gone: this one may already be told so, by another panic.
        if self.fate.is_hung() || std::thread::panicking() {
            return false;
        }
        let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(LEAVE_MAX) };
        self.fate.is_gone() || !matches!(self.device.poll(wait), Err(wgpu::PollError::Timeout))
    }
}

/// How a kernel's bindings lie.
#[derive(Debug)]
struct Layout {
    driver: Arc<Driver>,
    set: vk::DescriptorSetLayout,
    pipeline: vk::PipelineLayout,
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: both are this device's, or null; pipelines and recordings hold the layout while they need it.
        unsafe {
            self.driver.raw.destroy_pipeline_layout(self.pipeline, None);
            self.driver.raw.destroy_descriptor_set_layout(self.set, None);
        }
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) pipeline: vk::Pipeline,
    layout: Arc<Layout>,
}

impl Compiled {
    pub(super) fn set_layout(&self) -> vk::DescriptorSetLayout {
        self.layout.set
    }

    pub(super) fn pipeline_layout(&self) -> vk::PipelineLayout {
        self.layout.pipeline
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // SAFETY: the pipeline is this device's; recordings hold the kernel until the device is done with them.
        unsafe { self.layout.driver.raw.destroy_pipeline(self.pipeline, None) };
    }
}

/// What recordings of a device are made with.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) driver: Arc<Driver>,
    dialect: Dialect,
    stage: vk::PipelineShaderStageCreateFlags,
    layouts: Mutex<HashMap<Vec<Binding>, Arc<Layout>>>,
    kernels: Mutex<HashMap<Kernel, Arc<Compiled>>>,
    cache: vk::PipelineCache,
    file: Option<PipelineFile>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // SAFETY: the cache is this device's, or null; nobody makes pipelines any more.
        unsafe { self.driver.raw.destroy_pipeline_cache(self.cache, None) };
    }
}

impl Recorder {
    /// That of a device; `None` where it is not Vulkan's.
    pub(super) fn open(options: &RecorderOptions<'_>) -> Result<Option<Self>> {
        let device = options.device;
        // SAFETY: nothing is destroyed through the handle.
        let Some(vulkan) = (unsafe { device.as_hal::<Vulkan>() }) else { return Ok(None) };
        let instance = vulkan.shared_instance();
        // SAFETY: the physical device is the one that the device was opened on.
        let properties =
            unsafe { instance.raw_instance().get_physical_device_properties(vulkan.raw_physical_device()) };
        let version = match properties.api_version.min(instance.instance_api_version()) {
            ..vk::API_VERSION_1_1 => return Ok(None),
            vk::API_VERSION_1_1..vk::API_VERSION_1_2 => (1, 3),
            vk::API_VERSION_1_2..vk::API_VERSION_1_3 => (1, 5),
            vk::API_VERSION_1_3.. => (1, 6),
        };
        let (features, limits) = (device.features(), device.limits());
        let halves = options.adapter.raw.get_downlevel_capabilities().flags;
        let halves = halves.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32);
        let mut stage = vk::PipelineShaderStageCreateFlags::empty();
        if features.contains(wgpu::Features::SUBGROUP) {
            // As wgpu has it: with that feature the device can vary their sizes.
            stage |= vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE;
        }
        let driver = Arc::new(Driver {
            raw: vulkan.raw_device().clone(),
            family: vulkan.queue_family_index(),
            fate: Arc::clone(options.fate),
            device: device.clone(),
        });
        let kept = options.cache.and_then(|folder| PipelineFile::open(options.adapter, folder, "_recorded"));
        let (file, data) = kept.map_or((None, None), |(file, data)| (Some(file), data));
        let cache = pipeline_cache(&driver.raw, data.as_deref().unwrap_or_default())?;
        Ok(Some(Self {
            driver,
            dialect: Dialect::new(version, features, &limits, halves, options.checked),
            stage,
            layouts: Mutex::default(),
            kernels: Mutex::default(),
            cache,
            file,
        }))
    }

    /// The compiled `kernel`, from an earlier call if there was one.
    ///
    /// # Errors
    /// `INTERNAL` naming the kernel that naga or the driver refuses.
    pub(super) fn compiled(&self, kernel: &Kernel) -> Result<Arc<Compiled>> {
        let known = self.kernels.lock().unwrap_or_else(PoisonError::into_inner).get(kernel).cloned();
        if let Some(compiled) = known {
            return Ok(compiled);
        }
        let compiled = self.compile(kernel).map_err(|e| e.at(format_args!("kernel {}", kernel.name)))?;
        let compiled = Arc::new(compiled);
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if kernels.len() >= MAX_PIPELINES {
            // Those that executables hold stay; the others are compiled again if they are wanted.
            kernels.retain(|_, compiled| Arc::strong_count(compiled) > 1);
        }
        kernels.insert(kernel.clone(), Arc::clone(&compiled));
        Ok(compiled)
    }

    /// Whether `kernel` is compiled.
    pub(super) fn has(&self, kernel: &Kernel) -> bool {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner).contains_key(kernel)
    }

    /// Compiled kernels held.
    pub(super) fn count(&self) -> usize {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Keeps compiled kernels for the next run of the process, where there is a place for them.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // SAFETY: the cache is this device's and lives as long as the recorder.
        let data = unsafe { self.driver.raw.get_pipeline_cache_data(self.cache) };
        file.keep(&data.map_err(std::io::Error::other)?)
    }

    fn compile(&self, kernel: &Kernel) -> Result<Compiled> {
        let words = self.dialect.translate(kernel)?;
        let layout = self.layout(&kernel.bindings)?;
        let raw = &self.driver.raw;
        let module = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: naga has validated the kernel and written the words for this device's features.
        let module = unsafe { raw.create_shader_module(&module, None) }.map_err(|e| refused("a shader module", e))?;
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .flags(self.stage)
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(ENTRY_POINT);
        let wanted = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout.pipeline);
        // SAFETY: the module's bindings are those of the layout, which was checked when it was translated; unchecked kernels
        // end their loops at bounds from their parameters and keep their indices inside the buffers that their operators sized,
        // which the adapter tests hold against the host on every shape.
        let made = unsafe { raw.create_compute_pipelines(self.cache, &[wanted], None) };
        // SAFETY: pipelines do not need the module once they are made.
        unsafe { raw.destroy_shader_module(module, None) };
        let made = made.map_err(|(_, e)| refused("a pipeline", e))?;
        let pipeline = made.first().copied().ok_or_else(|| Error::internal("the driver made no pipeline"))?;
        Ok(Compiled { pipeline, layout })
    }

    /// The layout of `bindings` in descriptor set 0, one for all kernels that bind alike.
    fn layout(&self, bindings: &[Binding]) -> Result<Arc<Layout>> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layouts.get(bindings) {
            return Ok(Arc::clone(layout));
        }
        let entry = |(index, binding): (usize, &Binding)| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(index as u32)
                .descriptor_type(descriptor_type(*binding))
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let entries: Vec<_> = bindings.iter().enumerate().map(entry).collect();
        let mut layout = Layout {
            driver: Arc::clone(&self.driver),
            set: vk::DescriptorSetLayout::null(),
            pipeline: vk::PipelineLayout::null(),
        };
        let raw = &self.driver.raw;
        let wanted = vk::DescriptorSetLayoutCreateInfo::default().bindings(&entries);
        // SAFETY: the device lives, and the layout destroys it.
        layout.set = unsafe { raw.create_descriptor_set_layout(&wanted, None) }
            .map_err(|e| refused("a layout of descriptors", e))?;
        let sets = [layout.set];
        let wanted = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
        // SAFETY: as above.
        layout.pipeline =
            unsafe { raw.create_pipeline_layout(&wanted, None) }.map_err(|e| refused("a pipeline's layout", e))?;
        let layout = Arc::new(layout);
        layouts.insert(bindings.to_vec(), Arc::clone(&layout));
        Ok(layout)
    }
}

/// What a binding is for Vulkan.
pub(super) fn descriptor_type(binding: Binding) -> vk::DescriptorType {
    match binding {
        Binding::Read | Binding::ReadWrite => vk::DescriptorType::STORAGE_BUFFER,
        Binding::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
    }
}

/// A cache that holds `data`, or nothing where the driver does not want that.
fn pipeline_cache(raw: &ash::Device, data: &[u8]) -> Result<vk::PipelineCache> {
    let filled = vk::PipelineCacheCreateInfo::default().initial_data(data);
    // SAFETY: the data is empty, or such a cache gave it, for this adapter and driver: the file's name says so, and its hash
    // that nothing was changed or cut off since.
    unsafe { raw.create_pipeline_cache(&filled, None) }
        // SAFETY: nothing is handed over.
        .or_else(|_| unsafe { raw.create_pipeline_cache(&vk::PipelineCacheCreateInfo::default(), None) })
        .map_err(|e| refused("a cache of pipelines", e))
}
