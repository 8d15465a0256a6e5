//! Products of quantised numbers: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv and their relatives.
//!
//! `Σ (a − a₀)(b − b₀)` is computed exactly: in 32-bit floats where no partial sum can pass 2²⁴, else in 32-bit integers.
//! Constant weights stay packed: the product takes their zero points from them as it reads.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::centre::centre;
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::Sketch;
use super::weight_sums::WeightSums;
use crate::engine::ir::{Attribute, Attributes, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape};

/// Whole numbers that 32-bit floats hold all of.
const EXACT: f64 = 16_777_216.0;

/// Which inputs are which; `None` for what the operator has no place for.
#[derive(Clone, Copy, Debug)]
struct Layout {
    a: usize,
    b: usize,
    a_scale: Option<usize>,
    b_scale: Option<usize>,
    a_zero: Option<usize>,
    b_zero: Option<usize>,
    y_scale: Option<usize>,
    y_zero: Option<usize>,
    bias: Option<usize>,
}

const INTEGER: Layout = Layout {
    a: 0,
    b: 1,
    a_scale: None,
    b_scale: None,
    a_zero: Some(2),
    b_zero: Some(3),
    y_scale: None,
    y_zero: None,
    bias: None,
};

const LINEAR: Layout = Layout {
    a: 0,
    a_scale: Some(1),
    a_zero: Some(2),
    b: 3,
    b_scale: Some(4),
    b_zero: Some(5),
    y_scale: Some(6),
    y_zero: Some(7),
    bias: None,
};

const LINEAR_WITH_BIAS: Layout = Layout { bias: Some(8), ..LINEAR };

const GEMM: Layout = Layout { bias: Some(6), y_scale: Some(7), y_zero: Some(8), ..LINEAR };

const TO_FLOAT: Layout = Layout {
    a: 0,
    b: 1,
    a_scale: Some(2),
    b_scale: Some(3),
    a_zero: Some(4),
    b_zero: Some(5),
    y_scale: None,
    y_zero: None,
    bias: Some(6),
};

/// What multiplies.
#[derive(Clone, Debug)]
enum Kind {
    MatMul,
    /// With its attributes.
    Conv(Attributes),
    Gemm {
        alpha: f32,
        transpose: [bool; 2],
    },
}

/// Any operator of this file.
pub(super) fn quantized_product(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let conv = || Kind::Conv(spec.attributes.clone());
    let (name, layout, kind) = match spec.name {
        "MatMulInteger" => ("MatMulInteger", INTEGER, Kind::MatMul),
        "ConvInteger" => ("ConvInteger", INTEGER, conv()),
        "QLinearMatMul" => ("QLinearMatMul", LINEAR, Kind::MatMul),
        "QLinearConv" => ("QLinearConv", LINEAR_WITH_BIAS, conv()),
        "MatMulIntegerToFloat" => ("MatMulIntegerToFloat", TO_FLOAT, Kind::MatMul),
        "QGemm" => {
            let transpose = [spec.attributes.flag_or("transA", false)?, spec.attributes.flag_or("transB", false)?];
            ("QGemm", GEMM, Kind::Gemm { alpha: spec.attributes.float_or("alpha", 1.0)?, transpose })
        }
        other => return Err(Error::internal(format!("{other} is no quantised product"))),
    };
    let described = (layout, kind.clone());
    let weight_sums = WeightSums::default();
    composed(Composed {
        name,
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let (a, b) = (required(inputs, layout.a)?, required(inputs, layout.b)?);
            let (Some(a_shape), Some(b_shape)) = (a.shape(), b.shape()) else { return Ok(None) };
            let mut sketch = Sketch::new();
            let y = compose(&mut sketch, inputs, &layout, &kind, &weight_sums, [&a_shape, &b_shape])?;
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(move |inputs| open(inputs, &described.0, &described.1)),
        rows: Box::new(|query| query.default_answer()),
    })
}

fn open(inputs: &[Option<&Fact>], layout: &Layout, kind: &Kind) -> Result<Vec<Fact>> {
    let dtype = output_type(inputs, layout)?;
    let rank = match kind {
        Kind::Conv(_) => required(inputs, layout.a)?.rank(),
        _ => None,
    };
    Ok(vec![Fact { dtype, dims: rank.map(super::arguments::unknown), value: None }])
}

fn input(inputs: &[Option<&Fact>], place: Option<usize>) -> Option<usize> {
    place.filter(|i| optional(inputs, *i).is_some())
}

fn output_type(inputs: &[Option<&Fact>], layout: &Layout) -> Result<DType> {
    Ok(match (input(inputs, layout.y_zero), input(inputs, layout.y_scale), layout.a_scale) {
        (Some(zero), _, _) => required(inputs, zero)?.dtype,
        (None, Some(_), _) => DType::U8,
        (None, None, Some(scale)) => required(inputs, scale)?.dtype,
        (None, None, None) => DType::I32,
    })
}

/// The largest |x − zero| that elements of an input can have.
fn largest(inputs: &[Option<&Fact>], place: usize, zero: Option<usize>) -> f64 {
    let Some(fact) = optional(inputs, place) else { return 0.0 };
    let (low, high) = fact.dtype.small_range();
    let known = zero.and_then(|z| optional(inputs, z)?.value.as_ref()?.to_f64s().ok());
    let zeros = match (input(inputs, zero), known) {
        (None, _) => vec![0.0],
        (Some(_), Some(values)) => values,
        (Some(_), None) => vec![low as f64, high as f64],
    };
    zeros.iter().flat_map(|z| [low as f64 - z, high as f64 - z]).fold(0.0, |a, b| b.abs().max(a))
}

/// The input minus its zero point, whose shape in the product is `broadcast`, as numbers of `sums`.
fn centred(
    sketch: &mut Sketch,
    inputs: &[Option<&Fact>],
    place: usize,
    zero: Option<usize>,
    sums: DType,
    aligned: impl Fn(&mut Sketch, Wire, usize) -> Result<Wire>,
) -> Result<Wire> {
    let x = sketch.cast(&Wire::Input(place), sums)?;
    let Some(zero) = input(inputs, zero) else { return Ok(x) };
    let fact = required(inputs, zero)?;
    // Most weights are symmetric: nothing is subtracted then.
    if fact.value.as_ref().and_then(|v| v.to_f64s().ok()).is_some_and(|v| v.iter().all(|z| *z == 0.0)) {
        return Ok(x);
    }
    let count = fact.shape().map_or(1, |s| s.elements());
    let zero = aligned(sketch, Wire::Input(zero), count)?;
    let zero = sketch.cast(&zero, sums)?;
    sketch.op("Sub", &[&x, &zero])
}

/// Constant weights as a product takes them, transposed and packed, where zero points lie along one axis.
fn constant_weights(
    sketch: &mut Sketch,
    inputs: &[Option<&Fact>],
    layout: &Layout,
    kind: &Kind,
    sums: DType,
) -> Result<Option<Wire>> {
    let fact = required(inputs, layout.b)?;
    let Some(shape) = fact.shape().filter(|_| fact.value.is_some()) else { return Ok(None) };
    let zero = input(inputs, layout.b_zero).map(|i| (i, inputs[i].and_then(Fact::shape)));
    let axis = match &zero {
        None => None,
        Some((_, Some(shape))) if shape.elements() == 1 => None,
        Some((_, Some(zeros))) if zeros.rank() == 1 => match kind {
            Kind::Conv(_) => Some(0),
            _ => shape.rank().checked_sub(1),
        },
        Some(_) => return Ok(None),
    };
    let mut weights = Wire::Input(layout.b);
    if matches!(kind, Kind::Gemm { transpose: [_, true], .. }) {
        weights = sketch.transpose(&weights, &[1, 0])?;
    }
    let mut all = vec![&weights];
    let zero = zero.map(|(i, _)| Wire::Input(i));
    all.extend(&zero);
    Ok(Some(sketch.push(centre(sums, axis), &all)))
}

/// The most that sums can come to because of what constant weights hold; infinite where that is not known.
fn weight_bound(inputs: &[Option<&Fact>], layout: &Layout, kind: &Kind, sums: &WeightSums) -> f64 {
    let value = |i: usize| optional(inputs, i).and_then(|f| f.value.as_ref());
    let zero = input(inputs, layout.b_zero);
    let zeros = zero.and_then(value);
    let channels_first = matches!(kind, Kind::Conv(_) | Kind::Gemm { transpose: [_, true], .. });
    match value(layout.b) {
        Some(weights) if zero.is_some() == zeros.is_some() => {
            let bound = sums.bound(weights, zeros, channels_first).unwrap_or(f64::INFINITY);
            bound * largest(inputs, layout.a, layout.a_zero)
        }
        _ => f64::INFINITY,
    }
}

fn compose(
    sketch: &mut Sketch,
    inputs: &[Option<&Fact>],
    layout: &Layout,
    kind: &Kind,
    weight_sums: &WeightSums,
    [a, b]: [&Shape; 2],
) -> Result<Wire> {
    let terms = match kind {
        Kind::MatMul => a.last().copied().unwrap_or(1),
        Kind::Conv(_) => b.iter().skip(1).product(),
        Kind::Gemm { transpose, .. } => a.get(usize::from(!transpose[0])).copied().unwrap_or(1),
    };
    let bound = terms as f64 * largest(inputs, layout.a, layout.a_zero) * largest(inputs, layout.b, layout.b_zero);
    let exact = bound < EXACT || weight_bound(inputs, layout, kind, weight_sums) < EXACT;
    let sums = if exact { DType::F32 } else { DType::I32 };
    // Zero points of a: one, or one a row (before the last axis). Of b: one, or one a column or output channel.
    let rank = b.rank();
    let left = |sketch: &mut Sketch, zero: Wire, count: usize| {
        if count == 1 {
            sketch.reshape(&zero, &[])
        } else {
            sketch.unsqueeze(&zero, &[0]).and_then(|z| sketch.reshape(&z, &[count, 1]))
        }
    };
    let is_conv = matches!(kind, Kind::Conv(_));
    let transposed = matches!(kind, Kind::Gemm { transpose: [_, true], .. });
    let right = |sketch: &mut Sketch, zero: Wire, count: usize| match count {
        1 => sketch.reshape(&zero, &[]),
        _ if is_conv => {
            let mut along = vec![1; rank];
            along[0] = count;
            sketch.reshape(&zero, &along)
        }
        _ if transposed => sketch.reshape(&zero, &[count, 1]),
        _ => Ok(zero),
    };
    let mut x = centred(sketch, inputs, layout.a, layout.a_zero, sums, left)?;
    let weights = constant_weights(sketch, inputs, layout, kind, sums)?;
    let is_restored = weights.is_some();
    let mut w = match weights {
        Some(weights) => weights,
        None => centred(sketch, inputs, layout.b, layout.b_zero, sums, right)?,
    };
    let mut sum = match kind {
        Kind::Conv(attributes) => {
            let listed: Vec<(&str, Attribute)> = attributes.iter().map(|(n, v)| (n, v.clone())).collect();
            sketch.with("Conv", &[&x, &w], &listed)?
        }
        Kind::MatMul => sketch.op("MatMul", &[&x, &w])?,
        Kind::Gemm { transpose, .. } => {
            for (side, transposed) in [(&mut x, transpose[0]), (&mut w, transpose[1] && !is_restored)] {
                if transposed {
                    *side = sketch.transpose(side, &[1, 0])?;
                }
            }
            sketch.op("MatMul", &[&x, &w])?
        }
    };
    let (Some(a_scale), Some(b_scale)) = (layout.a_scale, layout.b_scale) else {
        return sketch.cast(&sum, DType::I32);
    };
    // The bias of quantised outputs is one of sums, that of float outputs one of results.
    let float_bias = layout.y_scale.is_none();
    let bias = match input(inputs, layout.bias) {
        Some(bias) if is_conv => {
            let mut along = vec![1; rank];
            along[1] = b[0];
            Some(sketch.reshape(&Wire::Input(bias), &along)?)
        }
        bias => bias.map(Wire::Input),
    };
    if let Some(bias) = bias.as_ref().filter(|_| !float_bias) {
        let bias = sketch.cast(bias, sums)?;
        sum = sketch.op("Add", &[&sum, &bias])?;
    }
    let scales = [a_scale, b_scale].map(|i| required(inputs, i).map(|f| (i, f)));
    let [(a_place, a_fact), (b_place, b_fact)] = match scales {
        [Ok(a), Ok(b)] => [a, b],
        [Err(e), _] | [_, Err(e)] => return Err(e),
    };
    let count = |fact: &Fact| fact.shape().map_or(1, |s| s.elements());
    let a_scale = left(sketch, Wire::Input(a_place), count(a_fact))?;
    let b_scale = match count(b_fact) {
        1 => sketch.reshape(&Wire::Input(b_place), &[])?,
        many if is_conv => {
            let mut along = vec![1; rank];
            along[1] = many;
            sketch.reshape(&Wire::Input(b_place), &along)?
        }
        _ => Wire::Input(b_place),
    };
    let [a_scale, b_scale] = [sketch.cast(&a_scale, DType::F32)?, sketch.cast(&b_scale, DType::F32)?];
    let scale = sketch.op("Mul", &[&a_scale, &b_scale])?;
    let sum = sketch.cast(&sum, DType::F32)?;
    let mut y = sketch.op("Mul", &[&sum, &scale])?;
    if let Kind::Gemm { alpha, .. } = kind
        && *alpha != 1.0
    {
        y = sketch.op("Mul", &[&y, &super::sketch::number(DType::F32, f64::from(*alpha))?])?;
    }
    if let Some(bias) = bias.filter(|_| float_bias) {
        let bias = sketch.cast(&bias, DType::F32)?;
        y = sketch.op("Add", &[&y, &bias])?;
    }
    let Some(y_scale) = input(inputs, layout.y_scale) else {
        return sketch.cast(&y, output_type(inputs, layout)?);
    };
    let y_scale = sketch.reshape(&Wire::Input(y_scale), &[])?;
    let y_scale = sketch.cast(&y_scale, DType::F32)?;
    match input(inputs, layout.y_zero) {
        Some(zero) => {
            let zero = sketch.reshape(&Wire::Input(zero), &[])?;
            sketch.op("QuantizeLinear", &[&y, &y_scale, &zero])
        }
        None => sketch.op("QuantizeLinear", &[&y, &y_scale]),
    }
}
