//! Norms of vectors inside a tensor: LpNormalization and GlobalLpPool.

use std::sync::Arc;

use super::arguments::axis_of;
use super::composed::{Composed, composed, over_shape, push, same_extents, same_rank};
use super::registry::OpSpec;
use crate::engine::ir::{Attribute, Attributes, Expansion, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// The order of a norm, at least 1; a float in the oldest operators.
pub(super) fn order(spec: &OpSpec<'_>) -> Result<f32> {
    let p = match spec.attributes.get("p") {
        Some(Attribute::Float(p)) => *p,
        _ => spec.attributes.int_or("p", 2)? as f32,
    };
    if p >= 1.0 && p.is_finite() { Ok(p) } else { Err(Error::invalid_argument(format!("a norm of order {p}"))) }
}

fn scalar(dtype: DType, value: f64) -> Result<Option<Wire>> {
    Ok(Some(Wire::Constant(Tensor::from_f64s(dtype, Vec::new(), &[value])?)))
}

/// (Σ |x|^p)^(1/p) along `axes`, which stay with extent 1.
fn norm(expansion: &mut Expansion, p: f32, axes: &[usize], dtype: DType) -> Result<Wire> {
    let mut attributes = Attributes::new();
    attributes.set("axes", Attribute::Ints(axes.iter().map(|a| *a as i64).collect()));
    let x = Some(Wire::Input(0));
    if p == 1.0 || p == 2.0 {
        return push(expansion, if p == 1.0 { "ReduceL1" } else { "ReduceL2" }, &attributes, vec![x]);
    }
    let none = Attributes::new();
    let size = push(expansion, "Abs", &none, vec![x])?;
    let power = push(expansion, "Pow", &none, vec![Some(size), scalar(dtype, f64::from(p))?])?;
    // ReduceSum takes its axes as an input from opset 13 on; the attribute is read all the same.
    let sum = push(expansion, "ReduceSum", &attributes, vec![Some(power)])?;
    push(expansion, "Pow", &none, vec![Some(sum), scalar(dtype, 1.0 / f64::from(p))?])
}

pub(super) fn global_lp_pool(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let p = order(spec)?;
    composed(Composed {
        name: "GlobalLpPool",
        shape_inputs: &[],
        compose: over_shape(move |shape, input| {
            let mut expansion = Expansion::default();
            let axes: Vec<usize> = (2..shape.len()).collect();
            let y = norm(&mut expansion, p, &axes, input.dtype)?;
            expansion.outputs.push(Some(y));
            Ok(expansion)
        }),
        open: Box::new(same_rank),
        rows: Box::new(|query| query.leading_of_first()),
    })
}

pub(super) fn lp_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let p = order(spec)?;
    let given = spec.attributes.int_or("axis", -1)?;
    composed(Composed {
        name: "LpNormalization",
        shape_inputs: &[],
        compose: over_shape(move |shape, input| {
            let mut expansion = Expansion::default();
            let none = Attributes::new();
            let size = norm(&mut expansion, p, &[axis_of(given, shape.len())?], input.dtype)?;
            // A vector of zeros stays zero: its norm is kept above 0.
            let least = if input.dtype == DType::F16 { 6e-8 } else { f64::from(f32::MIN_POSITIVE) };
            let divisor = push(&mut expansion, "Max", &none, vec![Some(size), scalar(input.dtype, least)?])?;
            let y = push(&mut expansion, "Div", &none, vec![Some(Wire::Input(0)), Some(divisor)])?;
            expansion.outputs.push(Some(y));
            Ok(expansion)
        }),
        open: Box::new(same_extents),
        rows: Box::new(move |query| {
            let rank = query.inputs.first().copied().flatten().and_then(Fact::rank).unwrap_or(0);
            axis_of(given, rank).map_or_else(|_| query.default_answer(), |axis| query.except_axes(&[axis]))
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_of_zeros_stays_zero() {
        let attributes = Attributes::new();
        let spec =
            OpSpec { domain: "", name: "LpNormalization", opset: 22, attributes: &attributes, inputs: 1, outputs: 1 };
        let x = Tensor::from_vec([2, 2], vec![3.0f32, 4.0, 0.0, 0.0]).expect("four");
        let y = lp_normalization(&spec).expect("it is there").evaluate(&[Some(&x)]).expect("it divides");
        assert_eq!(y[0].values::<f32>().expect("f32").as_ref(), [0.6, 0.8, 0.0, 0.0]);
    }
}
