//! 64-bit integers and floats, on adapters that have them: values beyond 32 bits through everything that moves, compares and computes.

use coracle::engine::ir::Attribute;
use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, integers, random};

/// Past 2⁶³ sums and products of these wrap.
const LARGE: f64 = 6e18;

fn signed(shape: &[usize], seed: u64) -> Tensor {
    random(DType::I64, shape, -LARGE, LARGE, seed)
}

fn unsigned(shape: &[usize], seed: u64) -> Tensor {
    random(DType::U64, shape, 0.0, 2.0 * LARGE, seed)
}

fn real(shape: &[usize], seed: u64) -> Tensor {
    random(DType::F64, shape, -1e9, 1e9, seed)
}

fn extremes() -> Tensor {
    integers(&[i64::MIN, -1, 0, 1, i64::MAX, 1 << 32, -(1 << 32), i64::from(i32::MIN)])
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = elementwise();
    cases.extend(casts());
    cases.extend(along_axes());
    cases.extend(moved());
    cases.into_iter().map(Case::wide).collect()
}

fn elementwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for operator in ["Add", "Sub", "Mul", "Max", "Min", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
        let new = |name| Case::new(operator, name);
        cases.extend([
            new("i64").varying(signed(&[3, 1, 67], 1)).varying(signed(&[5, 1], 2)),
            new("i64_extremes").varying(extremes()).constant(integers(&[i64::MAX])),
            new("u64").varying(unsigned(&[40], 3)).varying(unsigned(&[40], 4)),
            new("f64").varying(real(&[40], 5)).varying(real(&[40], 6)).tolerance(1e-15),
        ]);
    }
    let divisors = || integers(&[7, -3, 1 << 33, -1, 5, i64::MAX, 2, 11]);
    for flag in [0, 1] {
        cases.push(Case::new("Mod", "i64").int("fmod", flag).varying(extremes()).varying(divisors()));
    }
    cases.extend([
        Case::new("Div", "i64").varying(extremes()).varying(divisors()),
        Case::new("Div", "u64").varying(unsigned(&[9], 7)).varying(random(DType::U64, &[9], 1.0, 1e10, 8)),
        Case::new("Div", "f64").varying(real(&[9], 9)).varying(real(&[9], 10)).tolerance(1e-15),
        Case::new("Mod", "u64").varying(unsigned(&[9], 11)).varying(random(DType::U64, &[9], 1.0, 1e10, 12)),
        Case::new("Pow", "i64").varying(integers(&[3, -2, 10, -1, 7])).varying(integers(&[39, 62, 18, 33, 0])),
        Case::new("Where", "i64")
            .varying(random(DType::Bool, &[30], 0.0, 2.0, 13))
            .varying(signed(&[30], 14))
            .constant(integers(&[i64::MIN])),
        Case::new("Clip", "i64")
            .varying(extremes())
            .constant(Tensor::scalar(-9i64))
            .constant(Tensor::scalar(1i64 << 40)),
        Case::new("BitwiseXor", "i64").varying(signed(&[30], 15)).varying(signed(&[30], 16)),
        Case::new("BitwiseNot", "u64").varying(unsigned(&[30], 17)),
    ]);
    for direction in ["LEFT", "RIGHT"] {
        let by = Tensor::from_vec([8], vec![0u64, 1, 31, 32, 33, 63, 64, 99]).expect("eight");
        let shift = Case::new("BitShift", "u64").string("direction", direction);
        cases.push(shift.varying(unsigned(&[8], 18)).varying(by));
    }
    for operator in ["Abs", "Neg", "Sign", "Relu"] {
        cases.push(Case::new(operator, "i64").varying(signed(&[30], 19)));
    }
    for operator in ["Abs", "Neg", "Sqrt", "Floor", "Ceil", "Reciprocal"] {
        cases.push(Case::new(operator, "f64").varying(random(DType::F64, &[30], 0.5, 9e9, 20)).tolerance(1e-15));
    }
    cases
}

fn casts() -> Vec<Case> {
    let to = |name, dtype| Case::new("Cast", name).set("to", Attribute::DType(dtype));
    vec![
        to("i64_to_i32", DType::I32).varying(extremes()),
        to("i64_to_u8", DType::U8).varying(signed(&[30], 1)),
        to("i64_to_bool", DType::Bool).varying(extremes()),
        to("i64_to_f32", DType::F32).varying(signed(&[30], 2)),
        to("i64_to_f64", DType::F64).varying(random(DType::I64, &[30], -9e15, 9e15, 3)),
        to("u64_to_i64", DType::I64).varying(unsigned(&[30], 4)),
        to("u32_to_i64", DType::I64).varying(random(DType::U32, &[9], 0.0, 4e9, 5)),
        to("f32_to_i64", DType::I64).varying(random(DType::F32, &[30], -1e18, 1e18, 6)),
        to("f32_to_i64_beyond", DType::I64).varying(random(DType::F32, &[30], -1e20, 1e20, 7)),
        to("f64_to_i64", DType::I64).varying(random(DType::F64, &[30], -1e15, 1e15, 8)),
        to("f64_to_f32", DType::F32).varying(real(&[30], 9)),
        to("f32_to_f64", DType::F64).varying(floats(&[9], 10)),
    ]
}

fn along_axes() -> Vec<Case> {
    let mut cases = Vec::new();
    for operator in ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"] {
        let new = |name, x| Case::new(operator, name).varying(x).constant(integers(&[1]));
        cases.push(new("i64", signed(&[3, 300, 2], 1)));
        cases.push(new("u64", unsigned(&[3, 20, 2], 2)));
        cases.push(new("f64", random(DType::F64, &[3, 20, 2], 0.5, 2.0, 3)).tolerance(1e-14));
    }
    cases.extend([
        Case::new("ReduceMean", "f64").varying(real(&[3, 50], 4)).constant(integers(&[1])).tolerance(1e-14),
        Case::new("MatMul", "i64").varying(signed(&[2, 9, 33], 12)).varying(signed(&[33, 20], 13)),
        Case::new("MatMul", "u64_wide").varying(unsigned(&[40, 70], 14)).varying(unsigned(&[70, 96], 15)),
        Case::new("MatMul", "f64").varying(real(&[5, 33], 16)).varying(real(&[33, 7], 17)).tolerance(1e-14),
        Case::new("CumSum", "i64").varying(signed(&[3, 20], 5)).constant(Tensor::scalar(1i64)),
        Case::new("CumSum", "f64").varying(real(&[3, 20], 6)).constant(Tensor::scalar(0i64)).tolerance(1e-14),
        Case::new("ArgMax", "i64").int("axis", 1).varying(signed(&[3, 50], 7)),
        Case::new("ArgMin", "f64").int("axis", 1).varying(real(&[3, 50], 8)),
        Case::new("TopK", "i64").outputs(2).varying(signed(&[3, 50], 9)).constant(integers(&[7])),
        Case::new("TopK", "i64_long").outputs(2).varying(signed(&[2, 3000], 10)).constant(integers(&[40])),
        Case::new("TopK", "u64_least")
            .int("largest", 0)
            .outputs(2)
            .varying(unsigned(&[2, 3000], 11))
            .constant(integers(&[40])),
    ]);
    cases
}

fn moved() -> Vec<Case> {
    let rows = || random(DType::I64, &[4], 0.0, 5.0, 1);
    vec![
        Case::new("Transpose", "i64").varying(signed(&[3, 4, 5], 2)),
        Case::new("Transpose", "squares_i64").varying(signed(&[68, 64], 20)),
        Case::new("Transpose", "f64").varying(real(&[3, 4, 5], 3)),
        Case::new("Concat", "u64").int("axis", 0).varying(unsigned(&[2, 3], 4)).varying(unsigned(&[4, 3], 5)),
        Case::new("Pad", "i64")
            .varying(signed(&[2, 3], 6))
            .constant(integers(&[1, 0, 0, 2]))
            .varying(Tensor::scalar(-(1i64 << 60))),
        Case::new("Pad", "f64").varying(real(&[2, 3], 7)).constant(integers(&[1, 0, 0, 2])),
        Case::new("Gather", "i64").varying(signed(&[5, 3], 8)).varying(rows()),
        Case::new("GatherElements", "i64").varying(signed(&[5, 3], 9)).varying(random(
            DType::I64,
            &[2, 3],
            0.0,
            5.0,
            10,
        )),
        Case::new("ScatterElements", "i64")
            .string("reduction", "add")
            .varying(signed(&[5, 3], 11))
            .varying(random(DType::I64, &[2, 3], 0.0, 5.0, 12))
            .varying(signed(&[2, 3], 13)),
        Case::new("GatherND", "f64").varying(real(&[5, 3], 14)).varying(random(DType::I64, &[4, 1], 0.0, 5.0, 15)),
    ]
}
