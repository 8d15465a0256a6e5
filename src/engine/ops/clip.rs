//! Clip and PRelu: elementwise operators whose parameters are tensors.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::broadcast::{Numbers, indices, wrapped};
use super::functions::of_class;
use super::registry::OpSpec;
use crate::engine::ir::{Class, Fact, Op, PointwiseBuilder, Reg, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor, broadcast};

pub(super) fn clip(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // Bounds are attributes before opset 11, inputs since.
    Ok(Arc::new(Clip { min: spec.attributes.float("min")?, max: spec.attributes.float("max")? }))
}

/// Values cut to an interval whose ends may be missing.
#[derive(Debug)]
struct Clip {
    min: Option<f32>,
    max: Option<f32>,
}

impl Clip {
    fn bound(&self, inputs: &[Option<&Tensor>], i: usize) -> Result<Option<f64>> {
        if let Some(tensor) = optional(inputs, i) {
            return Ok(tensor.to_f64s()?.first().copied());
        }
        Ok([self.min, self.max][i - 1].map(f64::from))
    }
}

impl Op for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact { value: None, ..required(inputs, 0)?.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let shape = input.shape().clone();
        let output = match Numbers::of(input)? {
            Numbers::Real(values) => {
                let (low, high) = (self.bound(inputs, 1)?, self.bound(inputs, 2)?);
                let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
                // NaN stays; where the interval is empty its upper end wins.
                let cut = |x: &f64| if x.is_nan() { *x } else { x.max(low).min(high) };
                Tensor::from_f64s(input.dtype(), shape, &values.iter().map(cut).collect::<Vec<_>>())?
            }
            Numbers::Whole(values) => {
                let end = |i| -> Result<Option<i64>> {
                    Ok(match optional(inputs, i) {
                        Some(tensor) => tensor.to_i64s()?.first().copied(),
                        None => None,
                    })
                };
                let (low, high) = (end(1)?.unwrap_or(i64::MIN), end(2)?.unwrap_or(i64::MAX));
                wrapped(input.dtype(), shape, &values.iter().map(|x| (*x).max(low).min(high)).collect::<Vec<_>>())?
            }
        };
        Ok(vec![output])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let class = builder.class_of(builder.output_dtype())?;
        let functions = [of_class("max", class)?, of_class("min", class)?];
        let mut value = builder.input(0)?;
        for (i, attribute) in [(1, self.min), (2, self.max)] {
            let bound = match (builder.fact(i), attribute) {
                (Some(_), _) => builder.input(i)?,
                (None, Some(bound)) if class == Class::F32 => builder.constant_f32(bound),
                (None, Some(_)) => return None,
                (None, None) => continue,
            };
            value = builder.call(functions[i - 1], &[value, bound], class);
        }
        Some(value)
    }
}

pub(super) fn prelu(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(PRelu))
}

/// `x` where it is not negative, `slope × x` elsewhere.
#[derive(Debug)]
struct PRelu;

impl Op for PRelu {
    fn name(&self) -> &'static str {
        "PRelu"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        // The slope broadcasts to the input, never the other way.
        let (input, slope) = (required(inputs, 0)?, required(inputs, 1)?);
        if let (Some(input), Some(slope)) = (input.shape(), slope.shape())
            && broadcast(&input, &slope)? != input
        {
            return Err(Error::invalid_argument(format!("slopes {slope} for an input {input}")));
        }
        Ok(vec![Fact { value: None, ..input.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (input, slope) = (required(inputs, 0)?, required(inputs, 1)?);
        self.infer(&[Some(&Fact::from(input)), Some(&Fact::from(slope))])?;
        let (values, slopes) = (input.to_f64s()?, slope.to_f64s()?);
        let at = indices(slope.shape(), input.shape());
        let bent = values.iter().zip(at).map(|(x, s)| if *x < 0.0 { slopes[s] * x } else { *x });
        Ok(vec![Tensor::from_f64s(input.dtype(), input.shape().clone(), &bent.collect::<Vec<_>>())?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        if !matches!(builder.output_dtype(), DType::F32 | DType::F16) {
            return None;
        }
        let (value, slope) = (builder.input(0)?, builder.input(1)?);
        Some(builder.call("leaky_relu", &[value, slope], Class::F32))
    }
}
