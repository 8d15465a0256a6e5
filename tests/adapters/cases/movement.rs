//! Transpose, Slice, Expand, Tile, Pad, Gather, DepthToSpace, SpaceToDepth.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, integers, random};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("Transpose", "reverse").varying(floats(&[2, 3, 5], 1)),
        Case::new("Transpose", "to_channels_last").ints("perm", &[0, 2, 3, 1]).varying(floats(&[2, 3, 4, 5], 2)),
        Case::new("Transpose", "six_axes").ints("perm", &[5, 1, 3, 2, 4, 0]).varying(floats(&[2, 3, 2, 3, 2, 2], 3)),
        Case::new("Transpose", "f16").varying(random(DType::F16, &[5, 7], -2.0, 2.0, 4)),
        Case::new("Transpose", "bool").varying(random(DType::Bool, &[5, 7], 0.0, 1.0, 5)),
        // Large enough for vectors of four, and squares of them.
        Case::new("Transpose", "squares").ints("perm", &[0, 2, 1]).varying(floats(&[5, 44, 20], 40)),
        Case::new("Transpose", "squares_outside").ints("perm", &[2, 1, 0]).varying(floats(&[12, 11, 32], 41)),
        Case::new("Transpose", "rows_of_fours").ints("perm", &[1, 0, 2]).varying(floats(&[19, 27, 12], 42)),
        Case::new("Transpose", "odd").ints("perm", &[0, 2, 1]).varying(floats(&[3, 49, 40], 43)),
        Case::new("Transpose", "squares_f16").varying(random(DType::F16, &[76, 60], -2.0, 2.0, 44)),
        Case::new("Transpose", "squares_i32").varying(random(DType::I32, &[76, 60], -9.0, 9.0, 45)),
        Case::new("Slice", "fours")
            .varying(floats(&[36, 11, 24], 46))
            .constant(integers(&[-1, 2, 4]))
            .constant(integers(&[i64::MIN, 10, 20]))
            .constant(integers(&[0, 1, 2]))
            .constant(integers(&[-1, 1, 1])),
        Case::new("Slice", "beside_fours")
            .varying(floats(&[36, 11, 24], 47))
            .constant(integers(&[2]))
            .constant(integers(&[22]))
            .constant(integers(&[2])),
        Case::new("Slice", "attributes")
            .opset(9)
            .ints("starts", &[1, -2])
            .ints("ends", &[9, 99])
            .varying(floats(&[4, 5, 3], 6)),
        Case::new("Slice", "backwards")
            .varying(floats(&[4, 9], 7))
            .constant(integers(&[-1, 7]))
            .constant(integers(&[i64::MIN, 0]))
            .constant(integers(&[0, 1]))
            .constant(integers(&[-1, -3])),
        Case::new("Slice", "empty").varying(floats(&[4, 9], 8)).constant(integers(&[3])).constant(integers(&[1])),
        Case::new("Expand", "both_ways").varying(floats(&[3, 1, 2], 9)).constant(integers(&[2, 1, 4, 1])),
        Case::new("Tile", "two_axes").varying(floats(&[3, 2, 4], 10)).constant(integers(&[2, 1, 3])),
        Case::new("Gather", "constant")
            .int("axis", 1)
            .varying(floats(&[3, 5, 4], 11))
            .constant(Tensor::from_vec([2, 2], vec![0i64, -1, 3, -5]).expect("four")),
        Case::new("Gather", "scalar").varying(floats(&[5, 3], 12)).constant(Tensor::scalar(-2i64)),
        Case::new("Gather", "computed").constant(floats(&[9, 3], 13)).varying(random(
            DType::I64,
            &[2, 7],
            -9.0,
            9.0,
            14,
        )),
        Case::new("Gather", "i32").varying(random(DType::I64, &[9], 0.0, 99.0, 15)).varying(random(
            DType::I32,
            &[4],
            0.0,
            9.0,
            16,
        )),
        Case::new("SpaceToDepth", "two").int("blocksize", 2).varying(floats(&[2, 3, 4, 6], 17)),
    ];
    for mode in ["DCR", "CRD"] {
        let name = if mode == "DCR" { "blocks_first" } else { "channels_first" };
        cases.push(
            Case::new("DepthToSpace", name)
                .int("blocksize", 2)
                .string("mode", mode)
                .varying(floats(&[2, 12, 3, 2], 18)),
        );
    }
    for mode in ["constant", "reflect", "edge"] {
        let new = |name| Case::new("Pad", name).string("mode", mode).varying(floats(&[2, 4, 5], 19));
        let names = match mode {
            "constant" => ["constant", "constant_negative"],
            "reflect" => ["reflect", "reflect_negative"],
            _ => ["edge", "edge_negative"],
        };
        cases.push(new(names[0]).constant(integers(&[0, 2, 1, 0, 3, 4])));
        cases.push(new(names[1]).constant(integers(&[0, -1, 2, 0, 1, -2])));
    }
    let image = || floats(&[1, 2, 3, 3], 20);
    cases.extend([
        Case::new("Pad", "attributes")
            .opset(9)
            .ints("pads", &[0, 0, 1, 1, 0, 0, 2, 2])
            .float("value", 1.5)
            .varying(image()),
        Case::new("Pad", "infinite")
            .varying(image())
            .constant(integers(&[0, 0, 1, 1, 0, 0, 1, 1]))
            .constant(Tensor::scalar(f32::NEG_INFINITY)),
        Case::new("Pad", "axes").varying(image()).constant(integers(&[1, 2])).absent().constant(integers(&[-1])),
        Case::new("Pad", "wrap")
            .opset(19)
            .string("mode", "wrap")
            .varying(image())
            .constant(integers(&[0, 0, 2, 4, 0, 0, 1, 3])),
    ]);
    cases
}
