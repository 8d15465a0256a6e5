//! AttributeProto → typed attributes.

use bytes::Bytes;

use super::dtype;
use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, NodeProto};
use super::weights::Weights;
use crate::engine::ir::{Attribute, Attributes};
use crate::error::{Error, Result};

/// Integer attributes that mean an element type.
const ELEMENT_TYPES: &[&str] = &["to", "dtype", "output_dtype", "output_datatype", "precision"];

/// The attributes of `node`.
///
/// # Errors
/// `UNIMPLEMENTED` for lists of tensors, graphs and types, which no operator here takes; `INVALID_ARGUMENT` naming a wrong attribute.
pub(super) fn convert(node: &NodeProto, weights: &mut Weights) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for proto in &node.attribute {
        if attributes.has(&proto.name) {
            return Err(Error::invalid_argument(format!("attribute {} is given twice", proto.name)));
        }
        let value = value(proto, weights).map_err(|e| e.at(format_args!("attribute {}", proto.name)))?;
        if let Some(value) = value {
            attributes.set(&proto.name, value);
        }
    }
    Ok(attributes)
}

fn value(proto: &AttributeProto, weights: &mut Weights) -> Result<Option<Attribute>> {
    let missing = || Error::invalid_argument("has no value of its type");
    Ok(Some(match kind(proto) {
        // Zero is what files leave out when they were written without presence.
        AttributeType::Int => return element_type(&proto.name, proto.i.unwrap_or(0)),
        AttributeType::Float => Attribute::Float(proto.f.unwrap_or(0.0)),
        AttributeType::String => Attribute::String(text(proto.s.as_ref().unwrap_or(&Bytes::new()))?),
        AttributeType::Ints => Attribute::Ints(proto.ints.clone()),
        AttributeType::Floats => Attribute::Floats(proto.floats.clone()),
        AttributeType::Strings => Attribute::Strings(proto.strings.iter().map(text).collect::<Result<_>>()?),
        AttributeType::Tensor => Attribute::Tensor(weights.dense(proto.t.as_ref().ok_or_else(missing)?)?),
        AttributeType::SparseTensor => {
            Attribute::Tensor(weights.sparse(proto.sparse_tensor.as_ref().ok_or_else(missing)?)?)
        }
        // Only Optional has one, and says with it what it would hold if it held something.
        AttributeType::TypeProto => return Ok(None),
        other => return Err(Error::unimplemented(format!("{} values are not supported", other.as_str_name()))),
    }))
}

/// The type that is declared or, in files older than the declaration, the one whose field is set.
pub(super) fn kind(proto: &AttributeProto) -> AttributeType {
    match proto.r#type() {
        AttributeType::Undefined if proto.f.is_some() => AttributeType::Float,
        AttributeType::Undefined if proto.i.is_some() => AttributeType::Int,
        AttributeType::Undefined if proto.s.is_some() => AttributeType::String,
        AttributeType::Undefined if proto.t.is_some() => AttributeType::Tensor,
        AttributeType::Undefined if proto.g.is_some() => AttributeType::Graph,
        AttributeType::Undefined if !proto.floats.is_empty() => AttributeType::Floats,
        AttributeType::Undefined if !proto.strings.is_empty() => AttributeType::Strings,
        AttributeType::Undefined => AttributeType::Ints,
        declared => declared,
    }
}

fn element_type(name: &str, value: i64) -> Result<Option<Attribute>> {
    if !ELEMENT_TYPES.contains(&name) {
        return Ok(Some(Attribute::Int(value)));
    }
    // Zero stands for "as the operator chooses".
    let code = i32::try_from(value).unwrap_or(-1);
    if code == 0 { Ok(None) } else { dtype::from_code(code).map(|d| Some(Attribute::DType(d))) }
}

fn text(bytes: &Bytes) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::invalid_argument("is not UTF-8 text"))
}
