//! Bit operators, BitCast, Mod, and integers that wrap.

use coracle::engine::ir::Attribute;
use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, dtype) in
        [("i8", DType::I8), ("u8", DType::U8), ("i16", DType::I16), ("u16", DType::U16), ("i32", DType::I32)]
    {
        let (low, high) = if dtype.carrier() == DType::I32 { (-1e9, 1e9) } else { range(dtype) };
        let integers = |seed| random(dtype, &[3, 20], low, high, seed);
        for operator in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"] {
            cases.push(Case::new(operator, name).varying(integers(1)).varying(integers(2)));
        }
        cases.push(Case::new("BitwiseNot", name).varying(integers(3)));
        let by = random(dtype, &[20], if low < 0.0 { -2.0 } else { 0.0 }, 40.0, 4);
        for direction in ["LEFT", "RIGHT"] {
            let shift = Case::new("BitShift", name).string("direction", direction);
            cases.push(shift.varying(integers(5)).varying(by.clone()));
        }
        for operator in ["Add", "Sub", "Mul"] {
            cases.push(Case::new(operator, name).varying(integers(6)).varying(integers(7)));
        }
        let divisor = random(dtype, &[1, 20], 1.0, 9.0, 8);
        for fmod in [0, 1] {
            cases.push(Case::new("Mod", name).int("fmod", fmod).varying(integers(9)).varying(divisor.clone()));
        }
    }
    cases.extend(floats_and_casts());
    cases
}

fn range(dtype: DType) -> (f64, f64) {
    let (low, high) = dtype.small_range();
    (low as f64, high as f64)
}

fn floats_and_casts() -> Vec<Case> {
    let special = [1.0, -1.0, 0.0, -0.0, 5.5, -5.5, f32::INFINITY, f32::NAN, 1e30, 3.0];
    let divisors = [f32::INFINITY, f32::INFINITY, -2.0, 2.0, -2.0, 2.0, 3.0, 1.0, 7.0, 0.0];
    let mut cases = Vec::new();
    for fmod in [0, 1] {
        let new = |name| Case::new("Mod", name).int("fmod", fmod);
        cases.push(new("f32").varying(floats(&[4, 9], 10)).varying(random(DType::F32, &[9], 0.1, 0.9, 11)));
        cases.push(new("special").varying(vector(&special)).varying(vector(&divisors)));
    }
    let to = |name, dtype| Case::new("BitCast", name).set("to", Attribute::DType(dtype));
    cases.push(to("f32_i32", DType::I32).varying(floats(&[9], 12)));
    cases.push(to("u32_f32", DType::F32).varying(random(DType::U32, &[9], 1e9, 1.1e9, 13)));
    cases.push(to("i8_u8", DType::U8).varying(random(DType::I8, &[9], -128.0, 127.0, 14)));
    cases.push(to("f64_i64", DType::I64).varying(Tensor::scalar(1.5f64)).wide());
    cases
}
