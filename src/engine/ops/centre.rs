//! Integers less their zero point, in the type that a product sums in.

use std::sync::Arc;

use super::arguments::{optional, required};
use crate::engine::ir::{Class, Fact, Op, PointwiseBuilder, Quantized, Reg, Rows, RowsQuery, ScaleLayout};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// `x − zero`, exactly: inputs x and, where it is not 0, zero.
#[derive(Debug)]
struct Centre {
    /// f32 or i32.
    to: DType,
    /// The axis with a zero point for each entry; one for all otherwise.
    axis: Option<usize>,
}

/// The operator, giving `to`.
pub(super) fn centre(to: DType, axis: Option<usize>) -> Arc<dyn Op> {
    Arc::new(Centre { to, axis })
}

impl Op for Centre {
    fn name(&self) -> &'static str {
        "Centre"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        let zeros = optional(inputs, 1).and_then(Fact::shape).map(|s| s.elements());
        if let (Some(zeros), Some(shape)) = (zeros, x.shape()) {
            let along = self.axis.and_then(|axis| shape.get(axis).copied());
            if zeros != 1 && Some(zeros) != along {
                return Err(Error::invalid_argument(format!("{zeros} zero points for an input {shape}")));
            }
        }
        Ok(vec![Fact::open(self.to, x.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let x = required(inputs, 0)?;
        let zeros = optional(inputs, 1).map(Tensor::to_f64s).transpose()?.unwrap_or_else(|| vec![0.0]);
        let inner: usize = self.axis.map_or(1, |axis| x.shape()[axis + 1..].iter().product());
        let zero = |i: usize| zeros[i / inner.max(1) % zeros.len()];
        let values: Vec<f64> = x.to_f64s()?.iter().enumerate().map(|(i, v)| v - zero(i)).collect();
        Ok(vec![Tensor::from_f64s(self.to, x.shape().clone(), &values)?])
    }

    fn quantized(&self, constants: &[Option<&Tensor>]) -> Option<Quantized> {
        let layout = self.axis.map_or(ScaleLayout::Whole, ScaleLayout::Axis);
        let zeros = optional(constants, 1).cloned();
        Some(Quantized { codes: optional(constants, 0)?.clone(), layout, scales: None, zeros })
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.except_axes(self.axis.as_slice())
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let (class, subtract) = match self.to {
            DType::F32 => (Class::F32, "sub_f"),
            _ => (Class::I32, "sub_i"),
        };
        let x = builder.input(0)?;
        let x = builder.convert(x, class);
        if builder.fact(1).is_none() {
            return Some(x);
        }
        let zero = match self.axis {
            Some(axis) => builder.input_at(1, axis)?,
            None => {
                let shape = builder.fact(0)?.shape()?;
                builder.input_viewed(1, &[], &shape)?
            }
        };
        let zero = builder.convert(zero, class);
        Some(builder.call(subtract, &[x, zero], class))
    }
}
