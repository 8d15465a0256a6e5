//! Convolutions whose output channels read one input channel each: there is nothing for a matrix product to share, so a
//! kernel of its own shares loads between neighbouring windows.

use super::conv_window::Geometry;
use super::images::dense_source;
use super::patches::Patches;
use super::product::Source;
use super::words::word;
use crate::engine::ir::{Define, Family, Recorder, Storage, Work, linear_groups, prune};
use crate::engine::kernels::depthwise::{Params, SHADER};
use crate::error::Result;
use crate::tensor::Shape;

/// Taps and strides beyond these would make the unrolled kernel too long to compile.
const MAX_TAPS: usize = 49;
const MAX_STRIDE: usize = 2;
/// Patches that are timed at most.
const CANDIDATES_MAX: usize = 4;

/// One such convolution, written to output 0 of the node that is recorded.
#[derive(Debug)]
pub(super) struct Depthwise<'a> {
    pub(super) x: Source,
    pub(super) weights: Source,
    pub(super) bias: Option<Source>,
    pub(super) geometry: &'a Geometry,
    pub(super) images: usize,
    /// Output channels.
    pub(super) channels: usize,
    /// Output channels that read the same input channel.
    pub(super) multiplier: usize,
}

/// Whether the kernel takes windows of this geometry.
pub(super) fn fits(g: &Geometry) -> bool {
    let plane = g.kernel[0] == 1 && g.input[0] == 1 && g.output[0] == 1 && g.stride[0] == 1;
    plane && g.dilation == [1; 3] && g.taps() <= MAX_TAPS && g.stride.iter().all(|s| *s <= MAX_STRIDE)
}

/// The patch extent that covers `extent` with the fewest loads: each patch loads about two elements of its neighbours.
fn patch(extent: usize, candidates: &[usize]) -> usize {
    candidates.iter().copied().min_by_key(|c| extent.div_ceil(*c) * (c + 2)).unwrap_or(1)
}

impl Depthwise<'_> {
    /// Adds its dispatch.
    pub(super) fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let patches = Patches {
            x: self.x,
            weights: (self.weights.storage == Storage::F32).then_some((self.weights.buffer, self.bias)),
            geometry: self.geometry,
            images: self.images,
            channels: self.channels,
            multiplier: self.multiplier,
        };
        if patches.weights.is_some() && patches.record(recorder)? {
            return Ok(());
        }
        let g = self.geometry;
        let x = dense_source(
            recorder,
            self.x,
            &Shape::new([self.images, self.channels / self.multiplier, g.input[1], g.input[2]]),
        )?;
        // Mesa unrolls loops of fewer than 32 turns: sums in registers need patches of fewer outputs. A line has no
        // neighbouring rows to share with, so its patches are longer.
        let columns: &[usize] = if g.output[1] == 1 { &[16, 8, 4, 2, 1] } else { &[7, 4, 2, 1] };
        let (rows, columns, group) = match recorder.profile.family {
            Family::Software => {
                let default = (patch(g.output[1], &[4, 2, 1]), patch(g.output[2], columns));
                let (rows, columns) = self.chosen(default, recorder);
                (rows, columns, recorder.profile.subgroup.unwrap_or(8))
            }
            Family::Gpu => (1, 4, 64),
        };
        let (patches_y, patches_x) = (g.output[1].div_ceil(rows), g.output[2].div_ceil(columns));
        let patches = self.images * self.channels * patches_y * patches_x;
        let params = Params {
            patches: word(patches)?,
            patches_x: word(patches_x)?,
            patches_y: word(patches_y)?,
            channels: word(self.channels)?,
            multiplier: word(self.multiplier)?,
            input_y: word(g.input[1])?,
            input_x: word(g.input[2])?,
            output_y: word(g.output[1])?,
            output_x: word(g.output[2])?,
            pad_y: word(g.pad[1])?,
            pad_x: word(g.pad[2])?,
        };
        let exact = g.output[1].is_multiple_of(rows) && g.output[2].is_multiple_of(columns);
        let bias = self.bias.unwrap_or(x);
        let y = recorder.output(0).buffer;
        let max_groups = recorder.profile.max_workgroups;
        recorder.dispatch(&Work {
            shader: &SHADER,
            defines: &[
                Define::Scalar("In", self.x.storage),
                Define::Scalar("Weight", self.weights.storage),
                Define::Scalar("Bias", bias.storage),
                Define::Const("BIAS", u32::from(self.bias.is_some())),
                Define::Const("EXACT", u32::from(exact)),
                Define::Const("GROUP", group),
                Define::Const("KERNEL_Y", word(g.kernel[1])?),
                Define::Const("KERNEL_X", word(g.kernel[2])?),
                Define::Const("STRIDE_Y", word(g.stride[1])?),
                Define::Const("STRIDE_X", word(g.stride[2])?),
                Define::Const("ROWS", word(rows)?),
                Define::Const("COLUMNS", word(columns)?),
            ],
            buffers: &[x.buffer, self.weights.buffer, bias.buffer, y],
            params: params.words(),
            groups: linear_groups(patches, group, max_groups),
        })
    }
}

impl Depthwise<'_> {
    /// What decides which patch is fastest for kernel `name`.
    fn key(&self, epilogue: &str) -> String {
        let g = self.geometry;
        format!(
            "depthwise {}x{} kernel {:?} input {:?} stride {:?} pad {:?} {:?} {:?} epilogue {epilogue}",
            self.images,
            self.channels,
            &g.kernel[1..],
            &g.input[1..],
            &g.stride[1..],
            &g.pad[1..],
            self.x.storage,
            self.weights.storage
        )
    }

    /// The patch that is chosen: `default` or one of others.
    fn chosen(&self, default: (usize, usize), recorder: &mut Recorder<'_>) -> (usize, usize) {
        let g = self.geometry;
        let others = [(4, 7), (4, 4), (2, 7), (2, 4), (1, 8), (1, 4)];
        let fits = |(rows, columns): &(usize, usize)| {
            (*rows, *columns) != default && *rows < 2 * g.output[1] && *columns < 2 * g.output[2]
        };
        let patches: Vec<_> = std::iter::once(default).chain(others.into_iter().filter(fits)).collect();
        let loads = |(rows, columns): &(usize, usize)| {
            let patches = g.output[1].div_ceil(*rows) * g.output[2].div_ceil(*columns);
            (patches * (rows + 2) * (columns + 2)) as f64
        };
        let patches = prune(patches, CANDIDATES_MAX, loads);
        let names: Vec<String> = patches.iter().map(|(rows, columns)| format!("{rows}x{columns}")).collect();
        let epilogue = recorder.epilogue();
        patches[recorder.choose(|| self.key(&epilogue), &names)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_load_least() {
        let candidates = [7, 4, 2, 1];
        assert_eq!([56, 28, 7, 5, 1].map(|extent| patch(extent, &candidates)), [7, 7, 7, 7, 1]);
    }
}
