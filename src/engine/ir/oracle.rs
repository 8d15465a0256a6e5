//! Whole graphs on the host, operator by operator: what devices are held against.

use super::graph::{Graph, Node, ValueId};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The outputs of `graph` for `inputs`, both in the signature's order. Slow and plain: nothing is folded or fused.
///
/// # Errors
/// `INVALID_ARGUMENT` for another number of inputs or naming the node that cannot take its own.
pub fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    if inputs.len() != graph.inputs.len() {
        return Err(Error::invalid_argument(format!(
            "the model takes {} inputs, got {}",
            graph.inputs.len(),
            inputs.len()
        )));
    }
    let mut uses = graph.uses();
    let mut values: Vec<Option<Tensor>> = graph.values.iter().map(|v| v.constant.clone()).collect();
    for (value, tensor) in graph.inputs.iter().zip(inputs) {
        values[value.0] = Some(tensor.clone());
    }
    for node in &graph.nodes {
        let outputs = evaluate_node(node, &values).map_err(|e| e.at(node.describe()))?;
        for (value, tensor) in node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                values[value.0] = Some(tensor);
            }
        }
        // Held no longer than read, so that large models fit.
        for value in node.inputs.iter().flatten() {
            uses[value.0] -= 1;
            if uses[value.0] == 0 {
                values[value.0] = None;
            }
        }
    }
    let output = |value: &ValueId| {
        let missing = || Error::internal(format!("output {:?} was not computed", graph.values[value.0].name));
        values[value.0].clone().ok_or_else(missing)
    };
    graph.outputs.iter().map(output).collect()
}

fn evaluate_node(node: &Node, values: &[Option<Tensor>]) -> Result<Vec<Tensor>> {
    let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(|v| v.and_then(|v| values[v.0].as_ref())).collect();
    node.op.evaluate(&inputs)
}
