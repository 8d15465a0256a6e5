//! Device memory of one lane: weights shared by content, and the arenas that executables compute in.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::budget::{Account, Allocation, Use};
use super::gpu::Gpu;
use super::host_block::HostBlock;
use super::layouts::STORAGE_BYTES_MIN;
use super::native::NativeDevice;
use super::refusals;
use super::shelf::{Common, Contents, Place as ShelfPlace, WeightKey, weight_key};
use super::transfer::to_device;
use crate::engine::ir::{Buffer, Program};
use crate::error::{Error, Result};

/// A buffer that is counted while it lives.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) raw: wgpu::Buffer,
    place: Place,
}

/// Whose memory a buffer is in.
#[derive(Debug)]
enum Place {
    /// The lane's alone, counted there.
    Own { counter: Arc<AtomicU64>, allocation: Allocation },
    /// That of several lanes.
    Common(Arc<Common>),
}

impl Held {
    fn allocation(&self) -> &Allocation {
        match &self.place {
            Place::Own { allocation, .. } => allocation,
            Place::Common(common) => &common.allocation,
        }
    }

    /// What it has in common with other lanes.
    pub(super) fn common(&self) -> Option<&Arc<Common>> {
        match &self.place {
            Place::Own { .. } => None,
            Place::Common(common) => Some(common),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Place::Own { counter, .. } = &self.place {
            counter.fetch_sub(self.raw.size(), Ordering::Relaxed);
        }
    }
}

/// Bytes that are needed and not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// On this lane.
    pub own: u64,
    /// Once for all lanes that have weights in common.
    pub common: u64,
}

/// A buffer in use by a model, whose account counts it once however many of its executables use it.
#[derive(Debug)]
pub(super) struct Share {
    held: Arc<Held>,
    /// Ends after what it is of: in between bytes would be in use and reserved.
    _use: Use,
}

impl Share {
    /// The first use of a buffer over what lanes have in common.
    fn over(gpu: &Gpu, common: Arc<Common>, account: &Arc<Account>, bytes: u64) -> Result<Self> {
        let raw = common
            .buffer(&gpu.device, bytes)
            .map_err(|e| e.at("a weight that lanes have in common (each has its own with share_weights off)"))?;
        Self::of(Arc::new(Held { raw, place: Place::Common(common) }), account)
    }

    /// One more use.
    fn of(held: Arc<Held>, account: &Arc<Account>) -> Result<Self> {
        let another = account.hold(held.allocation())?;
        Ok(Self { held, _use: another })
    }
}

impl Deref for Share {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

/// Executables whose activations take about as much: they compute in one arena, those of other classes in others, so that a small
/// one may run between the parts of a large one. All arenas together take about twice the largest at most.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct ArenaClass(u32);

impl ArenaClass {
    /// Each class has up to 2 to this power as many bytes as the one below.
    const STEP: u32 = 4;

    /// That of `program`; `None` where it needs an arena of its own.
    pub(super) fn of(program: &Program) -> Option<Self> {
        let bytes: u64 = program.pool_bytes().iter().sum();
        (program.segments.len() <= 1).then(|| Self(bytes.max(1).ilog2() / Self::STEP))
    }
}

/// Everything allocated on one device.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: Arc<AtomicU64>,
    weights: Mutex<HashMap<WeightKey, Weak<Held>>>,
    /// By class the largest of each pool that an executable holds.
    arenas: Mutex<HashMap<ArenaClass, Vec<Weak<Held>>>>,
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
        let (allocation, first) = account.take(bytes).map_err(|e| e.at(what))?;
        let raw = gpu.buffer(what, bytes, usage);
        let raw = raw
            .map_err(|e| if account.name().is_empty() { e } else { e.at(format_args!("model {}", account.name())) })?;
        self.bytes.fetch_add(raw.size(), Ordering::Relaxed);
        let place = Place::Own { counter: Arc::clone(&self.bytes), allocation };
        let held = Arc::new(Held { raw, place });
        Ok(Share { held, _use: first })
    }

    /// The device's copy of a constant, uploaded or imported if no live executable holds it.
    pub(super) fn weight(&self, gpu: &Gpu, account: &Arc<Account>, constant: &Buffer) -> Result<Share> {
        let Buffer::Constant { tensor, storage, form } = constant else {
            return Err(Error::internal("a buffer that is written is no weight"));
        };
        let key = weight_key(tensor, *storage, form.as_ref());
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = weights.get(&key).and_then(Weak::upgrade) {
            return Share::of(held, account);
        }
        let bytes = rounded(constant.constant_bytes() as u64);
        let limit = gpu.limits.max_storage_buffer_binding_size;
        if bytes > limit {
            return Err(Error::resource_exhausted(format!(
                "a weight of {bytes} bytes is over the adapter's max_storage_buffer_binding_size of {limit}"
            )));
        }
        let shelf = gpu.shelf.as_ref().filter(|shelf| shelf.bytes_of(bytes).is_some());
        let share = match shelf.and_then(|shelf| shelf.find(&key)) {
            Some(common) => Share::over(gpu, common, account, bytes),
            None => {
                let mut scratch = Vec::new();
                let formed = form.as_ref().map(|form| form.apply(tensor)).transpose()?;
                let contents = to_device(formed.as_ref().unwrap_or(tensor), *storage, &mut scratch)?;
                match shelf {
                    Some(shelf) => {
                        let make = |place| common_contents(gpu, place, bytes, contents);
                        let (common, _first_use) = shelf.put(&key, account, bytes, make)?;
                        Share::over(gpu, common, account, bytes)
                    }
                    None => self.upload(gpu, account, bytes, contents),
                }
            }
        }?;
        weights.retain(|_, held| held.strong_count() > 0);
        weights.insert(key, Arc::downgrade(&share.held));
        Ok(share)
    }

    /// A buffer of the lane's own that holds `contents`.
    fn upload(&self, gpu: &Gpu, account: &Arc<Account>, bytes: u64, contents: &[u8]) -> Result<Share> {
        let share = self.allocate(gpu, account, "a weight", bytes, WRITTEN_ONCE)?;
        write(gpu, &share.raw, contents);
        Ok(share)
    }

    /// The weights that executables hold: by what each is known, its bytes, and those of the copy that it has in common with
    /// other lanes.
    pub(super) fn weights(&self) -> Vec<(WeightKey, u64, Option<u64>)> {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let held = weights.iter().filter_map(|(key, held)| Some((key, held.upgrade()?)));
        held.map(|(key, held)| (key.clone(), held.raw.size(), held.common().map(|common| common.bytes))).collect()
    }

    /// Buffers of at least these sizes, one a pool, shared by every executable of the class: the lane runs one of them after the
    /// other. Larger demands make new buffers; executables made before keep the old ones.
    pub(super) fn arena(
        &self,
        gpu: &Gpu,
        account: &Arc<Account>,
        class: ArenaClass,
        pools: &[u64],
    ) -> Result<Vec<Share>> {
        let mut arenas = self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = arenas.entry(class).or_default();
        let share = |(index, bytes): (usize, &u64)| {
            let there = arena.get(index).and_then(Weak::upgrade).filter(|held| held.raw.size() >= *bytes);
            if let Some(held) = there {
                return Share::of(held, account);
            }
            let share = self.activations(gpu, account, *bytes)?;
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
        pools.iter().map(|bytes| self.activations(gpu, account, *bytes)).collect()
    }

    fn activations(&self, gpu: &Gpu, account: &Arc<Account>, bytes: u64) -> Result<Share> {
        let share = self.allocate(gpu, account, "activations", bytes, SCRATCH)?;
        gpu.clear_for_recordings(&share.raw);
        Ok(share)
    }

    /// What the buffers of an executable of `program` need that is not there, the parameters apart.
    pub(super) fn missing(&self, gpu: &Gpu, program: &Program) -> Needs {
        let weights = self.missing_weights(gpu, program);
        Needs { own: weights.own + self.missing_arena(program), ..weights }
    }

    fn missing_weights(&self, gpu: &Gpu, program: &Program) -> Needs {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = HashSet::new();
        let mut missing = Needs::default();
        for buffer in &program.buffers {
            match buffer {
                Buffer::Constant { tensor, storage, form } => {
                    let key = weight_key(tensor, *storage, form.as_ref());
                    let is_there = weights.get(&key).is_some_and(|held| held.strong_count() > 0);
                    if is_there || !counted.insert(key.clone()) {
                        continue;
                    }
                    let bytes = rounded(buffer.constant_bytes() as u64);
                    match gpu.shelf.as_ref().and_then(|shelf| Some((shelf, shelf.bytes_of(bytes)?))) {
                        Some((shelf, bytes)) => missing.common += if shelf.find(&key).is_some() { 0 } else { bytes },
                        None => missing.own += bytes,
                    }
                }
                Buffer::Table(words) => missing.own += rounded(4 * words.len() as u64),
                Buffer::Scratch { .. } => {}
            }
        }
        missing
    }

    fn missing_arena(&self, program: &Program) -> u64 {
        let pools = program.pool_bytes();
        let arenas = self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = ArenaClass::of(program).and_then(|class| arenas.get(&class));
        let is_missing = |(index, bytes): &(usize, &u64)| {
            let there = arena.and_then(|arena| arena.get(*index)?.upgrade());
            there.is_none_or(|held| held.raw.size() < **bytes)
        };
        pools.iter().enumerate().filter(is_missing).map(|(_, bytes)| rounded(*bytes)).sum()
    }
}

/// The size of a buffer for so many bytes.
pub(super) fn rounded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(STORAGE_BYTES_MIN)
}

/// What lanes have in common of a weight, complete before any of them reads it.
fn common_contents(gpu: &Gpu, place: ShelfPlace, bytes: u64, contents: &[u8]) -> Result<Contents> {
    match place {
        ShelfPlace::Host { alignment } => Ok(Contents::Host(Arc::new(HostBlock::new(contents, alignment)?))),
        ShelfPlace::Device => {
            let raw = gpu.buffer("a weight", bytes, WRITTEN_ONCE)?;
            write(gpu, &raw, contents);
            gpu.finish()?;
            Ok(Contents::Device(raw))
        }
        ShelfPlace::Native => {
            gpu.check_bytes("a weight", bytes)?;
            let device =
                NativeDevice::of(&gpu.device).ok_or_else(|| Error::internal("a device is none of the system's"))?;
            let native = device.buffer(bytes)?;
            let raw = refusals::guarded("a weight", || native.on(&gpu.device, WRITTEN_ONCE))??;
            write(gpu, &raw, contents);
            gpu.finish()?;
            Ok(Contents::Native(native))
        }
    }
}

/// Has all of `buffer` written with the next submission: `contents`, then zeros.
pub(super) fn write(gpu: &Gpu, buffer: &wgpu::Buffer, contents: &[u8]) {
    // Only an error of the device, which is told elsewhere, leaves nothing to write to.
    let bytes = std::num::NonZeroU64::new(buffer.size());
    if let Some(mut view) = bytes.and_then(|bytes| gpu.queue.write_buffer_with(buffer, 0, bytes)) {
        view.slice(..contents.len()).copy_from_slice(contents);
        view.slice(contents.len()..).fill(0);
    }
}

const WRITTEN_ONCE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
const SCRATCH: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

#[cfg(test)]
mod tests {
    use super::super::adapter::Adapter;
    use super::super::gpu::GpuOptions;
    use super::super::sharing::{ShareWeights, Sharing, Way};
    use super::*;

    fn contents_of(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let read = gpu.buffer("a copy", buffer.size(), usage).expect("there is memory");
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &read, 0, buffer.size());
        gpu.queue.submit([encoder.finish()]);
        read.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("it can be mapped"));
        gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("it is done");
        read.get_mapped_range(..).expect("it is mapped").to_vec()
    }

    /// By copies alone: a compiler of kernels is not needed.
    #[test]
    fn buffers_of_the_systems_device_outlive_the_lane_that_made_them() {
        for adapter in Adapter::all().iter().filter(|adapter| adapter.way_to_share() == Some(Way::Native)) {
            let sharing = Sharing::begin(adapter, ShareWeights::On, 3).expect("it has a way");
            let open = |index| {
                let options = GpuOptions { index, sharing: Some(&sharing), ..GpuOptions::default() };
                Gpu::open(adapter, &options).expect("a device")
            };
            let (maker, second, third) = (open(0), open(1), open(2));
            assert_eq!(NativeDevice::of(&maker.device), NativeDevice::of(&third.device));
            let contents: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
            let made = common_contents(&maker, ShelfPlace::Native, 100_352, &contents).expect("there is memory");
            let Contents::Native(native) = made else { panic!("it is the system's") };
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            let on = |gpu: &Gpu| native.on(&gpu.device, usage).expect("a buffer over it");
            let (first, twice) = (on(&second), on(&second));
            drop(maker);
            let found = contents_of(&second, &first);
            assert!(found[..100_000] == contents && found[100_000..].iter().all(|byte| *byte == 0), "{adapter:?}");
            drop(first);
            assert!(contents_of(&second, &twice) == found, "{adapter:?}");
            let last = on(&third);
            drop((twice, second, native));
            assert!(contents_of(&third, &last) == found, "{adapter:?}");
        }
    }
}
