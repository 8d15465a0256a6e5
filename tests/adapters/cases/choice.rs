//! Clip and PRelu.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    let x = || vector(&[f32::NAN, -9.0, 0.5, 9.0, f32::INFINITY, f32::NEG_INFINITY]);
    let bound = Tensor::scalar::<f32>;
    vec![
        Case::new("Clip", "attributes").opset(6).float("min", 0.0).float("max", 6.0).varying(x()),
        Case::new("Clip", "constants").varying(x()).constant(bound(-1.0)).constant(bound(1.0)),
        Case::new("Clip", "upper_only").varying(x()).absent().varying(bound(1.0)),
        Case::new("Clip", "unbounded").varying(x()),
        Case::new("Clip", "i32")
            .varying(random(DType::I32, &[30], -9.0, 9.0, 1))
            .constant(Tensor::scalar(-3i32))
            .constant(Tensor::scalar(4i32)),
        Case::new("PRelu", "channel").varying(floats(&[2, 5, 3, 4], 2)).constant(floats(&[5, 1, 1], 3)),
        Case::new("PRelu", "full").varying(floats(&[2, 5], 4)).varying(floats(&[2, 5], 5)),
    ]
}
