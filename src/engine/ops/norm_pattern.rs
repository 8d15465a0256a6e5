//! Layer and root mean square normalisation as exporters write them: means of squares, a root, a quotient, scale and bias.

use super::normalization::of_rows;
use super::pattern::{either, input, made, number, reduced, shape};
use crate::engine::ir::{Fused, Node, Surroundings, ValueId};
use crate::tensor::DType;

/// What `node` divides by its deviation, and what that is the root of.
fn divided(around: &Surroundings<'_>, node: &Node) -> Option<(ValueId, ValueId)> {
    let root = |value| input(made(around, value, "Sqrt")?, 0);
    match node.op.name() {
        "Div" => Some((input(node, 0)?, root(input(node, 1)?)?)),
        "Mul" => either(node).into_iter().find_map(|(value, inverse)| {
            let deviation = match made(around, inverse, "Reciprocal") {
                Some(reciprocal) => input(reciprocal, 0)?,
                None => {
                    let quotient = made(around, inverse, "Div")?;
                    (number(around, input(quotient, 0)?)? == 1.0).then(|| input(quotient, 1))??
                }
            };
            Some((value, root(deviation)?))
        }),
        _ => None,
    }
}

/// What `value` is the squares of.
fn squared(around: &Surroundings<'_>, value: ValueId) -> Option<ValueId> {
    let node = around.sole_producer(value)?;
    match (node.op.name(), input(node, 0)?, input(node, 1)?) {
        ("Mul", a, b) if a == b => Some(a),
        ("Pow", a, b) => (number(around, b)? == 2.0).then_some(a),
        _ => None,
    }
}

/// What `value` is the differences from the means of its rows of.
fn centred(around: &Surroundings<'_>, value: ValueId) -> Option<ValueId> {
    let node = around.producer(value).filter(|node| node.op.name() == "Sub")?;
    let (rows, mean) = (input(node, 0)?, input(node, 1)?);
    (reduced(around, around.producer(mean)?, "ReduceMean")? == rows).then_some(rows)
}

/// What alone is made of `value` by operator `name` with a constant of `count` elements of its type, and that.
fn with_constant(
    around: &Surroundings<'_>,
    value: ValueId,
    (name, count): (&str, usize),
) -> Option<(ValueId, ValueId)> {
    let node = around.sole_reader(value).filter(|node| node.op.name() == name)?;
    let dtype = around.fact(value)?.dtype;
    let (_, constant) = either(node).into_iter().find(|(own, other)| *own == value && own != other)?;
    let fits = around.constant(constant)?.shape()[..] == [count] && around.fact(constant)?.dtype == dtype;
    fits.then_some((node.outputs.first().copied().flatten()?, constant))
}

/// All of a normalisation, if `node` is its quotient.
pub(super) fn recognised(node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
    let output = node.outputs.first().copied().flatten()?;
    let dtype = around.fact(output)?.dtype;
    let (value, raised) = divided(around, node).filter(|_| matches!(dtype, DType::F32 | DType::F16))?;
    let sum = made(around, raised, "Add")?;
    let (variance, epsilon) = either(sum).into_iter().find_map(|(a, b)| Some((a, number(around, b)?)))?;
    let squares = reduced(around, around.sole_producer(variance)?, "ReduceMean")?;
    let rows = squared(around, squares)?;
    // The differences may be computed twice.
    let from = centred(around, value);
    if rows != value && (from.is_none() || centred(around, rows) != from) {
        return None;
    }
    let x = from.unwrap_or(value);
    let extents = shape(around, x)?;
    let count = *extents.last()?;
    let (scaled, scale) = with_constant(around, output, ("Mul", count))?;
    let (output, bias) = match with_constant(around, scaled, ("Add", count)) {
        Some((shifted, bias)) => (shifted, Some(bias)),
        None => (scaled, None),
    };
    let same = around.fact(x)?.dtype == dtype && shape(around, output)? == extents;
    let epsilon = (epsilon as f32 > 0.0).then_some(epsilon as f32)?;
    let inputs = [Some(x), Some(scale)].into_iter().chain(bias.map(Some)).collect();
    same.then(|| Fused { op: of_rows(from.is_some(), epsilon), inputs, output })
}
