//! Element conversion between host tensors and device storage.

use half::{bf16, f16};

use crate::engine::ir::{Packing, Storage};
use crate::error::{Error, Result};
use crate::tensor::small_float::{PowerRounding, Rounding};
use crate::tensor::{DType, Shape, Tensor};

/// `tensor`'s elements as they lie on the device, padded to whole words.
///
/// # Errors
/// `INVALID_ARGUMENT` when a 64-bit integer does not fit 32 bits, `INTERNAL` for a pair that no profile gives.
pub(super) fn to_device(tensor: &Tensor, storage: Storage, target: &mut Vec<u8>) -> Result<()> {
    target.clear();
    match (tensor.dtype(), storage) {
        (DType::F32, Storage::F32)
        | (DType::F16, Storage::F16)
        | (DType::I32, Storage::I32)
        | (DType::U32, Storage::U32)
        | (DType::I64, Storage::I64)
        | (DType::U64, Storage::U64)
        | (DType::F64, Storage::F64) => target.extend_from_slice(tensor.bytes()),
        (dtype, Storage::Packed(packing)) if Packing::of(dtype) == Some(packing) => {
            extend(target, packing.pack(tensor.bytes()));
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
    target.resize(target.len().next_multiple_of(4).max(4), 0);
    Ok(())
}

fn extend<T: bytemuck::Pod>(target: &mut Vec<u8>, values: impl Iterator<Item = T>) {
    for value in values {
        target.extend_from_slice(bytemuck::bytes_of(&value));
    }
}

/// The tensor that `bytes`, lying as `storage`, stand for.
///
/// # Errors
/// `INTERNAL` for a pair that no profile gives, or too few bytes.
pub(super) fn from_device(bytes: &[u8], storage: Storage, dtype: DType, shape: &Shape) -> Result<Tensor> {
    let length = shape.elements() * storage.bytes();
    let bytes = bytes.get(..length).ok_or_else(|| Error::internal("a read-back is too short"))?;
    fn words<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> impl Iterator<Item = T> + '_ {
        bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned)
    }
    let shape = shape.clone();
    match (storage, dtype) {
        (Storage::F32, DType::F32)
        | (Storage::F16, DType::F16)
        | (Storage::I32, DType::I32)
        | (Storage::U32, DType::U32)
        | (Storage::I64, DType::I64)
        | (Storage::U64, DType::U64)
        | (Storage::F64, DType::F64) => Tensor::from_bytes(dtype, shape, bytes.to_vec()),
        (Storage::F32, DType::F16) => Tensor::from_vec(shape, words::<f32>(bytes).map(f16::from_f32).collect()),
        (Storage::F32, DType::BF16) => Tensor::from_vec(shape, words::<f32>(bytes).map(bf16::from_f32).collect()),
        (Storage::F32, small) if small.is_small_float() => {
            // What stored them has rounded: infinities are meant.
            // The least power of two is subnormal, which an adapter may store as 0: only saturation brings that back.
            let exact = Rounding { saturate: small == DType::F8E8M0, power: PowerRounding::Nearest };
            Tensor::from_rounded(small, shape, &words::<f32>(bytes).map(f64::from).collect::<Vec<_>>(), exact)
        }
        (Storage::I32, DType::I4 | DType::I2) | (Storage::U32, DType::U4 | DType::U2) => {
            Tensor::from_bytes(dtype, shape, words::<u32>(bytes).map(|v| v as u8).collect::<Vec<u8>>())
        }
        (Storage::I32, DType::I8) => Tensor::from_vec(shape, words::<i32>(bytes).map(|v| v as i8).collect()),
        (Storage::I32, DType::I16) => Tensor::from_vec(shape, words::<i32>(bytes).map(|v| v as i16).collect()),
        (Storage::I32, DType::I64) => Tensor::from_vec(shape, words::<i32>(bytes).map(i64::from).collect()),
        (Storage::U32, DType::U8) => Tensor::from_vec(shape, words::<u32>(bytes).map(|v| v as u8).collect()),
        (Storage::U32, DType::U16) => Tensor::from_vec(shape, words::<u32>(bytes).map(|v| v as u16).collect()),
        (Storage::U32, DType::Bool) => {
            Tensor::from_bools(shape, words::<u32>(bytes).map(|v| u8::from(v != 0)).collect())
        }
        (storage, dtype) => Err(Error::internal(format!("{storage:?} on a device is no {dtype}"))),
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
        let mut bytes = Vec::new();
        for (tensor, storage) in cases {
            to_device(&tensor, storage, &mut bytes).expect("convertible");
            assert_eq!(bytes.len() % 4, 0);
            let back = from_device(&bytes, storage, tensor.dtype(), tensor.shape()).expect("convertible");
            assert_eq!(back, tensor);
        }
    }

    #[test]
    fn wide_integers_are_refused() {
        let tensor = Tensor::scalar(i64::MAX);
        assert!(to_device(&tensor, Storage::I32, &mut Vec::new()).is_err());
    }
}
