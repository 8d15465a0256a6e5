//! Normalisations by what a whole batch holds: BatchNormalization as training has it, MeanVarianceNormalization.

use std::sync::Arc;

use super::arguments::required;
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Fact, Op, Wire};
use crate::error::Result;

pub(super) fn mean_variance(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axes = spec.attributes.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    composed(Composed {
        name: "MeanVarianceNormalization",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let input = required(inputs, 0)?;
            let Some(shape) = input.shape() else { return Ok(None) };
            let axes = axes.iter().map(|a| super::arguments::axis_of(*a, shape.rank())).collect::<Result<Vec<_>>>()?;
            let mut sketch = Sketch::new();
            let mean = sketch.reduce("ReduceMean", &Wire::Input(0), &axes, true)?;
            let centred = sketch.op("Sub", &[&Wire::Input(0), &mean])?;
            let squared = sketch.op("Mul", &[&centred, &centred])?;
            let variance = sketch.reduce("ReduceMean", &squared, &axes, true)?;
            let deviation = sketch.op("Sqrt", &[&variance])?;
            let raised = sketch.op("Add", &[&deviation, &number(input.dtype, 1e-9)?])?;
            let y = sketch.op("Div", &[&centred, &raised])?;
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(super::composed::same_extents),
        rows: Box::new(|query| query.default_answer()),
    })
}

/// Batch normalisation that takes mean and variance from the batch, and moves the running ones towards them.
pub(super) fn batch_normalization_training(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let epsilon = f64::from(spec.attributes.float_or("epsilon", 1e-5)?);
    let momentum = f64::from(spec.attributes.float_or("momentum", 0.9)?);
    let outputs = spec.outputs;
    composed(Composed {
        name: "BatchNormalization",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let input = required(inputs, 0)?;
            let Some(shape) = input.shape().filter(|s| s.rank() >= 2) else { return Ok(None) };
            let dtype = input.dtype;
            let axes: Vec<usize> = (0..shape.rank()).filter(|a| *a != 1).collect();
            let mut along = vec![1; shape.rank()];
            along[1] = shape[1];
            let mut sketch = Sketch::new();
            let mean = sketch.reduce("ReduceMean", &Wire::Input(0), &axes, true)?;
            let centred = sketch.op("Sub", &[&Wire::Input(0), &mean])?;
            let squared = sketch.op("Mul", &[&centred, &centred])?;
            let variance = sketch.reduce("ReduceMean", &squared, &axes, true)?;
            let raised = sketch.op("Add", &[&variance, &number(dtype, epsilon)?])?;
            let deviation = sketch.op("Sqrt", &[&raised])?;
            let normal = sketch.op("Div", &[&centred, &deviation])?;
            let scale = sketch.reshape(&Wire::Input(1), &along)?;
            let bias = sketch.reshape(&Wire::Input(2), &along)?;
            let scaled = sketch.op("Mul", &[&normal, &scale])?;
            let y = sketch.op("Add", &[&scaled, &bias])?;
            let mut all = vec![y];
            for (running, now) in [(3, mean), (4, variance)].into_iter().take(outputs.saturating_sub(1)) {
                let own = required(inputs, running)?.dtype;
                let now = sketch.reshape(&now, &[shape[1]])?;
                let now = sketch.cast(&now, own)?;
                let kept = sketch.op("Mul", &[&Wire::Input(running), &number(own, momentum)?])?;
                let new = sketch.op("Mul", &[&now, &number(own, 1.0 - momentum)?])?;
                all.push(sketch.op("Add", &[&kept, &new])?);
            }
            Ok(Some(sketch.finish(all)))
        }),
        open: Box::new(move |inputs| {
            let facts = [0, 3, 4].into_iter().take(outputs);
            facts.map(|i| Ok(Fact { value: None, ..required(inputs, i)?.clone() })).collect()
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}
