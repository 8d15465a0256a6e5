//! Elements read and written by index.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, extents, floats, integers, random};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in 0..3u64 {
        let shape = extents(3, 2, 6, 100 + seed);
        let axis = seed as usize;
        // Some indices count from the end.
        let indices = |shape: &[usize], extent: usize, seed| {
            let extent = extent as f64;
            random(DType::I64, shape, -extent, extent, seed)
        };
        let mut fewer = shape.clone();
        fewer[axis] = 3;
        let along = |operator, name| Case::new(operator, name).int("axis", axis as i64).varying(floats(&shape, seed));
        cases.extend([
            along("Gather", "random").varying(indices(&[2, 3], shape[axis], seed)),
            along("GatherElements", "random").varying(indices(&fewer, shape[axis], seed + 1)),
            along("ScatterElements", "add")
                .string("reduction", "add")
                .varying(indices(&fewer, shape[axis], seed + 2))
                .varying(floats(&fewer, seed + 3)),
            along("ScatterElements", "max")
                .string("reduction", "max")
                .varying(indices(&fewer, shape[axis], seed + 2))
                .varying(floats(&fewer, seed + 3)),
        ]);
        let tuples = indices(&[4, 2], shape[0].min(shape[1]), seed + 4);
        cases.extend([
            Case::new("GatherND", "random").varying(floats(&shape, seed)).varying(tuples.clone()),
            Case::new("ScatterND", "mul")
                .string("reduction", "mul")
                .varying(floats(&shape, seed))
                .varying(tuples)
                .varying(floats(&[4, shape[2]], seed + 5)),
            Case::new("ReverseSequence", "random")
                .int("time_axis", 0)
                .int("batch_axis", 1)
                .varying(floats(&shape, seed))
                .varying(random(DType::I64, &[shape[1]], 1.0, shape[0] as f64 + 1.0, seed + 6)),
        ]);
    }
    let rows = Tensor::from_vec([2, 2], vec![1i64, 0, 0, 1]).expect("four");
    cases.extend([
        Case::new("GatherND", "batch")
            .int("batch_dims", 1)
            .varying(floats(&[2, 3, 4], 110))
            .varying(integers(&[2, 0]).reshaped([2, 1]).expect("two")),
        Case::new("ScatterND", "whole_rows")
            .varying(floats(&[3, 2, 5], 111))
            .varying(rows)
            .varying(floats(&[2, 5], 112)),
        Case::new("TensorScatter", "cache")
            .opset(24)
            .int("axis", 2)
            .varying(floats(&[2, 3, 6, 4], 113))
            .varying(floats(&[2, 3, 2, 4], 114))
            .varying(integers(&[1, 4])),
        Case::new("Pad", "value_of_data")
            .varying(floats(&extents(3, 1, 5, 115), 115))
            .constant(integers(&[1, 0, 2, 0, 3, 1]))
            .varying(Tensor::scalar(1.25f32)),
    ]);
    cases
}
