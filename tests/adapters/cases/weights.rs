//! Products with weights of 4 and 8 bits, which stay packed on the device.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, Restored, floats, integers, random};

const TYPES: [DType; 4] = [DType::I8, DType::U8, DType::I4, DType::U4];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = TYPES.iter().zip(1..).flat_map(|(dtype, seed)| of(*dtype, 1000 * seed)).collect();
    cases.extend([integer_products(), blocks_of_bits(), lookups()].into_iter().flatten());
    let mut cases: Vec<Case> = cases.into_iter().map(Case::packed).collect();
    cases.extend(TYPES.iter().zip(1..).flat_map(|(dtype, seed)| widened(*dtype, 7000 * seed)));
    cases
}

fn codes(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let (low, high) = dtype.small_range();
    random(dtype, shape, low as f64, high as f64 + 0.999, seed)
}

fn new(operator: &'static str, name: &'static str) -> Case {
    Case::new(operator, name).tolerance(2e-5)
}

/// Scales of shape `shape` along `axis`, and zero points if `shifted`.
fn restored(dtype: DType, shape: &[usize], axis: i64, block: i64, shifted: bool, seed: u64) -> Restored {
    let scales = random(DType::F32, shape, 0.01, 0.1, seed);
    let zeros = shifted.then(|| codes(dtype, shape, seed + 1));
    Restored { scales, zeros, axis, block }
}

fn of(dtype: DType, seed: u64) -> Vec<Case> {
    let r = |shape: &[usize], axis, block, shifted, n| restored(dtype, shape, axis, block, shifted, seed + n);
    let w = |shape: &[usize], n| codes(dtype, shape, seed + n);
    vec![
        new("MatMul", "weights").varying(floats(&[5, 48], seed)).quantized(w(&[48, 64], 1), r(&[], 0, 0, false, 2)),
        new("MatMul", "weights_by_column")
            .varying(floats(&[3, 7, 33], seed + 4))
            .quantized(w(&[33, 72], 5), r(&[72], 1, 0, true, 6)),
        new("MatMul", "weights_odd")
            .varying(floats(&[19, 41], seed + 8))
            .quantized(w(&[41, 61], 9), r(&[61], -1, 0, true, 10)),
        new("MatMul", "weights_four_columns")
            .varying(floats(&[2, 41], seed + 12))
            .quantized(w(&[41, 60], 13), r(&[60], 1, 0, false, 14)),
        new("MatMul", "weights_narrow")
            .varying(floats(&[40, 401], seed + 16))
            .quantized(w(&[401, 3], 17), r(&[3], 1, 0, true, 18)),
        new("MatMul", "weights_in_blocks")
            .varying(floats(&[4, 64], seed + 20))
            .quantized(w(&[64, 40], 21), r(&[4, 40], 0, 16, true, 22)),
        new("MatMul", "weights_in_blocks_short")
            .varying(floats(&[9, 70], seed + 24))
            .quantized(w(&[70, 37], 25), r(&[3, 37], 0, 32, false, 26)),
        new("MatMul", "weights_in_blocks_narrow")
            .varying(floats(&[9, 400], seed + 28))
            .quantized(w(&[400, 3], 29), r(&[25, 3], 0, 16, true, 30)),
        new("Gemm", "weights_transposed")
            .int("transB", 1)
            .float("alpha", 0.5)
            .varying(floats(&[6, 40], seed + 32))
            .quantized(w(&[50, 40], 33), r(&[50], 0, 0, true, 34))
            .constant(floats(&[50], seed + 35)),
        new("Gemm", "weights_transposed_in_blocks")
            .int("transB", 1)
            .varying(floats(&[6, 40], seed + 36))
            .quantized(w(&[56, 40], 37), r(&[56, 3], 1, 16, true, 38)),
        new("Conv", "weights")
            .ints("pads", &[1, 1, 1, 1])
            .varying(floats(&[2, 9, 7, 9], seed + 40))
            .quantized(w(&[21, 9, 3, 3], 41), r(&[21], 0, 0, true, 42))
            .constant(floats(&[21], seed + 43)),
        new("Conv", "weights_1x1")
            .varying(floats(&[1, 40, 6, 6], seed + 44))
            .quantized(w(&[36, 40, 1, 1], 45), r(&[], 0, 0, true, 46)),
        new("Conv", "weights_in_groups")
            .int("group", 3)
            .varying(floats(&[2, 24, 5, 5], seed + 48))
            .quantized(w(&[18, 8, 3, 3], 49), r(&[18], 0, 0, true, 50)),
        new("ConvTranspose", "weights")
            .ints("strides", &[2, 2])
            .varying(floats(&[2, 12, 4, 5], seed + 56))
            .quantized(w(&[12, 10, 3, 3], 57), r(&[10], 1, 0, true, 58)),
    ]
}

/// Weights that no kernel takes packed, or that are too few.
fn widened(dtype: DType, seed: u64) -> Vec<Case> {
    let r = |shape: &[usize], axis, block, shifted, n| restored(dtype, shape, axis, block, shifted, seed + n);
    let w = |shape: &[usize], n| codes(dtype, shape, seed + n);
    vec![
        new("Conv", "weights_depthwise")
            .int("group", 120)
            .varying(floats(&[1, 120, 5, 5], seed + 52))
            .quantized(w(&[120, 1, 3, 3], 53), r(&[120], 0, 0, true, 54)),
        new("ConvTranspose", "weights_in_groups")
            .int("group", 2)
            .varying(floats(&[1, 16, 4, 5], seed + 60))
            .quantized(w(&[16, 8, 3, 3], 61), r(&[], 0, 0, true, 62)),
        bits("small", 4, [20, 5, 16], Some(DType::U8), 140),
    ]
}

fn integer_products() -> Vec<Case> {
    let x = |shape: &[usize], seed| codes(DType::U8, shape, seed);
    let w = |dtype, shape: &[usize], seed| codes(dtype, shape, seed);
    let scale = |shape: &[usize], seed| random(DType::F32, shape, 0.01, 0.1, seed);
    let zero = |dtype, shape: &[usize], seed| codes(dtype, shape, seed);
    vec![
        new("MatMulInteger", "weights_short_sums")
            .varying(x(&[7, 33], 1))
            .constant(w(DType::I8, &[33, 44], 2))
            .varying(zero(DType::U8, &[], 3)),
        new("MatMulInteger", "weights_long_sums")
            .varying(x(&[3, 2000], 4))
            .constant(w(DType::U8, &[2000, 40], 5))
            .varying(zero(DType::U8, &[], 6))
            .constant(zero(DType::U8, &[40], 7)),
        new("ConvInteger", "weights")
            .ints("pads", &[1, 1, 1, 1])
            .varying(x(&[1, 40, 5, 5], 8))
            .constant(w(DType::I8, &[12, 40, 3, 3], 9))
            .varying(zero(DType::U8, &[], 10))
            .constant(zero(DType::I8, &[], 11)),
        new("QLinearConv", "weights")
            .varying(x(&[1, 24, 5, 5], 12))
            .constant(scale(&[], 13))
            .constant(zero(DType::U8, &[], 14))
            .constant(w(DType::I8, &[16, 24, 3, 3], 15))
            .constant(scale(&[16], 16))
            .constant(zero(DType::I8, &[16], 17))
            .constant(random(DType::F32, &[], 3.0, 4.0, 18))
            .constant(zero(DType::U8, &[], 19))
            .constant(random(DType::I32, &[16], -900.0, 900.0, 20)),
        new("com.microsoft:QGemm", "weights")
            .int("transB", 1)
            .varying(x(&[5, 64], 21))
            .constant(scale(&[], 22))
            .constant(zero(DType::U8, &[], 23))
            .constant(w(DType::I8, &[48, 64], 24))
            .constant(scale(&[48], 25))
            .constant(zero(DType::I8, &[48], 26)),
        new("MatMulInteger", "weights_by_vector").varying(x(&[3, 2000], 27)).constant(w(DType::I8, &[2000, 1], 28)),
    ]
}

/// MatMulNBits of `bits` with or without zero points.
fn bits(name: &'static str, bits: i64, [terms, columns, block]: [usize; 3], zeros: Option<DType>, seed: u64) -> Case {
    let blocks = terms.div_ceil(block);
    let case = new("com.microsoft:MatMulNBits", name)
        .int("K", terms as i64)
        .int("N", columns as i64)
        .int("bits", bits)
        .int("block_size", block as i64)
        .varying(floats(&[2, 3, terms], seed))
        .constant(codes(DType::U8, &[columns, blocks, block * bits as usize / 8], seed + 1))
        .constant(random(DType::F32, &[columns * blocks], 0.01, 0.1, seed + 2));
    match zeros {
        None => case,
        Some(DType::U8) => case.constant(codes(DType::U8, &[columns * (blocks * bits as usize).div_ceil(8)], seed + 3)),
        Some(_) => case.constant(random(DType::F32, &[columns * blocks], 4.0, 9.0, seed + 3)),
    }
}

fn blocks_of_bits() -> Vec<Case> {
    vec![
        bits("symmetric", 4, [64, 48, 32], None, 100),
        bits("zero_points", 4, [96, 40, 32], Some(DType::U8), 110),
        bits("float_zero_points", 4, [96, 33, 16], Some(DType::F32), 120),
        bits("short_last_block", 4, [100, 36, 64], Some(DType::U8), 130),
        bits("eight_bits", 8, [64, 30, 32], Some(DType::U8), 150),
        bits("one_block", 4, [40, 64, 128], None, 160).absent().absent().constant(floats(&[64], 161)),
    ]
}

fn lookups() -> Vec<Case> {
    let indices = || integers(&[0, -1, 7, 40, 3]);
    let cases = TYPES.iter().zip([170, 171, 172, 173]);
    cases.map(|(d, seed)| new("Gather", "packed").constant(codes(*d, &[41, 27], seed)).varying(indices())).collect()
}
