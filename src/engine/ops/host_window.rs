//! Convolution windows on the host: laid out as the columns of a matrix, and put back.

use super::conv_window::{Extents, Geometry};
use super::host_product::add_product;

/// Adds one group's convolution of one image to `output`: windows are laid out as columns, a block at a time, and
/// multiplied by the weights.
pub(super) fn convolve(geometry: &Geometry, input: &[f64], weights: &[f64], output: &mut [f64], terms: usize) {
    const BLOCK: usize = 1024;
    let pixels = geometry.output_pixels();
    let rows = output.len() / pixels.max(1);
    for first in (0..pixels).step_by(BLOCK) {
        let count = BLOCK.min(pixels - first);
        let mut columns = vec![0.0; terms * count];
        for (term, line) in columns.chunks_exact_mut(count).enumerate() {
            lay_out(geometry, input, term, first, line);
        }
        let mut sums = vec![0.0; rows * count];
        add_product(weights, &columns, &mut sums, count, terms);
        for (row, sums) in sums.chunks_exact(count).enumerate() {
            for (y, sum) in output[row * pixels + first..].iter_mut().zip(sums) {
                *y += sum;
            }
        }
    }
}

/// What term `term` (channel and tap) contributes to the windows of pixels `first…`: zero outside the input.
fn lay_out(g: &Geometry, input: &[f64], term: usize, first: usize, line: &mut [f64]) {
    let (channel, tap) = (term / g.taps(), coordinates(term % g.taps(), g.kernel));
    let channel = &input[channel * g.input_pixels()..][..g.input_pixels()];
    for (offset, value) in line.iter_mut().enumerate() {
        let index = meeting(g, coordinates(first + offset, g.output), tap, g.input);
        *value = index.map_or(0.0, |index| channel[index]);
    }
}

/// Adds what the input pixels give to output channel and tap `term`.
pub(super) fn scatter(g: &Geometry, term: usize, values: &[f64], output: &mut [f64]) {
    let (channel, tap) = (term / g.taps(), coordinates(term % g.taps(), g.kernel));
    let channel = &mut output[channel * g.output_pixels()..][..g.output_pixels()];
    for (pixel, value) in values.iter().enumerate() {
        if let Some(index) = meeting(g, coordinates(pixel, g.input), tap, g.output) {
            channel[index] += value;
        }
    }
}

fn coordinates(index: usize, [_, y, x]: Extents) -> Extents {
    [index / (x * y), index / x % y, index % x]
}

/// The element, of `extents`, that the window of `pixel` meets through `tap`, if it is not padding.
fn meeting(g: &Geometry, pixel: Extents, tap: Extents, extents: Extents) -> Option<usize> {
    let mut index = 0;
    for axis in 0..3 {
        let at = (pixel[axis] * g.stride[axis] + tap[axis] * g.dilation[axis]).checked_sub(g.pad[axis])?;
        if at >= extents[axis] {
            return None;
        }
        index = index * extents[axis] + at;
    }
    Some(index)
}
