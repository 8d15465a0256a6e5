//! QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.

use coracle::engine::ir::Attribute;
use coracle::tensor::DType;

use crate::case::{Case, floats, random};

const SMALL: [(&str, DType); 7] = [
    ("i8", DType::I8),
    ("u8", DType::U8),
    ("u16", DType::U16),
    ("i4", DType::I4),
    ("u2", DType::U2),
    ("e4m3", DType::F8E4M3FN),
    ("e2m1", DType::F4E2M1),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, (name, dtype)) in (1..).step_by(10).zip(SMALL) {
        let (low, high) = if dtype.is_small_float() { (-6.0, 6.0) } else { range(dtype) };
        // One scale, one for each entry of axis 1, one for each block of two along axis 2.
        for (scales, block) in [(&[][..], 0), (&[3][..], 0), (&[2, 3, 4][..], 2)] {
            let scale = random(DType::F32, scales, 0.05, 0.4, seed);
            let zero = random(dtype, scales, low / 4.0, high / 4.0, seed + 1);
            let axis = if block == 0 { 1 } else { 2 };
            let new = |operator| Case::new(operator, name).opset(21).int("axis", axis).int("block_size", block);
            let values = random(DType::F32, &[2, 3, 8], -9.0, 9.0, seed + 2);
            cases.push(new("QuantizeLinear").varying(values).constant(scale.clone()).constant(zero.clone()));
            let codes = random(dtype, &[2, 3, 8], low, high, seed + 3);
            cases.push(new("DequantizeLinear").varying(codes).constant(scale).varying(zero));
        }
    }
    cases.push(
        Case::new("QuantizeLinear", "output_dtype")
            .opset(21)
            .set("output_dtype", Attribute::DType(DType::I8))
            .varying(floats(&[40], 90))
            .varying(random(DType::F32, &[], 0.01, 0.02, 91)),
    );
    cases.push(
        Case::new("DequantizeLinear", "short_last_block")
            .opset(21)
            .int("block_size", 2)
            .varying(random(DType::I4, &[2, 5], -8.0, 7.0, 92))
            .constant(random(DType::F32, &[2, 3], 0.1, 0.2, 93))
            .on_host(),
    );
    cases.push(Case::new("DynamicQuantizeLinear", "mixed").outputs(3).varying(floats(&[5, 7], 94)));
    cases
}

fn range(dtype: DType) -> (f64, f64) {
    let (low, high) = dtype.small_range();
    (low as f64, high as f64)
}
