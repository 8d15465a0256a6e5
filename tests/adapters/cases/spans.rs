//! Products and convolutions large enough for kernels that read rows of vectors.

use crate::case::{Case, floats};

/// Case `name` of `operator`, as exact as sums of a thousand terms can be.
fn new(operator: &'static str, name: &'static str) -> Case {
    Case::new(operator, name).tolerance(5e-5)
}

pub(crate) fn cases() -> Vec<Case> {
    [matrices(), convolutions(), long(), planes(), transposed()].into_iter().flatten().collect()
}

fn matrices() -> Vec<Case> {
    vec![
        new("MatMul", "span_of_fours").varying(floats(&[64, 68], 1)).constant(floats(&[68, 96], 2)),
        new("MatMul", "span_ragged").varying(floats(&[61, 67], 3)).constant(floats(&[67, 131], 4)),
        new("MatMul", "span_ragged_computed").varying(floats(&[67, 101], 5)).varying(floats(&[101, 270], 6)),
        new("MatMul", "span_batched").varying(floats(&[3, 65, 40], 7)).varying(floats(&[3, 40, 97], 8)),
        new("MatMul", "span_shared_left").varying(floats(&[1, 70, 36], 9)).varying(floats(&[4, 36, 50], 10)),
        new("MatMul", "span_stacked").varying(floats(&[3, 33, 70], 11)).constant(floats(&[70, 128], 12)),
        new("MatMul", "span_packed").varying(floats(&[37, 130], 13)).constant(floats(&[130, 256], 14)),
        // So many columns that a workgroup makes several tiles of rows, of which the last one is cut off.
        new("MatMul", "span_turns").varying(floats(&[70, 24], 26)).constant(floats(&[24, 2080], 27)),
        new("MatMul", "span_few_rows").varying(floats(&[3, 700], 15)).constant(floats(&[700, 300], 16)),
        new("Gemm", "span_bias")
            .int("transB", 1)
            .float("alpha", 0.5)
            .float("beta", 2.0)
            .varying(floats(&[40, 100], 17))
            .constant(floats(&[130, 100], 18))
            .constant(floats(&[130], 19)),
        new("Gemm", "span_bias_everywhere")
            .int("transA", 1)
            .varying(floats(&[100, 40], 20))
            .constant(floats(&[100, 300], 21))
            .varying(floats(&[40, 300], 22)),
    ]
}

/// Windows so long that a kernel takes them in parts, of which the last one is whole or not.
fn long() -> Vec<Case> {
    vec![
        new("Conv", "span_long")
            .ints("pads", &[8, 8])
            .varying(floats(&[2, 6, 300], 130))
            .constant(floats(&[40, 6, 17], 131))
            .constant(floats(&[40], 132)),
        new("Conv", "span_long_whole").varying(floats(&[1, 5, 400], 133)).constant(floats(&[33, 5, 20], 134)),
        new("Conv", "span_long_s2_dilated")
            .ints("strides", &[2])
            .ints("dilations", &[3])
            .ints("pads", &[20, 25])
            .varying(floats(&[1, 7, 350], 135))
            .constant(floats(&[30, 7, 19], 136)),
        new("Conv", "span_long_few_rows")
            .ints("pads", &[1, 19, 1, 19])
            .varying(floats(&[1, 4, 9, 60], 137))
            .constant(floats(&[8, 4, 3, 39], 138))
            .constant(floats(&[8], 139)),
        new("Conv", "span_long_one_row")
            .ints("strides", &[2])
            .varying(floats(&[1, 1, 900], 140))
            .constant(floats(&[1, 1, 128], 141)),
        new("Conv", "span_long_grouped")
            .int("group", 2)
            .ints("pads", &[7, 9, 8, 6])
            .varying(floats(&[1, 8, 24, 20], 142))
            .constant(floats(&[36, 4, 16, 16], 143)),
        new("ConvTranspose", "span_long")
            .ints("strides", &[2])
            .ints("pads", &[15, 15])
            .varying(floats(&[1, 20, 120], 144))
            .constant(floats(&[20, 24, 34], 145)),
    ]
}

fn convolutions() -> Vec<Case> {
    vec![
        new("Conv", "span_1x1")
            .varying(floats(&[2, 40, 12, 12], 30))
            .constant(floats(&[48, 40, 1, 1], 31))
            .constant(floats(&[48], 32)),
        // The weights' rows are the columns, far apart.
        new("Conv", "span_1x1_of_one_pixel")
            .varying(floats(&[1, 300, 1, 1], 28))
            .constant(floats(&[200, 300, 1, 1], 29)),
        new("Conv", "span_1x1_of_odd_planes").varying(floats(&[2, 40, 7, 7], 33)).constant(floats(&[96, 40, 1, 1], 34)),
        new("Conv", "span_1x1_turns")
            .varying(floats(&[1, 21, 36, 60], 120))
            .constant(floats(&[75, 21, 1, 1], 121))
            .constant(floats(&[75], 122)),
        new("Conv", "span_3x3_turns")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 5, 52, 47], 123))
            .constant(floats(&[67, 5, 3, 3], 124)),
        new("Conv", "span_1x1_s2")
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 40, 21, 19], 35))
            .constant(floats(&[100, 40, 1, 1], 36)),
        new("Conv", "span_3x3")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 9, 16, 16], 37))
            .constant(floats(&[40, 9, 3, 3], 38))
            .constant(floats(&[40], 39)),
        new("Conv", "span_3x3_of_odd_rows")
            .ints("pads", &[1, 0, 1, 2])
            .varying(floats(&[2, 9, 13, 15], 40))
            .constant(floats(&[66, 9, 3, 3], 41)),
        new("Conv", "span_3x3_unpadded").varying(floats(&[1, 16, 18, 20], 42)).constant(floats(&[33, 16, 3, 3], 43)),
        new("Conv", "span_3x3_s2")
            .ints("pads", &[1, 1, 1, 1])
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 24, 27, 26], 44))
            .constant(floats(&[40, 24, 3, 3], 45)),
        new("Conv", "span_7x7_s2")
            .ints("pads", &[3, 3, 3, 3])
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 3, 40, 40], 46))
            .constant(floats(&[33, 3, 7, 7], 47)),
        new("Conv", "span_5x5")
            .ints("pads", &[2, 2, 2, 2])
            .varying(floats(&[1, 8, 14, 14], 48))
            .constant(floats(&[32, 8, 5, 5], 49)),
        new("Conv", "span_dilated_grouped")
            .int("group", 2)
            .ints("dilations", &[3, 2])
            .ints("pads", &[3, 2, 3, 2])
            .varying(floats(&[1, 24, 16, 18], 50))
            .constant(floats(&[48, 12, 3, 3], 51)),
    ]
}

fn planes() -> Vec<Case> {
    vec![
        new("Conv", "span_1d")
            .ints("pads", &[4, 4])
            .varying(floats(&[2, 20, 130], 60))
            .constant(floats(&[40, 20, 9], 61)),
        new("Conv", "span_1d_tall")
            .ints("pads", &[1, 1])
            .ints("strides", &[2])
            .varying(floats(&[1, 40, 150], 62))
            .constant(floats(&[64, 40, 3], 63)),
        new("Conv", "span_3d")
            .ints("pads", &[1, 1, 1, 1, 1, 1])
            .ints("strides", &[2, 1, 1])
            .varying(floats(&[1, 6, 6, 9, 10], 64))
            .constant(floats(&[20, 6, 3, 3, 3], 65)),
        new("Conv", "span_column_of_taps")
            .ints("pads", &[2, 0, 2, 0])
            .varying(floats(&[1, 20, 15, 17], 66))
            .constant(floats(&[40, 20, 5, 1], 67)),
    ]
}

fn transposed() -> Vec<Case> {
    vec![
        new("ConvTranspose", "span_2x2_s2")
            .ints("strides", &[2, 2])
            .varying(floats(&[1, 40, 12, 12], 70))
            .constant(floats(&[40, 64, 2, 2], 71))
            .constant(floats(&[64], 72)),
        new("ConvTranspose", "span_5x5_s2")
            .ints("strides", &[2, 2])
            .ints("pads", &[2, 2, 2, 2])
            .varying(floats(&[2, 24, 13, 14], 73))
            .constant(floats(&[24, 40, 5, 5], 74)),
        new("ConvTranspose", "span_3x3_s1_dilated")
            .ints("dilations", &[2, 2])
            .varying(floats(&[1, 24, 12, 11], 75))
            .constant(floats(&[24, 40, 3, 3], 76)),
    ]
}
