//! TensorProto → Tensor, with TensorFlow's own rules.

use bytes::Bytes;
use half::{bf16, f16};

use prost::Message as _;

use super::proto::serving::PredictRequest;
use super::proto::tensorflow::{DataType, TensorProto, TensorShapeProto};
use super::weigh::weigh;
use crate::api::budget::Ledger;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// The element type that a number on the wire stands for.
pub(in crate::api) fn dtype(number: i32) -> Option<DType> {
    Some(match DataType::try_from(number).ok()? {
        DataType::DtFloat => DType::F32,
        DataType::DtDouble => DType::F64,
        DataType::DtInt32 => DType::I32,
        DataType::DtUint8 => DType::U8,
        DataType::DtInt16 => DType::I16,
        DataType::DtInt8 => DType::I8,
        DataType::DtString => DType::String,
        DataType::DtComplex64 => DType::Complex64,
        DataType::DtInt64 => DType::I64,
        DataType::DtBool => DType::Bool,
        DataType::DtBfloat16 => DType::BF16,
        DataType::DtUint16 => DType::U16,
        DataType::DtComplex128 => DType::Complex128,
        DataType::DtHalf => DType::F16,
        DataType::DtUint32 => DType::U32,
        DataType::DtUint64 => DType::U64,
        _ => return None,
    })
}

/// Memory for one string's handle.
const STRING_BYTES: u64 = 32;

/// The tensor that `proto`, the input called `alias`, stands for. What must be allocated is taken from `ledger` first.
///
/// # Errors
/// `INVALID_ARGUMENT` `tensor parsing error: ALIAS` where TensorFlow cannot parse it, `RESOURCE_EXHAUSTED` when it claims
/// more than the ledger gives.
pub(in crate::api) fn decode(alias: &str, proto: TensorProto, ledger: &Ledger) -> Result<Tensor> {
    let wrong = || Error::invalid_argument(format!("tensor parsing error: {alias}"));
    let dtype = dtype(proto.dtype).ok_or_else(wrong)?;
    let shape = shape(proto.tensor_shape.as_ref()).ok_or_else(wrong)?;
    let count = shape.elements();
    if dtype == DType::String {
        return strings(shape, count, proto, ledger);
    }
    let bytes = count.checked_mul(dtype.bytes()).ok_or_else(wrong)?;
    if !proto.tensor_content.is_empty() {
        if proto.tensor_content.len() != bytes {
            return Err(wrong());
        }
        let content = if dtype == DType::Bool { normalised(proto.tensor_content) } else { proto.tensor_content };
        return Tensor::from_bytes(dtype, shape, content);
    }
    ledger.take(bytes as u64)?;
    Tensor::from_bytes(dtype, shape, typed(dtype, count, &proto))
}

/// The inputs of an encoded PredictRequest, by name. What must be allocated is taken from `ledger` first.
///
/// # Errors
/// `INVALID_ARGUMENT` for bytes that are no request and tensors that cannot be parsed, `RESOURCE_EXHAUSTED` when they claim
/// more than the ledger gives.
pub fn decode_inputs(message: &[u8], ledger: &Ledger) -> Result<Vec<(String, Tensor)>> {
    ledger.take(weigh("/Predict", message))?;
    let request = PredictRequest::decode(message)
        .map_err(|e| Error::invalid_argument(format!("the message is no PredictRequest: {e}")))?;
    let inputs = request.inputs.into_iter().map(|(alias, proto)| {
        let tensor = decode(&alias, proto, ledger)?;
        Ok((alias, tensor))
    });
    inputs.collect()
}

/// Axes of a tensor at most, as in TensorFlow.
const RANK_MAX: usize = 254;

/// `None` for negative extents, for too many, and for products that overflow. No shape, and an unknown rank, mean a scalar.
fn shape(proto: Option<&TensorShapeProto>) -> Option<Shape> {
    let dims = proto.map(|p| p.dim.as_slice()).unwrap_or_default();
    if dims.len() > RANK_MAX {
        return None;
    }
    let dims = dims.iter().map(|d| usize::try_from(d.size).ok()).collect::<Option<Vec<_>>>()?;
    // Zero extents do not hide an overflow of the others.
    dims.iter().filter(|d| **d > 0).try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= isize::MAX as usize)?;
    Some(Shape::new(dims))
}

/// Any non-zero byte is true.
fn normalised(content: Bytes) -> Bytes {
    if content.iter().all(|b| *b < 2) { content } else { content.iter().map(|b| u8::from(*b != 0)).collect() }
}

fn strings(shape: Shape, count: usize, proto: TensorProto, ledger: &Ledger) -> Result<Tensor> {
    ledger.take((count as u64).saturating_mul(STRING_BYTES))?;
    let mut strings = proto.string_val;
    let last = strings.last().cloned().unwrap_or_default();
    strings.resize(count, last);
    Tensor::from_strings(shape, strings)
}

/// `count` elements: the given ones, the last one for all that are missing, zeros when there are none.
fn repeated<S: Copy + Default, T: bytemuck::NoUninit>(given: &[S], count: usize, convert: impl Fn(S) -> T) -> Vec<u8> {
    let given = &given[..given.len().min(count)];
    let mut bytes = Vec::with_capacity(count * size_of::<T>());
    for value in given {
        bytes.extend_from_slice(bytemuck::bytes_of(&convert(*value)));
    }
    let rest = convert(given.last().copied().unwrap_or_default());
    for _ in given.len()..count {
        bytes.extend_from_slice(bytemuck::bytes_of(&rest));
    }
    bytes
}

/// As [`repeated`], for numbers given in pairs.
fn pairs<S: bytemuck::NoUninit + Default>(given: &[S], count: usize) -> Vec<u8> {
    let mut values: Vec<[S; 2]> = given.chunks_exact(2).take(count).map(|p| [p[0], p[1]]).collect();
    let last = values.last().copied().unwrap_or_default();
    values.resize(count, last);
    values.iter().flatten().flat_map(|v| bytemuck::bytes_of(v).to_vec()).collect()
}

fn typed(dtype: DType, count: usize, proto: &TensorProto) -> Vec<u8> {
    match dtype {
        DType::F32 => repeated(&proto.float_val, count, |v| v),
        DType::F64 => repeated(&proto.double_val, count, |v| v),
        DType::I32 => repeated(&proto.int_val, count, |v| v),
        // Smaller integers travel as 32-bit ones and wrap to their width.
        DType::U8 => repeated(&proto.int_val, count, |v| v as u8),
        DType::I8 => repeated(&proto.int_val, count, |v| v as i8),
        DType::U16 => repeated(&proto.int_val, count, |v| v as u16),
        DType::I16 => repeated(&proto.int_val, count, |v| v as i16),
        DType::U32 => repeated(&proto.uint32_val, count, |v| v),
        DType::U64 => repeated(&proto.uint64_val, count, |v| v),
        DType::I64 => repeated(&proto.int64_val, count, |v| v),
        DType::Bool => repeated(&proto.bool_val, count, u8::from),
        DType::F16 => repeated(&proto.half_val, count, |v| f16::from_bits(v as u16)),
        DType::BF16 => repeated(&proto.half_val, count, |v| bf16::from_bits(v as u16)),
        DType::Complex64 => pairs(&proto.scomplex_val, count),
        DType::Complex128 => pairs(&proto.dcomplex_val, count),
        // `dtype` gives no other.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::tensorflow::tensor_shape_proto::Dim;
    use super::*;
    use crate::api::budget::Budget;
    use crate::error::Code;

    fn proto(dtype: DataType, dims: &[i64]) -> TensorProto {
        let dim = dims.iter().map(|size| Dim { size: *size, name: String::new() }).collect();
        let tensor_shape = Some(TensorShapeProto { dim, unknown_rank: false });
        TensorProto { dtype: dtype.into(), tensor_shape, ..TensorProto::default() }
    }

    fn read(proto: TensorProto) -> Result<Tensor> {
        decode("x", proto, &Ledger::open(&Budget::new(1 << 20)))
    }

    #[test]
    fn the_last_value_is_repeated_and_surplus_is_cut() {
        let few = TensorProto { float_val: vec![1.0, 2.0], ..proto(DataType::DtFloat, &[4]) };
        assert_eq!(read(few).expect("it parses").values::<f32>().expect("f32").as_ref(), [1.0, 2.0, 2.0, 2.0]);
        let many = TensorProto { int_val: vec![1, 2, 3], ..proto(DataType::DtInt32, &[2]) };
        assert_eq!(read(many).expect("it parses").values::<i32>().expect("i32").as_ref(), [1, 2]);
        let none = read(proto(DataType::DtInt64, &[2])).expect("it parses");
        assert_eq!(none.values::<i64>().expect("i64").as_ref(), [0, 0]);
        let text = TensorProto { string_val: vec![Bytes::from("a")], ..proto(DataType::DtString, &[2]) };
        assert_eq!(read(text).expect("it parses").strings(), [Bytes::from("a"), Bytes::from("a")]);
    }

    #[test]
    fn small_integers_wrap_and_halves_are_bits() {
        let bytes = TensorProto { int_val: vec![256, 300], ..proto(DataType::DtUint8, &[2]) };
        assert_eq!(read(bytes).expect("it parses").values::<u8>().expect("u8").as_ref(), [0, 44]);
        let halves = TensorProto { half_val: vec![0x3c00], ..proto(DataType::DtHalf, &[1]) };
        assert_eq!(read(halves).expect("it parses").values::<f16>().expect("f16")[0], f16::ONE);
    }

    #[test]
    fn content_wins_and_must_fit() {
        let content = Bytes::copy_from_slice(bytemuck::bytes_of(&[5.0f32, 6.0]));
        let both =
            TensorProto { tensor_content: content.clone(), float_val: vec![1.0], ..proto(DataType::DtFloat, &[2]) };
        assert_eq!(read(both).expect("it parses").values::<f32>().expect("f32").as_ref(), [5.0, 6.0]);
        let short = TensorProto { tensor_content: content, ..proto(DataType::DtFloat, &[3]) };
        assert_eq!(read(short).expect_err("it does not fit").message(), "tensor parsing error: x");
    }

    #[test]
    fn a_wrong_field_counts_as_absent_and_no_shape_is_a_scalar() {
        let wrong = TensorProto { float_val: vec![1.0], ..proto(DataType::DtInt32, &[1]) };
        assert_eq!(read(wrong).expect("it parses").values::<i32>().expect("i32").as_ref(), [0]);
        let bare = TensorProto { tensor_shape: None, ..proto(DataType::DtFloat, &[]) };
        assert_eq!(read(bare).expect("it parses").shape().rank(), 0);
        let empty = read(proto(DataType::DtFloat, &[0, 784])).expect("it parses");
        assert_eq!(empty.shape().dims(), [0, 784]);
    }

    proptest::proptest! {
        /// Damaged requests are answered within the budget, whatever they say.
        #[test]
        fn damaged_requests_are_answered(
            damage in proptest::collection::vec((0usize..400, proptest::num::u8::ANY), 1..6),
            cut in 0usize..400,
        ) {
            let tensor = |dtype, values: usize| TensorProto {
                float_val: vec![1.5; values],
                int_val: vec![7; values],
                string_val: vec![Bytes::from("text"); values],
                ..proto(dtype, &[2, values as i64])
            };
            let inputs = [
                ("a".to_owned(), tensor(DataType::DtFloat, 20)),
                ("b".to_owned(), tensor(DataType::DtUint8, 9)),
                ("c".to_owned(), tensor(DataType::DtString, 3)),
            ];
            let request = PredictRequest { inputs: inputs.into(), ..PredictRequest::default() };
            let mut bytes = request.encode_to_vec();
            for (at, value) in damage {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            bytes.truncate(bytes.len() - cut % bytes.len());
            let budget = Budget::new(1 << 20);
            let ledger = Ledger::open(&budget);
            drop(decode_inputs(&bytes, &ledger));
            proptest::prop_assert!(budget.used() <= budget.limit());
        }
    }

    #[test]
    fn claims_are_refused_before_anything_is_allocated() {
        let huge = TensorProto { float_val: vec![1.0], ..proto(DataType::DtFloat, &[1 << 31]) };
        assert_eq!(read(huge).expect_err("too much").code(), Code::ResourceExhausted);
        for dims in [&[-1][..], &[i64::MAX, 4], &[i64::MAX, i64::MAX, 0]] {
            assert_eq!(read(proto(DataType::DtFloat, dims)).expect_err("no shape").code(), Code::InvalidArgument);
        }
        assert_eq!(read(proto(DataType::DtInvalid, &[1])).expect_err("no type").code(), Code::InvalidArgument);
    }
}
