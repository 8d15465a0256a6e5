//! Reading the inputs of an operator.

use crate::engine::ir::Fact;
use crate::error::{Error, Result};
use crate::tensor::{Dim, Tensor};

/// Input `i`, which the operator needs.
pub(super) fn required<T: Copy>(inputs: &[Option<T>], i: usize) -> Result<T> {
    optional(inputs, i).ok_or_else(|| Error::invalid_argument(format!("input {i} is missing")))
}

/// Input `i`, if it is given.
pub(super) fn optional<T: Copy>(inputs: &[Option<T>], i: usize) -> Option<T> {
    inputs.get(i).copied().flatten()
}

/// The integers of input `i` where it is given: outer `None` when it is absent, inner when it is not constant.
pub(super) fn known_ints(inputs: &[Option<&Fact>], i: usize) -> Result<Option<Option<Vec<i64>>>> {
    match optional(inputs, i) {
        None => Ok(None),
        Some(fact) => Ok(Some(fact.value.as_ref().map(Tensor::to_i64s).transpose()?)),
    }
}

/// The integers of tensor input `i`, if it is given.
pub(super) fn ints(inputs: &[Option<&Tensor>], i: usize) -> Result<Option<Vec<i64>>> {
    optional(inputs, i).map(Tensor::to_i64s).transpose()
}

/// Axis `axis` of `rank`, counted from the end when negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| Error::invalid_argument(format!("axis {axis} is outside rank {rank}")))
}

/// (outer, extent, inner): the elements before, along and behind `axis`.
pub(super) fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

/// Facts of tensors: their values are known.
pub(super) fn known(inputs: &[Option<&Tensor>]) -> Vec<Option<Fact>> {
    inputs.iter().map(|t| t.map(Fact::from)).collect()
}

/// Elements of a constant that is made for a shape.
const MAX_MADE_ELEMENTS: usize = 1 << 24;

/// How many elements `extents` have together, for a constant that is made for them.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` when a table of so many would take more memory than it is worth.
pub(super) fn made(extents: impl IntoIterator<Item = usize>) -> Result<usize> {
    let count = extents.into_iter().try_fold(1usize, usize::checked_mul).filter(|n| *n <= MAX_MADE_ELEMENTS);
    count.ok_or_else(|| Error::resource_exhausted(format!("a table of more than {MAX_MADE_ELEMENTS} elements")))
}

/// The place that `index`, counted from the end when negative, names in an axis of `extent` entries.
pub(super) fn place(index: i64, extent: usize) -> Result<usize> {
    let counted = if index < 0 { index + extent as i64 } else { index };
    usize::try_from(counted)
        .ok()
        .filter(|i| *i < extent)
        .ok_or_else(|| Error::invalid_argument(format!("index {index} is outside an axis of extent {extent}")))
}

/// Extents that are all unknown.
pub(super) fn unknown(rank: usize) -> Vec<Dim> {
    vec![Dim::Unknown; rank]
}

/// Extents, all fixed.
pub(super) fn fixed(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::Fixed(*d)).collect()
}
