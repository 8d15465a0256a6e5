//! A graph under concrete input shapes: every extent known, shape arithmetic folded away.

use crate::engine::ir::{Fact, Graph, Node, ValueId};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Constants computed for one set of shapes hold at most this many elements; larger ones are computed on every run.
const MAX_FOLDED_ELEMENTS: usize = 1 << 20;

/// What is known of every value of a graph under concrete input shapes.
#[derive(Debug)]
pub struct Specialised {
    facts: Vec<Option<Fact>>,
    /// Indices of the nodes still to be computed, in order.
    pub live: Vec<usize>,
}

impl Specialised {
    /// What is known of `value`; every value that a live node touches has a fact.
    pub fn fact(&self, value: ValueId) -> Option<&Fact> {
        self.facts[value.0].as_ref()
    }

    /// The constant that `value` is, if so.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.fact(value)?.value.as_ref()
    }

    /// Facts of a node's inputs.
    pub fn input_facts(&self, node: &Node) -> Vec<Option<&Fact>> {
        node.inputs.iter().map(|v| v.and_then(|v| self.fact(v))).collect()
    }

    /// Facts of a node's outputs; unused ones repeat the first.
    pub fn output_facts(&self, node: &Node) -> Vec<Fact> {
        node.outputs.iter().filter_map(|v| v.and_then(|v| self.fact(v)).cloned()).collect()
    }
}

/// Infers every value of `graph` for inputs of these shapes, in the signature's order, evaluating what is constant.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the node that cannot take the shapes.
pub fn specialise(graph: &Graph, inputs: &[Shape]) -> Result<Specialised> {
    if inputs.len() != graph.inputs.len() {
        return Err(Error::invalid_argument(format!(
            "the model takes {} inputs, got {}",
            graph.inputs.len(),
            inputs.len()
        )));
    }
    let mut facts: Vec<Option<Fact>> = graph.values.iter().map(|v| v.constant.as_ref().map(Fact::from)).collect();
    for ((value, spec), shape) in graph.inputs.iter().zip(&graph.signature.inputs).zip(inputs) {
        facts[value.0] = Some(Fact::of_shape(spec.dtype, shape));
    }
    for node in &graph.nodes {
        let outputs = infer_node(node, &facts).map_err(|e| e.at(node.describe()))?;
        for (value, fact) in node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                facts[value.0] = Some(fact);
            }
        }
    }
    let mut specialised = Specialised { facts, live: Vec::new() };
    specialised.live = live_nodes(graph, &specialised);
    Ok(specialised)
}

fn infer_node(node: &Node, facts: &[Option<Fact>]) -> Result<Vec<Fact>> {
    let inputs: Vec<Option<&Fact>> = node.inputs.iter().map(|v| v.and_then(|v| facts[v.0].as_ref())).collect();
    let mut outputs = node.op.infer(&inputs)?;
    for output in &mut outputs {
        // A value without elements is known.
        let empty = output.shape().filter(|s| s.elements() == 0);
        if let Some(shape) = empty.filter(|_| output.value.is_none() && output.dtype != DType::String) {
            output.value = Some(Tensor::from_bytes(output.dtype, shape, Vec::new())?);
        }
    }
    let known = inputs.iter().all(|f| f.is_none_or(|f| f.value.is_some()));
    let small = outputs.iter().all(|f| f.shape().is_none_or(|s| s.elements() <= MAX_FOLDED_ELEMENTS));
    if known && small && outputs.iter().any(|f| f.value.is_none()) {
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
        outputs = node.op.evaluate(&tensors)?.iter().map(Fact::from).collect();
    }
    Ok(outputs)
}

/// Nodes that an output depends on through values that are not constants.
fn live_nodes(graph: &Graph, specialised: &Specialised) -> Vec<usize> {
    let mut needed = vec![false; graph.values.len()];
    for output in &graph.outputs {
        needed[output.0] = specialised.constant(*output).is_none();
    }
    let mut live = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().flatten().any(|v| needed[v.0]) {
            live.push(index);
            for value in node.inputs.iter().flatten() {
                needed[value.0] |= specialised.constant(*value).is_none();
            }
        }
    }
    live.reverse();
    live
}
