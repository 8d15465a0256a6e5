//! DynamicQuantizeMatMul: floats are quantised by what they hold, then multiplied as integers.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::Sketch;
use crate::engine::ir::{Fact, Op, Wire};
use crate::error::Result;

/// Inputs A, B, b_scale, b_zero_point, bias.
pub(super) fn dynamic_product(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    composed(Composed {
        name: "DynamicQuantizeMatMul",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let (Some(_), Some(_)) = (required(inputs, 0)?.shape(), required(inputs, 1)?.shape()) else {
                return Ok(None);
            };
            let mut sketch = Sketch::new();
            let quantized = sketch.many(("", "DynamicQuantizeLinear"), vec![Some(Wire::Input(0))], &[], 3)?;
            let given = |i: usize| optional(inputs, i).map(|_| Wire::Input(i));
            let all = vec![
                Some(quantized[0].clone()),
                Some(Wire::Input(1)),
                Some(quantized[1].clone()),
                Some(Wire::Input(2)),
                Some(quantized[2].clone()),
                given(3),
                given(4),
            ];
            let y = sketch.many(("com.microsoft", "MatMulIntegerToFloat"), all, &[], 1)?;
            Ok(Some(sketch.finish(y)))
        }),
        open: Box::new(|inputs| Ok(vec![Fact::of_unknown_rank(required(inputs, 0)?.dtype)])),
        rows: Box::new(|query| query.default_answer()),
    })
}
