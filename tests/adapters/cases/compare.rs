//! Comparisons, logic, Where.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, random, vector};

fn bools(shape: &[usize], seed: u64) -> Tensor {
    let bits: Vec<u8> =
        random(DType::U8, shape, 0.0, 2.0, seed).to_i64s().expect("bytes").iter().map(|v| *v as u8).collect();
    Tensor::from_bools(shape, bits).expect("as many")
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let small = |dtype, seed| random(dtype, &[4, 9], -2.0, 2.0, seed);
    for operator in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
        let new = |name| Case::new(operator, name);
        let (left, right) =
            (vector(&[f32::NAN, 1.0, f32::INFINITY, 2.0]), vector(&[f32::NAN, f32::NAN, f32::INFINITY, 1.0]));
        cases.extend([
            new("f32").varying(floats(&[4, 9], 1)).constant(floats(&[9], 2)),
            new("i64").varying(small(DType::I64, 3)).varying(small(DType::I64, 4)),
            new("i32").varying(small(DType::I32, 5)).varying(small(DType::I32, 6)),
            new("nan").varying(left).varying(right),
        ]);
    }
    for operator in ["And", "Or", "Xor"] {
        cases.push(Case::new(operator, "stretch").varying(bools(&[5, 1], 7)).varying(bools(&[6], 8)));
    }
    cases.extend([
        Case::new("Where", "f32").varying(bools(&[3, 1, 5], 9)).varying(floats(&[4, 5], 10)).constant(floats(&[], 11)),
        Case::new("Where", "i64")
            .varying(bools(&[9], 12))
            .varying(small(DType::I64, 13))
            .varying(small(DType::I64, 14)),
    ]);
    cases
}
