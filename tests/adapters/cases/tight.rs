//! Depthwise convolutions and maxima over images whose rows are no whole vectors of four and follow each other without gaps.

use crate::case::{Case, floats};

/// Extents of the images, of the windows and of their steps, and what lies around.
type Problem = ([i64; 4], [i64; 2], [i64; 2], i64);

const SHAPES: &[Problem] = &[
    ([1, 84, 7, 7], [3, 3], [1, 1], 1),
    ([2, 24, 14, 14], [3, 3], [1, 1], 1),
    ([1, 24, 14, 14], [3, 3], [2, 2], 1),
    ([1, 100, 14, 14], [5, 5], [2, 2], 2),
    ([2, 44, 7, 7], [5, 5], [1, 1], 2),
    ([1, 20, 13, 17], [3, 3], [1, 1], 1),
    ([3, 40, 5, 9], [3, 3], [1, 1], 0),
    ([1, 60, 10, 10], [3, 3], [2, 2], 1),
    ([1, 52, 15, 11], [1, 3], [1, 1], 1),
    ([1, 16, 9, 30], [2, 2], [2, 2], 0),
    ([4, 37, 6, 5], [3, 2], [1, 1], 1),
    ([1, 12, 18, 28], [3, 3], [2, 2], 1),
    ([1, 3, 121, 22], [3, 3], [1, 1], 1),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, (image, kernel, step, around)) in SHAPES.iter().enumerate() {
        let (seed, around) = (3 * seed as u64 + 500, [*around; 4]);
        let [image_shape, weights] =
            [image.map(|n| n as usize), [image[1], 1, kernel[0], kernel[1]].map(|n| n as usize)];
        // Windows may not lie in what is around them alone.
        let around = if kernel.contains(&1) { [0, around[1], 0, around[3]] } else { around };
        cases.push(
            Case::new("Conv", "depthwise_tight")
                .tolerance(2e-5)
                .int("group", image[1])
                .ints("strides", step)
                .ints("pads", &around)
                .varying(floats(&image_shape, seed))
                .constant(floats(&weights, seed + 1))
                .constant(floats(&weights[..1], seed + 2)),
        );
        let around = if kernel.contains(&2) { [0; 4] } else { around };
        cases.push(
            Case::new("MaxPool", "tight")
                .ints("kernel_shape", kernel)
                .ints("strides", step)
                .ints("pads", &around)
                .varying(floats(&image_shape, seed)),
        );
    }
    cases
}
