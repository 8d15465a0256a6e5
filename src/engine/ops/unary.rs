//! Functions of one element, without and with attributes.

use std::sync::Arc;

use super::arguments::required;
use super::broadcast::{Numbers, wrapped};
use super::functions::of_class;
use super::narrow;
use super::registry::OpSpec;
use crate::engine::ir::{Class, Fact, Op, PointwiseBuilder, Reg, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// What becomes of the element type.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gives {
    Same,
    Bool,
}

/// A function of one element and up to two attributes.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    real: fn(f64, [f64; 2]) -> f64,
    /// On integers and bools; `None` where the operator takes floats only.
    whole: Option<fn(i64) -> i64>,
    /// The shader function of floats; it takes `parameters` further arguments.
    function: &'static str,
    /// The shader function of 32-bit integers, where results stay in range.
    function_i: &'static str,
    /// The shader function of bools.
    function_u: &'static str,
    /// Attributes in the shader function's order, with their defaults.
    parameters: &'static [(&'static str, f64)],
    gives: Gives,
}

const FLOAT: Kind = Kind {
    name: "",
    real: |x, _| x,
    whole: None,
    function: "",
    function_i: "",
    function_u: "",
    parameters: &[],
    gives: Gives::Same,
};

/// Abramowitz and Stegun would not do for an oracle: the series and continued fraction of erf, to double precision.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a > 6.0 {
        return x.signum();
    }
    if a < 2.5 {
        // erf x = 2/√π Σ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n+1))
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    // erfc x = exp(−x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …))))
    let fraction = (1..=60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
    x.signum() * (1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt()))
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// To the nearest integer, halves to the even one.
fn round_even(x: f64) -> f64 {
    x.round_ties_even()
}

/// NaN stays NaN, as numpy has it.
fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

fn keep_nan(x: f64, otherwise: f64) -> f64 {
    if x.is_nan() { x } else { otherwise }
}

static KINDS: &[Kind] = &[
    Kind {
        name: "Abs",
        real: |x, _| x.abs(),
        whole: Some(i64::wrapping_abs),
        function: "abs",
        function_i: "abs",
        ..FLOAT
    },
    Kind {
        name: "Neg",
        real: |x, _| -x,
        whole: Some(i64::wrapping_neg),
        function: "neg_f",
        function_i: "neg_i",
        ..FLOAT
    },
    Kind {
        name: "Sign",
        real: |x, _| sign(x),
        whole: Some(i64::signum),
        function: "sign_f",
        function_i: "sign",
        ..FLOAT
    },
    Kind {
        name: "Relu",
        real: |x, _| keep_nan(x, x.max(0.0)),
        whole: Some(|x| x.max(0)),
        function: "relu",
        function_i: "relu_i",
        ..FLOAT
    },
    Kind { name: "Exp", real: |x, _| x.exp(), function: "exp", ..FLOAT },
    Kind { name: "Log", real: |x, _| x.ln(), function: "log_f", ..FLOAT },
    Kind { name: "Sqrt", real: |x, _| x.sqrt(), function: "sqrt", ..FLOAT },
    Kind { name: "Reciprocal", real: |x, _| x.recip(), function: "reciprocal", ..FLOAT },
    Kind { name: "Floor", real: |x, _| x.floor(), function: "floor", ..FLOAT },
    Kind { name: "Ceil", real: |x, _| x.ceil(), function: "ceil", ..FLOAT },
    Kind { name: "Round", real: |x, _| round_even(x), function: "round", ..FLOAT },
    Kind { name: "Erf", real: |x, _| erf(x), function: "erf", ..FLOAT },
    Kind { name: "Sigmoid", real: |x, _| sigmoid(x), function: "sigmoid", ..FLOAT },
    Kind { name: "Tanh", real: |x, _| x.tanh(), function: "tanh_f", ..FLOAT },
    Kind { name: "Softplus", real: |x, _| softplus(x), function: "softplus", ..FLOAT },
    Kind { name: "Softsign", real: |x, _| x / (1.0 + x.abs()), function: "softsign", ..FLOAT },
    Kind { name: "HardSwish", real: |x, _| x * (x / 6.0 + 0.5).clamp(0.0, 1.0), function: "hard_swish", ..FLOAT },
    Kind { name: "Mish", real: |x, _| x * softplus(x).tanh(), function: "mish", ..FLOAT },
    Kind { name: "Sin", real: |x, _| x.sin(), function: "sin", ..FLOAT },
    Kind { name: "Cos", real: |x, _| x.cos(), function: "cos", ..FLOAT },
    Kind { name: "Tan", real: |x, _| x.tan(), function: "tan", ..FLOAT },
    Kind { name: "Asin", real: |x, _| x.asin(), function: "asin", ..FLOAT },
    Kind { name: "Acos", real: |x, _| x.acos(), function: "acos", ..FLOAT },
    Kind { name: "Atan", real: |x, _| x.atan(), function: "atan_f", ..FLOAT },
    Kind { name: "Sinh", real: |x, _| x.sinh(), function: "sinh", ..FLOAT },
    Kind { name: "Cosh", real: |x, _| x.cosh(), function: "cosh", ..FLOAT },
    Kind { name: "Asinh", real: |x, _| x.asinh(), function: "asinh", ..FLOAT },
    Kind { name: "Acosh", real: |x, _| x.acosh(), function: "acosh", ..FLOAT },
    Kind { name: "Atanh", real: |x, _| x.atanh(), function: "atanh", ..FLOAT },
    Kind {
        name: "IsNaN",
        real: |x, _| f64::from(u8::from(x.is_nan())),
        function: "is_nan",
        gives: Gives::Bool,
        ..FLOAT
    },
    Kind {
        name: "IsInf",
        real: |x, [negative, positive]| {
            f64::from(u8::from(x.is_infinite() && (if x < 0.0 { negative } else { positive }) != 0.0))
        },
        function: "is_inf",
        parameters: &[("detect_negative", 1.0), ("detect_positive", 1.0)],
        gives: Gives::Bool,
        ..FLOAT
    },
    Kind {
        name: "Not",
        real: |x, _| x,
        whole: Some(|x| i64::from(x == 0)),
        function_u: "not_u",
        gives: Gives::Bool,
        ..FLOAT
    },
    Kind {
        name: "LeakyRelu",
        real: |x, [alpha, _]| if x < 0.0 { alpha * x } else { x },
        function: "leaky_relu",
        parameters: &[("alpha", 0.01)],
        ..FLOAT
    },
    Kind {
        name: "ThresholdedRelu",
        real: |x, [alpha, _]| if x > alpha { x } else { keep_nan(x, 0.0) },
        function: "thresholded_relu",
        parameters: &[("alpha", 1.0)],
        ..FLOAT
    },
    Kind {
        name: "Elu",
        real: |x, [alpha, _]| if x < 0.0 { alpha * x.exp_m1() } else { x },
        function: "elu",
        parameters: &[("alpha", 1.0)],
        ..FLOAT
    },
    Kind {
        name: "Celu",
        real: |x, [alpha, _]| keep_nan(x, x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0)),
        function: "celu",
        parameters: &[("alpha", 1.0)],
        ..FLOAT
    },
    Kind {
        name: "Selu",
        real: |x, [alpha, gamma]| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() },
        function: "selu",
        parameters: &[("alpha", 1.673_263_192_176_818_8), ("gamma", 1.050_701_022_148_132_3)],
        ..FLOAT
    },
    Kind {
        name: "HardSigmoid",
        real: |x, [alpha, beta]| keep_nan(x, (alpha * x + beta).clamp(0.0, 1.0)),
        function: "hard_sigmoid",
        parameters: &[("alpha", 0.2), ("beta", 0.5)],
        ..FLOAT
    },
    Kind {
        name: "Swish",
        real: |x, [alpha, _]| x * sigmoid(alpha * x),
        function: "swish",
        parameters: &[("alpha", 1.0)],
        ..FLOAT
    },
    Kind {
        name: "Shrink",
        real: |x, [bias, lambd]| {
            if x < -lambd {
                x + bias
            } else if x > lambd {
                x - bias
            } else {
                0.0
            }
        },
        function: "shrink",
        parameters: &[("bias", 0.0), ("lambd", 0.5)],
        ..FLOAT
    },
    // The first opsets had these.
    Kind {
        name: "Affine",
        real: |x, [alpha, beta]| alpha * x + beta,
        function: "affine",
        parameters: &[("alpha", 1.0), ("beta", 0.0)],
        ..FLOAT
    },
    Kind {
        name: "ParametricSoftplus",
        real: |x, [alpha, beta]| alpha * softplus(beta * x),
        function: "parametric_softplus",
        parameters: &[("alpha", 1.0), ("beta", 1.0)],
        ..FLOAT
    },
    Kind {
        name: "ScaledTanh",
        real: |x, [alpha, beta]| alpha * (beta * x).tanh(),
        function: "scaled_tanh",
        parameters: &[("alpha", 1.0), ("beta", 1.0)],
        ..FLOAT
    },
];

static GELU: Kind = Kind {
    name: "Gelu",
    real: |x, _| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
    function: "gelu",
    ..FLOAT
};

/// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016: the tanh form.
static GELU_TANH: Kind = Kind {
    name: "Gelu",
    real: |x, _| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        0.5 * x * (1.0 + inner.tanh())
    },
    function: "gelu_tanh",
    ..FLOAT
};

/// Any operator of [`KINDS`], with its attributes read.
pub(super) fn unary(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let kind = KINDS.iter().find(|k| k.name == spec.name);
    let kind = kind.ok_or_else(|| Error::internal(format!("{} is not a function of one element", spec.name)))?;
    let mut parameters = [0.0; 2];
    for (slot, (name, default)) in parameters.iter_mut().zip(kind.parameters) {
        *slot = match spec.attributes.get(name) {
            Some(crate::engine::ir::Attribute::Int(flag)) => *flag as f64,
            _ => f64::from(spec.attributes.float_or(name, *default as f32)?),
        };
    }
    Ok(Arc::new(Unary { kind, parameters }))
}

pub(super) fn gelu(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let kind = match spec.attributes.string_or("approximate", "none")?.as_str() {
        "none" => &GELU,
        "tanh" => &GELU_TANH,
        other => return Err(Error::invalid_argument(format!("Gelu approximate={other:?}"))),
    };
    Ok(Arc::new(Unary { kind, parameters: [0.0; 2] }))
}

#[derive(Debug)]
struct Unary {
    kind: &'static Kind,
    parameters: [f64; 2],
}

impl Op for Unary {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let dtype = if self.kind.gives == Gives::Bool { DType::Bool } else { input.dtype };
        Ok(vec![Fact::open(dtype, input.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let shape = input.shape().clone();
        let dtype = if self.kind.gives == Gives::Bool { DType::Bool } else { input.dtype() };
        let output = match (Numbers::of(input)?, self.kind.whole) {
            (Numbers::Real(values), _) => {
                let values: Vec<f64> = values.iter().map(|x| (self.kind.real)(*x, self.parameters)).collect();
                Tensor::from_f64s(dtype, shape, &values)?
            }
            (Numbers::Whole(values), Some(whole)) => {
                let values: Vec<i64> = values.iter().map(|x| whole(*x)).collect();
                wrapped(dtype, shape, &values)?
            }
            (Numbers::Whole(_), None) => {
                return Err(Error::invalid_argument(format!("{} of {} values", self.kind.name, input.dtype())));
            }
        };
        Ok(vec![output])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let dtype = builder.fact(0)?.dtype;
        let class = builder.class_of(dtype)?;
        let function = match (class, dtype) {
            (Class::F32, _) => self.kind.function,
            // Wider results could leave the range.
            (Class::I32, small) if small.bits() <= 32 => self.kind.function_i,
            (Class::U32, DType::Bool) => self.kind.function_u,
            (Class::I64 | Class::F64, _) => of_class(&self.kind.name.to_lowercase(), class)?,
            _ => "",
        };
        if function.is_empty() {
            return None;
        }
        let mut arguments = vec![builder.input(0)?];
        if class == Class::F32 {
            let parameters = self.parameters.iter().take(self.kind.parameters.len());
            arguments.extend(parameters.map(|p| builder.constant_f32(*p as f32)).collect::<Vec<_>>());
        }
        let class = if self.kind.gives == Gives::Bool { Class::U32 } else { class };
        let value = builder.call(function, &arguments, class);
        if builder.output_dtype() == dtype && narrow::is_narrow(dtype) {
            return narrow::wrap(builder, value, dtype);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_exact_to_double_precision() {
        // Values of DLMF §7.23 and mpmath.
        let known = [(0.5, 0.520_499_877_813_046_5), (2.0, 0.995_322_265_018_952_7), (3.0, 0.999_977_909_503_001_4)];
        for (x, value) in known {
            assert!((erf(x) - value).abs() < 1e-14, "erf {x} = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }

    #[test]
    fn relu_keeps_nan() {
        let kind = KINDS.iter().find(|k| k.name == "Relu").expect("it is there");
        assert!((kind.real)(f64::NAN, [0.0; 2]).is_nan());
    }
}
