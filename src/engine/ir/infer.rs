//! What a node's outputs are, constants followed through it.

use super::fact::Fact;
use super::op::Op;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Constants computed for one set of shapes hold at most this many elements; larger ones are computed on every run.
const MAX_FOLDED_ELEMENTS: usize = 1 << 20;

/// Facts of the outputs of `op`; values where all inputs' values are known.
///
/// # Errors
/// `INVALID_ARGUMENT` for sequences where tensors belong, and those of [`Op::infer`] and [`Op::evaluate`].
pub fn infer(op: &dyn Op, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    let compound = inputs.iter().flatten().find(|f| f.dtype.is_compound());
    if let Some(fact) = compound.filter(|_| !op.takes_sequences()) {
        return Err(Error::invalid_argument(format!("{} takes tensors, got a {} value", op.name(), fact.dtype)));
    }
    let mut outputs = op.infer(inputs)?;
    for output in &mut outputs {
        // A value without elements is known.
        let empty = output.shape().filter(|s| s.elements() == 0);
        if let Some(shape) = empty.filter(|_| output.value.is_none() && output.dtype != DType::String) {
            output.value = Some(Tensor::from_bytes(output.dtype, shape, Vec::new())?);
        }
    }
    let known = inputs.iter().all(|f| f.is_none_or(|f| f.value.is_some()));
    let small = outputs.iter().all(|f| f.shape().is_none_or(|s| s.elements() <= MAX_FOLDED_ELEMENTS));
    if known && small && op.is_pure() && outputs.iter().any(|f| f.value.is_none()) {
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
        outputs = op.evaluate(&tensors)?.iter().map(Fact::from).collect();
    }
    Ok(outputs)
}
