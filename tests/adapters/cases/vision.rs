//! Operators over images: pooling, sampling, resizing, regions, deformable convolutions, and moving them about.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, extents, floats, integers, random, vector};

pub(crate) fn cases() -> Vec<Case> {
    let files = [pools(), random_pools(), samples(), regions(), frames(), sizes(), random_sizes(), large_sizes()];
    files.into_iter().flatten().collect()
}

/// Pools of one to three axes, padded on either side.
fn random_pools() -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in 0..6u64 {
        let axes = 1 + seed as usize % 3;
        let shape = [extents(2, 1, 4, 30 + seed), extents(axes, 4, 9, 40 + seed)].concat();
        let along = |low, high, seed| extents(axes, low, high, seed).iter().map(|e| *e as i64).collect::<Vec<i64>>();
        let kernel = along(2, 4, 50 + seed);
        let pads = [along(0, 1, 60 + seed), along(0, 1, 70 + seed)].concat();
        let new = |operator, name| {
            Case::new(operator, name)
                .opset(22)
                .ints("kernel_shape", &kernel)
                .ints("strides", &along(1, 3, 80 + seed))
                .ints("pads", &pads)
                .int("ceil_mode", (seed / 3) as i64)
                .varying(floats(&shape, seed))
        };
        cases.extend([
            new("MaxPool", "random"),
            new("AveragePool", "random"),
            new("AveragePool", "pads_counted").int("count_include_pad", 1),
            Case::new("GlobalAveragePool", "random").varying(floats(&shape, seed)),
            Case::new("GlobalMaxPool", "random").varying(floats(&shape, seed)),
        ]);
    }
    cases
}

/// Images made larger and smaller by sizes of any ratio.
fn random_sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, mode) in ["nearest", "linear", "cubic", "nearest", "linear", "cubic"].into_iter().enumerate() {
        let seed = seed as u64;
        let shape = extents(4, 1, 7, 90 + seed);
        let to = extents(2, 1, 9, 100 + seed);
        let sizes = [shape[0] as i64, shape[1] as i64, to[0] as i64, to[1] as i64];
        let case = Case::new("Resize", "random").string("mode", mode).varying(floats(&shape, seed)).tolerance(1e-5);
        cases.push(case.absent().absent().constant(integers(&sizes)));
    }
    cases
}

/// Images large enough for kernels that make four elements at once.
fn large_sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    let sizes = [[18, 48], [7, 72], [27, 24], [9, 96], [36, 120], [11, 28], [5, 44], [13, 27]];
    for (seed, to) in (120u64..).zip(sizes) {
        for mode in ["nearest", "linear", "cubic"] {
            let case = Case::new("Resize", "large").string("mode", mode).tolerance(1e-5);
            let case = case
                .string("coordinate_transformation_mode", if seed % 2 == 0 { "asymmetric" } else { "half_pixel" })
                .string("nearest_mode", "floor");
            let case = case.varying(floats(&[2, 10, 9, 24], seed)).absent().absent();
            cases.push(case.constant(integers(&[2, 10, to[0], to[1]])));
        }
    }
    cases
}

/// Random values with NaN and infinities among them.
fn with_extremes(shape: &[usize], seed: u64) -> Tensor {
    let mut values = floats(shape, seed).values::<f32>().expect("floats").to_vec();
    for (place, value) in [(0, f32::NAN), (37, -f32::NAN), (90, f32::INFINITY), (200, f32::NEG_INFINITY)] {
        values[place] = value;
    }
    Tensor::from_vec(shape, values).expect("as many")
}

fn pools() -> Vec<Case> {
    let image = || floats(&[2, 3, 7, 6], 1);
    let pool = |operator, name| Case::new(operator, name).ints("kernel_shape", &[3, 2]);
    vec![
        pool("MaxPool", "rows_of_fours").ints("pads", &[1, 1, 1, 1]).varying(with_extremes(&[2, 3, 18, 24], 80)),
        pool("MaxPool", "many_rows_of_fours").ints("pads", &[1, 1, 1, 1]).varying(with_extremes(&[1, 135, 14, 68], 82)),
        Case::new("MaxPool", "steps_of_rows_of_fours")
            .ints("kernel_shape", &[2, 3])
            .ints("strides", &[2, 2])
            .int("ceil_mode", 1)
            .varying(floats(&[1, 5, 13, 28], 81)),
        pool("MaxPool", "indices")
            .ints("strides", &[2, 1])
            .ints("pads", &[1, 0, 1, 1])
            .int("ceil_mode", 1)
            .outputs(2)
            .varying(image()),
        pool("MaxPool", "columns_first").int("storage_order", 1).ints("dilations", &[2, 3]).outputs(2).varying(image()),
        pool("MaxPool", "u8").varying(random(DType::U8, &[1, 2, 5, 5], 0.0, 255.0, 2)),
        pool("LpPool", "two").ints("pads", &[1, 1, 0, 0]).varying(image()),
        pool("LpPool", "three").int("p", 3).ints("strides", &[2, 2]).varying(image()).tolerance(1e-5),
        Case::new("GlobalLpPool", "two").varying(image()),
        Case::new("GlobalLpPool", "three").int("p", 3).varying(image()).tolerance(1e-5),
        Case::new("LpNormalization", "two").int("axis", 1).varying(image()),
        Case::new("LpNormalization", "one").int("p", 1).varying(image()),
        Case::new("MaxUnpool", "to_a_larger_shape")
            .ints("kernel_shape", &[2, 2])
            .ints("strides", &[2, 2])
            .varying(vector(&[1.0, 2.0, 3.0, 4.0]).reshaped([1, 1, 2, 2]).expect("four"))
            .varying(integers(&[5, 7, 13, 15]).reshaped([1, 1, 2, 2]).expect("four"))
            .constant(integers(&[1, 1, 5, 5])),
        Case::new("Col2Im", "overlapping")
            .ints("strides", &[1, 2])
            .ints("pads", &[1, 0, 1, 1])
            .varying(floats(&[2, 12, 18], 3))
            .constant(integers(&[5, 6]))
            .constant(integers(&[2, 3])),
        Case::new("Col2Im", "three_axes")
            .varying(floats(&[1, 16, 6], 4))
            .constant(integers(&[2, 3, 4]))
            .constant(integers(&[2, 2, 2])),
        Case::new("Det", "batch").varying(floats(&[3, 2, 4, 4], 5)).tolerance(1e-5),
    ]
}

fn samples() -> Vec<Case> {
    let mut cases = Vec::new();
    // Points on both sides of every border, away from the middles between pixels, where rounding would decide.
    for (mode, names) in [
        ("nearest", ["nearest_zeros", "nearest_border", "nearest_reflection"]),
        ("linear", ["linear_zeros", "linear_border", "linear_reflection"]),
        ("cubic", ["cubic_zeros", "cubic_border", "cubic_reflection"]),
    ] {
        for (padding, name) in ["zeros", "border", "reflection"].into_iter().zip(names) {
            for align_corners in [0, 1] {
                cases.push(
                    Case::new("GridSample", name)
                        .opset(20)
                        .string("mode", mode)
                        .string("padding_mode", padding)
                        .int("align_corners", align_corners)
                        .varying(floats(&[2, 3, 5, 4], 6))
                        .varying(random(DType::F32, &[2, 3, 7, 2], -1.7, 1.7, 7))
                        .tolerance(1e-5),
                );
            }
        }
    }
    let volume = |name| Case::new("GridSample", name).opset(20).varying(floats(&[1, 2, 3, 4, 5], 8)).tolerance(1e-5);
    let points = || random(DType::F32, &[1, 2, 3, 2, 3], -1.4, 1.4, 9);
    cases.push(volume("volume").varying(points()));
    cases.push(volume("volume_nearest").string("mode", "nearest").string("padding_mode", "border").varying(points()));
    let theta = |shape: &[usize]| floats(shape, 10);
    cases.push(Case::new("AffineGrid", "image").opset(20).varying(theta(&[2, 2, 3])).constant(integers(&[2, 3, 4, 5])));
    cases.push(
        Case::new("AffineGrid", "volume")
            .opset(20)
            .int("align_corners", 1)
            .varying(theta(&[1, 3, 4]))
            .constant(integers(&[1, 1, 2, 3, 4])),
    );
    let deform = |name| {
        Case::new("DeformConv", name)
            .opset(19)
            .ints("pads", &[1, 1, 1, 1])
            .int("offset_group", 2)
            .varying(floats(&[2, 4, 5, 6], 11))
    };
    cases.push(
        deform("masked")
            .constant(floats(&[6, 4, 3, 3], 12))
            .varying(floats(&[2, 36, 5, 6], 13))
            .constant(floats(&[6], 14))
            .varying(floats(&[2, 18, 5, 6], 15))
            .tolerance(1e-5),
    );
    cases.push(
        deform("grouped")
            .int("group", 2)
            .ints("strides", &[2, 1])
            .ints("dilations", &[1, 2])
            .constant(floats(&[6, 2, 3, 2], 16))
            .varying(floats(&[2, 24, 3, 6], 17))
            .tolerance(1e-5),
    );
    cases
}

fn regions() -> Vec<Case> {
    let corners = vec![0.3f32, 0.7, 5.2, 6.1, -1.0, 2.0, 9.0, 3.5, 4.0, 4.0, 4.2, 4.4];
    let regions = move || Tensor::from_vec([3, 4], corners.clone()).expect("twelve");
    let align = |name, opset| {
        Case::new("RoiAlign", name)
            .opset(opset)
            .int("output_height", 3)
            .int("output_width", 2)
            .float("spatial_scale", 0.9)
            .varying(floats(&[2, 3, 8, 7], 18))
            .varying(regions())
            .varying(integers(&[1, 0, 1]))
            .tolerance(1e-5)
    };
    let pooled = Tensor::from_vec([2, 5], vec![1.0f32, 1.0, 2.0, 9.0, 11.0, 0.0, 3.0, 0.0, 3.0, 20.0]).expect("ten");
    vec![
        align("mean", 16),
        align("unshifted", 10).int("sampling_ratio", 2),
        align("maximum", 16).string("mode", "max"),
        Case::new("MaxRoiPool", "half_size")
            .ints("pooled_shape", &[3, 2])
            .float("spatial_scale", 0.5)
            .varying(floats(&[2, 3, 8, 7], 19))
            .varying(pooled),
    ]
}

fn frames() -> Vec<Case> {
    let image = || floats(&[2, 3, 7, 6], 20);
    vec![
        Case::new("CenterCropPad", "both").ints("axes", &[2, 3]).varying(image()).constant(integers(&[4, 9])),
        Case::new("Crop", "border").opset(1).ints("border", &[1, 2, 0, 3]).varying(image()),
        Case::new("Crop", "scale").opset(1).ints("border", &[1, 2, 0, 0]).ints("scale", &[3, 4]).varying(image()),
        Case::new("ImageScaler", "three_channels")
            .opset(1)
            .float("scale", 0.5)
            .set("bias", coracle::engine::ir::Attribute::Floats(vec![1.0, -2.0, 3.0]))
            .varying(image()),
        Case::new("Affine", "plain").opset(1).float("alpha", 3.0).float("beta", -0.5).varying(image()),
        Case::new("ParametricSoftplus", "plain").opset(1).float("alpha", 0.7).float("beta", 2.0).varying(image()),
        Case::new("ScaledTanh", "plain").opset(1).float("alpha", 1.7).float("beta", 0.66).varying(image()),
    ]
}

fn sizes() -> Vec<Case> {
    let image = || floats(&[1, 2, 5, 6], 21);
    let resize = |name, mode: &str| Case::new("Resize", name).string("mode", mode).varying(image()).tolerance(1e-5);
    let scales = |values: &[f32]| vector(values);
    vec![
        resize("aligned_corners", "linear")
            .string("coordinate_transformation_mode", "align_corners")
            .absent()
            .constant(scales(&[1.0, 1.0, 0.7, 1.3])),
        resize("antialiased", "cubic").int("antialias", 1).absent().constant(scales(&[1.0, 1.0, 0.6, 0.5])),
        resize("excluding", "cubic")
            .int("exclude_outside", 1)
            .float("cubic_coeff_a", -0.5)
            .absent()
            .constant(scales(&[1.0, 1.0, 2.0, 1.5])),
        resize("not_larger", "nearest")
            .string("keep_aspect_ratio_policy", "not_larger")
            .ints("axes", &[3, 2])
            .absent()
            .absent()
            .constant(integers(&[9, 12])),
        resize("crop", "linear")
            .string("coordinate_transformation_mode", "tf_crop_and_resize")
            .float("extrapolation_value", 7.0)
            .ints("axes", &[2, 3])
            .constant(scales(&[0.2, -0.3, 0.9, 1.2]))
            .absent()
            .constant(integers(&[4, 5])),
    ]
}
