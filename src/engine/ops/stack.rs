//! Tensors taken apart along an axis, and put together along a new one: what loops read and give.

use super::composed::push;
use crate::engine::ir::{Attribute, Attributes, Expansion, Wire};
use crate::error::Result;
use crate::tensor::Tensor;

/// Entry `index` of `axis` of `wire`, without that axis.
pub(super) fn entry(expansion: &mut Expansion, wire: Wire, axis: i64, index: usize) -> Result<Wire> {
    let mut attributes = Attributes::new();
    attributes.set("axis", Attribute::Int(axis));
    let index = Wire::Constant(Tensor::scalar(index as i64));
    push(expansion, "Gather", &attributes, vec![Some(wire), Some(index)])
}

/// `wires` of one shape, at least one, along a new axis `axis`.
pub(super) fn stack(expansion: &mut Expansion, wires: Vec<Wire>, axis: i64) -> Result<Wire> {
    let axes = Tensor::from_vec([1], vec![axis])?;
    let mut parts = Vec::with_capacity(wires.len());
    for wire in wires {
        let inputs = vec![Some(wire), Some(Wire::Constant(axes.clone()))];
        parts.push(Some(push(expansion, "Unsqueeze", &Attributes::new(), inputs)?));
    }
    let mut attributes = Attributes::new();
    attributes.set("axis", Attribute::Int(axis));
    push(expansion, "Concat", &attributes, parts)
}
