//! A transposed convolution as ordinary ones: output pixels that are a whole stride apart see the same taps at the same
//! distances, so each phase of the stride is a convolution of step 1 that writes every stride-th pixel.

use super::conv_window::Geometry;
use super::product::Params;
use super::words::word;
use crate::error::Result;

/// One phase: its window, and where its weights and output pixels start.
#[derive(Debug)]
pub(super) struct Phase {
    /// Window, extents and steps; the operator fills in the rest.
    pub(super) params: Params,
    /// Output pixels of an image.
    pub(super) pixels: usize,
    pub(super) first_tap: usize,
    pub(super) first_pixel: usize,
    /// Whether windows reach outside the input.
    pub(super) padded: bool,
}

/// One axis of a phase. Output `phase + stride × j` reads input `j + offset − backwards × t` through tap
/// `first_tap + tap_step × t`, for each *t* below `taps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    phase: usize,
    outputs: usize,
    taps: usize,
    first_tap: usize,
    tap_step: usize,
    offset: isize,
    backwards: usize,
    padded: bool,
}

impl Axis {
    fn new(g: &Geometry, axis: usize, phase: usize) -> Self {
        let (stride, dilation, kernel) = (g.stride[axis], g.dilation[axis], g.kernel[axis]);
        let outputs = g.output[axis].saturating_sub(phase).div_ceil(stride);
        let divisor = gcd(stride, dilation);
        let (tap_step, backwards) = (stride / divisor, dilation / divisor);
        // Tap k meets the input where (phase + pad − k × dilation) is a whole number of strides.
        let distance = |k: usize| (phase + g.pad[axis]).cast_signed() - (k * dilation).cast_signed();
        let first = (0..kernel.min(stride)).find(|k| distance(*k).rem_euclid(stride.cast_signed()) == 0);
        let Some(first_tap) = first else {
            return Self { phase, outputs, taps: 0, first_tap: 0, tap_step, offset: 0, backwards, padded: false };
        };
        let taps = (kernel - first_tap).div_ceil(tap_step);
        let offset = distance(first_tap).div_euclid(stride.cast_signed());
        let lowest = offset - ((taps - 1) * backwards).cast_signed();
        let highest = offset + outputs.cast_signed() - 1;
        let padded = lowest < 0 || highest >= g.input[axis].cast_signed();
        Self { phase, outputs, taps, first_tap, tap_step, offset, backwards, padded }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Every phase that has output pixels.
pub(super) fn phases(g: &Geometry) -> Result<Vec<Phase>> {
    let mut phases = Vec::new();
    // Those behind the last output pixel have none, however large the stride.
    let [z, y, x] = [0, 1, 2].map(|axis| g.stride[axis].min(g.output[axis]));
    for index in 0..z.saturating_mul(y).saturating_mul(x) {
        let phase = [index / (x * y), index / x % y, index % x];
        let axes = [0, 1, 2].map(|axis| Axis::new(g, axis, phase[axis]));
        if axes.iter().all(|a| a.outputs > 0) {
            phases.push(Phase::new(g, axes)?);
        }
    }
    Ok(phases)
}

impl Phase {
    fn new(g: &Geometry, axes: [Axis; 3]) -> Result<Self> {
        let [_, kernel_y, kernel_x] = g.kernel;
        let [_, output_y, output_x] = g.output;
        let tap_strides = [kernel_x * kernel_y, kernel_x, 1];
        let pixel_strides = [output_x * output_y, output_x, 1];
        let pixels = axes.iter().map(|a| a.outputs).product();
        let mut params = Params {
            taps: word(axes.iter().map(|a| a.taps).product())?,
            stride: [1, 1, 1, 0],
            channel_row: 1,
            bias_row: 1,
            alpha: 1.0,
            beta: 1.0,
            ..Params::default()
        };
        for (slot, axis) in [2, 1, 0].into_iter().enumerate() {
            let a = &axes[axis];
            params.a_tap[slot] = word(a.tap_step * tap_strides[axis])?;
            params.kernel[slot] = word(a.taps)?;
            params.input[slot] = word(g.input[axis])?;
            // Shaders count modulo 2³²: a window that runs backwards has a negative step.
            params.dilation[slot] = word(a.backwards)?.wrapping_neg();
            params.pad[slot] = (a.offset as u32).wrapping_neg();
            params.output[slot] = word(a.outputs)?;
            params.y_step[slot] = word(g.stride[axis] * pixel_strides[axis])?;
        }
        params.output[3] = word(pixels)?;
        Ok(Self {
            params,
            pixels,
            first_tap: (0..3).map(|i| axes[i].first_tap * tap_strides[i]).sum(),
            first_pixel: (0..3).map(|i| axes[i].phase * pixel_strides[i]).sum(),
            padded: axes.iter().any(|a| a.padded),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strides_beyond_the_output_have_no_phases_there() {
        let mut g = Geometry::unit();
        (g.output, g.stride) = ([1, 2, 3], [1 << 20; 3]);
        assert_eq!(phases(&g).expect("small numbers").len(), 6);
    }

    proptest! {
        #[test]
        fn phases_hold_every_pair_of_input_and_tap_once(
            input in 1usize..6, kernel in 1usize..6, stride in 1usize..5, dilation in 1usize..4, pad in 0usize..4, extra in 0usize..3,
        ) {
            let full = (input - 1) * stride + (kernel - 1) * dilation + 1 + extra;
            prop_assume!(full > pad);
            let mut g = Geometry::unit();
            (g.kernel[2], g.input[2], g.output[2]) = (kernel, input, full - pad);
            (g.stride[2], g.dilation[2], g.pad[2]) = (stride, dilation, pad);
            let mut found = Vec::new();
            for phase in 0..stride {
                let a = Axis::new(&g, 2, phase);
                let pairs = (0..a.outputs).flat_map(|j| (0..a.taps).map(move |t| (j, t)));
                for (j, t) in pairs {
                    let from = j.cast_signed() + a.offset - (a.backwards * t).cast_signed();
                    if from >= 0 && from < input.cast_signed() {
                        found.push((phase + stride * j, from.cast_unsigned(), a.first_tap + a.tap_step * t));
                    } else {
                        prop_assert!(a.padded);
                    }
                }
            }
            let mut wanted = Vec::new();
            for i in 0..input {
                for k in 0..kernel {
                    let at = (i * stride + k * dilation).checked_sub(pad).filter(|o| *o < g.output[2]);
                    wanted.extend(at.map(|o| (o, i, k)));
                }
            }
            found.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }
}
