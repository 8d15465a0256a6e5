//! MatMul, Gemm, Conv, ConvTranspose.

use crate::case::{Case, floats};

pub(crate) fn cases() -> Vec<Case> {
    let new = |operator, name| Case::new(operator, name).tolerance(2e-5);
    vec![
        new("MatMul", "ragged").varying(floats(&[19, 33], 1)).constant(floats(&[33, 21], 2)),
        new("MatMul", "batched").varying(floats(&[2, 1, 5, 7], 3)).varying(floats(&[3, 7, 4], 4)),
        new("MatMul", "vector").varying(floats(&[9], 5)).constant(floats(&[9, 6], 6)),
        new("Gemm", "transposed")
            .int("transA", 1)
            .int("transB", 1)
            .float("alpha", 0.5)
            .float("beta", 2.0)
            .varying(floats(&[9, 5], 7))
            .constant(floats(&[6, 9], 8))
            .constant(floats(&[6], 9)),
        new("Conv", "3x3_s2")
            .ints("pads", &[1, 1, 1, 1])
            .ints("strides", &[2, 2])
            .varying(floats(&[2, 5, 9, 11], 10))
            .constant(floats(&[7, 5, 3, 3], 11))
            .constant(floats(&[7], 12)),
        new("Conv", "depthwise")
            .int("group", 6)
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 6, 8, 7], 13))
            .constant(floats(&[6, 1, 3, 3], 14)),
        new("Conv", "grouped_dilated")
            .int("group", 2)
            .ints("dilations", &[2, 1])
            .varying(floats(&[1, 6, 9, 7], 15))
            .constant(floats(&[4, 3, 3, 2], 16)),
        new("Conv", "1d_same")
            .string("auto_pad", "SAME_UPPER")
            .ints("strides", &[2])
            .varying(floats(&[2, 3, 13], 17))
            .constant(floats(&[4, 3, 5], 18)),
        new("Conv", "3d").varying(floats(&[1, 2, 4, 5, 6], 19)).constant(floats(&[3, 2, 2, 3, 2], 20)),
        new("ConvTranspose", "2x2_s2")
            .ints("strides", &[2, 2])
            .varying(floats(&[2, 4, 3, 5], 21))
            .constant(floats(&[4, 3, 2, 2], 22)),
        new("ConvTranspose", "padded")
            .ints("strides", &[2, 2])
            .ints("pads", &[1, 1, 1, 1])
            .ints("output_padding", &[1, 1])
            .varying(floats(&[1, 4, 4, 3], 23))
            .constant(floats(&[4, 2, 3, 3], 24)),
    ]
}
