//! Operators that only change the shape.

use crate::case::{Case, floats, integers};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("Reshape", "inferred").varying(floats(&[2, 3, 4], 1)).constant(integers(&[0, -1])),
        Case::new("Flatten", "axis").int("axis", 2).varying(floats(&[2, 3, 4, 5], 2)),
        Case::new("Squeeze", "attribute").opset(11).ints("axes", &[1]).varying(floats(&[2, 1, 4], 3)),
        Case::new("Squeeze", "input").varying(floats(&[2, 1, 4, 1], 4)).constant(integers(&[-1])),
        Case::new("Unsqueeze", "attribute").opset(11).ints("axes", &[0, 3]).varying(floats(&[2, 4], 5)),
        Case::new("Unsqueeze", "input").varying(floats(&[2, 4], 6)).constant(integers(&[-1])),
        Case::new("Identity", "f32").varying(floats(&[7], 7)),
        Case::new("Dropout", "f32").varying(floats(&[7], 8)),
    ]
}
