//! What a node's outputs are, constants followed through it.

use super::fact::Fact;
use super::op::Op;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// Constants computed for one set of shapes hold at most this many bytes; larger ones are computed on every run.
const MAX_FOLDED_BYTES: usize = 1 << 22;

/// Elements that one value may have: devices count them in 32 bits.
const MAX_ELEMENTS: usize = u32::MAX as usize;

/// Refuses values whose elements cannot be counted, so that no operator has to reckon with them.
fn check_extents<'a>(facts: impl Iterator<Item = &'a Fact>) -> Result<()> {
    for fact in facts {
        let known = fact.dims.iter().flatten().filter_map(Dim::fixed);
        // What lies between the elements of an empty value is counted, too.
        let counted = known.map(|extent| extent.max(1)).try_fold(1usize, usize::checked_mul);
        if counted.is_none_or(|count| count > MAX_ELEMENTS) {
            let dims: Vec<String> = fact.dims.iter().flatten().map(ToString::to_string).collect();
            return Err(Error::resource_exhausted(format!(
                "a value of extents [{}] has more than {MAX_ELEMENTS} elements",
                dims.join(",")
            )));
        }
    }
    Ok(())
}

/// Facts of the outputs of `op`, of values that a device can hold.
///
/// # Errors
/// `INVALID_ARGUMENT` for sequences where tensors belong, and those of [`Op::infer`]; `RESOURCE_EXHAUSTED` for values of too many
/// elements.
pub fn infer_extents(op: &dyn Op, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    let compound = inputs.iter().flatten().find(|f| f.dtype.is_compound());
    if let Some(fact) = compound.filter(|_| !op.takes_sequences()) {
        return Err(Error::invalid_argument(format!("{} takes tensors, got a {} value", op.name(), fact.dtype)));
    }
    check_extents(inputs.iter().flatten().copied())?;
    let outputs = op.infer(inputs)?;
    check_extents(outputs.iter())?;
    Ok(outputs)
}

/// Facts of the outputs of `op`; values where all inputs' values are known.
///
/// # Errors
/// Those of [`infer_extents`] and [`Op::evaluate`].
pub fn infer(op: &dyn Op, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    let mut outputs = infer_extents(op, inputs)?;
    for output in &mut outputs {
        // A value without elements is known.
        let empty = output.shape().filter(|s| s.elements() == 0);
        if let Some(shape) = empty.filter(|_| output.value.is_none() && output.dtype != DType::String) {
            output.value = Some(Tensor::from_bytes(output.dtype, shape, Vec::new())?);
        }
    }
    let known = inputs.iter().all(|f| f.is_none_or(|f| f.value.is_some()));
    let small = outputs
        .iter()
        .all(|f| f.shape().is_none_or(|s| s.elements().saturating_mul(f.dtype.bytes()) <= MAX_FOLDED_BYTES));
    if known && small && op.is_pure() && outputs.iter().any(|f| f.value.is_none()) {
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
        outputs = op.evaluate(&tensors)?.iter().map(Fact::from).collect();
    }
    Ok(outputs)
}
