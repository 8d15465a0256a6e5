//! Device memory of one lane: weights shared by content, and the arena that all executables compute in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use xxhash_rust::xxh3::xxh3_128;

use super::gpu::Gpu;
use super::layouts::STORAGE_BYTES_MIN;
use super::transfer::to_device;
use crate::engine::ir::{Form, Storage};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// A buffer that is counted while it lives.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) raw: wgpu::Buffer,
    counter: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.raw.size(), Ordering::Relaxed);
    }
}

/// Equal contents lying equally are one weight.
type WeightKey = (u128, DType, usize, Storage, Option<Form>);

/// Everything allocated on one device.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: Arc<AtomicU64>,
    weights: Mutex<HashMap<WeightKey, Weak<Held>>>,
    arena: Mutex<Vec<Arc<Held>>>,
}

impl Memory {
    /// Bytes allocated now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A new buffer of at least `bytes` bytes.
    pub(super) fn allocate(&self, gpu: &Gpu, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<Arc<Held>> {
        let raw = gpu.buffer(what, bytes.max(1).next_multiple_of(STORAGE_BYTES_MIN), usage)?;
        self.bytes.fetch_add(raw.size(), Ordering::Relaxed);
        Ok(Arc::new(Held { raw, counter: Arc::clone(&self.bytes) }))
    }

    /// The device's copy of `tensor`, laid out by `form`, uploaded if no live executable holds it.
    pub(super) fn weight(
        &self,
        gpu: &Gpu,
        tensor: &Tensor,
        storage: Storage,
        form: Option<&Form>,
    ) -> Result<Arc<Held>> {
        let key = (xxh3_128(tensor.bytes()), tensor.dtype(), tensor.shape().elements(), storage, form.cloned());
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = weights.get(&key).and_then(Weak::upgrade) {
            return Ok(held);
        }
        let mut scratch = Vec::new();
        let formed = form.map(|form| form.apply(tensor)).transpose()?;
        let contents = to_device(formed.as_ref().unwrap_or(tensor), storage, &mut scratch)?;
        let bytes = contents.len().next_multiple_of(4).max(4) as u64;
        let limit = gpu.limits.max_storage_buffer_binding_size;
        if bytes > limit {
            return Err(Error::resource_exhausted(format!(
                "a weight of {bytes} bytes is over the adapter's max_storage_buffer_binding_size of {limit}"
            )));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let held = self.allocate(gpu, "a weight", bytes, usage)?;
        // Only an error of the device, which is told elsewhere, leaves nothing to write to.
        if let Some(mut view) =
            std::num::NonZeroU64::new(bytes).and_then(|b| gpu.queue.write_buffer_with(&held.raw, 0, b))
        {
            view.slice(..contents.len()).copy_from_slice(contents);
        }
        weights.retain(|_, held| held.strong_count() > 0);
        weights.insert(key, Arc::downgrade(&held));
        Ok(held)
    }

    /// Buffers of at least these sizes, one a pool, shared by every executable of the lane: the queue runs submissions in
    /// order, so they never use them at once. Larger demands make new buffers; executables made before keep the old ones.
    pub(super) fn arena(&self, gpu: &Gpu, pools: &[u64]) -> Result<Vec<Arc<Held>>> {
        let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, bytes) in pools.iter().enumerate() {
            if arena.get(index).is_none_or(|held| held.raw.size() < *bytes) {
                let held = self.allocate(gpu, "activations", *bytes, SCRATCH)?;
                if index < arena.len() {
                    arena[index] = held;
                } else {
                    arena.push(held);
                }
            }
        }
        Ok(arena[..pools.len()].to_vec())
    }

    /// As [`Memory::arena`], for one executable alone.
    pub(super) fn private_arena(&self, gpu: &Gpu, pools: &[u64]) -> Result<Vec<Arc<Held>>> {
        pools.iter().map(|bytes| self.allocate(gpu, "activations", *bytes, SCRATCH)).collect()
    }
}

const SCRATCH: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
