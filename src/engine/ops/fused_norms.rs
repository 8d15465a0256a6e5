//! Sums that are normalised at once: residuals with layer normalisation, and BERT's embeddings.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

fn epsilon(spec: &OpSpec<'_>) -> Result<Attribute> {
    Ok(Attribute::Float(spec.attributes.float_or("epsilon", 1e-12)?))
}

fn given(inputs: &[Option<&Fact>], i: usize) -> Option<Wire> {
    optional(inputs, i).map(|_| Wire::Input(i))
}

/// Inputs x, skip, γ, then β (layer normalisation only), then a bias of the sum. Outputs y, mean, inverse deviation, sum.
pub(super) fn skip_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let simple = spec.name == "SkipSimplifiedLayerNormalization";
    let name = if simple { "SkipSimplifiedLayerNormalization" } else { "SkipLayerNormalization" };
    let epsilon = epsilon(spec)?;
    written(name, spec, move |sketch, inputs| {
        let mut sum = sketch.op("Add", &[&Wire::Input(0), &Wire::Input(1)])?;
        if let Some(bias) = given(inputs, if simple { 3 } else { 4 }) {
            sum = sketch.op("Add", &[&sum, &bias])?;
        }
        let attributes = [("epsilon", epsilon.clone())];
        if !simple {
            let all = vec![Some(sum.clone()), Some(Wire::Input(2)), given(inputs, 3)];
            let mut outputs = sketch.many(("", "LayerNormalization"), all, &attributes, 3)?;
            outputs.push(sum);
            return Ok(outputs);
        }
        let y = sketch.with("RMSNormalization", &[&sum, &Wire::Input(2)], &attributes)?;
        let last = required(inputs, 0)?.rank().unwrap_or(0).saturating_sub(1);
        let mean = sketch.reduce("ReduceMean", &sum, &[last], true)?;
        let size = sketch.reduce("ReduceL2", &sum, &[last], true)?;
        let count = required(inputs, 0)?.concrete()?[last] as f64;
        let root = sketch.op("Div", &[&size, &number(required(inputs, 0)?.dtype, count.sqrt())?])?;
        let inverse = sketch.op("Reciprocal", &[&root])?;
        Ok(vec![y, mean, inverse, sum])
    })
}

/// Inputs words and segments [batch, steps], the tables of words, positions and segments, γ, β, mask and positions; outputs the
/// normalised sum of the embeddings, how many entries of each row the mask has, and the sum.
pub(super) fn embed_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let epsilon = epsilon(spec)?;
    written("EmbedLayerNormalization", spec, move |sketch, inputs| {
        let words = required(inputs, 0)?.concrete()?;
        let &[batch, steps] = &words[..] else {
            return Err(Error::invalid_argument(format!("embeddings of words {words}")));
        };
        let mut sum = sketch.op("Gather", &[&Wire::Input(2), &Wire::Input(0)])?;
        let positions = match given(inputs, 8) {
            Some(positions) => sketch.op("Gather", &[&Wire::Input(3), &positions])?,
            None => sketch.slice(&Wire::Input(3), 0, 0, steps)?,
        };
        sum = sketch.op("Add", &[&sum, &positions])?;
        if let (Some(segments), Some(table)) = (given(inputs, 1), given(inputs, 4)) {
            let segments = sketch.op("Gather", &[&table, &segments])?;
            sum = sketch.op("Add", &[&sum, &segments])?;
        }
        let y = sketch.with(
            "LayerNormalization",
            &[&sum, &Wire::Input(5), &Wire::Input(6)],
            &[("epsilon", epsilon.clone())],
        )?;
        Ok(vec![y, mask_counts(sketch, inputs, batch)?, sum])
    })
}

fn mask_counts(sketch: &mut Sketch, inputs: &[Option<&Fact>], batch: usize) -> Result<Wire> {
    match given(inputs, 7) {
        Some(mask) => {
            let mask = sketch.cast(&mask, DType::I32)?;
            sketch.reduce("ReduceSum", &mask, &[1], false)
        }
        None => Ok(Wire::Constant(Tensor::from_vec([batch], vec![0i32; batch])?)),
    }
}
