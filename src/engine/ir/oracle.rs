//! Whole graphs on the host, operator by operator: what devices are held against.

use super::graph::{Graph, Node, ValueId};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Told of every node of an evaluation, which it may end.
pub trait Watch {
    /// `node` is about to be computed.
    ///
    /// # Errors
    /// Whatever it gives ends the evaluation.
    fn before(&mut self, node: &Node) -> Result<()>;
    /// `node` gave `outputs` for `inputs`.
    ///
    /// # Errors
    /// As [`Watch::before`].
    fn after(&mut self, node: &Node, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()>;
    /// A value that a node gave, or an input, is held no longer.
    fn dropped(&mut self, value: &Tensor);
}

/// Lets everything be.
struct Nobody;

impl Watch for Nobody {
    fn before(&mut self, _: &Node) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, _: &Node, _: &[Option<&Tensor>], _: &[Tensor]) -> Result<()> {
        Ok(())
    }

    fn dropped(&mut self, _: &Tensor) {}
}

/// The outputs of `graph` for `inputs`, both in the signature's order. Slow and plain: nothing is folded or fused.
///
/// # Errors
/// `INVALID_ARGUMENT` for another number of inputs or naming the node that cannot take its own.
pub fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    evaluate_watched(graph, inputs, &mut Nobody)
}

/// [`evaluate`] with somebody watching.
///
/// # Errors
/// Those of [`evaluate`], and what the watch gives.
pub fn evaluate_watched(graph: &Graph, inputs: &[Tensor], watch: &mut dyn Watch) -> Result<Vec<Tensor>> {
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
        watch.before(node)?;
        let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(|v| v.and_then(|v| values[v.0].as_ref())).collect();
        let outputs = node.op.evaluate(&inputs).map_err(|e| e.at(node.describe()))?;
        watch.after(node, &inputs, &outputs)?;
        for (value, tensor) in node.outputs.iter().zip(outputs) {
            match value {
                Some(value) => values[value.0] = Some(tensor),
                None => watch.dropped(&tensor),
            }
        }
        // Held no longer than read, so that large models fit.
        for value in node.inputs.iter().flatten() {
            uses[value.0] -= 1;
            if uses[value.0] == 0
                && let Some(tensor) = values[value.0].take()
                && graph.constant(*value).is_none()
            {
                watch.dropped(&tensor);
            }
        }
    }
    let output = |value: &ValueId| {
        let missing = || Error::internal(format!("output {:?} was not computed", graph.values[value.0].name));
        values[value.0].clone().ok_or_else(missing)
    };
    graph.outputs.iter().map(output).collect()
}
