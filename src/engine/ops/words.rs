//! Numbers as the 32-bit words that shaders take.

use crate::engine::ir::Storage;
use crate::error::{Error, Result};

/// `value` as a shader's word.
pub(super) fn word(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| too_large(&value))
}

/// `value` as a shader's signed word.
pub(super) fn signed(value: i64) -> Result<i32> {
    i32::try_from(value).map_err(|_| too_large(&value))
}

fn too_large(value: &dyn std::fmt::Display) -> Error {
    Error::resource_exhausted(format!("{value} elements pass a device's 32-bit indices"))
}

/// `value` as the words of an element that lies as `storage`.
pub(super) fn words_of(value: f64, storage: Storage) -> Vec<u32> {
    let halves = |bits: u64| vec![bits as u32, (bits >> 32) as u32];
    match storage {
        Storage::F32 => vec![(value as f32).to_bits()],
        Storage::F16 => vec![u32::from(half::f16::from_f64(value).to_bits())],
        Storage::I32 => vec![(value as i32).cast_unsigned()],
        Storage::U32 | Storage::Packed(_) => vec![value as u32],
        Storage::I64 => halves((value as i64).cast_unsigned()),
        Storage::U64 => halves(value as u64),
        Storage::F64 => halves(value.to_bits()),
    }
}
