//! ONNX's element type codes.

use super::proto::tensor_proto::DataType;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// The element type of `code`.
///
/// # Errors
/// `UNIMPLEMENTED` for 6-bit floats; `INVALID_ARGUMENT` for codes that do not exist.
pub(super) fn from_code(code: i32) -> Result<DType> {
    let known = DataType::try_from(code)
        .ok()
        .filter(|t| *t != DataType::Undefined)
        .ok_or_else(|| Error::invalid_argument(format!("element type {code} does not exist")))?;
    Ok(match known {
        DataType::Float => DType::F32,
        DataType::Uint8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::Uint16 => DType::U16,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::String => DType::String,
        DataType::Bool => DType::Bool,
        DataType::Float16 => DType::F16,
        DataType::Double => DType::F64,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Complex64 => DType::Complex64,
        DataType::Complex128 => DType::Complex128,
        DataType::Bfloat16 => DType::BF16,
        DataType::Uint2 => DType::U2,
        DataType::Int2 => DType::I2,
        DataType::Uint4 => DType::U4,
        DataType::Int4 => DType::I4,
        DataType::Float4e2m1 => DType::F4E2M1,
        DataType::Float8e4m3fn => DType::F8E4M3FN,
        DataType::Float8e4m3fnuz => DType::F8E4M3FNUZ,
        DataType::Float8e5m2 => DType::F8E5M2,
        DataType::Float8e5m2fnuz => DType::F8E5M2FNUZ,
        DataType::Float8e8m0 => DType::F8E8M0,
        other => return Err(Error::unimplemented(format!("element type {} is not supported", other.as_str_name()))),
    })
}

/// The code of `dtype`; that of nothing for what is no tensor.
pub(super) fn code(dtype: DType) -> i32 {
    let known = match dtype {
        DType::F32 => DataType::Float,
        DType::U8 => DataType::Uint8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::Uint16,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::String => DataType::String,
        DType::Bool => DataType::Bool,
        DType::F16 => DataType::Float16,
        DType::F64 => DataType::Double,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::Complex64 => DataType::Complex64,
        DType::Complex128 => DataType::Complex128,
        DType::BF16 => DataType::Bfloat16,
        DType::U2 => DataType::Uint2,
        DType::I2 => DataType::Int2,
        DType::U4 => DataType::Uint4,
        DType::I4 => DataType::Int4,
        DType::F4E2M1 => DataType::Float4e2m1,
        DType::F8E4M3FN => DataType::Float8e4m3fn,
        DType::F8E4M3FNUZ => DataType::Float8e4m3fnuz,
        DType::F8E5M2 => DataType::Float8e5m2,
        DType::F8E5M2FNUZ => DataType::Float8e5m2fnuz,
        DType::F8E8M0 => DataType::Float8e8m0,
        DType::Sequence | DType::Optional => DataType::Undefined,
    };
    known as i32
}
