//! What a model promises: declared types of inputs, and of outputs as far as inference bears them out.

use super::dtype;
use super::limits;
use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use crate::engine::ir::{Fact, Graph, Node};
use crate::error::{Code, Error, Result};
use crate::tensor::{DType, Dim, Spec, Tensor};

/// Values up to this many elements are followed through shape arithmetic.
const MAX_FOLLOWED_ELEMENTS: usize = 1 << 12;

/// The declared type of an input.
///
/// # Errors
/// `UNIMPLEMENTED` for maps and sparse tensors; `INVALID_ARGUMENT` without a type.
pub(super) fn input(info: &ValueInfoProto) -> Result<Spec> {
    declared(&info.name, info.r#type.as_ref())
}

/// Types of the outputs. Declared ranks and extents are often wrong, so that inference wins where it knows.
///
/// # Errors
/// `INVALID_ARGUMENT` when a node cannot take inputs of the declared extents; `UNIMPLEMENTED` for maps and sparse tensors.
pub(super) fn outputs(graph: &Graph, infos: &[ValueInfoProto]) -> Result<Vec<Spec>> {
    let facts = infer(graph)?;
    let spec = |(info, fact): (&ValueInfoProto, Option<&Fact>)| {
        let promised = match &info.r#type {
            // An element type that does not exist is no promise.
            Some(kind) => match declared(&info.name, Some(kind)) {
                Err(e) if e.code() == Code::InvalidArgument => None,
                other => Some(other?),
            },
            None => None,
        };
        let Some(fact) = fact else {
            return Ok(promised.unwrap_or_else(|| Spec::tensor(&info.name, DType::F32, None)));
        };
        // What loops carry may begin as an optional value and end as what it holds.
        if let Some(promised) = promised.as_ref().filter(|p| fact.dtype == DType::Optional && p.dtype != fact.dtype) {
            return Ok(promised.clone());
        }
        Ok(promise(&info.name, fact, promised.as_ref()))
    };
    infos.iter().zip(graph.outputs.iter().map(|v| facts[v.0].as_ref())).map(spec).collect()
}

/// What is known, with what was declared where that says more.
fn promise(name: &str, fact: &Fact, declared: Option<&Spec>) -> Spec {
    let declared = declared.filter(|d| d.dtype == fact.dtype);
    if fact.dtype.is_compound() {
        let said = declared.and_then(|d| d.element.as_deref());
        let element = fact.element().map(|known| promise("", &known, said)).or_else(|| said.cloned());
        return Spec { element: element.map(Box::new), ..Spec::tensor(name, fact.dtype, fact.dims.clone()) };
    }
    let dims = match (fact.dims.clone(), declared.and_then(|d| d.dims.clone())) {
        (Some(known), Some(said)) if known.len() == said.len() => {
            Some(known.into_iter().zip(said).map(|(k, s)| if k == Dim::Unknown { s } else { k }).collect())
        }
        (Some(known), _) => Some(known),
        (None, said) => said,
    };
    Spec::tensor(name, fact.dtype, dims)
}

/// What `kind`, the type of the value `name`, says.
fn declared(name: &str, kind: Option<&TypeProto>) -> Result<Spec> {
    let holding = |dtype: DType, element: Option<&TypeProto>| {
        let element = declared("", element).map_err(|e| e.at(format_args!("what {name:?} holds")))?;
        Ok(Spec { element: Some(Box::new(element)), ..Spec::tensor(name, dtype, Some(Vec::new())) })
    };
    let other = match kind.and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => {
            return Ok(Spec::tensor(name, dtype::from_code(tensor.elem_type)?, tensor.shape.as_ref().and_then(dims)));
        }
        Some(type_proto::Value::SequenceType(of)) => return holding(DType::Sequence, of.elem_type.as_deref()),
        Some(type_proto::Value::OptionalType(of)) => return holding(DType::Optional, of.elem_type.as_deref()),
        Some(type_proto::Value::MapType(_)) => "a map",
        Some(type_proto::Value::SparseTensorType(_)) => "a sparse tensor",
        Some(type_proto::Value::OpaqueType(_)) => "opaque",
        None => return Err(Error::invalid_argument(format!("value {name:?} has no type"))),
    };
    Err(Error::unimplemented(format!("value {name:?} is {other}")))
}

/// The declared extents, if they make sense.
fn dims(shape: &TensorShapeProto) -> Option<Vec<Dim>> {
    let dim = |d: &Dimension| match &d.value {
        // Zero and less are how some exporters say that they do not know.
        Some(dimension::Value::DimValue(n)) if *n > 0 => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
        Some(dimension::Value::DimParam(name)) if !matches!(name.trim(), "" | "?" | "-1" | "None") => {
            Dim::Symbol(name.as_str().into())
        }
        _ => Dim::Unknown,
    };
    let dims: Vec<Dim> = shape.dim.iter().map(dim).collect();
    let fixed: Vec<u64> = dims.iter().map(|d| d.fixed().unwrap_or(1) as u64).collect();
    // Extents beyond any memory are taken for unknown, so that no product of them overflows.
    if limits::allows(&fixed) { Some(dims) } else { None }
}

/// What is known of every value from the declared inputs on.
fn infer(graph: &Graph) -> Result<Vec<Option<Fact>>> {
    let mut facts: Vec<Option<Fact>> = graph.values.iter().map(|v| v.constant.as_ref().map(Fact::from)).collect();
    for (value, spec) in graph.inputs.iter().zip(&graph.signature.inputs) {
        facts[value.0] = Some(Fact::of_spec(spec));
    }
    for node in &graph.nodes {
        let inputs: Option<Vec<Option<&Fact>>> =
            node.inputs.iter().map(|v| v.map(|v| facts[v.0].as_ref()).map_or(Some(None), |f| f.map(Some))).collect();
        let Some(inputs) = inputs else { continue };
        let inferred = match infer_node(node, &inputs) {
            Ok(inferred) => inferred,
            // With every extent known there is no excuse; otherwise the request's shapes will tell.
            Err(e) if inputs.iter().flatten().all(|f| f.shape().is_some() && !f.dtype.is_compound()) => {
                return Err(e.at(node.describe()));
            }
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
    if known && node.op.is_pure() && outputs.iter().all(small) && inputs.iter().flatten().all(|f| small(f)) {
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
        outputs = node.op.evaluate(&tensors)?.iter().map(Fact::from).collect();
    }
    Ok(outputs)
}
