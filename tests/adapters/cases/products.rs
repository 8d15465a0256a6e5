//! MatMul, Gemm, Conv, ConvTranspose.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, floats, random};

/// Case `name` of `operator`, as exact as sums of a few hundred terms can be.
fn new(operator: &'static str, name: &'static str) -> Case {
    Case::new(operator, name).tolerance(2e-5)
}

fn halves(shape: &[usize], seed: u64) -> Tensor {
    random(DType::F16, shape, -1.0, 1.0, seed)
}

pub(crate) fn cases() -> Vec<Case> {
    [matrices(), convolutions(), depthwise(), transposed()].into_iter().flatten().collect()
}

fn matrices() -> Vec<Case> {
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
        new("MatMul", "tile").varying(floats(&[70, 33], 30)).constant(floats(&[33, 132], 31)),
        new("MatMul", "stacked").varying(floats(&[3, 9, 5], 32)).constant(floats(&[5, 64], 33)),
        new("MatMul", "matrix_by_vector").varying(floats(&[2, 19, 5], 34)).constant(floats(&[5], 35)),
        new("MatMul", "narrow").varying(floats(&[40, 12], 36)).varying(floats(&[12, 3], 37)),
        new("MatMul", "f16").varying(halves(&[9, 20], 38)).constant(halves(&[20, 12], 39)).tolerance(2e-3),
        new("MatMul", "integers").varying(random(DType::I32, &[3, 4], -9.0, 9.0, 40)).varying(random(
            DType::I32,
            &[4, 2],
            -9.0,
            9.0,
            41,
        )),
        new("Gemm", "narrow_with_bias")
            .int("transB", 1)
            .varying(floats(&[20, 5], 42))
            .varying(floats(&[3, 5], 43))
            .constant(floats(&[3], 44)),
        new("Gemm", "bias_by_row")
            .int("transA", 1)
            .varying(floats(&[5, 20], 45))
            .constant(floats(&[5, 30], 46))
            .varying(floats(&[20, 1], 47)),
        new("Gemm", "no_bias").varying(floats(&[1, 50], 48)).constant(floats(&[50, 300], 49)),
    ]
}

fn convolutions() -> Vec<Case> {
    vec![
        new("Conv", "3x3_s2")
            .ints("pads", &[1, 1, 1, 1])
            .ints("strides", &[2, 2])
            .varying(floats(&[2, 5, 9, 11], 10))
            .constant(floats(&[7, 5, 3, 3], 11))
            .constant(floats(&[7], 12)),
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
        new("Conv", "7x7_s2")
            .ints("pads", &[3, 3, 3, 3])
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 3, 20, 20], 50))
            .constant(floats(&[40, 3, 7, 7], 51)),
        new("Conv", "1x1_of_two_images")
            .varying(floats(&[2, 8, 6, 6], 52))
            .constant(floats(&[20, 8, 1, 1], 53))
            .constant(floats(&[20], 54)),
        new("Conv", "1x1_s2")
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 8, 7, 7], 55))
            .constant(floats(&[20, 8, 1, 1], 56)),
        new("Conv", "3d_padded")
            .ints("pads", &[1, 1, 1, 0, 1, 1])
            .ints("strides", &[1, 2, 1])
            .varying(floats(&[1, 2, 4, 6, 5], 57))
            .constant(floats(&[5, 2, 3, 3, 3], 58)),
        new("Conv", "varying_weights").varying(floats(&[1, 4, 9], 59)).varying(floats(&[6, 4, 2], 60)),
        new("Conv", "f16")
            .ints("pads", &[1, 1, 1, 1])
            .varying(halves(&[1, 5, 6, 7], 61))
            .constant(halves(&[9, 5, 3, 3], 62))
            .constant(halves(&[9], 63))
            .tolerance(2e-3),
    ]
}

fn depthwise() -> Vec<Case> {
    vec![
        new("Conv", "depthwise")
            .int("group", 6)
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 6, 8, 7], 13))
            .constant(floats(&[6, 1, 3, 3], 14)),
        new("Conv", "depthwise_s2")
            .int("group", 6)
            .ints("pads", &[2, 1, 1, 0])
            .ints("strides", &[2, 2])
            .varying(floats(&[2, 6, 19, 33], 70))
            .constant(floats(&[6, 1, 3, 3], 71))
            .constant(floats(&[6], 72)),
        new("Conv", "depthwise_twofold")
            .int("group", 3)
            .varying(floats(&[2, 3, 12, 16], 73))
            .constant(floats(&[6, 1, 5, 5], 74)),
        new("Conv", "depthwise_dilated")
            .int("group", 3)
            .ints("dilations", &[2, 3])
            .varying(floats(&[1, 3, 10, 21], 75))
            .constant(floats(&[3, 1, 3, 3], 76)),
        new("Conv", "depthwise_fours")
            .int("group", 6)
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 6, 9, 20], 90))
            .constant(floats(&[6, 1, 3, 3], 91))
            .constant(floats(&[6], 92)),
        new("Conv", "depthwise_fours_s2")
            .int("group", 5)
            .ints("pads", &[2, 2, 2, 2])
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 5, 18, 28], 93))
            .constant(floats(&[10, 1, 5, 5], 94)),
        new("Conv", "depthwise_fours_unpadded")
            .int("group", 7)
            .varying(floats(&[1, 7, 16, 32], 95))
            .constant(floats(&[7, 1, 3, 3], 96)),
        new("Conv", "depthwise_many")
            .int("group", 140)
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[1, 140, 11, 72], 97))
            .constant(floats(&[140, 1, 3, 3], 98))
            .constant(floats(&[140], 99)),
        new("Conv", "depthwise_many_whole_s2")
            .int("group", 130)
            .ints("pads", &[2, 2, 2, 2])
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 130, 13, 24], 190))
            .constant(floats(&[130, 1, 5, 5], 191)),
        new("Conv", "depthwise_many_sparse")
            .int("group", 129)
            .ints("strides", &[3, 2])
            .varying(floats(&[1, 129, 11, 16], 192))
            .constant(floats(&[129, 1, 2, 3], 193)),
        new("Conv", "depthwise_1d")
            .int("group", 5)
            .ints("pads", &[4, 4])
            .varying(floats(&[2, 5, 40], 77))
            .constant(floats(&[5, 1, 9], 78)),
    ]
}

fn transposed() -> Vec<Case> {
    vec![
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
        new("ConvTranspose", "grouped_dilated")
            .int("group", 2)
            .ints("strides", &[3, 2])
            .ints("dilations", &[2, 2])
            .varying(floats(&[1, 4, 4, 6], 80))
            .constant(floats(&[4, 3, 2, 3], 81))
            .constant(floats(&[6], 82)),
        new("ConvTranspose", "gaps")
            .ints("strides", &[3])
            .varying(floats(&[1, 4, 6], 83))
            .constant(floats(&[4, 3, 2], 84))
            .constant(floats(&[3], 85)),
        new("ConvTranspose", "3d")
            .ints("pads", &[1, 1, 1, 1, 1, 1])
            .ints("strides", &[2, 1, 2])
            .varying(floats(&[1, 4, 3, 4, 3], 86))
            .constant(floats(&[4, 3, 3, 3, 4], 87)),
    ]
}
