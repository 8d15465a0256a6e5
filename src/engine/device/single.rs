//! One dispatch of an executable as a submission of its own, on whatever its buffers hold.

use std::collections::HashMap;

use super::executable::{Executable, PreparedReplay};
use super::gpu::Gpu;
use super::vulkan::Recording;
use crate::error::Result;

/// Which one.
pub(super) struct Single {
    pub(super) segment: usize,
    pub(super) dispatch: usize,
    /// Workgroups other than its own.
    pub(super) groups: Option<[u32; 3]>,
}

/// Commands that were not submitted yet, and the recording that they execute if they do.
pub(super) struct Alone {
    commands: wgpu::CommandBuffer,
    recording: Option<Recording>,
}

impl Alone {
    /// The commands of a dispatch, replayed as those of batches are.
    pub(super) fn new(gpu: &Gpu, executable: &Executable, single: &Single) -> Result<Self> {
        let prepared = &executable.segment(single.segment)?.dispatches[single.dispatch];
        let groups = single.groups.unwrap_or(prepared.groups);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let recording = match (&gpu.recorder, &prepared.replay) {
            (_, PreparedReplay::Encoded { pipeline, bind_group }) => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline.raw);
                pass.set_bind_group(0, bind_group, &[]);
                let [x, y, z] = groups;
                pass.dispatch_workgroups(x, y, z);
                None
            }
            (Some(recorder), PreparedReplay::Recorded(_)) => {
                let own = HashMap::new();
                let mut script = executable.script(single.segment, single.dispatch..single.dispatch + 1, &own)?;
                script.steps.iter_mut().for_each(|step| step.groups = groups);
                let recording = Recording::new(recorder, &script)?;
                recording.execute(&mut encoder);
                Some(recording)
            }
            (None, PreparedReplay::Recorded(_)) => None,
        };
        Ok(Self { commands: encoder.finish(), recording })
    }

    /// Submits them. The recording must be kept until they are done.
    pub(super) fn submit(self, gpu: &Gpu) -> (wgpu::SubmissionIndex, Option<Recording>) {
        let index = gpu.queue.submit([self.commands]);
        if let Some(recording) = &self.recording {
            recording.took_off(&index);
        }
        (index, self.recording)
    }
}
