//! What a node's outputs are, constants followed through it.

use super::fact::Fact;
use super::op::Op;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// Constants computed for one set of shapes hold at most this many bytes; larger ones are computed on every run.
const MAX_FOLDED_BYTES: usize = 1 << 22;

/// Facts of the outputs of `op`; values where all inputs' values are known.
///
/// # Errors
/// Those of [`Op::infer`] and [`Op::evaluate`].
pub fn infer(op: &dyn Op, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    let mut outputs = op.infer(inputs)?;
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
