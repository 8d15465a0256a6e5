//! Tensor → TensorProto.

use half::{bf16, f16};

use super::proto::tensorflow::{DataType, TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Where the elements go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The field of the element type: what most clients read.
    Typed,
    /// `tensor_content`, without conversion.
    Content,
}

/// The number that stands for `dtype` on the wire: `DT_INVALID` for types that this protocol cannot carry here.
pub(in crate::api) fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::DtBool,
        DType::U8 => DataType::DtUint8,
        DType::I8 => DataType::DtInt8,
        DType::U16 => DataType::DtUint16,
        DType::I16 => DataType::DtInt16,
        DType::U32 => DataType::DtUint32,
        DType::I32 => DataType::DtInt32,
        DType::U64 => DataType::DtUint64,
        DType::I64 => DataType::DtInt64,
        DType::F16 => DataType::DtHalf,
        DType::BF16 => DataType::DtBfloat16,
        DType::F32 => DataType::DtFloat,
        DType::F64 => DataType::DtDouble,
        DType::Complex64 => DataType::DtComplex64,
        DType::Complex128 => DataType::DtComplex128,
        DType::String => DataType::DtString,
        _ => DataType::DtInvalid,
    }
}

/// `tensor` as a message.
///
/// # Errors
/// `UNIMPLEMENTED` for integers below 8 bits, floats of 8 bits or fewer, sequences and optional values.
pub fn encode(tensor: &Tensor, form: Form) -> Result<TensorProto> {
    let dim = tensor.shape().iter().map(|d| Dim { size: *d as i64, name: String::new() }).collect();
    let mut proto = TensorProto {
        dtype: data_type(tensor.dtype()).into(),
        tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        ..TensorProto::default()
    };
    if data_type(tensor.dtype()) == DataType::DtInvalid {
        return Err(Error::unimplemented(format!("{} values cannot be sent", tensor.dtype())));
    }
    if form == Form::Content && tensor.dtype() != DType::String {
        proto.tensor_content = tensor.bytes().clone();
        return Ok(proto);
    }
    match tensor.dtype() {
        DType::F32 => proto.float_val = tensor.values::<f32>()?.into_owned(),
        DType::F64 => proto.double_val = tensor.values::<f64>()?.into_owned(),
        DType::I32 => proto.int_val = tensor.values::<i32>()?.into_owned(),
        DType::U8 => proto.int_val = tensor.values::<u8>()?.iter().map(|v| i32::from(*v)).collect(),
        DType::I8 => proto.int_val = tensor.values::<i8>()?.iter().map(|v| i32::from(*v)).collect(),
        DType::U16 => proto.int_val = tensor.values::<u16>()?.iter().map(|v| i32::from(*v)).collect(),
        DType::I16 => proto.int_val = tensor.values::<i16>()?.iter().map(|v| i32::from(*v)).collect(),
        DType::U32 => proto.uint32_val = tensor.values::<u32>()?.into_owned(),
        DType::U64 => proto.uint64_val = tensor.values::<u64>()?.into_owned(),
        DType::I64 => proto.int64_val = tensor.values::<i64>()?.into_owned(),
        DType::Bool => proto.bool_val = tensor.values::<u8>()?.iter().map(|v| *v != 0).collect(),
        DType::F16 => proto.half_val = tensor.values::<f16>()?.iter().map(|v| i32::from(v.to_bits())).collect(),
        DType::BF16 => proto.half_val = tensor.values::<bf16>()?.iter().map(|v| i32::from(v.to_bits())).collect(),
        DType::String => proto.string_val = tensor.strings().to_vec(),
        // No element type of ours is complex: the bytes go as they are.
        DType::Complex64 | DType::Complex128 => proto.tensor_content = tensor.bytes().clone(),
        _ => return Err(Error::internal(format!("{} has no field", tensor.dtype()))),
    }
    Ok(proto)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decode::decode;
    use super::*;
    use crate::api::budget::{Budget, Ledger};

    proptest! {
        #[test]
        fn tensors_survive_the_wire(values in proptest::collection::vec(any::<i16>(), 0..40), content: bool) {
            let ledger = Ledger::open(&Budget::new(1 << 20));
            let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
            let form = if content { Form::Content } else { Form::Typed };
            for dtype in [DType::Bool, DType::U8, DType::I8, DType::I16, DType::U32, DType::I32, DType::U64, DType::I64,
                DType::F16, DType::BF16, DType::F32, DType::F64] {
                let tensor = Tensor::from_f64s(dtype, [values.len()], &wide).expect("as many");
                let proto = encode(&tensor, form).expect("a known type");
                prop_assert_eq!(decode("x", proto, &ledger).expect("it parses"), tensor);
            }
        }
    }
}
