//! Rotary embeddings as exporters write them: x × cosine + (−second half of x, first half) × sine.

use std::sync::Arc;

use super::attend::{Lie, is_attended};
use super::pattern::{either, input, made, shape, spread};
use super::rotation::{Angles, Rotation};
use crate::engine::ir::{Fused, Node, Strided, Surroundings, ValueId};
use crate::tensor::Shape;

/// All of a rotary embedding, if `node` is its sum.
pub(super) fn recognised(node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
    let output = node.outputs.first().copied().flatten().filter(|_| node.op.name() == "Add")?;
    let dtype = around.fact(output)?.dtype;
    let shape = shape(around, output).filter(|shape| (2..=4).contains(&shape.rank()) && is_attended(dtype))?;
    let found = either(node).into_iter().find_map(|(plain, turned)| {
        let (plain, turned) = (made(around, plain, "Mul")?, made(around, turned, "Mul")?);
        let turned = either(turned).into_iter().find_map(|(halves, sine)| Some((halves_of(around, halves)?, sine)));
        let (halves, sine) = turned?;
        let mut products = either(plain).into_iter();
        products.find_map(|(x, cosine)| Some((rows(around, x, halves, &shape)?, cosine, sine)))
    });
    let ((x, lies), cosine, sine) = found?;
    let half = shape[shape.rank() - 1] / 2;
    let (extents, x_lie) = lie(&lies, &shape)?;
    let angles = |value: ValueId| {
        let (_, lie) = lie(&spread(&super::pattern::shape(around, value)?, &shape)?, &shape)?;
        Some(Angles { lie, half })
    };
    let rotation =
        Rotation { rows: extents, half, x: x_lie, cosine: angles(cosine)?, sine: angles(sine)?, shape: shape.clone() };
    let types = [x, cosine, sine].iter().all(|value| around.fact(*value).is_some_and(|fact| fact.dtype == dtype));
    let fits = types && rotation.is_in_fours();
    fits.then(|| Fused { op: Arc::new(rotation), inputs: vec![Some(x), Some(cosine), Some(sine)], output })
}

/// The first and the second half of what is turned, if `value` joins them the other way round, the second one negated.
fn halves_of(around: &Surroundings<'_>, value: ValueId) -> Option<[ValueId; 2]> {
    let joined = made(around, value, "Concat")?;
    let [Some(second), Some(first)] = joined.inputs[..] else { return None };
    Some([first, input(made(around, second, "Neg")?, 0)?])
}

/// What the rows of `x` lie in and where, if those two values are their halves.
fn rows(around: &Surroundings<'_>, x: ValueId, halves: [ValueId; 2], y: &Shape) -> Option<(ValueId, Strided)> {
    let width = *y.last()?;
    let (source, lies) = around.source(x).filter(|_| width.is_multiple_of(2))?;
    let half = width / 2;
    let agrees = |(value, first): (ValueId, usize)| {
        let own = shape(around, value)?;
        let window = Strided::new(first, [(y.elements() / width, width), (half, 1)]);
        let same = own.last() == Some(&half) && own[..own.rank() - 1] == y[..y.rank() - 1];
        (around.source(value)? == (source, lies.of(&window)?) && same).then_some(())
    };
    agrees((halves[0], 0)).and(agrees((halves[1], half)))?;
    (shape(around, x)? == *y).then_some((source, lies))
}

/// Extents of the three axes of the rows of an array of this shape, and where those are that lie so.
fn lie(lies: &Strided, shape: &Shape) -> Option<([usize; 3], Lie)> {
    let strides = lies.strides(shape)?;
    let (width, outer) = strides.split_last()?;
    let (mut extents, mut steps) = ([1; 3], [0; 3]);
    let lead = 3usize.checked_sub(outer.len())?;
    extents[lead..].copy_from_slice(&shape[..outer.len()]);
    steps[lead..].copy_from_slice(outer);
    (*width == 1).then_some((extents, Lie { first: lies.offset, steps }))
}
