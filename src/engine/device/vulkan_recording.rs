//! Commands recorded once and executed by every submission that wants them.
//!
//! wgpu sees none of it: it neither makes sure that what the commands use is there, nor that one waits for the other. Here that
//! is done by holding everything until the device is done, by waits between steps where [`waits`] finds them needed, and by a
//! wait for all other work of the queue before and after the commands.

use std::sync::{Arc, Mutex, PoisonError};

use ash::vk;
use wgpu::hal::api::Vulkan;

use super::replay::{BufferCopy, Script, Step, waits};
use super::vulkan::refused;
use super::vulkan_kernels::{Compiled, Driver, Recorder, descriptor_type};
use crate::engine::ir::Binding;
use crate::error::{Error, Result};

/// What the commands use.
#[derive(Debug, Default)]
struct Used {
    kernels: Vec<Arc<Compiled>>,
    buffers: Vec<wgpu::Buffer>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Recording {
    driver: Arc<Driver>,
    pool: vk::CommandPool,
    commands: vk::CommandBuffer,
    descriptors: vk::DescriptorPool,
    stamps: vk::QueryPool,
    /// Of each dispatch, two.
    stamp_count: usize,
    /// The submission that executes it, until that is known to be done.
    flight: Mutex<Option<wgpu::SubmissionIndex>>,
    used: Used,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let flight = self.flight.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if flight.is_some_and(|index| !self.driver.has_done(index)) {
            // The driver may use all of it for ever: it is never let go, and with it the device is not.
            std::mem::forget(std::mem::take(&mut self.used));
            std::mem::forget(Arc::clone(&self.driver));
            return;
        }
        let raw = &self.driver.raw;
        // SAFETY: all three are this device's, or null, and used by nobody else; no submission executes the commands any more.
        unsafe {
            raw.destroy_command_pool(self.pool, None);
            raw.destroy_descriptor_pool(self.descriptors, None);
            raw.destroy_query_pool(self.stamps, None);
        }
    }
}

impl Recording {
    /// Records `script` for one queue of the device.
    ///
    /// # Errors
    /// Those of the driver, `RESOURCE_EXHAUSTED` among them.
    pub(super) fn new(recorder: &Recorder, script: &Script<'_>) -> Result<Self> {
        let mut recording = Self {
            driver: Arc::clone(&recorder.driver),
            pool: vk::CommandPool::null(),
            commands: vk::CommandBuffer::null(),
            descriptors: vk::DescriptorPool::null(),
            stamps: vk::QueryPool::null(),
            stamp_count: 0,
            flight: Mutex::default(),
            used: Used::default(),
        };
        let raw = &recorder.driver.raw;
        let wanted = vk::CommandPoolCreateInfo::default().queue_family_index(recorder.driver.family);
        // SAFETY: the device lives, and the recording destroys the pool.
        recording.pool =
            unsafe { raw.create_command_pool(&wanted, None) }.map_err(|e| refused("a pool of commands", e))?;
        let sets = recording.bind(&script.steps)?;
        if script.stamped && !script.steps.is_empty() {
            recording.stamp_count = 2 * script.steps.len();
            let wanted = vk::QueryPoolCreateInfo::default()
                .query_type(vk::QueryType::TIMESTAMP)
                .query_count(recording.stamp_count as u32);
            // SAFETY: as above; the adapter was asked whether it takes time.
            recording.stamps =
                unsafe { raw.create_query_pool(&wanted, None) }.map_err(|e| refused("a pool of timestamps", e))?;
        }
        let wanted = vk::CommandBufferAllocateInfo::default()
            .command_pool(recording.pool)
            .level(vk::CommandBufferLevel::SECONDARY)
            .command_buffer_count(1);
        // SAFETY: the pool is used by this thread alone.
        let made = unsafe { raw.allocate_command_buffers(&wanted) }.map_err(|e| refused("a command buffer", e))?;
        recording.commands =
            made.first().copied().ok_or_else(|| Error::internal("the driver made no command buffer"))?;
        recording.record(script, &sets)?;
        Ok(recording)
    }

    /// A descriptor set for each step.
    fn bind(&mut self, steps: &[Step<'_>]) -> Result<Vec<vk::DescriptorSet>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let raw = &self.driver.raw;
        let kinds = || steps.iter().flat_map(|step| step.bindings.iter().map(|(_, kind)| descriptor_type(*kind)));
        let size =
            |ty| vk::DescriptorPoolSize { ty, descriptor_count: kinds().filter(|kind| *kind == ty).count() as u32 };
        let sizes = [size(vk::DescriptorType::STORAGE_BUFFER), size(vk::DescriptorType::UNIFORM_BUFFER)];
        let sizes: Vec<_> = sizes.into_iter().filter(|size| size.descriptor_count > 0).collect();
        let wanted = vk::DescriptorPoolCreateInfo::default().max_sets(steps.len() as u32).pool_sizes(&sizes);
        // SAFETY: the device lives, and the recording destroys the pool.
        self.descriptors =
            unsafe { raw.create_descriptor_pool(&wanted, None) }.map_err(|e| refused("a pool of descriptors", e))?;
        let layouts: Vec<_> = steps.iter().map(|step| step.kernel.set_layout()).collect();
        let wanted = vk::DescriptorSetAllocateInfo::default().descriptor_pool(self.descriptors).set_layouts(&layouts);
        // SAFETY: the pool has room for these sets, and the kernels, which are held, hold the layouts.
        let sets = unsafe { raw.allocate_descriptor_sets(&wanted) }.map_err(|e| refused("descriptors", e))?;
        for (step, set) in steps.iter().zip(&sets) {
            self.used.kernels.push(Arc::clone(&step.kernel));
            let infos = step.bindings.iter().map(|(binding, _)| {
                let range = binding.size.map_or(binding.buffer.size() - binding.offset, |size| size.get());
                let buffer = hold(&mut self.used.buffers, binding.buffer)?;
                Ok([vk::DescriptorBufferInfo { buffer, offset: binding.offset, range }])
            });
            let infos = infos.collect::<Result<Vec<_>>>()?;
            let write = |(index, (_, kind)): (usize, &(_, Binding))| {
                vk::WriteDescriptorSet::default()
                    .dst_set(*set)
                    .dst_binding(index as u32)
                    .descriptor_type(descriptor_type(*kind))
                    .buffer_info(&infos[index])
            };
            let writes: Vec<_> = step.bindings.iter().enumerate().map(write).collect();
            // SAFETY: the sets are new, their layout has these bindings, and the buffers are held and as large as said.
            unsafe { raw.update_descriptor_sets(&writes, &[]) };
        }
        Ok(sets)
    }

    fn record(&mut self, script: &Script<'_>, sets: &[vk::DescriptorSet]) -> Result<()> {
        let (raw, commands) = (self.driver.raw.clone(), self.commands);
        let inherited = vk::CommandBufferInheritanceInfo::default();
        // The commands of the next run name it while it is executed for this one.
        let begin = vk::CommandBufferBeginInfo::default()
            .flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE)
            .inheritance_info(&inherited);
        // SAFETY: this thread alone knows of the command buffer.
        unsafe { raw.begin_command_buffer(commands, &begin) }.map_err(|e| refused("recording", e))?;
        let touched: Vec<_> = script.steps.iter().map(touched).collect::<Result<_>>()?;
        self.wait(Work::OTHERS, Work::COPIES_AND_KERNELS);
        self.copy(&script.uploads)?;
        if !script.uploads.is_empty() {
            self.wait(Work::COPIES, Work::KERNELS);
        }
        if self.stamp_count > 0 {
            // SAFETY: the pool has so many queries, and the commands are outside any pass.
            unsafe { raw.cmd_reset_query_pool(commands, self.stamps, 0, self.stamp_count as u32) };
        }
        let mut current = vk::Pipeline::null();
        for (index, ((step, set), waits)) in script.steps.iter().zip(sets).zip(waits(&touched)).enumerate() {
            if waits || script.stamped {
                self.wait(Work::KERNELS, Work::KERNELS);
            }
            self.stamp(2 * index);
            let ([x, y, z], kernel) = (step.groups, &step.kernel);
            // SAFETY: kernels and sets are held, the set has the layout of the pipeline, and all is this device's.
            unsafe {
                if current != kernel.pipeline {
                    raw.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, kernel.pipeline);
                    current = kernel.pipeline;
                }
                let (point, layout) = (vk::PipelineBindPoint::COMPUTE, kernel.pipeline_layout());
                raw.cmd_bind_descriptor_sets(commands, point, layout, 0, &[*set], &[]);
                raw.cmd_dispatch(commands, x, y, z);
            }
            self.stamp(2 * index + 1);
        }
        if !script.downloads.is_empty() {
            self.wait(Work::COPIES_AND_KERNELS, Work::COPIES);
            self.copy(&script.downloads)?;
        }
        self.wait(Work::COPIES_AND_KERNELS, Work::OTHERS);
        // SAFETY: what was begun above is ended.
        unsafe { raw.end_command_buffer(commands) }.map_err(|e| refused("recording", e))
    }

    /// Has all that follows of one sort wait for all of another that came before, and see what that wrote.
    fn wait(&self, before: Work, after: Work) {
        let barrier = [vk::MemoryBarrier::default().src_access_mask(before.writes).dst_access_mask(after.accesses)];
        let (raw, none) = (&self.driver.raw, vk::DependencyFlags::empty());
        // SAFETY: the command buffer is being recorded, outside any pass.
        unsafe { raw.cmd_pipeline_barrier(self.commands, before.stages, after.stages, none, &barrier, &[], &[]) };
    }

    fn stamp(&self, index: usize) {
        if index < self.stamp_count {
            let (raw, when) = (&self.driver.raw, vk::PipelineStageFlags::BOTTOM_OF_PIPE);
            // SAFETY: the command buffer is being recorded, and the pool has such a query, which was reset.
            unsafe { raw.cmd_write_timestamp(self.commands, when, self.stamps, index as u32) };
        }
    }

    fn copy(&mut self, copies: &[BufferCopy<'_>]) -> Result<()> {
        for copy in copies {
            let from = hold(&mut self.used.buffers, copy.from.0)?;
            let to = hold(&mut self.used.buffers, copy.to.0)?;
            let region = vk::BufferCopy { src_offset: copy.from.1, dst_offset: copy.to.1, size: copy.bytes };
            // SAFETY: both buffers are held, were made to be copied from and to, and are large enough.
            unsafe { self.driver.raw.cmd_copy_buffer(self.commands, from, to, &[region]) };
        }
        Ok(())
    }

    /// Has a submission of `encoder`'s, which does nothing else, execute the commands.
    pub(super) fn execute(&self, encoder: &mut wgpu::CommandEncoder) {
        let execute = |encoder: Option<&mut wgpu::hal::vulkan::CommandEncoder>| {
            // Without one the device is lost, which is told elsewhere.
            let Some(encoder) = encoder else { return };
            // SAFETY: the commands stay until a submission that executes them is done; the primary ones are being recorded by
            // this thread, on this device, outside any pass.
            unsafe { self.driver.raw.cmd_execute_commands(encoder.raw_handle(), &[self.commands]) };
        };
        // SAFETY: the encoder is used for nothing but this, and neither ended nor destroyed.
        unsafe { encoder.as_hal_mut::<Vulkan, _, _>(execute) };
    }

    /// Notes that submission `index` executes it.
    pub(super) fn took_off(&self, index: &wgpu::SubmissionIndex) {
        *self.flight.lock().unwrap_or_else(PoisonError::into_inner) = Some(index.clone());
    }

    /// Notes that the submission is done.
    pub(super) fn landed(&self) {
        *self.flight.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The device's time before and after each step of a stamped script, in its own unit.
    ///
    /// # Errors
    /// Those of the driver, which has no times before the commands are done.
    pub(super) fn stamps(&self) -> Result<Vec<u64>> {
        let mut stamps = vec![0; self.stamp_count];
        if !stamps.is_empty() {
            // SAFETY: the pool has so many queries, each of which gives one number.
            unsafe {
                self.driver.raw.get_query_pool_results(self.stamps, 0, &mut stamps, vk::QueryResultFlags::TYPE_64)
            }
            .map_err(|e| refused("timestamps", e))?;
        }
        Ok(stamps)
    }
}

/// Work as waits know it.
#[derive(Clone, Copy)]
struct Work {
    stages: vk::PipelineStageFlags,
    writes: vk::AccessFlags,
    accesses: vk::AccessFlags,
}

impl Work {
    const KERNELS: Self = Self {
        stages: vk::PipelineStageFlags::COMPUTE_SHADER,
        writes: vk::AccessFlags::SHADER_WRITE,
        accesses: vk::AccessFlags::from_raw(
            vk::AccessFlags::SHADER_WRITE.as_raw()
                | vk::AccessFlags::SHADER_READ.as_raw()
                | vk::AccessFlags::UNIFORM_READ.as_raw(),
        ),
    };
    const COPIES: Self = Self {
        stages: vk::PipelineStageFlags::TRANSFER,
        writes: vk::AccessFlags::TRANSFER_WRITE,
        accesses: vk::AccessFlags::from_raw(
            vk::AccessFlags::TRANSFER_WRITE.as_raw() | vk::AccessFlags::TRANSFER_READ.as_raw(),
        ),
    };
    const COPIES_AND_KERNELS: Self = Self::KERNELS.and(Self::COPIES);
    /// Whatever else the queue does, and the host.
    const OTHERS: Self = Self {
        stages: vk::PipelineStageFlags::from_raw(
            vk::PipelineStageFlags::ALL_COMMANDS.as_raw() | vk::PipelineStageFlags::HOST.as_raw(),
        ),
        writes: vk::AccessFlags::from_raw(
            vk::AccessFlags::MEMORY_WRITE.as_raw() | vk::AccessFlags::HOST_WRITE.as_raw(),
        ),
        accesses: vk::AccessFlags::from_raw(
            vk::AccessFlags::MEMORY_WRITE.as_raw()
                | vk::AccessFlags::MEMORY_READ.as_raw()
                | vk::AccessFlags::HOST_READ.as_raw(),
        ),
    };

    const fn and(self, other: Self) -> Self {
        Self {
            stages: vk::PipelineStageFlags::from_raw(self.stages.as_raw() | other.stages.as_raw()),
            writes: vk::AccessFlags::from_raw(self.writes.as_raw() | other.writes.as_raw()),
            accesses: vk::AccessFlags::from_raw(self.accesses.as_raw() | other.accesses.as_raw()),
        }
    }
}

/// The handle of `buffer`, which is kept from now on.
fn hold(held: &mut Vec<wgpu::Buffer>, buffer: &wgpu::Buffer) -> Result<vk::Buffer> {
    if !held.contains(buffer) {
        held.push(buffer.clone());
    }
    handle(buffer)
}

fn handle(buffer: &wgpu::Buffer) -> Result<vk::Buffer> {
    // SAFETY: the handle is not destroyed through this.
    let vulkan = unsafe { buffer.as_hal::<Vulkan>() }.ok_or_else(|| Error::unavailable("a buffer is gone"))?;
    // SAFETY: as above.
    Ok(unsafe { vulkan.raw_handle() })
}

/// The buffers of a step and whether it writes them.
fn touched(step: &Step<'_>) -> Result<Vec<(vk::Buffer, bool)>> {
    let storage = step.bindings.iter().filter(|(_, kind)| *kind != Binding::Uniform);
    storage.map(|(binding, kind)| Ok((handle(binding.buffer)?, *kind == Binding::ReadWrite))).collect()
}
