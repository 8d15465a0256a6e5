//! What makes one value of many: reductions, softmax, local response normalisation, running totals, extremes.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, extents, floats, integers, random};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = reductions();
    for seed in 0..3 {
        cases.extend(along_one_axis(seed));
    }
    cases.extend([
        Case::new("Softmax", "long_rows").varying(floats(&[3, 700], 1)),
        Case::new("Softmax", "rows_of_fours").varying(random(DType::F32, &[3, 21, 132], -9.0, 9.0, 7)),
        Case::new("LogSoftmax", "rows_of_fours").varying(random(DType::F32, &[70, 64], -9.0, 9.0, 8)).tolerance(1e-5),
        Case::new("GlobalAveragePool", "rows_of_fours").varying(floats(&[2, 19, 12, 13], 9)),
        Case::new("GlobalAveragePool", "tight_rows").varying(floats(&[3, 29, 7, 7], 11)).tolerance(1e-5),
        Case::new("ReduceSum", "tight_rows").tolerance(1e-5).varying(floats(&[37, 3, 50], 12)).constant(integers(&[2])),
        Case::new("ReduceMean", "tight_blocks").tolerance(1e-5).varying(floats(&[7, 677], 13)).constant(integers(&[1])),
        Case::new("ReduceSum", "rows_of_fours")
            .tolerance(1e-5)
            .varying(floats(&[5, 7, 160], 10))
            .constant(integers(&[2])),
        Case::new("ReduceMax", "rows_of_fours").varying(floats(&[70, 132], 14)).constant(integers(&[1])),
        Case::new("ReduceMax", "one_long_row").varying(floats(&[1, 172, 264], 15)),
        Case::new("ReduceMin", "long_tight_rows").varying(with_nan(&[3, 30_001])).constant(integers(&[1])),
        Case::new("ReduceMean", "long_rows")
            .tolerance(1e-5)
            .varying(floats(&[2, 3, 9000], 16))
            .constant(integers(&[1, 2])),
        Case::new("ReduceSum", "one_long_tight_row").tolerance(1e-5).varying(floats(&[40_003], 17)),
        Case::new("Softmax", "flattening").opset(11).int("axis", 1).varying(floats(&[3, 4, 5], 2)),
        Case::new("LRN", "even_size").int("size", 4).varying(floats(&extents(4, 1, 7, 3), 3)),
        Case::new("LRN", "wide").int("size", 9).float("alpha", 0.3).float("beta", 0.6).varying(floats(&[2, 5, 4], 4)),
        Case::new("TopK", "many_of_a_long_row")
            .outputs(2)
            .varying(random(DType::F32, &[2, 3000], -9.0, 9.0, 5))
            .constant(integers(&[300])),
        Case::new("TopK", "i32")
            .int("largest", 0)
            .outputs(2)
            .varying(random(DType::I32, &[4, 50], -9.0, 9.0, 6))
            .constant(integers(&[7])),
    ]);
    cases
}

/// Negative numbers, one of the first row not a number.
fn with_nan(shape: &[usize; 2]) -> Tensor {
    let value = |i: usize| if i == shape[1] / 2 { f32::NAN } else { -1.0 - (i % 977) as f32 };
    Tensor::from_vec(*shape, (0..shape[0] * shape[1]).map(value).collect()).expect("as many as there are")
}

fn reductions() -> Vec<Case> {
    let mut cases = Vec::new();
    let modes = [
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceSumSquare",
        "ReduceLogSumExp",
    ];
    for (mode, seed) in modes.into_iter().zip(0..) {
        let shape = extents(4, 1, 6, seed);
        // Logarithms are of positive numbers, products stay near 1.
        let x = |shape: &[usize]| random(DType::F32, shape, 0.5, 1.6, seed);
        let new = |name| Case::new(mode, name).tolerance(1e-5);
        cases.extend([
            new("all").varying(x(&shape)),
            new("inner").int("keepdims", 0).varying(x(&shape)).constant(integers(&[2, -1])),
            new("outer").varying(x(&shape)).constant(integers(&[0, 2])),
            new("long").varying(x(&[3, 5, 400])).constant(integers(&[-1])),
            new("none").int("noop_with_empty_axes", 1).varying(x(&shape)).constant(integers(&[])),
        ]);
    }
    for mode in ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"] {
        let x = random(DType::I32, &extents(3, 1, 5, 20), -3.0, 3.0, 20);
        cases.push(Case::new(mode, "i32").varying(x).constant(integers(&[1])));
    }
    cases
}

fn along_one_axis(seed: u64) -> Vec<Case> {
    let shape = extents(4, 1, 7, 30 + seed);
    let axis = seed as i64;
    let x = || floats(&shape, seed);
    // Equal values tell whether the first or the last is taken.
    let ties = || random(DType::I32, &shape, -2.0, 3.0, seed);
    let axis_input = || Tensor::scalar(axis);
    vec![
        Case::new("Softmax", "axis").int("axis", axis).varying(x()),
        Case::new("LogSoftmax", "axis").int("axis", axis).varying(x()),
        Case::new("LRN", "three").int("size", 3).float("bias", 1.5).varying(x()),
        Case::new("ArgMax", "first").int("axis", axis).varying(ties()),
        Case::new("ArgMax", "last").int("axis", axis).int("select_last_index", 1).int("keepdims", 0).varying(ties()),
        Case::new("ArgMin", "first").int("axis", axis).varying(x()),
        Case::new("CumSum", "forward").varying(x()).constant(axis_input()).tolerance(1e-5),
        Case::new("CumSum", "backward").int("reverse", 1).int("exclusive", 1).varying(ties()).constant(axis_input()),
        Case::new("TopK", "largest").int("axis", axis).outputs(2).varying(x()).constant(integers(&[1])),
        Case::new("TopK", "smallest_of_ties")
            .int("axis", axis)
            .int("largest", 0)
            .outputs(2)
            .varying(ties())
            .constant(integers(&[shape[axis as usize] as i64])),
    ]
}
