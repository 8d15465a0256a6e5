//! Two-operand and variadic arithmetic with numpy broadcasting.

use std::sync::Arc;

use super::arguments::required;
use super::broadcast::{Numbers, common_dims, common_shape, indices, wrapped};
use super::functions::of_class;
use super::registry::OpSpec;
use super::{narrow, norm_pattern, rotation_pattern, softmax_pattern};
use crate::engine::ir::{Class, Fact, Fused, Node, Op, PointwiseBuilder, Reg, Rows, RowsQuery, Surroundings};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// How two elements become one.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// On floats.
    real: fn(f64, f64) -> f64,
    /// On integers; `None` where that is undefined (division by zero).
    whole: fn(i64, i64) -> Option<i64>,
    /// What the shader's functions for it are called, the class left out.
    function: &'static str,
    /// Whether 32-bit results of 32-bit values never leave the range.
    bounded: bool,
}

/// numpy's maximum: NaN wins.
fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Powers by squaring, wrapping; negative exponents truncate as a real power would.
fn integer_power(base: i64, exponent: i64) -> Option<i64> {
    match u32::try_from(exponent) {
        Ok(exponent) => Some(base.wrapping_pow(exponent)),
        Err(_) if exponent > 0 => Some((base as f64).powf(exponent as f64) as i64),
        Err(_) => Some(match base {
            1 => 1,
            -1 => {
                if exponent % 2 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        }),
    }
}

static ADD: Kind =
    Kind { name: "Add", real: |a, b| a + b, whole: |a, b| Some(a.wrapping_add(b)), function: "add", bounded: false };
static SUB: Kind =
    Kind { name: "Sub", real: |a, b| a - b, whole: |a, b| Some(a.wrapping_sub(b)), function: "sub", bounded: false };
static MUL: Kind =
    Kind { name: "Mul", real: |a, b| a * b, whole: |a, b| Some(a.wrapping_mul(b)), function: "mul", bounded: false };
static DIV: Kind =
    Kind { name: "Div", real: |a, b| a / b, whole: |a, b| a.checked_div(b), function: "div", bounded: false };
static POW: Kind = Kind { name: "Pow", real: f64::powf, whole: integer_power, function: "pow", bounded: false };
static MAX: Kind = Kind { name: "Max", real: maximum, whole: |a, b| Some(a.max(b)), function: "max", bounded: true };
static MIN: Kind = Kind { name: "Min", real: minimum, whole: |a, b| Some(a.min(b)), function: "min", bounded: true };
static SUM: Kind = Kind { name: "Sum", ..copy_of_add() };

const fn copy_of_add() -> Kind {
    Kind { name: "Add", real: |a, b| a + b, whole: |a, b| Some(a.wrapping_add(b)), function: "add", bounded: false }
}

static MEAN: Kind = Kind { name: "Mean", ..copy_of_add() };

macro_rules! constructors {
    ($($function:ident => $kind:ident),* $(,)?) => {
        $(pub(super) fn $function(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> { Ok(Arc::new(Arithmetic { kind: &$kind })) })*
    };
}

constructors! {
    add => ADD, sub => SUB, mul => MUL, div => DIV, pow => POW, max => MAX, min => MIN, sum => SUM, mean => MEAN,
}

/// A left fold of one binary function over the inputs; `Mean` divides by their number at the end.
#[derive(Debug)]
pub(super) struct Arithmetic {
    kind: &'static Kind,
}

impl Arithmetic {
    /// Which one it is.
    pub(super) fn name_of(&self) -> &'static str {
        self.kind.name
    }

    fn is_mean(&self) -> bool {
        self.kind.name == "Mean"
    }

    /// Whether it raises to the power of two.
    fn is_square(&self, builder: &PointwiseBuilder<'_>) -> bool {
        let exponent = builder.fact(1).and_then(|fact| fact.value.as_ref()).filter(|v| v.shape().elements() == 1);
        let exponent = exponent.and_then(|value| value.to_f64s().ok());
        self.kind.name == "Pow" && exponent.is_some_and(|values| values[0] == 2.0)
    }

    fn fold_real(&self, inputs: &[&Tensor], dtype: DType) -> Result<Tensor> {
        let shape = common_shape(inputs.iter().map(|t| t.shape()))?;
        let mut result: Option<Vec<f64>> = None;
        for tensor in inputs {
            let (values, at) = (tensor.to_f64s()?, indices(tensor.shape(), &shape));
            let spread = at.into_iter().map(|i| values[i]);
            result = Some(match result {
                None => spread.collect(),
                Some(so_far) => so_far.into_iter().zip(spread).map(|(a, b)| (self.kind.real)(a, b)).collect(),
            });
        }
        let mut result = result.unwrap_or_default();
        if self.is_mean() {
            result.iter_mut().for_each(|v| *v /= inputs.len() as f64);
        }
        Tensor::from_f64s(dtype, shape, &result)
    }

    fn fold_whole(&self, inputs: &[&Tensor], dtype: DType) -> Result<Tensor> {
        let shape = common_shape(inputs.iter().map(|t| t.shape()))?;
        let mut result: Option<Vec<i64>> = None;
        for tensor in inputs {
            let at = indices(tensor.shape(), &shape);
            let spread: Vec<i64> = match Numbers::of(tensor)? {
                Numbers::Whole(values) => at.into_iter().map(|i| values[i]).collect(),
                Numbers::Real(values) => at.into_iter().map(|i| values[i] as i64).collect(),
            };
            let apply = |(a, b): (i64, i64)| {
                let unsigned = dtype == DType::U64 && self.kind.name != "Add";
                let value = if unsigned { self.unsigned(a, b) } else { (self.kind.whole)(a, b) };
                value.ok_or_else(|| Error::invalid_argument("integer division by zero"))
            };
            result = Some(match result {
                None => spread,
                Some(so_far) => so_far.into_iter().zip(spread).map(apply).collect::<Result<_>>()?,
            });
        }
        wrapped(dtype, shape, &result.unwrap_or_default())
    }

    /// Where the sign bit matters: division and order of 64-bit unsigned integers.
    fn unsigned(&self, a: i64, b: i64) -> Option<i64> {
        let (ua, ub) = (a.cast_unsigned(), b.cast_unsigned());
        match self.kind.name {
            "Div" => ua.checked_div(ub).map(u64::cast_signed),
            "Max" => Some(ua.max(ub).cast_signed()),
            "Min" => Some(ua.min(ub).cast_signed()),
            _ => (self.kind.whole)(a, b),
        }
    }
}

impl Op for Arithmetic {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let facts: Vec<&Fact> = inputs.iter().flatten().copied().collect();
        let dtype = required(inputs, 0)?.dtype;
        Ok(vec![Fact::open(dtype, common_dims(&facts)?)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let dtype = required(inputs, 0)?.dtype();
        let tensors: Vec<&Tensor> = inputs.iter().flatten().copied().collect();
        let any_real = tensors.iter().any(|t| t.dtype().is_float());
        let whole = !dtype.is_float() && !any_real;
        Ok(vec![if whole { self.fold_whole(&tensors, dtype)? } else { self.fold_real(&tensors, dtype)? }])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn scales_channels(&self, inputs: &[Option<&Fact>]) -> Option<[usize; 2]> {
        let [Some(a), Some(b)] = inputs[..] else { return None };
        let (a, b) = (a.shape()?, b.shape()?);
        // One of them has the extents of the other's first two axes and none besides.
        let scales = |scale: &[usize], whole: &[usize]| {
            let alike = scale.len() == whole.len() && whole.len() > 2 && scale[..2] == whole[..2];
            alike && scale[2..].iter().all(|n| *n == 1)
        };
        match (self.kind.name, scales(&b, &a), scales(&a, &b)) {
            ("Mul", true, _) => Some([0, 1]),
            ("Mul", _, true) => Some([1, 0]),
            _ => None,
        }
    }

    fn fuse(&self, node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
        let norm = norm_pattern::recognised(node, around).or_else(|| softmax_pattern::recognised(node, around));
        norm.or_else(|| rotation_pattern::recognised(node, around))
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let dtype = builder.output_dtype();
        let class = builder.class_of(dtype)?;
        // 64-bit results may leave the 32 bits that they lie in.
        let wide_enough = self.kind.bounded || class.is_wide() || dtype.bits() <= 32;
        let wraps = !self.kind.bounded && narrow::is_narrow(dtype);
        let function = of_class(self.kind.function, class)?;
        let count = builder.input_count();
        // Whole numbers are not rounded before they meet a real one.
        let mixed = (0..count).any(|i| builder.fact(i).is_some_and(|f| f.dtype.is_float() != dtype.is_float()));
        let real_into_whole = mixed && !dtype.is_float();
        if !wide_enough || real_into_whole || (self.is_mean() && class != Class::F32) {
            return None;
        }
        let mut result = builder.input(0)?;
        if class == Class::F32 && self.is_square(builder) {
            return Some(builder.call("mul_f", &[result, result], class));
        }
        for i in 1..count {
            let next = builder.input(i)?;
            let next = builder.convert(next, class);
            result = builder.call(function, &[result, next], class);
            if wraps {
                result = narrow::wrap(builder, result, dtype)?;
            }
        }
        if self.is_mean() {
            let count = builder.constant_f32(1.0 / count as f32);
            result = builder.call("mul_f", &[result, count], class);
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::Attributes;

    fn run(build: fn(&OpSpec<'_>) -> Result<Arc<dyn Op>>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let spec = OpSpec { domain: "", name: "", opset: 17, attributes: &Attributes::new(), inputs: 2, outputs: 1 };
        build(&spec)?.evaluate(&[Some(a), Some(b)]).map(|mut outputs| outputs.remove(0))
    }

    #[test]
    fn integers_wrap_truncate_and_refuse_zero() {
        let a = Tensor::from_vec([3], vec![250u8, 7, 9]).expect("three");
        let b = Tensor::from_vec([1], vec![10u8]).expect("one");
        assert_eq!(run(add, &a, &b).expect("adds").values::<u8>().expect("u8").as_ref(), [4, 17, 19]);
        let (a, b) = (Tensor::scalar(-7i64), Tensor::scalar(2i64));
        assert_eq!(run(div, &a, &b).expect("divides").values::<i64>().expect("i64").as_ref(), [-3]);
        assert!(run(div, &a, &Tensor::scalar(0i64)).is_err());
    }

    #[test]
    fn nan_wins_in_max_and_min() {
        let (a, b) = (Tensor::scalar(f32::NAN), Tensor::scalar(1.0f32));
        for build in [max, min] {
            assert!(run(build, &b, &a).expect("compares").values::<f32>().expect("f32")[0].is_nan());
        }
    }
}
