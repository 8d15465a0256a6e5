//! Add and its like: broadcasting, NaN, integers that stay on the host.

use coracle::tensor::DType;

use crate::case::{Case, floats, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for operator in ["Add", "Sub", "Mul", "Max", "Min"] {
        let new = |name| Case::new(operator, name);
        cases.extend([
            new("same_shape").varying(floats(&[3, 67], 1)).varying(floats(&[3, 67], 2)),
            new("channel").varying(floats(&[2, 5, 3, 3], 3)).constant(floats(&[5, 1, 1], 4)),
            new("both_stretch").varying(floats(&[4, 1, 7], 5)).varying(floats(&[1, 6, 1], 6)),
            new("scalar").varying(floats(&[2, 9], 7)).constant(floats(&[], 8)),
            new("special").varying(vector(&SPECIAL_LEFT)).varying(vector(&SPECIAL_RIGHT)),
            new("i32").varying(random(DType::I32, &[33], -90.0, 90.0, 9)).varying(random(
                DType::I32,
                &[33],
                1.0,
                9.0,
                10,
            )),
            new("f16").varying(random(DType::F16, &[33], -2.0, 2.0, 11)).varying(random(
                DType::F16,
                &[33],
                -2.0,
                2.0,
                12,
            )),
        ]);
    }
    for operator in ["Max", "Min", "Sum", "Mean"] {
        let three = Case::new(operator, "three").varying(floats(&[2, 1, 4], 13)).varying(floats(&[3, 1], 14));
        cases.push(three.constant(floats(&[4], 15)));
        cases.push(Case::new(operator, "one").varying(floats(&[5], 16)));
    }
    let wide = |seed| random(DType::I64, &[9], -9e9, 9e9, seed);
    cases.extend([
        Case::new("Add", "i64").varying(wide(17)).varying(wide(18)).wide(),
        Case::new("Div", "f32").varying(floats(&[3, 67], 19)).constant(random(DType::F32, &[67], 0.5, 2.0, 20)),
        Case::new("Div", "i32").varying(random(DType::I32, &[9], -99.0, 99.0, 21)).constant(random(
            DType::I32,
            &[9],
            1.0,
            9.0,
            22,
        )),
        Case::new("Pow", "square").varying(floats(&[40], 23)).constant(vector(&[2.0])),
        Case::new("Pow", "cube").varying(floats(&[40], 24)).constant(vector(&[3.0])),
        Case::new("Pow", "any")
            .varying(random(DType::F32, &[40], 0.1, 3.0, 25))
            .varying(floats(&[40], 26))
            .tolerance(2e-5),
        Case::new("Pow", "negative_base")
            .varying(vector(&[-2.0, -2.0, -1.5, 0.0]))
            .varying(vector(&[3.0, 2.0, 0.5, 0.0])),
    ]);
    cases
}

const SPECIAL_LEFT: [f32; 6] = [f32::NAN, 1.0, f32::INFINITY, -1.0, f32::NEG_INFINITY, 0.0];
const SPECIAL_RIGHT: [f32; 6] = [1.0, f32::NAN, 2.0, f32::NEG_INFINITY, 3.0, f32::NAN];
