//! 3×3 convolutions of step 1 by Winograd's minimal filtering: patches of input and weights are turned so that their products,
//! element by element, turn back into output pixels (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015).
//! Over all channels that is one matrix product for each value of a patch, with fewer multiplications than a window has.

use super::conv_window::Geometry;
use super::product::{Matrices, Product, Source};
use super::product_cost::{CORES, DISPATCH, TRAFFIC};
use super::words::word;
use crate::engine::ir::{Define, Planes, Profile, Recorder, Storage, Work, linear_groups};
use crate::engine::kernels::{winograd_input, winograd_output};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Channels on either side below which turning costs more than it saves.
const LEAST_CHANNELS: usize = 16;

/// One such convolution, written to output 0 of the node that is recorded.
#[derive(Debug)]
pub(super) struct Winograd<'a> {
    pub(super) x: Source,
    /// As [`turned`] gives them.
    pub(super) weights: Source,
    pub(super) bias: Option<Source>,
    pub(super) geometry: &'a Geometry,
    pub(super) images: usize,
    /// Input and output channels.
    pub(super) channels: [usize; 2],
    /// Rows and columns of output pixels of a patch: 2 or 4.
    pub(super) out: usize,
}

/// Whether a convolution of this geometry can be computed so, and might gain by it.
pub(super) fn fits(g: &Geometry, channels: [usize; 2]) -> bool {
    let plane = g.kernel == [1, 3, 3] && g.input[0] == 1 && g.output[0] == 1 && g.pad[0] == 0;
    plane && g.stride == [1; 3] && g.dilation == [1; 3] && channels.iter().all(|c| *c >= LEAST_CHANNELS)
}

/// The weights of each row of a turned window.
fn filter(out: usize) -> &'static [[f64; 3]] {
    match out {
        2 => &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
        _ => &[
            [0.25, 0.0, 0.0],
            [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
            [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
            [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
            [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
            [0.0, 0.0, 1.0],
        ],
    }
}

/// `weights`, [output, input, 3, 3], turned: [value of a patch, input, output] of 32-bit floats.
pub(super) fn turned(weights: &[f64], [inputs, outputs]: [usize; 2], out: usize) -> Result<Tensor> {
    let filter = filter(out);
    let size = filter.len();
    let mut values = vec![0.0f32; size * size * inputs * outputs];
    for (index, window) in weights.chunks_exact(9).enumerate() {
        let (output, input) = (index / inputs, index % inputs);
        for (y, by_y) in filter.iter().enumerate() {
            for (x, by_x) in filter.iter().enumerate() {
                let sum: f64 = (0..9).map(|tap| by_y[tap / 3] * window[tap] * by_x[tap % 3]).sum();
                values[((y * size + x) * inputs + input) * outputs + output] = sum as f32;
            }
        }
    }
    Tensor::from_vec([size * size, inputs, outputs], values)
}

impl Winograd<'_> {
    /// Patches of an image along y and x, and of all images, padded to what reads in fours.
    fn patches(&self) -> ([usize; 2], usize, usize) {
        let [_, height, width] = self.geometry.output;
        let [y, x] = [height.div_ceil(self.out), width.div_ceil(self.out)];
        let all = self.images * y * x;
        ([y, x], all, all.next_multiple_of(4))
    }

    /// The products of turned patches and weights, from `turned` on.
    pub(super) fn product(&self, patches: Source) -> Result<Product> {
        let [inputs, outputs] = self.channels;
        let (_, _, line) = self.patches();
        let matrices = Matrices { extents: [outputs, line, inputs], a_strides: [1, outputs], b_strides: [line, 1] };
        let starts = (0..(self.out + 2).pow(2)).map(|value| {
            Ok([word(value * inputs * outputs)?, word(value * inputs * line)?, word(value * outputs * line)?, 0])
        });
        let starts = starts.collect::<Result<Vec<_>>>()?;
        Ok(Product { a: self.weights, b: patches, bias: None, params: matrices.params(false)?, starts, padded: false })
    }

    /// About how long it takes, in multiply-adds of one core.
    pub(super) fn estimate(&self, profile: &Profile) -> Result<f64> {
        let (_, _, line) = self.patches();
        let turned = line * (self.out + 2).pow(2);
        // Both sides of the product are written and read.
        let numbers = 2 * turned * self.channels.iter().sum::<usize>();
        Ok(self.product(self.x)?.estimate(profile) + 2.0 * DISPATCH + numbers as f64 * TRAFFIC / CORES)
    }

    /// Adds its dispatches.
    pub(super) fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let ([patches_y, patches_x], patches, line) = self.patches();
        let ([inputs, outputs], size) = (self.channels, self.out + 2);
        let g = self.geometry;
        let max_groups = recorder.profile.max_workgroups;
        let held = |channels: usize| Shape::from([size * size, channels, line]);
        let out = Define::Const("OUT", word(self.out)?);

        let spread = recorder.scratch(held(inputs), DType::F32, Storage::F32);
        // Rows follow each other without gaps.
        let dense = Planes::dense(&[self.images, inputs, g.input[1], g.input[2]]);
        let lies = self.x.planes.or(dense).ok_or_else(|| Error::internal("images have four axes"))?;
        let params = winograd_input::Params {
            channels: word(inputs)?,
            patches: word(patches)?,
            patches_x: word(patches_x)?,
            patches_y: word(patches_y)?,
            line: word(line)?,
            input_x: word(g.input[2])?,
            input_y: word(g.input[1])?,
            pad_x: word(g.pad[2])?,
            pad_y: word(g.pad[1])?,
            first: word(lies.first)?,
            image: word(lies.image)?,
            plane: word(lies.plane)?,
        };
        let work = Work {
            shader: &winograd_input::SHADER,
            defines: &[Define::Scalar("In", self.x.storage), out.clone()],
            buffers: &[self.x.buffer, spread.buffer],
            params: params.words(),
            groups: linear_groups(patches * inputs, 64, max_groups),
        };
        recorder.dispatch_plain(&work, Storage::F32)?;

        let sums = recorder.scratch(held(outputs), DType::F32, Storage::F32);
        self.product(Source::from(&spread))?.record_into(recorder, sums.buffer)?;

        let params = winograd_output::Params {
            channels: word(outputs)?,
            patches: word(patches)?,
            patches_x: word(patches_x)?,
            patches_y: word(patches_y)?,
            line: word(line)?,
            output_x: word(g.output[2])?,
            output_y: word(g.output[1])?,
        };
        let bias = self.bias.unwrap_or_else(|| Source::from(&sums));
        recorder.dispatch(&Work {
            shader: &winograd_output::SHADER,
            defines: &[
                Define::Scalar("Bias", bias.storage),
                Define::Const("BIAS", u32::from(self.bias.is_some())),
                out,
            ],
            buffers: &[sums.buffer, bias.buffer, recorder.output(0).buffer],
            params: params.words(),
            groups: linear_groups(patches * outputs, 64, max_groups),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_windows_stay_constant() {
        // A window of ones over ones gives 9 everywhere; the sums of the turned weights say how it is spread.
        for out in [2, 4] {
            let turned = turned(&[1.0; 9], [1, 1], out).expect("as many").to_f64s().expect("real");
            let row: Vec<f64> = filter(out).iter().map(|r| r.iter().sum()).collect();
            let size = row.len();
            for (index, value) in turned.iter().enumerate() {
                assert!((value - row[index / size] * row[index % size]).abs() < 1e-6, "{out}: {index}");
            }
        }
    }
}
