//! Functions of one element.

use coracle::tensor::DType;

use crate::case::{Case, floats, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    // Operator, the arguments it is for, and how far a driver's own function may be off.
    let everywhere = (-4.0, 4.0);
    let table: &[(&'static str, (f64, f64), f64)] = &[
        ("Abs", everywhere, 0.0),
        ("Acos", (-1.0, 1.0), 5e-4),
        ("Acosh", (1.0, 9.0), 2e-5),
        ("Asin", (-1.0, 1.0), 5e-4),
        ("Asinh", everywhere, 2e-5),
        ("Atan", everywhere, 2e-5),
        ("Atanh", (-0.9, 0.9), 2e-5),
        ("Ceil", everywhere, 0.0),
        ("Celu", everywhere, 2e-6),
        ("Cos", everywhere, 5e-4),
        ("Cosh", everywhere, 2e-5),
        ("Elu", everywhere, 2e-6),
        ("Erf", everywhere, 2e-6),
        ("Exp", everywhere, 2e-6),
        ("Floor", everywhere, 0.0),
        ("Gelu", everywhere, 2e-6),
        ("HardSigmoid", everywhere, 2e-6),
        ("HardSwish", everywhere, 2e-6),
        ("LeakyRelu", everywhere, 2e-6),
        ("Log", (0.1, 9.0), 2e-6),
        ("Mish", everywhere, 5e-6),
        ("Neg", everywhere, 0.0),
        ("Reciprocal", (0.5, 4.0), 2e-6),
        ("Relu", everywhere, 0.0),
        ("Round", everywhere, 0.0),
        ("Selu", everywhere, 2e-6),
        ("Shrink", everywhere, 2e-6),
        ("Sigmoid", everywhere, 2e-6),
        ("Sign", everywhere, 0.0),
        ("Sin", everywhere, 5e-4),
        ("Sinh", everywhere, 2e-5),
        ("Softplus", everywhere, 5e-6),
        ("Softsign", everywhere, 2e-6),
        ("Sqrt", (0.0, 9.0), 2e-6),
        ("Swish", everywhere, 2e-6),
        ("Tan", (-1.0, 1.0), 5e-4),
        ("Tanh", everywhere, 5e-6),
        ("ThresholdedRelu", everywhere, 0.0),
    ];
    let mut cases = Vec::new();
    for (seed, (operator, (low, high), tolerance)) in table.iter().enumerate() {
        let x = random(DType::F32, &[3, 71], *low, *high, seed as u64);
        cases.push(Case::new(operator, "f32").opset(24).varying(x).tolerance(*tolerance));
        cases.push(Case::new(operator, "nan").opset(24).varying(vector(&[f32::NAN, 1.0])).tolerance(5e-4));
    }
    let special = || vector(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.5]);
    for operator in ["IsInf", "IsNaN", "Relu", "Exp", "Tanh", "Sigmoid", "Neg", "Abs", "Sqrt", "Log"] {
        cases.push(Case::new(operator, "special").varying(special()));
    }
    for operator in ["Abs", "Neg", "Sign", "Relu"] {
        cases.push(Case::new(operator, "i32").varying(random(DType::I32, &[33], -9.0, 9.0, 99)));
    }
    cases.extend([
        Case::new("IsInf", "positive_only").int("detect_negative", 0).varying(special()),
        Case::new("Gelu", "tanh").opset(20).string("approximate", "tanh").varying(floats(&[99], 100)),
        Case::new("Round", "ties").varying(vector(&[0.5, 1.5, 2.5, -0.5, -1.5, 3.49])),
        Case::new("Tanh", "large").varying(vector(&[100.0, -100.0, 20.0, -20.0])),
        Case::new("Not", "bool").varying(random(DType::Bool, &[9], 0.0, 1.0, 101)),
        Case::new("Relu", "f16").varying(random(DType::F16, &[35], -2.0, 2.0, 102)),
    ]);
    cases
}
