//! Cast.

use coracle::engine::ir::Attribute;
use coracle::tensor::DType;

use crate::case::{Case, floats, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    let to = |name, dtype| Case::new("Cast", name).set("to", Attribute::DType(dtype));
    let mut cases = vec![
        to("f32_to_i32", DType::I32).varying(floats(&[50], 1)),
        to("f32_to_i64", DType::I64).varying(floats(&[50], 2)).wide(),
        to("f32_to_u8", DType::U8).varying(random(DType::F32, &[50], -50.0, 300.0, 3)),
        to("f32_to_i4", DType::I4).varying(random(DType::F32, &[50], -20.0, 20.0, 13)),
        to("i32_to_u4", DType::U4).varying(random(DType::I32, &[50], -40.0, 40.0, 14)),
        to("i2_to_f32", DType::F32).varying(random(DType::I2, &[50], -2.0, 1.9, 15)),
        to("u32_to_i64", DType::I64).varying(random(DType::U32, &[9], 0.0, 4e9, 16)).wide(),
        to("f32_to_bf16", DType::BF16).varying(floats(&[51], 17)),
        to("f32_to_bool", DType::Bool).varying(vector(&[0.0, -0.0, 0.25, f32::NAN, -3.0])),
        to("f32_to_f16", DType::F16).varying(floats(&[51], 4)),
        to("f16_to_f32", DType::F32).varying(random(DType::F16, &[51], -2.0, 2.0, 5)),
        to("i64_to_f32", DType::F32).varying(random(DType::I64, &[50], -99.0, 99.0, 6)),
        to("u8_to_f32", DType::F32).varying(random(DType::U8, &[50], 0.0, 255.0, 7)),
        to("bool_to_f32", DType::F32).varying(random(DType::Bool, &[50], 0.0, 1.0, 8)),
        to("i32_to_bool", DType::Bool).varying(random(DType::I32, &[50], -2.0, 2.0, 9)),
        to("f32_to_f64", DType::F64).varying(floats(&[9], 10)).wide(),
        Case::new("CastLike", "i32").varying(floats(&[20], 11)).constant(random(DType::I32, &[1], 0.0, 1.0, 12)),
    ];
    cases.extend(small_floats());
    cases
}

/// Each small float type from values around its own, saturating and not, and back.
fn small_floats() -> Vec<Case> {
    let types = [
        (DType::F8E4M3FN, "e4m3fn", 600.0),
        (DType::F8E4M3FNUZ, "e4m3fnuz", 300.0),
        (DType::F8E5M2, "e5m2", 90000.0),
        (DType::F8E5M2FNUZ, "e5m2fnuz", 90000.0),
        (DType::F8E8M0, "e8m0", 9.0),
        (DType::F4E2M1, "e2m1", 8.0),
    ];
    let mut cases = Vec::new();
    for (seed, (dtype, name, limit)) in types.into_iter().enumerate() {
        let low = if dtype == DType::F8E8M0 { 0.01 } else { -limit };
        let values = random(DType::F32, &[200], low, limit, 100 + seed as u64);
        for saturate in [0, 1] {
            let cast = Case::new("Cast", name).set("to", Attribute::DType(dtype)).int("saturate", saturate);
            cases.push(cast.varying(values.clone()));
        }
        let near_zero = vector(&[1e-3, 0.0, 0.01, 0.02, 1.0, f32::NAN, f32::INFINITY]);
        cases.push(Case::new("Cast", name).set("to", Attribute::DType(dtype)).varying(near_zero));
        let codes = random(dtype, &[64], low, limit, 200 + seed as u64);
        cases.push(Case::new("Cast", name).set("to", Attribute::DType(DType::F32)).varying(codes));
    }
    cases
}
