//! The activation functions of recurrent layers, each with its own parameters.

use crate::error::{Error, Result};

/// A function and its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Activation {
    function: Function,
    pub(super) alpha: f32,
    pub(super) beta: f32,
}

/// Numbered as `shaders/recurrent.wgsl` has them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Sigmoid = 0,
    Tanh = 1,
    Relu = 2,
    Affine = 3,
    LeakyRelu = 4,
    ThresholdedRelu = 5,
    ScaledTanh = 6,
    HardSigmoid = 7,
    Elu = 8,
    Softsign = 9,
    Softplus = 10,
}

/// (name in lower case, function, default alpha, default beta, how many of the two it takes)
const FUNCTIONS: &[(&str, Function, f32, f32, usize)] = &[
    ("sigmoid", Function::Sigmoid, 0.0, 0.0, 0),
    ("tanh", Function::Tanh, 0.0, 0.0, 0),
    ("relu", Function::Relu, 0.0, 0.0, 0),
    ("affine", Function::Affine, 1.0, 0.0, 2),
    ("leakyrelu", Function::LeakyRelu, 0.01, 0.0, 1),
    ("thresholdedrelu", Function::ThresholdedRelu, 1.0, 0.0, 1),
    ("scaledtanh", Function::ScaledTanh, 1.0, 1.0, 2),
    ("hardsigmoid", Function::HardSigmoid, 0.2, 0.5, 2),
    ("elu", Function::Elu, 1.0, 0.0, 1),
    ("softsign", Function::Softsign, 0.0, 0.0, 0),
    ("softplus", Function::Softplus, 0.0, 0.0, 0),
];

impl Activation {
    /// The function of a name, in any case; parameters that it takes come off the front of `alphas` and `betas`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a name that is none.
    pub(super) fn named(name: &str, alphas: &mut &[f32], betas: &mut &[f32]) -> Result<Self> {
        let wanted = name.to_ascii_lowercase();
        let found = FUNCTIONS.iter().find(|f| f.0 == wanted);
        let (_, function, alpha, beta, takes) =
            *found.ok_or_else(|| Error::invalid_argument(format!("activation {name:?}")))?;
        let next = |list: &mut &[f32], default: f32, wanted: bool| match list.split_first() {
            Some((first, rest)) if wanted => {
                *list = rest;
                *first
            }
            _ => default,
        };
        Ok(Self { function, alpha: next(alphas, alpha, takes >= 1), beta: next(betas, beta, takes >= 2) })
    }

    /// The shader's number for the function.
    pub(super) fn code(self) -> u32 {
        self.function as u32
    }

    pub(super) fn apply(self, v: f64) -> f64 {
        let (a, b) = (f64::from(self.alpha), f64::from(self.beta));
        match self.function {
            Function::Sigmoid => 1.0 / (1.0 + (-v).exp()),
            Function::Tanh => v.tanh(),
            Function::Relu => v.max(0.0),
            Function::Affine => a * v + b,
            Function::LeakyRelu => {
                if v >= 0.0 {
                    v
                } else {
                    a * v
                }
            }
            Function::ThresholdedRelu => {
                if v > a {
                    v
                } else {
                    0.0
                }
            }
            Function::ScaledTanh => a * (b * v).tanh(),
            Function::HardSigmoid => (a * v + b).clamp(0.0, 1.0),
            Function::Elu => {
                if v >= 0.0 {
                    v
                } else {
                    a * v.exp_m1()
                }
            }
            Function::Softsign => v / (1.0 + v.abs()),
            Function::Softplus => v.max(0.0) + (-v.abs()).exp().ln_1p(),
        }
    }
}
