//! wgpu's compiled kernels kept in a file between runs, where wgpu can hand them out: on Vulkan.

use std::path::Path;

use super::adapter::Adapter;
use super::pipeline_file::PipelineFile;

/// A device's cache of compiled kernels and where it is kept.
#[derive(Debug)]
pub(super) struct Pipelines {
    raw: wgpu::PipelineCache,
    file: PipelineFile,
}

impl Pipelines {
    /// The cache of `device`, filled from the file in `folder` that an earlier run on the same adapter and driver left. `None`
    /// where the backend has none.
    pub(super) fn open(device: &wgpu::Device, adapter: &Adapter, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let (file, data) = PipelineFile::open(adapter, folder, "")?;
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("coracle"), data: data.as_deref(), fallback: true };
        // SAFETY: the data was written by `keep` below from what such a cache gave, for this adapter and driver: the file's
        // name says so, and its hash that nothing was changed or cut off since.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { raw, file })
    }

    /// What pipelines are made with.
    pub(super) fn raw(&self) -> &wgpu::PipelineCache {
        &self.raw
    }

    /// Writes the file anew if there is more to keep than before.
    pub(super) fn keep(&self) -> std::io::Result<()> {
        self.raw.get_data().map_or(Ok(()), |data| self.file.keep(&data))
    }
}
