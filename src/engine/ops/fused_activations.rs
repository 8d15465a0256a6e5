//! Activations of sums and products, as one operator: SwiGLU (Shazeer, 2020) and what optimisers of models write.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::written;
use super::registry::OpSpec;
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};

/// Swish of input 0 times input 1, of the same shape.
pub(super) fn swiglu(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let alpha = spec.attributes.float_or("alpha", 1.0)?;
    written("SwiGLU", spec, move |sketch, inputs| {
        let [a, b] = [required(inputs, 0)?, required(inputs, 1)?].map(Fact::concrete);
        let (a, b) = (a?, b?);
        if a != b {
            return Err(Error::invalid_argument(format!("SwiGLU of {a} and {b}")));
        }
        let gate = sketch.with("Swish", &[&Wire::Input(0)], &[("alpha", Attribute::Float(alpha))])?;
        Ok(vec![sketch.op("Mul", &[&gate, &Wire::Input(1)])?])
    })
}

/// Gelu of input 0 and, where it is given, the bias in input 1.
pub(super) fn bias_gelu(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let (name, form) = if spec.name == "FastGelu" { ("FastGelu", "tanh") } else { ("BiasGelu", "none") };
    written(name, spec, move |sketch, inputs| {
        let x = match optional(inputs, 1) {
            Some(_) => sketch.op("Add", &[&Wire::Input(0), &Wire::Input(1)])?,
            None => Wire::Input(0),
        };
        Ok(vec![sketch.with("Gelu", &[&x], &[("approximate", Attribute::String(form.into()))])?])
    })
}

/// x σ(αx).
pub(super) fn quick_gelu(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let alpha = Attribute::Float(spec.attributes.float_or("alpha", 1.702)?);
    written("QuickGelu", spec, move |sketch, _| {
        Ok(vec![sketch.with("Swish", &[&Wire::Input(0)], &[("alpha", alpha.clone())])?])
    })
}

/// Input 0, a bias along its last axis, and a residual.
pub(super) fn bias_add(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    written("BiasAdd", spec, |sketch, _| {
        let sum = sketch.op("Add", &[&Wire::Input(0), &Wire::Input(1)])?;
        Ok(vec![sketch.op("Add", &[&sum, &Wire::Input(2)])?])
    })
}
