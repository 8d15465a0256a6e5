//! Weights that the lanes of an adapter have in common: one copy in memory, a buffer over it on every lane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use xxhash_rust::xxh3::xxh3_128;

use super::budget::{Account, Allocation, Use};
use super::host_block::HostBlock;
use super::native::NativeBuffer;
use super::vulkan;
use crate::engine::ir::{Form, Storage};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Smaller weights each lane has for itself: whole pages and an import for each would cost more than copies do.
const COMMON_BYTES_MIN: u64 = 16 << 10;

/// Equal contents lying equally are one weight.
pub(super) type WeightKey = (u128, DType, usize, Storage, Option<Form>);

/// What a tensor that lies so is known by.
pub(super) fn weight_key(tensor: &Tensor, storage: Storage, form: Option<&Form>) -> WeightKey {
    (xxh3_128(tensor.bytes()), tensor.dtype(), tensor.shape().elements(), storage, form.cloned())
}

/// Where a weight in common is.
#[derive(Debug)]
pub(super) enum Contents {
    /// In host memory that devices import.
    Host(Arc<HostBlock>),
    /// In a buffer of the device whose queues the lanes are.
    Device(wgpu::Buffer),
    /// In a buffer of the system's device that those of the lanes are made of.
    Native(NativeBuffer),
}

/// A weight that every lane may have a buffer over.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) allocation: Allocation,
    contents: Contents,
    /// Bytes that it takes, however many lanes use it.
    pub(super) bytes: u64,
}

impl Common {
    /// A buffer of `bytes` bytes over it on `device`, which must be one of those that share.
    pub(super) fn buffer(&self, device: &wgpu::Device, bytes: u64) -> Result<wgpu::Buffer> {
        match &self.contents {
            Contents::Host(block) => vulkan::import(device, block, bytes),
            Contents::Device(buffer) => vulkan::alias(device, buffer),
            Contents::Native(buffer) => buffer.on(device, wgpu::BufferUsages::STORAGE),
        }
    }

    /// Whether it stays when the device is lost.
    pub(super) fn outlives_devices(&self) -> bool {
        matches!(self.contents, Contents::Host(_))
    }
}

/// Which memory a shelf is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The host's, in blocks that begin at multiples of so many bytes.
    Host { alignment: usize },
    /// The device's, whose queues the lanes are.
    Device,
    /// That of the system's device, which those of the lanes are made of.
    Native,
}

/// The weights in common.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) place: Place,
    weights: Mutex<HashMap<WeightKey, Weak<Common>>>,
}

impl Shelf {
    /// An empty one.
    pub(super) fn new(place: Place) -> Self {
        Self { place, weights: Mutex::default() }
    }

    /// Bytes that a weight of `bytes` bytes takes here; `None` for one that each lane has for itself.
    pub(super) fn bytes_of(&self, bytes: u64) -> Option<u64> {
        let taken = match self.place {
            Place::Host { alignment } => HostBlock::size_of(bytes, alignment),
            Place::Device | Place::Native => bytes,
        };
        (bytes >= COMMON_BYTES_MIN).then_some(taken)
    }

    /// The weight, if any lane uses it.
    pub(super) fn find(&self, key: &WeightKey) -> Option<Arc<Common>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }

    /// The weight of so many bytes, made now if it is not there. What is new is taken from `account`, with a first use that ends
    /// when it is dropped.
    pub(super) fn put(
        &self,
        key: &WeightKey,
        account: &Arc<Account>,
        bytes: u64,
        make: impl FnOnce(Place) -> Result<Contents>,
    ) -> Result<(Arc<Common>, Option<Use>)> {
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(common) = weights.get(key).and_then(Weak::upgrade) {
            return Ok((common, None));
        }
        let bytes = self.bytes_of(bytes).ok_or_else(|| Error::internal(format!("{bytes} bytes are none in common")))?;
        let (allocation, first) = account.take(bytes)?;
        let common = Arc::new(Common { allocation, contents: make(self.place)?, bytes });
        weights.retain(|_, common| common.strong_count() > 0);
        weights.insert(key.clone(), Arc::downgrade(&common));
        Ok((common, Some(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::MemoryBudget;
    use super::*;
    use crate::error::Code;

    #[test]
    fn what_is_common_is_taken_once_and_given_back() {
        let (budget, shelf) = (MemoryBudget::new(Some(1 << 20)), Shelf::new(Place::Host { alignment: 4096 }));
        let (a, b) = (budget.account("a"), budget.account("b"));
        assert_eq!((shelf.bytes_of(COMMON_BYTES_MIN - 1), shelf.bytes_of(70_000)), (None, Some(73_728)));
        assert_eq!(Shelf::new(Place::Device).bytes_of(70_000), Some(70_000));
        let key: WeightKey = (7, DType::F32, 17_500, Storage::F32, None);
        let block = |_| Ok(Contents::Host(Arc::new(HostBlock::new(&[1; 70_000], 4096)?)));
        let (first, first_use) = shelf.put(&key, &a, 70_000, block).expect("there is room");
        let (second, second_use) = shelf.put(&key, &b, 70_000, |_| unreachable_twice()).expect("it is there");
        assert!(Arc::ptr_eq(&first, &second) && first_use.is_some() && second_use.is_none());
        let held = b.hold(&second.allocation).expect("within the budget");
        let used = budget.in_use();
        assert_eq!((used.allocated, used.accounts[0].held, used.accounts[1].held), (73_728, 73_728, 73_728));
        drop((first, first_use, second, held));
        assert!(shelf.find(&key).is_none());
        assert_eq!(budget.in_use().allocated, 0);
        let refused = shelf.put(&key, &a, 2 << 20, |_| unreachable_twice()).expect_err("more than there is");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        // What cannot be made takes nothing.
        assert!(shelf.put(&key, &a, 70_000, |_| unreachable_twice()).is_err());
        assert_eq!((budget.in_use().allocated, budget.in_use().accounts[0].held), (0, 0));
    }

    fn unreachable_twice() -> Result<Contents> {
        Err(Error::internal("made although it is there, or there is no room"))
    }
}
