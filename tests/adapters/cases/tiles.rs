//! Products large enough for every tile of the GPU family, read in every way: extents just past tiles, odd, or in fours.

use coracle::tensor::DType;

use crate::case::{Case, floats, random};

fn new(operator: &'static str, name: &'static str) -> Case {
    Case::new(operator, name).tolerance(2e-5)
}

pub(crate) fn cases() -> Vec<Case> {
    [matrices(), panels(), parts(), vectors(), convolutions()].into_iter().flatten().collect()
}

fn matrices() -> Vec<Case> {
    vec![
        new("MatMul", "tiles_in_fours").varying(floats(&[260, 20], 1)).constant(floats(&[20, 644], 2)),
        new("MatMul", "tiles_odd").varying(floats(&[259, 19], 3)).constant(floats(&[19, 641], 4)),
        new("MatMul", "tiles_many").varying(floats(&[900, 18], 5)).constant(floats(&[18, 516], 6)),
        new("MatMul", "tiles_flat").varying(floats(&[30, 24], 7)).constant(floats(&[24, 3000], 8)),
        new("MatMul", "tiles_tall").varying(floats(&[3001, 23], 9)).varying(floats(&[23, 33], 10)),
        new("Gemm", "tiles_both_turned")
            .int("transA", 1)
            .int("transB", 1)
            .varying(floats(&[36, 300], 11))
            .varying(floats(&[270, 36], 12))
            .constant(floats(&[270], 13)),
        new("Gemm", "tiles_both_turned_odd")
            .int("transA", 1)
            .int("transB", 1)
            .float("alpha", 0.5)
            .varying(floats(&[35, 301], 14))
            .varying(floats(&[67, 35], 15))
            .varying(floats(&[301, 67], 16)),
        new("MatMul", "tiles_batched").varying(floats(&[3, 130, 40], 17)).varying(floats(&[3, 40, 68], 18)),
        new("MatMul", "tiles_f16")
            .varying(random(DType::F16, &[132, 40], -1.0, 1.0, 19))
            .constant(random(DType::F16, &[40, 72], -1.0, 1.0, 20))
            .tolerance(2e-3),
        new("MatMul", "tiles_integers").varying(random(DType::I32, &[70, 33], -9.0, 9.0, 21)).varying(random(
            DType::I32,
            &[33, 66],
            -9.0,
            9.0,
            22,
        )),
    ]
}

/// Terms in 64s, columns in eights: of 16-bit floats, panels are read. One panel or several, tiles that rows fill or not.
fn panels() -> Vec<Case> {
    vec![
        new("MatMul", "tiles_panels").varying(floats(&[256, 192], 23)).constant(floats(&[192, 520], 24)),
        new("MatMul", "tiles_panels_batched").varying(floats(&[2, 131, 64], 25)).varying(floats(&[2, 64, 264], 26)),
        new("Gemm", "tiles_panels")
            .float("alpha", 0.5)
            .float("beta", 2.0)
            .varying(floats(&[150, 128], 27))
            .constant(floats(&[128, 136], 28))
            .constant(floats(&[136], 29)),
        new("Conv", "tiles_panels")
            .varying(floats(&[3, 64, 8, 9], 80))
            .constant(floats(&[136, 64, 1, 1], 81))
            .constant(floats(&[136], 82)),
    ]
}

/// Few elements of many terms each: the terms are cut.
fn parts() -> Vec<Case> {
    vec![
        new("Gemm", "parts")
            .float("beta", 0.5)
            .varying(floats(&[40, 2048], 30))
            .constant(floats(&[2048, 66], 31))
            .constant(floats(&[66], 32)),
        new("MatMul", "parts_batched").varying(floats(&[2, 9, 512], 33)).varying(floats(&[2, 512, 11], 34)),
        new("Conv", "parts")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 64, 5, 6], 35))
            .constant(floats(&[20, 64, 3, 3], 36))
            .constant(floats(&[20], 37)),
    ]
}

/// Few rows.
fn vectors() -> Vec<Case> {
    vec![
        new("MatMul", "vector_by_matrix").varying(floats(&[1, 70], 40)).constant(floats(&[70, 100], 41)),
        new("MatMul", "three_rows").varying(floats(&[3, 133], 42)).constant(floats(&[133, 36], 43)),
        new("Gemm", "two_rows_turned")
            .int("transB", 1)
            .varying(floats(&[2, 140], 44))
            .varying(floats(&[77, 140], 45))
            .constant(floats(&[77], 46)),
        new("MatMul", "matrix_by_column").varying(floats(&[2, 90, 200], 47)).varying(floats(&[2, 200, 1], 48)),
    ]
}

fn convolutions() -> Vec<Case> {
    vec![
        new("Conv", "tiles_3x3")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 20, 17, 19], 50))
            .constant(floats(&[68, 20, 3, 3], 51))
            .constant(floats(&[68], 52)),
        new("Conv", "tiles_3x3_many")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[1, 6, 50, 50], 53))
            .constant(floats(&[130, 6, 3, 3], 54)),
        new("Conv", "tiles_unpadded_s2")
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 16, 33, 30], 55))
            .constant(floats(&[40, 16, 3, 2], 56)),
        new("Conv", "tiles_7x7")
            .ints("pads", &[3, 3, 3, 3])
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 3, 60, 64], 57))
            .constant(floats(&[64, 3, 7, 7], 58))
            .constant(floats(&[64], 59)),
        new("Conv", "tiles_1x1").varying(floats(&[3, 36, 14, 14], 60)).constant(floats(&[132, 36, 1, 1], 61)),
        new("Conv", "tiles_1x1_odd_padded")
            .ints("pads", &[1, 0, 0, 1])
            .varying(floats(&[2, 37, 9, 7], 62))
            .constant(floats(&[35, 37, 1, 1], 63)),
        new("Conv", "tiles_grouped")
            .int("group", 3)
            .ints("pads", &[0, 2, 1, 0])
            .ints("dilations", &[1, 2])
            .varying(floats(&[2, 51, 12, 11], 64))
            .constant(floats(&[60, 17, 3, 3], 65)),
        new("Conv", "tiles_varying_weights")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[1, 18, 12, 12], 66))
            .varying(floats(&[36, 18, 3, 3], 67)),
        new("Conv", "tiles_f16")
            .ints("pads", &[1, 1, 1, 1])
            .varying(random(DType::F16, &[1, 20, 14, 13], -1.0, 1.0, 68))
            .constant(random(DType::F16, &[36, 20, 3, 3], -1.0, 1.0, 69))
            .tolerance(2e-3),
        new("ConvTranspose", "tiles")
            .ints("strides", &[2, 2])
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[1, 20, 13, 12], 70))
            .constant(floats(&[20, 40, 4, 4], 71))
            .constant(floats(&[40], 72)),
    ]
}
