//! Element conversion between host tensors and device storage.

use bytes::{Bytes, BytesMut};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::engine::ir::{Packing, Storage};
use crate::error::{Error, Result};
use crate::tensor::small_float::{PowerRounding, Rounding};
use crate::tensor::{DType, Shape, Tensor};

/// Whether elements of `dtype` lie on the device as they do on the host.
fn lies_equally(dtype: DType, storage: Storage) -> bool {
    matches!(
        (dtype, storage),
        (DType::F32, Storage::F32)
            | (DType::F16, Storage::F16)
            | (DType::I32, Storage::I32)
            | (DType::U32, Storage::U32)
            | (DType::I64, Storage::I64)
            | (DType::U64, Storage::U64)
            | (DType::F64, Storage::F64)
    )
}

/// `tensor`'s elements as they lie on the device: its own bytes where they lie equally, else converted into `scratch`.
///
/// # Errors
/// `INVALID_ARGUMENT` when a 64-bit integer does not fit 32 bits, `INTERNAL` for a pair that no profile gives.
pub(super) fn to_device<'a>(tensor: &'a Tensor, storage: Storage, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    if lies_equally(tensor.dtype(), storage) {
        return Ok(tensor.bytes());
    }
    scratch.clear();
    convert(tensor, storage, scratch)?;
    Ok(scratch)
}

fn convert(tensor: &Tensor, storage: Storage, target: &mut Vec<u8>) -> Result<()> {
    match (tensor.dtype(), storage) {
        (dtype, Storage::Packed(packing)) if Packing::of(dtype) == Some(packing) => {
            extend(target, packing.pack(tensor.bytes()));
        }
        (DType::F32, Storage::F16) => {
            let values = tensor.values::<f32>()?;
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            target.extend_from_slice(bytemuck::cast_slice(&halves));
        }
        (DType::F16, Storage::F32) => extend(target, tensor.values::<f16>()?.iter().map(|v| v.to_f32())),
        (DType::BF16, Storage::F32) => extend(target, tensor.values::<bf16>()?.iter().map(|v| v.to_f32())),
        (DType::I8 | DType::I4 | DType::I2, Storage::I32) => {
            extend(target, tensor.values::<i8>()?.iter().map(|v| i32::from(*v)))
        }
        (DType::I16, Storage::I32) => extend(target, tensor.values::<i16>()?.iter().map(|v| i32::from(*v))),
        (DType::U8 | DType::U4 | DType::U2 | DType::Bool, Storage::U32) => {
            extend(target, tensor.values::<u8>()?.iter().map(|v| u32::from(*v)));
        }
        (DType::U16, Storage::U32) => extend(target, tensor.values::<u16>()?.iter().map(|v| u32::from(*v))),
        (small, Storage::F32) if small.is_small_float() => extend(target, tensor.to_f32s()?.iter().copied()),
        (DType::I64, Storage::I32) => {
            let values = tensor.values::<i64>()?;
            if let Some(value) = values.iter().find(|v| i32::try_from(**v).is_err()) {
                return Err(Error::invalid_argument(format!(
                    "the 64-bit integer {value} does not fit the 32 bits that this device computes in"
                )));
            }
            extend(target, values.iter().map(|v| *v as i32));
        }
        (dtype, storage) => return Err(Error::internal(format!("{dtype} cannot lie as {storage:?} on a device"))),
    }
    Ok(())
}

fn extend<T: bytemuck::Pod>(target: &mut Vec<u8>, values: impl Iterator<Item = T>) {
    for value in values {
        target.extend_from_slice(bytemuck::bytes_of(&value));
    }
}

/// The tensor that `bytes`, lying as `storage`, stand for, in the memory of `pool`: the one used before, if nobody holds a
/// tensor in it any more.
///
/// # Errors
/// `INTERNAL` for a pair that no profile gives, or too few bytes.
pub(super) fn from_device(
    bytes: &[u8],
    storage: Storage,
    dtype: DType,
    shape: &Shape,
    pool: &mut BytesMut,
) -> Result<Tensor> {
    let length = shape.elements() * storage.bytes();
    let bytes = bytes.get(..length).ok_or_else(|| Error::internal("a read-back is too short"))?;
    if bytes.is_empty() {
        return Tensor::from_bytes(dtype, shape.clone(), Bytes::new());
    }
    let needed = shape.elements() * dtype.bytes();
    if !pool.try_reclaim(needed) {
        *pool = BytesMut::with_capacity(needed);
    }
    fn words<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> impl ExactSizeIterator<Item = T> + '_ {
        bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned)
    }
    match (storage, dtype) {
        (storage, dtype) if lies_equally(dtype, storage) => pool.extend_from_slice(bytes),
        (Storage::F16, DType::F32) => {
            let halves: Vec<f16> = bytes.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]])).collect();
            let mut values = vec![0.0f32; halves.len()];
            halves.convert_to_f32_slice(&mut values);
            pool.extend_from_slice(bytemuck::cast_slice(&values));
        }
        (Storage::F32, DType::F16) => put(pool, words::<f32>(bytes).map(f16::from_f32)),
        (Storage::F32, DType::BF16) => put(pool, words::<f32>(bytes).map(bf16::from_f32)),
        (Storage::F32, small) if small.is_small_float() => {
            // What stored them has rounded: infinities are meant.
            // The least power of two is subnormal, which an adapter may store as 0: only saturation brings that back.
            let exact = Rounding { saturate: small == DType::F8E8M0, power: PowerRounding::Nearest };
            let values: Vec<f64> = words::<f32>(bytes).map(f64::from).collect();
            return Tensor::from_rounded(small, shape.clone(), &values, exact);
        }
        (Storage::I32, DType::I4 | DType::I2) | (Storage::U32, DType::U4 | DType::U2 | DType::U8) => {
            put(pool, words::<u32>(bytes).map(|v| v as u8));
        }
        (Storage::I32, DType::I8) => put(pool, words::<i32>(bytes).map(|v| v as i8)),
        (Storage::I32, DType::I16) => put(pool, words::<i32>(bytes).map(|v| v as i16)),
        (Storage::I32, DType::I64) => put(pool, words::<i32>(bytes).map(i64::from)),
        (Storage::U32, DType::U16) => put(pool, words::<u32>(bytes).map(|v| v as u16)),
        (Storage::U32, DType::Bool) => put(pool, words::<u32>(bytes).map(|v| u8::from(v != 0))),
        (storage, dtype) => return Err(Error::internal(format!("{storage:?} on a device is no {dtype}"))),
    }
    Tensor::from_bytes(dtype, shape.clone(), pool.split().freeze())
}

/// Appends `values`, for which there is room.
fn put<T: bytemuck::NoUninit>(pool: &mut BytesMut, values: impl ExactSizeIterator<Item = T>) {
    pool.resize(values.len() * size_of::<T>(), 0);
    for (place, value) in pool.chunks_exact_mut(size_of::<T>()).zip(values) {
        place.copy_from_slice(bytemuck::bytes_of(&value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_types_go_there_and_back() {
        let cases = [
            (Tensor::from_vec([3], vec![-1i64, 0, 7]).expect("three"), Storage::I32),
            (Tensor::from_bools([2], vec![0, 1]).expect("two"), Storage::U32),
            (Tensor::from_vec([1], vec![f16::from_f32(1.5)]).expect("one"), Storage::F32),
            (Tensor::from_vec([3], vec![f16::ONE; 3]).expect("three"), Storage::F16),
        ];
        let (mut scratch, mut pool) = (Vec::new(), BytesMut::new());
        for (tensor, storage) in cases {
            let bytes = to_device(&tensor, storage, &mut scratch).expect("convertible");
            let back = from_device(bytes, storage, tensor.dtype(), tensor.shape(), &mut pool).expect("convertible");
            assert_eq!(back, tensor);
        }
    }

    #[test]
    fn memory_serves_again_once_it_is_free() {
        let (bytes, mut pool) = ([7u8; 16], BytesMut::new());
        let mut read = || from_device(&bytes, Storage::F32, DType::F32, &[4].into(), &mut pool).expect("four floats");
        let place = |tensor: &Tensor| tensor.bytes().as_ptr();
        let first = read();
        let second = read();
        assert_ne!(place(&first), place(&second), "the first is still held");
        let was = place(&second);
        drop(second);
        assert_eq!(place(&read()), was);
        assert_eq!(first.bytes().as_ref(), bytes);
    }

    #[test]
    fn wide_integers_are_refused() {
        let tensor = Tensor::scalar(i64::MAX);
        assert!(to_device(&tensor, Storage::I32, &mut Vec::new()).is_err());
    }
}
