//! Concat and Split.

use coracle::tensor::DType;

use crate::case::{Case, floats, integers, random};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("Concat", "channels").int("axis", 1).varying(floats(&[2, 3, 4], 1)).varying(floats(&[2, 5, 4], 2)),
        Case::new("Concat", "innermost").int("axis", -1).varying(floats(&[3, 2], 3)).constant(floats(&[3, 5], 4)),
        Case::new("Concat", "one").int("axis", 0).varying(floats(&[3, 2], 5)),
        Case::new("Concat", "fours")
            .int("axis", 1)
            .varying(floats(&[3, 41, 6, 6], 10))
            .varying(floats(&[3, 40, 6, 6], 11)),
        Case::new("Concat", "beside_fours")
            .int("axis", 1)
            .varying(floats(&[3, 31, 7, 7], 12))
            .varying(floats(&[3, 32, 7, 7], 13)),
        Case::new("Concat", "i64")
            .int("axis", 0)
            .varying(random(DType::I64, &[4], -9.0, 9.0, 6))
            .constant(integers(&[7])),
        Case::new("Split", "attribute")
            .opset(11)
            .int("axis", 1)
            .ints("split", &[1, 4, 2])
            .outputs(3)
            .varying(floats(&[2, 7, 3], 7)),
        Case::new("Split", "fours").int("axis", 1).int("num_outputs", 2).outputs(2).varying(floats(&[4, 80, 6, 6], 14)),
        Case::new("Split", "input").outputs(2).varying(floats(&[6, 5], 8)).constant(integers(&[2, 4])),
        Case::new("Split", "uneven").int("axis", -1).int("num_outputs", 3).outputs(3).varying(floats(&[2, 8], 9)),
    ]
}
