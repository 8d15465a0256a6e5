//! Files of test data: a tensor, a sequence or an optional value each.

use bytes::Bytes;
use prost::Message;

use super::proto::{ElementKind, OptionalProto, SequenceProto, TensorProto};
use super::tensor::{from_proto, to_proto};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Decodes a file that holds a tensor: its name and contents. Raw data is borrowed from `bytes`.
///
/// # Errors
/// `INVALID_ARGUMENT` for other bytes, `UNIMPLEMENTED` for 6-bit floats.
pub fn decode(bytes: Bytes) -> Result<(String, Tensor)> {
    decode_as(DType::F32, bytes)
}

/// Decodes a file that holds a tensor or, where `kind` is one of these, a sequence or an optional value: its name and
/// contents. Such files do not say themselves what they hold.
///
/// # Errors
/// `INVALID_ARGUMENT` for other bytes, `UNIMPLEMENTED` for maps, sparse tensors and 6-bit floats.
pub fn decode_as(kind: DType, bytes: Bytes) -> Result<(String, Tensor)> {
    match kind {
        DType::Sequence => {
            let proto: SequenceProto = message(bytes, "sequence")?;
            Ok((proto.name.clone(), sequence(&proto)?))
        }
        DType::Optional => {
            let proto: OptionalProto = message(bytes, "optional value")?;
            Ok((proto.name.clone(), optional(&proto)?))
        }
        _ => {
            let proto: TensorProto = message(bytes, "tensor")?;
            let tensor = from_proto(&proto, None)?;
            Ok((proto.name, tensor))
        }
    }
}

fn message<M: Message + Default>(bytes: Bytes, what: &str) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::invalid_argument(format!("the file is not an ONNX {what}")).with_source(e))
}

fn tensor(proto: &TensorProto) -> Result<Tensor> {
    from_proto(proto, None)
}

fn sequence(proto: &SequenceProto) -> Result<Tensor> {
    let elements: Result<Vec<Tensor>> = match proto.elem_type() {
        ElementKind::Undefined | ElementKind::Tensor => proto.tensor_values.iter().map(tensor).collect(),
        ElementKind::Sequence => proto.sequence_values.iter().map(sequence).collect(),
        ElementKind::Optional => proto.optional_values.iter().map(optional).collect(),
        other => return Err(unimplemented(other)),
    };
    Tensor::sequence(elements?)
}

fn optional(proto: &OptionalProto) -> Result<Tensor> {
    // Whatever type it claims, the value is there or not.
    let element = match proto.elem_type() {
        ElementKind::Undefined | ElementKind::Tensor => proto.tensor_value.as_ref().map(tensor),
        ElementKind::Sequence => proto.sequence_value.as_ref().map(sequence),
        ElementKind::Optional => proto.optional_value.as_deref().map(optional),
        other => return Err(unimplemented(other)),
    };
    Tensor::optional(element.transpose()?)
}

fn unimplemented(kind: ElementKind) -> Error {
    Error::unimplemented(format!("values that hold a {} are not supported", kind.as_str_name()))
}

/// Encodes such a file.
pub fn encode(name: &str, tensor: &Tensor) -> Vec<u8> {
    match tensor.dtype() {
        DType::Sequence => sequence_proto(name, tensor).encode_to_vec(),
        DType::Optional => optional_proto(name, tensor).encode_to_vec(),
        _ => to_proto(name, tensor).encode_to_vec(),
    }
}

fn kind(element: Option<&Tensor>) -> ElementKind {
    match element.map(Tensor::dtype) {
        None => ElementKind::Undefined,
        Some(DType::Sequence) => ElementKind::Sequence,
        Some(DType::Optional) => ElementKind::Optional,
        Some(_) => ElementKind::Tensor,
    }
}

fn sequence_proto(name: &str, value: &Tensor) -> SequenceProto {
    let mut proto = SequenceProto { name: name.to_owned(), ..Default::default() };
    proto.set_elem_type(kind(value.elements().first()));
    for element in value.elements() {
        match element.dtype() {
            DType::Sequence => proto.sequence_values.push(sequence_proto("", element)),
            DType::Optional => proto.optional_values.push(optional_proto("", element)),
            _ => proto.tensor_values.push(to_proto("", element)),
        }
    }
    proto
}

fn optional_proto(name: &str, value: &Tensor) -> OptionalProto {
    let mut proto = OptionalProto { name: name.to_owned(), ..Default::default() };
    let element = value.elements().first();
    proto.set_elem_type(kind(element));
    match element.map(|e| (e.dtype(), e)) {
        None => {}
        Some((DType::Sequence, element)) => proto.sequence_value = Some(sequence_proto("", element)),
        Some((DType::Optional, element)) => proto.optional_value = Some(Box::new(optional_proto("", element))),
        Some((_, element)) => proto.tensor_value = Some(to_proto("", element)),
    }
    proto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_read_back_as_written() {
        let strings = Tensor::from_strings([2], vec![Bytes::from_static(b"a"), Bytes::new()]).expect("two");
        let empty = Tensor::from_vec::<i64>([0, 3], vec![]).expect("none");
        let sequence = Tensor::sequence(vec![strings.clone(), strings.clone()]).expect("one type");
        let nested =
            Tensor::sequence(vec![sequence.clone(), Tensor::sequence(vec![]).expect("none")]).expect("one type");
        let optional = Tensor::optional(Some(sequence.clone())).expect("one");
        let nothing = Tensor::optional(None).expect("none");
        for tensor in [strings, empty, Tensor::scalar(1.5f64), sequence, nested, optional, nothing] {
            let (name, read) = decode_as(tensor.dtype(), encode("x y:0", &tensor).into()).expect("our own bytes");
            assert_eq!((name.as_str(), read), ("x y:0", tensor));
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = encode("s", &Tensor::sequence(vec![Tensor::scalar(1.0f32)]).expect("one"));
        for end in 1..bytes.len() {
            // Some prefixes are files too; none may panic.
            drop(decode_as(DType::Sequence, Bytes::copy_from_slice(&bytes[..end])));
        }
        assert!(decode_as(DType::Optional, Bytes::from_static(&[0xff; 9])).is_err());
    }
}
