//! Cast.

use coracle::engine::ir::Attribute;
use coracle::tensor::DType;

use crate::case::{Case, floats, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    let to = |name, dtype| Case::new("Cast", name).set("to", Attribute::DType(dtype));
    vec![
        to("f32_to_i32", DType::I32).varying(floats(&[50], 1)),
        to("f32_to_i64", DType::I64).varying(floats(&[50], 2)).on_host(),
        to("f32_to_u8", DType::U8).varying(random(DType::F32, &[50], 0.0, 255.0, 3)).on_host(),
        to("f32_to_bool", DType::Bool).varying(vector(&[0.0, -0.0, 0.25, f32::NAN, -3.0])),
        to("f32_to_f16", DType::F16).varying(floats(&[51], 4)),
        to("f16_to_f32", DType::F32).varying(random(DType::F16, &[51], -2.0, 2.0, 5)),
        to("i64_to_f32", DType::F32).varying(random(DType::I64, &[50], -99.0, 99.0, 6)),
        to("u8_to_f32", DType::F32).varying(random(DType::U8, &[50], 0.0, 255.0, 7)),
        to("bool_to_f32", DType::F32).varying(random(DType::Bool, &[50], 0.0, 1.0, 8)),
        to("i32_to_bool", DType::Bool).varying(random(DType::I32, &[50], -2.0, 2.0, 9)),
        to("f32_to_f64", DType::F64).varying(floats(&[9], 10)).on_host(),
        Case::new("CastLike", "i32").varying(floats(&[20], 11)).constant(random(DType::I32, &[1], 0.0, 1.0, 12)),
    ]
}
