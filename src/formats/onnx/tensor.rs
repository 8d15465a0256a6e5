//! TensorProto ↔ [`Tensor`].

use bytes::Bytes;

use super::dtype;
use super::external::ExternalFiles;
use super::limits;
use super::packed;
use super::proto::TensorProto;
use super::proto::tensor_proto::DataLocation;
use crate::error::{Error, Result};
use crate::tensor::{DType, Element, Shape, Tensor};

/// `tensor`, called `name`, as a message.
pub(super) fn to_proto(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect(),
        data_type: dtype::code(tensor.dtype()),
        name: name.to_owned(),
        raw_data: (tensor.dtype() != DType::String).then(|| packed::pack(tensor)),
        string_data: tensor.strings().to_vec(),
        ..Default::default()
    }
}

/// The tensor that `proto` says, its external data found in `files`.
///
/// # Errors
/// `INVALID_ARGUMENT` for contents that do not fit, `UNIMPLEMENTED` for 6-bit floats, and those of reading external data,
/// all naming the tensor.
pub(super) fn from_proto(proto: &TensorProto, files: Option<&mut ExternalFiles>) -> Result<Tensor> {
    read(proto, files).map_err(|e| e.at(format_args!("tensor {:?}", proto.name)))
}

fn read(proto: &TensorProto, files: Option<&mut ExternalFiles>) -> Result<Tensor> {
    let dtype = dtype::from_code(proto.data_type)?;
    let shape = shape(&proto.dims)?;
    if proto.segment.is_some() {
        return Err(Error::unimplemented("tensors in segments are not supported"));
    }
    if proto.data_location() == DataLocation::External {
        let files = files.ok_or_else(|| Error::invalid_argument("external data is not allowed here"))?;
        let bytes = byte_length(dtype, &shape)?;
        return from_raw(dtype, shape, files.read(&proto.external_data, bytes)?);
    }
    match &proto.raw_data {
        Some(raw) if dtype != DType::String => from_raw(dtype, shape, raw.clone()),
        _ => from_typed(dtype, shape, proto),
    }
}

/// The shape of these extents.
///
/// # Errors
/// `INVALID_ARGUMENT` for negative extents, and ranks and sizes beyond any use.
pub(super) fn shape(dims: &[i64]) -> Result<Shape> {
    let known: Option<Vec<u64>> = dims.iter().map(|d| u64::try_from(*d).ok()).collect();
    match known.filter(|known| limits::allows(known)) {
        Some(known) => Ok(Shape::new(known.into_iter().map(|d| d as usize).collect::<Vec<_>>())),
        None => {
            let shown = &dims[..dims.len().min(limits::MAX_RANK)];
            Err(Error::invalid_argument(format!(
                "{} extents {shown:?} are negative, too many or too large",
                dims.len()
            )))
        }
    }
}

fn byte_length(dtype: DType, shape: &Shape) -> Result<usize> {
    let bytes = shape.elements().checked_mul(dtype.bits()).map(|b| b.div_ceil(8)).filter(|_| dtype != DType::String);
    bytes.ok_or_else(|| Error::invalid_argument(format!("{dtype} of shape {shape} cannot be raw data")))
}

fn from_raw(dtype: DType, shape: Shape, raw: Bytes) -> Result<Tensor> {
    if dtype.bits() < 8 && dtype != DType::String {
        return packed::unpack(dtype, shape, &raw);
    }
    if dtype == DType::Bool && raw.iter().any(|b| *b > 1) {
        let bools: Vec<u8> = raw.iter().map(|b| u8::from(*b != 0)).collect();
        return Tensor::from_bools(shape, bools);
    }
    Tensor::from_bytes(dtype, shape, raw)
}

fn from_typed(dtype: DType, shape: Shape, proto: &TensorProto) -> Result<Tensor> {
    use half::{bf16, f16};
    let narrow = &proto.int32_data;
    match dtype {
        DType::F32 => typed(shape, &proto.float_data, |v| v),
        DType::F64 => typed(shape, &proto.double_data, |v| v),
        DType::I64 => typed(shape, &proto.int64_data, |v| v),
        DType::U64 => typed(shape, &proto.uint64_data, |v| v),
        DType::U32 => typed(shape, &proto.uint64_data, |v| v as u32),
        DType::I32 => typed(shape, narrow, |v| v),
        DType::I16 => typed(shape, narrow, |v| v as i16),
        DType::I8 => typed(shape, narrow, |v| v as i8),
        DType::U16 => typed(shape, narrow, |v| v as u16),
        DType::U8 => typed(shape, narrow, |v| v as u8),
        DType::F16 => typed(shape, narrow, |v| f16::from_bits(v as u16)),
        DType::BF16 => typed(shape, narrow, |v| bf16::from_bits(v as u16)),
        // Several elements lie in each entry, as they do in a byte of raw data.
        DType::U2 | DType::I2 | DType::U4 | DType::I4 | DType::F4E2M1 => {
            packed::unpack(dtype, shape, &narrow.iter().map(|v| *v as u8).collect::<Vec<u8>>())
        }
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ | DType::F8E8M0 => {
            Tensor::from_bytes(dtype, shape, narrow.iter().map(|v| *v as u8).collect::<Vec<u8>>())
        }
        DType::Bool => Tensor::from_bools(shape, narrow.iter().map(|v| u8::from(*v != 0)).collect()),
        DType::String => Tensor::from_strings(shape, proto.string_data.clone()),
        // Pairs lie flat in the field of their parts, as they do in memory.
        DType::Complex64 => Tensor::from_bytes(dtype, shape, bytemuck::cast_slice(&proto.float_data).to_vec()),
        DType::Complex128 => Tensor::from_bytes(dtype, shape, bytemuck::cast_slice(&proto.double_data).to_vec()),
        DType::Sequence | DType::Optional => Err(Error::internal(format!("{dtype} is no element type"))),
    }
}

fn typed<F: Copy, T: Element>(shape: Shape, field: &[F], convert: impl Fn(F) -> T) -> Result<Tensor> {
    Tensor::from_vec(shape, field.iter().map(|v| convert(*v)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::proto::tensor_proto::DataType;
    use super::*;

    #[test]
    fn half_floats_and_bools_come_from_the_int32_field() {
        let half = TensorProto {
            dims: vec![2],
            data_type: DataType::Float16 as i32,
            int32_data: vec![0x3c00, 0xc000],
            ..Default::default()
        };
        let read = from_proto(&half, None).expect("two halves");
        assert_eq!(read.to_f64s().expect("real"), [1.0, -2.0]);
        let flags = TensorProto {
            dims: vec![3],
            data_type: DataType::Bool as i32,
            raw_data: Some(Bytes::from_static(&[0, 1, 7])),
            ..Default::default()
        };
        assert_eq!(from_proto(&flags, None).expect("three flags").bytes().as_ref(), [0, 1, 1]);
    }

    #[test]
    fn claimed_sizes_must_be_there() {
        for dims in [vec![i64::MAX], vec![1 << 40, 1 << 40], vec![0, 1 << 40, 1 << 40], vec![-1], vec![2], vec![1; 65]]
        {
            for data_type in [DataType::Float, DataType::String, DataType::Bool, DataType::Complex128] {
                let claimed = TensorProto { dims: dims.clone(), data_type: data_type as i32, ..Default::default() };
                assert!(from_proto(&claimed, None).is_err(), "{dims:?}");
            }
        }
    }
}
