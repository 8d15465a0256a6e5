//! What operators look at when they look around for nodes whose work is theirs.

use std::any::Any;

use super::reduce::Reduce;
use crate::engine::ir::{Node, Strided, Surroundings, ValueId};
use crate::tensor::Shape;

/// The operator of `node`, if it is a `T`.
pub(super) fn is<T: Any>(node: &Node) -> Option<&T> {
    let op: &dyn Any = &*node.op;
    op.downcast_ref()
}

/// Input `i` of `node`.
pub(super) fn input(node: &Node, i: usize) -> Option<ValueId> {
    node.inputs.get(i).copied().flatten()
}

/// The extents of `value`, if it is not empty.
pub(super) fn shape(around: &Surroundings<'_>, value: ValueId) -> Option<Shape> {
    around.fact(value)?.shape().filter(|s| s.elements() > 0)
}

/// The one number that `value` always is.
pub(super) fn number(around: &Surroundings<'_>, value: ValueId) -> Option<f64> {
    let one = around.constant(value).filter(|constant| constant.shape().elements() == 1)?;
    one.to_f64s().ok()?.first().copied()
}

/// The node that makes `value` for one other alone, if its operator is of this name.
pub(super) fn made<'a>(around: &Surroundings<'a>, value: ValueId, name: &str) -> Option<&'a Node> {
    around.sole_producer(value).filter(|node| node.op.name() == name)
}

/// What `node` reduces the rows of, if it is the reduction of this name and keeps their axis.
pub(super) fn reduced(around: &Surroundings<'_>, node: &Node, name: &str) -> Option<ValueId> {
    is::<Reduce>(node)?.reduces_rows(name, &around.facts(node)).then(|| input(node, 0))?
}

/// The two inputs of `node`, either way round.
pub(super) fn either(node: &Node) -> Vec<(ValueId, ValueId)> {
    match node.inputs[..] {
        [Some(a), Some(b)] => vec![(a, b), (b, a)],
        _ => Vec::new(),
    }
}

/// Where the elements of an array of shape `from` lie that broadcasting to `to` takes.
pub(super) fn spread(from: &[usize], to: &[usize]) -> Option<Strided> {
    let lead = to.len().checked_sub(from.len())?;
    let mut stride = 1;
    let mut axes = Vec::with_capacity(to.len());
    for (axis, extent) in to.iter().enumerate().rev() {
        let own = axis.checked_sub(lead).map_or(1, |i| from[i]);
        if own != 1 && own != *extent {
            return None;
        }
        axes.push((*extent, if own == 1 { 0 } else { stride }));
        stride *= own;
    }
    axes.reverse();
    Some(Strided::new(0, axes))
}
