//! Faults on demand, to test what becomes of callers.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// What a lane pretends from some moment on.
#[derive(Debug, Default)]
pub struct Faults {
    hangs: AtomicBool,
    corrupts: AtomicBool,
    buries: AtomicBool,
}

impl Faults {
    /// Nothing that is submitted ends any more.
    pub fn hang(&self) {
        self.hangs.store(true, Ordering::Release);
    }

    /// The device computes wrong.
    pub fn corrupt(&self) {
        self.corrupts.store(true, Ordering::Release);
    }

    /// No device opens in the place of this one.
    pub fn bury(&self) {
        self.buries.store(true, Ordering::Release);
    }

    /// See [`Faults::bury`].
    pub fn buries(&self) -> bool {
        self.buries.load(Ordering::Acquire)
    }

    pub(super) fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Acquire)
    }

    /// Puts into `outputs` what a device that computes wrong would give.
    pub(super) fn spoil(&self, outputs: &mut [Tensor]) -> Result<()> {
        if self.corrupts.load(Ordering::Acquire) {
            for output in outputs {
                *output = corrupted(output)?;
            }
        }
        Ok(())
    }
}

/// `tensor` with the second highest bit of each element flipped: the highest of a float's exponent. What has fewer bits
/// stays within them.
fn corrupted(tensor: &Tensor) -> Result<Tensor> {
    let (dtype, mut bytes) = (tensor.dtype(), tensor.bytes().to_vec());
    let mask = if dtype == DType::Bool || dtype.bits() < 8 { 1 } else { 1 << 6 };
    let size = dtype.bytes().max(1);
    bytes.iter_mut().skip(size - 1).step_by(size).for_each(|byte| *byte ^= mask);
    Tensor::from_bytes(dtype, tensor.shape().clone(), bytes)
}
