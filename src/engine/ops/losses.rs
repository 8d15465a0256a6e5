//! Losses: negative log-likelihood and softmax cross entropy.

use std::sync::Arc;

use super::arguments::{made, optional, required};
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// What becomes of the losses of single elements.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reduction {
    None,
    Sum,
    /// Weighted, by the weights of the classes that are right.
    Mean,
}

/// What both losses are told.
#[derive(Clone, Copy, Debug)]
struct Settings {
    reduction: Reduction,
    /// Elements of this class do not count.
    ignored: Option<i64>,
    weighted: bool,
}

fn settings(spec: &OpSpec<'_>) -> Result<Settings> {
    let reduction = match spec.attributes.string_or("reduction", "mean")?.as_str() {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => return Err(Error::invalid_argument(format!("reduction {other:?}"))),
    };
    Ok(Settings { reduction, ignored: spec.attributes.int("ignore_index")?, weighted: spec.inputs > 2 })
}

/// The loss for `scores` (logarithms of probabilities) of shape [N, C, d…], and the right classes [N, d…] in input 1.
fn loss(sketch: &mut Sketch, scores: &Wire, shape: &Shape, inputs: &[Option<&Fact>], told: Settings) -> Result<Wire> {
    let (dtype, classes) = (required(inputs, 0)?.dtype, required(inputs, 1)?.dtype);
    let count = *shape.get(1).ok_or_else(|| Error::invalid_argument(format!("scores {shape} without classes")))?;
    let mut along = vec![1; shape.rank()];
    along[1] = count;
    let right = sketch.unsqueeze(&Wire::Input(1), &[1])?;
    let numbers: Vec<f64> = (0..made([count])?).map(|c| c as f64).collect();
    let numbers = Wire::Constant(Tensor::from_f64s(classes, along.clone(), &numbers)?);
    let mut chosen = sketch.op("Equal", &[&right, &numbers])?;
    if let Some(ignored) = told.ignored {
        let ignored = Wire::Constant(Tensor::from_f64s(classes, Vec::new(), &[ignored as f64])?);
        let is_ignored = sketch.op("Equal", &[&right, &ignored])?;
        let counts = sketch.op("Not", &[&is_ignored])?;
        chosen = sketch.op("And", &[&chosen, &counts])?;
    }
    let zero = number(dtype, 0.0)?;
    let weights = if told.weighted && optional(inputs, 2).is_some() {
        sketch.reshape(&Wire::Input(2), &along)?
    } else {
        number(dtype, 1.0)?
    };
    let weights = sketch.op("Where", &[&chosen, &weights, &zero])?;
    let weights = sketch.reduce("ReduceSum", &weights, &[1], false)?;
    let scores = sketch.op("Where", &[&chosen, scores, &zero])?;
    let scores = sketch.reduce("ReduceSum", &scores, &[1], false)?;
    let weighted = sketch.op("Mul", &[&scores, &weights])?;
    let losses = sketch.op("Neg", &[&weighted])?;
    let all: Vec<usize> = (0..shape.rank() - 1).collect();
    match told.reduction {
        Reduction::None => Ok(losses),
        Reduction::Sum => sketch.reduce("ReduceSum", &losses, &all, false),
        Reduction::Mean => {
            let sum = sketch.reduce("ReduceSum", &losses, &all, false)?;
            let weight = sketch.reduce("ReduceSum", &weights, &all, false)?;
            sketch.op("Div", &[&sum, &weight])
        }
    }
}

fn open(inputs: &[Option<&Fact>], told: Settings) -> Result<Fact> {
    let dtype = required(inputs, 0)?.dtype;
    Ok(match told.reduction {
        Reduction::None => Fact::open(dtype, required(inputs, 1)?.dims.clone()),
        _ => Fact::of_shape(dtype, &[]),
    })
}

pub(super) fn negative_log_likelihood(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let told = settings(spec)?;
    composed(Composed {
        name: "NegativeLogLikelihoodLoss",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let Some(shape) = required(inputs, 0)?.shape() else { return Ok(None) };
            let mut sketch = Sketch::new();
            let loss = loss(&mut sketch, &Wire::Input(0), &shape, inputs, told)?;
            Ok(Some(sketch.finish([loss])))
        }),
        open: Box::new(move |inputs| Ok(vec![open(inputs, told)?])),
        rows: Box::new(|query| query.default_answer()),
    })
}

pub(super) fn softmax_cross_entropy(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let (told, outputs) = (settings(spec)?, spec.outputs);
    composed(Composed {
        name: "SoftmaxCrossEntropyLoss",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let Some(shape) = required(inputs, 0)?.shape() else { return Ok(None) };
            let mut sketch = Sketch::new();
            let scores = sketch.with("LogSoftmax", &[&Wire::Input(0)], &[("axis", Attribute::Int(1))])?;
            let loss = loss(&mut sketch, &scores, &shape, inputs, told)?;
            Ok(Some(sketch.finish([loss, scores].into_iter().take(outputs))))
        }),
        open: Box::new(move |inputs| {
            let scores = Fact { value: None, ..required(inputs, 0)?.clone() };
            Ok([open(inputs, told)?, scores].into_iter().take(outputs).collect())
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}
