//! Linear quantisation: between real numbers and small types with a scale and a zero point.

use std::sync::Arc;

use half::{bf16, f16};

use super::arguments::{optional, required};
use super::narrow;
use super::quantize_grid::Grid;
use super::registry::{self, OpSpec};
use crate::engine::ir::{
    Attribute, Attributes, Class, Fact, Op, PointwiseBuilder, Quantized, Reg, Replacement, Rows, RowsQuery, Source,
};
use crate::error::{Error, Result};
use crate::tensor::small_float::Rounding;
use crate::tensor::{DType, Tensor};

fn grid(spec: &OpSpec<'_>) -> Result<Grid> {
    Ok(Grid { axis: spec.attributes.int_or("axis", 1)?, block: spec.attributes.int_or("block_size", 0)? })
}

pub(super) fn quantize(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Quantize {
        grid: grid(spec)?,
        to: spec.attributes.dtype("output_dtype")?,
        precision: spec.attributes.dtype("precision")?,
        rounding: Rounding { saturate: spec.attributes.flag_or("saturate", true)?, ..Rounding::default() },
    }))
}

pub(super) fn dequantize(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Dequantize { grid: grid(spec)?, to: spec.attributes.dtype("output_dtype")? }))
}

/// Rows of input 0 stay where they are when scales are constants that do not reach along them.
fn rows(query: &RowsQuery<'_>, grid: Grid) -> Vec<Rows> {
    let rank = query.inputs.first().copied().flatten().and_then(Fact::rank).unwrap_or(0);
    let whole = query.inputs.get(1).copied().flatten().and_then(Fact::shape).is_some_and(|s| s.elements() == 1);
    let blocked = query.inputs.get(1).copied().flatten().and_then(Fact::rank).is_some_and(|r| r > 1);
    let axis = usize::try_from(if grid.axis < 0 { grid.axis + rank as i64 } else { grid.axis });
    match axis {
        _ if whole => query.except_axes(&[]),
        Ok(axis) if !blocked => query.except_axes(&[axis]),
        _ => query.default_answer(),
    }
}

/// `saturate(round(x / scale) + zero)`.
#[derive(Debug)]
struct Quantize {
    grid: Grid,
    to: Option<DType>,
    precision: Option<DType>,
    rounding: Rounding,
}

impl Quantize {
    fn target(&self, zero: Option<DType>) -> Result<DType> {
        let to = zero.or(self.to).unwrap_or(DType::U8);
        let known = to.is_small_float() || to.is_integer() && to.bits() <= 16;
        if known { Ok(to) } else { Err(Error::invalid_argument(format!("{to} is no type to quantise to"))) }
    }
}

impl Op for Quantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        required(inputs, 1)?;
        let dtype = self.target(optional(inputs, 2).map(|f| f.dtype))?;
        Ok(vec![Fact::open(dtype, required(inputs, 0)?.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (values, scales, zeros) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let to = self.target(zeros.map(Tensor::dtype))?;
        let at = self.grid.indices(scales.shape(), values.shape())?;
        let precision = self.precision.unwrap_or(scales.dtype());
        let quotient = |v: f32, scale: f32| match precision {
            DType::F16 => f16::from_f32(v / scale).to_f64(),
            DType::BF16 => bf16::from_f32(v / scale).to_f64(),
            _ => f64::from(v / scale),
        };
        let (real, scale) = (values.to_f32s()?, scales.to_f32s()?);
        let zero = zeros.map(Tensor::to_f64s).transpose()?.unwrap_or_else(|| vec![0.0; scale.len()]);
        if zero.len() != scale.len() {
            return Err(Error::invalid_argument("there are not as many zero points as scales"));
        }
        let quantized = |(v, at): (&f32, &usize)| {
            let quotient = quotient(*v, scale[*at]);
            if to.is_small_float() { quotient + zero[*at] } else { whole(quotient) + zero[*at] }
        };
        let results: Vec<f64> = real.iter().zip(&at).map(quantized).collect();
        let shape = values.shape().clone();
        Ok(vec![match to.is_small_float() {
            true => Tensor::from_rounded(to, shape, &results, self.rounding)?,
            false => Tensor::from_f64s(to, shape, &results)?,
        }])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        rows(query, self.grid)
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let values = builder.fact(0)?.shape()?;
        let to = builder.output_dtype();
        let precision = self.precision.unwrap_or(builder.fact(1)?.dtype);
        let value = builder.input(0)?;
        let value = builder.convert(value, Class::F32);
        let scale = self.grid.read(builder, 1, &values)?;
        let scale = builder.convert(scale, Class::F32);
        let mut quotient = builder.call("div_f", &[value, scale], Class::F32);
        match precision {
            DType::F16 => quotient = builder.call("round_half", &[quotient], Class::F32),
            DType::BF16 => quotient = builder.call("round_bf16", &[quotient], Class::F32),
            _ => {}
        }
        let given = builder.fact(2).is_some();
        if to.is_small_float() {
            if given {
                let zero = self.grid.read(builder, 2, &values)?;
                quotient = builder.call("add_f", &[quotient, zero], Class::F32);
            }
            return narrow::round(builder, quotient, to, self.rounding);
        }
        let zero = if given { self.grid.read(builder, 2, &values)? } else { builder.constant_i32(0) };
        let zero = builder.convert(zero, Class::I32);
        let (low, high) = to.small_range();
        let low = builder.constant_i32(i32::try_from(low).ok()?);
        let high = builder.constant_i32(i32::try_from(high).ok()?);
        let result = builder.call("quantize", &[quotient, zero, low, high], Class::I32);
        let class = builder.class_of(to)?;
        Some(builder.convert(result, class))
    }
}

/// To the nearest integer, ties to even; NaN as 0.
fn whole(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.round_ties_even() }
}

/// `(x - zero) × scale`.
#[derive(Debug)]
struct Dequantize {
    grid: Grid,
    to: Option<DType>,
}

impl Op for Dequantize {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let dtype = self.to.unwrap_or(required(inputs, 1)?.dtype);
        Ok(vec![Fact::open(dtype, required(inputs, 0)?.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (values, scales, zeros) = (required(inputs, 0)?, required(inputs, 1)?, optional(inputs, 2));
        let at = self.grid.indices(scales.shape(), values.shape())?;
        let (real, scale) = (values.to_f64s()?, scales.to_f64s()?);
        let zero = zeros.map(Tensor::to_f64s).transpose()?.unwrap_or_else(|| vec![0.0; scale.len()]);
        if zero.len() != scale.len() {
            return Err(Error::invalid_argument("there are not as many zero points as scales"));
        }
        let results: Vec<f64> = real.iter().zip(&at).map(|(v, at)| (v - zero[*at]) * scale[*at]).collect();
        Ok(vec![Tensor::from_f64s(self.to.unwrap_or(scales.dtype()), values.shape().clone(), &results)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        rows(query, self.grid)
    }

    fn quantized(&self, constants: &[Option<&Tensor>]) -> Option<Quantized> {
        let (codes, scales) = (optional(constants, 0)?, optional(constants, 1)?);
        let zeros = optional(constants, 2);
        let to = self.to.unwrap_or(scales.dtype());
        let fits = matches!(to, DType::F32 | DType::F16 | DType::BF16)
            && zeros.is_none_or(|z| z.shape().elements() == scales.shape().elements());
        let layout = self.grid.layout(scales.shape(), codes.shape()).ok().filter(|_| fits)?;
        Some(Quantized { codes: codes.clone(), layout, scales: Some(scales.clone()), zeros: zeros.cloned() })
    }

    fn giving_transposed(&self, constants: &[Option<&Tensor>]) -> Result<Option<Replacement>> {
        let Some(weight) = self.quantized(constants).filter(|w| w.codes.shape().rank() == 2) else { return Ok(None) };
        let mut order = Attributes::new();
        order.set("perm", Attribute::Ints(vec![1, 0]));
        let spec = OpSpec { domain: "", name: "Transpose", opset: 13, attributes: &order, inputs: 1, outputs: 1 };
        let transpose = registry::build(&spec)?;
        let turned = |x: &Tensor| -> Result<Source> {
            let is_matrix = x.shape().rank() == 2;
            Ok(Source::Constant(if is_matrix { transpose.evaluate(&[Some(x)])?.remove(0) } else { x.clone() }))
        };
        let mut inputs = vec![Some(turned(&weight.codes)?)];
        for given in [weight.scales, weight.zeros] {
            inputs.push(given.as_ref().map(turned).transpose()?);
        }
        let axis = i64::from(matches!(self.grid.axis, 0 | -2));
        let op = Arc::new(Self { grid: Grid { axis, ..self.grid }, to: self.to });
        Ok(Some(Replacement { op, inputs }))
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let values = builder.fact(0)?.shape()?;
        if !matches!(builder.output_dtype(), DType::F32 | DType::F16 | DType::BF16) {
            return None;
        }
        let mut value = builder.input(0)?;
        if builder.fact(2).is_some() {
            let zero = self.grid.read(builder, 2, &values)?;
            let (class, subtract) =
                if builder.class(value) == Class::F32 { (Class::F32, "sub_f") } else { (Class::I32, "sub_i") };
            let (from, zero) = (builder.convert(value, class), builder.convert(zero, class));
            value = builder.call(subtract, &[from, zero], class);
        }
        let value = builder.convert(value, Class::F32);
        let scale = self.grid.read(builder, 1, &values)?;
        let scale = builder.convert(scale, Class::F32);
        Some(builder.call("mul_f", &[value, scale], Class::F32))
    }
}
