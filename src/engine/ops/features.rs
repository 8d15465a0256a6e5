//! Features of classic learning as compositions: ArrayFeatureExtractor and Binarizer.

use std::sync::Arc;

use super::arguments::{required, unknown};
use super::composed::{Composed, composed, over_shape, same_extents};
use super::registry::OpSpec;
use super::sketch::{Sketch, ints, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::Result;

/// Entries of the last axis of input 0, as input 1 numbers them.
pub(super) fn array_feature_extractor(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    composed(Composed {
        name: "ArrayFeatureExtractor",
        shape_inputs: &[],
        compose: over_shape(|shape, _| {
            let mut sketch = Sketch::new();
            let places = sketch.op("Reshape", &[&Wire::Input(1), &ints([-1])?])?;
            let mut taken = sketch.with("Gather", &[&Wire::Input(0), &places], &[("axis", Attribute::Int(-1))])?;
            if shape.len() == 1 {
                taken = sketch.unsqueeze(&taken, &[0])?;
            }
            Ok(sketch.finish([taken]))
        }),
        open: Box::new(|inputs| {
            let input = required(inputs, 0)?;
            Ok(vec![Fact::open(input.dtype, input.rank().map(|rank| unknown(rank.max(2))))])
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}

/// 1 where the input is above the threshold, else 0.
pub(super) fn binarizer(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let threshold = f64::from(spec.attributes.float_or("threshold", 0.0)?);
    composed(Composed {
        name: "Binarizer",
        shape_inputs: &[],
        compose: over_shape(move |_, input| {
            let mut sketch = Sketch::new();
            // No integer lies between the threshold and the integer below it.
            let limit = if input.dtype.is_float() { threshold } else { threshold.floor() };
            let above = sketch.op("Greater", &[&Wire::Input(0), &number(input.dtype, limit)?])?;
            let output = sketch.cast(&above, input.dtype)?;
            Ok(sketch.finish([output]))
        }),
        open: Box::new(same_extents),
        rows: Box::new(|query| query.elementwise()),
    })
}
