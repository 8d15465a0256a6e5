//! Softmax as exporters write it: exponentials of differences from the largest, divided by their sum.

use super::pattern::{input, made, reduced};
use super::softmax::of_rows;
use crate::engine::ir::{Fused, Node, Surroundings};
use crate::tensor::DType;

/// All of a softmax along the last axis, if `node` is its quotient.
pub(super) fn recognised(node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
    let output = node.outputs.first().copied().flatten().filter(|_| node.op.name() == "Div")?;
    let (powers, sum) = (input(node, 0)?, input(node, 1)?);
    let exponential = around.producer(powers).filter(|node| node.op.name() == "Exp")?;
    let differences = made(around, input(exponential, 0)?, "Sub")?;
    let (rows, largest) = (input(differences, 0)?, input(differences, 1)?);
    let by = |value, name| reduced(around, around.sole_producer(value)?, name);
    let fits = by(sum, "ReduceSum")? == powers && by(largest, "ReduceMax")? == rows;
    let float = matches!(around.fact(rows)?.dtype, DType::F32 | DType::F16);
    (fits && float).then(|| Fused { op: of_rows(), inputs: vec![Some(rows)], output })
}
