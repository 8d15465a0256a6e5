//! Device memory of one lane: weights shared by content, and the arena that all executables compute in.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use xxhash_rust::xxh3::xxh3_128;

use super::budget::{Account, Allocation};
use super::gpu::Gpu;
use super::layouts::STORAGE_BYTES_MIN;
use super::transfer::to_device;
use crate::engine::ir::{Buffer, Form, Program, Storage};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// A buffer that is counted while it lives.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) raw: wgpu::Buffer,
    counter: Arc<AtomicU64>,
    allocation: Allocation,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.raw.size(), Ordering::Relaxed);
    }
}

/// A buffer in use by a model, whose account counts it once however many of its executables use it.
#[derive(Debug)]
pub(super) struct Share {
    held: Arc<Held>,
    /// Ends after what it is of: in between bytes would be in use and reserved.
    _use: Use,
}

/// A use that an account counts; it ends when dropped.
#[derive(Debug)]
struct Use {
    account: Arc<Account>,
    key: u64,
}

impl Share {
    /// One more use.
    fn of(held: Arc<Held>, account: &Arc<Account>) -> Result<Self> {
        account.hold(&held.allocation)?;
        let key = held.allocation.key;
        Ok(Self { held, _use: Use { account: Arc::clone(account), key } })
    }
}

impl Deref for Share {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.account.let_go(self.key);
    }
}

/// Equal contents lying equally are one weight.
type WeightKey = (u128, DType, usize, Storage, Option<Form>);

/// Everything allocated on one device.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: Arc<AtomicU64>,
    weights: Mutex<HashMap<WeightKey, Weak<Held>>>,
    /// The largest of each pool that an executable holds.
    arena: Mutex<Vec<Weak<Held>>>,
}

impl Memory {
    /// Bytes allocated now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A new buffer of at least `bytes` bytes, taken from `account` first.
    pub(super) fn allocate(
        &self,
        gpu: &Gpu,
        account: &Arc<Account>,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Share> {
        let bytes = rounded(bytes);
        let allocation = account.take(bytes).map_err(|e| e.at(what))?;
        let first = Use { account: Arc::clone(account), key: allocation.key };
        let raw = gpu.buffer(what, bytes, usage);
        let raw = raw
            .map_err(|e| if account.name().is_empty() { e } else { e.at(format_args!("model {}", account.name())) })?;
        self.bytes.fetch_add(raw.size(), Ordering::Relaxed);
        let held = Arc::new(Held { raw, counter: Arc::clone(&self.bytes), allocation });
        Ok(Share { held, _use: first })
    }

    /// The device's copy of `tensor`, laid out by `form`, uploaded if no live executable holds it.
    pub(super) fn weight(
        &self,
        gpu: &Gpu,
        account: &Arc<Account>,
        tensor: &Tensor,
        storage: Storage,
        form: Option<&Form>,
    ) -> Result<Share> {
        let key = weight_key(tensor, storage, form);
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = weights.get(&key).and_then(Weak::upgrade) {
            return Share::of(held, account);
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
        let share = self.allocate(gpu, account, "a weight", bytes, usage)?;
        // Only an error of the device, which is told elsewhere, leaves nothing to write to.
        if let Some(mut view) =
            std::num::NonZeroU64::new(bytes).and_then(|b| gpu.queue.write_buffer_with(&share.raw, 0, b))
        {
            view.slice(..contents.len()).copy_from_slice(contents);
        }
        weights.retain(|_, held| held.strong_count() > 0);
        weights.insert(key, Arc::downgrade(&share.held));
        Ok(share)
    }

    /// Buffers of at least these sizes, one a pool, shared by every executable of the lane: the queue runs submissions in
    /// order, so they never use them at once. Larger demands make new buffers; executables made before keep the old ones.
    pub(super) fn arena(&self, gpu: &Gpu, account: &Arc<Account>, pools: &[u64]) -> Result<Vec<Share>> {
        let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let share = |(index, bytes): (usize, &u64)| {
            let there = arena.get(index).and_then(Weak::upgrade).filter(|held| held.raw.size() >= *bytes);
            if let Some(held) = there {
                return Share::of(held, account);
            }
            let share = self.allocate(gpu, account, "activations", *bytes, SCRATCH)?;
            let place = Arc::downgrade(&share.held);
            match arena.get_mut(index) {
                Some(held) => *held = place,
                None => arena.push(place),
            }
            Ok(share)
        };
        pools.iter().enumerate().map(share).collect()
    }

    /// As [`Memory::arena`], for one executable alone.
    pub(super) fn private_arena(&self, gpu: &Gpu, account: &Arc<Account>, pools: &[u64]) -> Result<Vec<Share>> {
        pools.iter().map(|bytes| self.allocate(gpu, account, "activations", *bytes, SCRATCH)).collect()
    }

    /// Bytes of the buffers that an executable of `program` needs and that are not there, the parameters apart.
    pub(super) fn missing(&self, program: &Program) -> u64 {
        self.missing_weights(program) + self.missing_arena(program)
    }

    fn missing_weights(&self, program: &Program) -> u64 {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = HashSet::new();
        let mut missing = 0;
        for buffer in &program.buffers {
            match buffer {
                Buffer::Constant { tensor, storage, form } => {
                    let key = weight_key(tensor, *storage, form.as_ref());
                    let is_there = weights.get(&key).is_some_and(|held| held.strong_count() > 0);
                    if !is_there && counted.insert(key) {
                        missing += rounded(buffer.constant_bytes() as u64);
                    }
                }
                Buffer::Table(words) => missing += rounded(4 * words.len() as u64),
                Buffer::Scratch { .. } => {}
            }
        }
        missing
    }

    fn missing_arena(&self, program: &Program) -> u64 {
        let pools = program.pool_bytes();
        let arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let is_missing = |(index, bytes): &(usize, &u64)| {
            let there = arena.get(*index).and_then(Weak::upgrade);
            program.segments.len() > 1 || there.is_none_or(|held| held.raw.size() < **bytes)
        };
        pools.iter().enumerate().filter(is_missing).map(|(_, bytes)| rounded(*bytes)).sum()
    }
}

/// The size of a buffer for so many bytes.
pub(super) fn rounded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(STORAGE_BYTES_MIN)
}

fn weight_key(tensor: &Tensor, storage: Storage, form: Option<&Form>) -> WeightKey {
    (xxh3_128(tensor.bytes()), tensor.dtype(), tensor.shape().elements(), storage, form.cloned())
}

const SCRATCH: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
