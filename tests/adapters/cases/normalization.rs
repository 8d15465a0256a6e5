//! Layer, root mean square, instance and group normalisation, alone and behind a residual.

use coracle::tensor::DType;

use crate::case::{Case, extents, floats, random};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in 0..3 {
        let shape = extents(3, 1, 9, seed);
        let image = extents(4, 1, 6, 10 + seed);
        let (x, scale, bias) = (floats(&shape, seed), floats(&shape[1..], seed + 1), floats(&shape[1..], seed + 2));
        let channels = || floats(&image[1..2], seed + 3);
        let new = |operator, name| Case::new(operator, name).opset(23).tolerance(1e-5);
        // A variance of one element alone is 0: ε decides, and its root magnifies.
        let layer = |name| new("LayerNormalization", name).float("epsilon", 1e-2).int("axis", 1);
        cases.extend([
            layer("two_axes").outputs(3).varying(x.clone()).constant(scale.clone()).constant(bias),
            layer("without_bias").varying(x.clone()).varying(scale.clone()),
            new("RMSNormalization", "two_axes").int("axis", 1).varying(x.clone()).constant(scale),
            new("InstanceNormalization", "image")
                .float("epsilon", 1e-2)
                .varying(floats(&image, seed))
                .constant(channels())
                .constant(channels()),
            new("GroupNormalization", "one_group")
                .int("num_groups", 1)
                .varying(floats(&image, seed))
                .constant(channels())
                .constant(channels()),
        ]);
        let last = || floats(&shape[2..], seed + 4);
        let skip = |operator, name| new(operator, name).float("epsilon", 1e-2).outputs(4);
        cases.extend([
            skip("com.microsoft:SkipLayerNormalization", "bias")
                .varying(x.clone())
                .varying(floats(&shape[1..], seed + 5))
                .constant(last())
                .constant(last())
                .constant(last()),
            skip("com.microsoft:SkipSimplifiedLayerNormalization", "plain")
                .varying(x.clone())
                .varying(x)
                .constant(last()),
        ]);
    }
    let groups = Case::new("GroupNormalization", "three_groups").opset(21).int("num_groups", 3).tolerance(1e-5);
    cases.push(groups.varying(floats(&[2, 6, 5], 20)).constant(floats(&[6], 21)).constant(floats(&[6], 22)));
    // Rows of fours that have one scale, or several.
    let instance = Case::new("InstanceNormalization", "planes_of_fours").tolerance(1e-5);
    let image = random(DType::F32, &[2, 9, 10, 24], 3.0, 9.0, 60);
    cases.push(instance.varying(image.clone()).constant(floats(&[9], 61)).constant(floats(&[9], 62)));
    for (name, opset, scales) in [("groups_of_fours", 21, 9), ("groups_of_fours_with_a_scale_each", 18, 3)] {
        let group = Case::new("GroupNormalization", name).opset(opset).int("num_groups", 3).tolerance(1e-5);
        cases.push(group.varying(image.clone()).constant(floats(&[scales], 63)).constant(floats(&[scales], 64)));
    }
    let long = Case::new("LayerNormalization", "long_rows").opset(17).tolerance(1e-5);
    cases.push(long.varying(random(DType::F32, &[4, 777], 5.0, 9.0, 23)).constant(floats(&[777], 24)));
    for (name, shape, axis) in [("rows_of_fours", [9, 768], 1), ("many_rows_of_fours", [67, 64], -1)] {
        let scale = || floats(&[shape[1]], 25);
        let layer = Case::new("LayerNormalization", name).opset(17).tolerance(1e-5).int("axis", axis);
        cases.push(
            layer.varying(random(DType::F32, &shape, 5.0, 9.0, 26)).constant(scale()).constant(floats(&[shape[1]], 27)),
        );
        let rms = Case::new("RMSNormalization", name).opset(23).tolerance(1e-5).int("axis", axis);
        cases.push(rms.varying(random(DType::F32, &shape, -5.0, 9.0, 28)).constant(scale()));
    }
    cases
}
