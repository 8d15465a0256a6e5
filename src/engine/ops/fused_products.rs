//! Products and convolutions with what optimisers of models put into them: transpositions, residuals, activations.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Attributes, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// α a b, either side transposed in its last two axes, its first axis put before the last one beforehand.
pub(super) fn fused_matmul(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let alpha = spec.attributes.float_or("alpha", 1.0)?;
    let flag = |name| spec.attributes.flag_or(name, false);
    let transposed = [flag("transA")?, flag("transB")?];
    let batch_last = [flag("transBatchA")?, flag("transBatchB")?];
    written("FusedMatMul", spec, move |sketch, inputs| {
        let mut sides = [Wire::Input(0), Wire::Input(1)];
        for (i, side) in sides.iter_mut().enumerate() {
            let rank = required(inputs, i)?.rank().unwrap_or(0);
            let mut order: Vec<usize> = (0..rank).collect();
            if batch_last[i] && rank > 2 {
                order[..rank - 1].rotate_left(1);
            }
            if transposed[i] && rank > 1 {
                order.swap(rank - 2, rank - 1);
            }
            if !order.is_sorted() {
                *side = sketch.transpose(side, &order)?;
            }
        }
        let y = sketch.op("MatMul", &[&sides[0], &sides[1]])?;
        if alpha == 1.0 {
            return Ok(vec![y]);
        }
        Ok(vec![sketch.op("Mul", &[&y, &number(required(inputs, 0)?.dtype, f64::from(alpha))?])?])
    })
}

/// Conv, then input 3 added, then an activation.
pub(super) fn fused_conv(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let own = ["activation", "activation_params"];
    let activation = activation(spec, &spec.attributes.floats(own[1])?.unwrap_or_default())?;
    let conv = without(spec.attributes, &own);
    written("FusedConv", spec, move |sketch, inputs| {
        let mut y = of_three(sketch, "Conv", inputs, &conv)?;
        if optional(inputs, 3).is_some() {
            y = sketch.op("Add", &[&y, &Wire::Input(3)])?;
        }
        Ok(vec![activation.apply(sketch, y, required(inputs, 0)?.dtype)?])
    })
}

/// Gemm, then an activation.
pub(super) fn fused_gemm(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let own = ["activation", "activation_alpha", "activation_beta", "activation_gamma"];
    let numbers: Vec<f32> =
        own[1..].iter().filter_map(|name| spec.attributes.float(name).transpose()).collect::<Result<_>>()?;
    let activation = activation(spec, &numbers)?;
    let gemm = without(spec.attributes, &own);
    written("FusedGemm", spec, move |sketch, inputs| {
        let y = of_three(sketch, "Gemm", inputs, &gemm)?;
        Ok(vec![activation.apply(sketch, y, required(inputs, 0)?.dtype)?])
    })
}

fn without(attributes: &Attributes, own: &[&str]) -> Attributes {
    let mut rest = Attributes::new();
    for (name, value) in attributes.iter().filter(|(name, _)| !own.contains(name)) {
        rest.set(name, value.clone());
    }
    rest
}

/// Operator `name` of the first three inputs.
fn of_three(sketch: &mut Sketch, name: &str, inputs: &[Option<&Fact>], attributes: &Attributes) -> Result<Wire> {
    let given = (0..3).map(|i| optional(inputs, i).map(|_| Wire::Input(i))).collect();
    let listed: Vec<(&str, Attribute)> = attributes.iter().map(|(name, value)| (name, value.clone())).collect();
    Ok(sketch.many(("", name), given, &listed, 1)?.remove(0))
}

/// A function by its operator's name, with that operator's parameters.
struct Activation {
    name: String,
    parameters: Vec<(&'static str, f32)>,
}

/// The activation that a node names, if any, whose parameters are `numbers` in their order.
fn activation(spec: &OpSpec<'_>, numbers: &[f32]) -> Result<Activation> {
    let name = spec.attributes.string_or("activation", "")?;
    let names: &[&'static str] = match name.as_str() {
        "" | "Relu" | "Tanh" | "Sigmoid" | "Softplus" | "Softsign" => &[],
        "LeakyRelu" | "Elu" | "ThresholdedRelu" => &["alpha"],
        "HardSigmoid" => &["alpha", "beta"],
        "Clip" => &["min", "max"],
        other => return Err(Error::unimplemented(format!("activation {other:?} of {}", spec.name))),
    };
    Ok(Activation { name, parameters: names.iter().copied().zip(numbers.iter().copied()).collect() })
}

impl Activation {
    fn apply(&self, sketch: &mut Sketch, y: Wire, dtype: DType) -> Result<Wire> {
        match self.name.as_str() {
            "" => Ok(y),
            "Clip" => {
                let bounds = self.parameters.iter().map(|(_, bound)| number(dtype, f64::from(*bound)));
                let bounds = bounds.collect::<Result<Vec<_>>>()?;
                sketch.op("Clip", &std::iter::once(&y).chain(&bounds).collect::<Vec<_>>())
            }
            name => {
                let listed = self.parameters.iter().map(|(name, value)| (*name, Attribute::Float(*value)));
                sketch.with(name, &[&y], &listed.collect::<Vec<_>>())
            }
        }
    }
}
