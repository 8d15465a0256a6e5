//! What a model promises: declared types of inputs, and of outputs as far as inference bears them out.

use super::dtype;
use super::proto::tensor_shape_proto::dimension;
use super::proto::{TensorShapeProto, ValueInfoProto, type_proto};
use crate::engine::ir::{Fact, Graph, Node};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Spec, Tensor};

/// Values up to this many elements are followed through shape arithmetic.
const MAX_FOLLOWED_ELEMENTS: usize = 1 << 12;

/// The declared type of an input.
///
/// # Errors
/// `UNIMPLEMENTED` for values that are not dense tensors of a known type; `INVALID_ARGUMENT` without a type.
pub(super) fn input(info: &ValueInfoProto) -> Result<Spec> {
    let (code, shape) = tensor_type(info)?;
    Ok(Spec { name: info.name.clone(), dtype: dtype::from_code(code)?, dims: shape.map(dims) })
}

/// Types of the outputs. Declared ranks and extents are often wrong, so that inference wins where it knows.
///
/// # Errors
/// `INVALID_ARGUMENT` when a node cannot take inputs of the declared extents; `UNIMPLEMENTED` for outputs that are not
/// dense tensors.
pub(super) fn outputs(graph: &Graph, declared: &[ValueInfoProto]) -> Result<Vec<Spec>> {
    let facts = infer(graph)?;
    let spec = |(info, fact): (&ValueInfoProto, Option<&Fact>)| {
        let promised = match info.r#type {
            Some(_) => tensor_type(info).map(|(code, shape)| (dtype::from_code(code).ok(), shape.map(dims)))?,
            None => (None, None),
        };
        let dtype = fact.map(|f| f.dtype).or(promised.0).unwrap_or(DType::F32);
        let dims = match (fact.and_then(|f| f.dims.clone()), promised.1) {
            (Some(known), Some(said)) if known.len() == said.len() => {
                Some(known.into_iter().zip(said).map(|(k, s)| if k == Dim::Unknown { s } else { k }).collect())
            }
            (Some(known), _) => Some(known),
            (None, said) => said,
        };
        Ok(Spec { name: info.name.clone(), dtype, dims })
    };
    declared.iter().zip(graph.outputs.iter().map(|v| facts[v.0].as_ref())).map(spec).collect()
}

fn tensor_type(info: &ValueInfoProto) -> Result<(i32, Option<&TensorShapeProto>)> {
    let kind = info.r#type.as_ref().and_then(|t| t.value.as_ref());
    let other = match kind {
        Some(type_proto::Value::TensorType(tensor)) => return Ok((tensor.elem_type, tensor.shape.as_ref())),
        Some(type_proto::Value::SequenceType(_)) => "a sequence",
        Some(type_proto::Value::OptionalType(_)) => "an optional value",
        Some(type_proto::Value::MapType(_)) => "a map",
        Some(type_proto::Value::SparseTensorType(_)) => "a sparse tensor",
        Some(type_proto::Value::OpaqueType(_)) => "opaque",
        None => return Err(Error::invalid_argument(format!("value {:?} has no type", info.name))),
    };
    Err(Error::unimplemented(format!("value {:?} is {other}", info.name)))
}

fn dims(shape: &TensorShapeProto) -> Vec<Dim> {
    let dim = |d: &super::proto::tensor_shape_proto::Dimension| match &d.value {
        // Zero and less are how some exporters say that they do not know.
        Some(dimension::Value::DimValue(n)) if *n > 0 => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
        Some(dimension::Value::DimParam(name)) if !matches!(name.trim(), "" | "?" | "-1" | "None") => {
            Dim::Symbol(name.as_str().into())
        }
        _ => Dim::Unknown,
    };
    shape.dim.iter().map(dim).collect()
}

/// What is known of every value from the declared inputs on.
fn infer(graph: &Graph) -> Result<Vec<Option<Fact>>> {
    let mut facts: Vec<Option<Fact>> = graph.values.iter().map(|v| v.constant.as_ref().map(Fact::from)).collect();
    for (value, spec) in graph.inputs.iter().zip(&graph.signature.inputs) {
        facts[value.0] = Some(Fact { dtype: spec.dtype, dims: spec.dims.clone(), value: None });
    }
    for node in &graph.nodes {
        let inputs: Option<Vec<Option<&Fact>>> =
            node.inputs.iter().map(|v| v.map(|v| facts[v.0].as_ref()).map_or(Some(None), |f| f.map(Some))).collect();
        let Some(inputs) = inputs else { continue };
        let inferred = match infer_node(node, &inputs) {
            Ok(inferred) => inferred,
            // With every extent known there is no excuse; otherwise the request's shapes will tell.
            Err(e) if inputs.iter().flatten().all(|f| f.shape().is_some()) => return Err(e.at(node.describe())),
            Err(_) => continue,
        };
        for (value, fact) in node.outputs.iter().zip(inferred) {
            if let Some(value) = value {
                facts[value.0] = Some(fact);
            }
        }
    }
    Ok(facts)
}

fn infer_node(node: &Node, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    let mut outputs = node.op.infer(inputs)?;
    let known = inputs.iter().all(|f| f.is_none_or(|f| f.value.is_some()));
    let small = |f: &Fact| f.shape().is_some_and(|s| s.elements() <= MAX_FOLLOWED_ELEMENTS);
    if known && outputs.iter().all(small) && inputs.iter().flatten().all(|f| small(f)) {
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
        outputs = node.op.evaluate(&tensors)?.iter().map(Fact::from).collect();
    }
    Ok(outputs)
}
