//! Depthwise convolutions by kernels that read rows of whole vectors: when they fit, and which patch is taken.

use super::depthwise::Depthwise;
use super::product::word;
use crate::engine::ir::{Define, Form, Recorder, Storage, Work, linear_groups};
use crate::engine::kernels::DepthwiseTile;
use crate::engine::kernels::depthwise_fours::Params;
use crate::error::Result;

/// Multiply-adds of vectors in a patch: longer ones leave a CPU's instruction cache.
const MAX_STATEMENTS: u32 = 260;
/// Patches below which lanes would idle.
const MIN_PATCHES: usize = 64;
/// Patches that are timed at most.
const CANDIDATES_MAX: usize = 3;
/// Rows and vectors of patches.
const PATCHES: [(u32, u32); 12] =
    [(4, 7), (2, 7), (8, 2), (7, 2), (4, 4), (4, 2), (4, 1), (2, 2), (2, 1), (1, 4), (1, 2), (1, 1)];

/// Records `convolution` if a kernel over rows of whole vectors fits it.
pub(super) fn record(convolution: &Depthwise<'_>, recorder: &mut Recorder<'_>) -> Result<bool> {
    let g = convolution.geometry;
    let floats = [convolution.x.storage, convolution.weights.storage, recorder.output(0).storage];
    let fits = g.input[2].is_multiple_of(4) && g.output[2] >= 4 && g.pad[2] < g.kernel[2];
    let Some(lanes) = recorder.profile.subgroup.filter(|_| fits && floats == [Storage::F32; 3]) else {
        return Ok(false);
    };
    let (channels, taps) = (word(convolution.channels)?, word(g.taps())?);
    let form = Form { entries: vec![0], extents: [1, 1, 1, channels, taps], strides: [0, 0, 0, i64::from(taps), 1] };
    let Some(weights) = recorder.formed(convolution.weights.buffer, &form) else { return Ok(false) };
    let two = |extents: [usize; 3]| -> Result<[u32; 2]> { Ok([word(extents[1])?, word(extents[2])?]) };
    let [kernel, stride, pad] = [two(g.kernel)?, two(g.stride)?, two(g.pad)?];
    let tile = |(rows, vectors): (u32, u32)| DepthwiseTile {
        lanes,
        rows,
        vectors,
        kernel,
        stride,
        pad_x: pad[1],
        bias: convolution.bias.is_some(),
        fours: g.output[2].is_multiple_of(4),
    };
    let tile = chosen(convolution, recorder, PATCHES.map(tile).to_vec());
    let patches_y = g.output[1].div_ceil(tile.rows as usize);
    let patches_x = g.output[2].div_ceil(4 * tile.vectors as usize);
    let patches = convolution.images * convolution.channels * patches_y * patches_x;
    let params = Params {
        patches: word(patches)?,
        patches_x: word(patches_x)?,
        patches_y: word(patches_y)?,
        channels,
        multiplier: word(convolution.multiplier)?,
        input_y: word(g.input[1])?,
        input_x: word(g.input[2] / 4)?,
        output_y: word(g.output[1])?,
        output_x: word(g.output[2])?,
        pad_y: pad[0],
    };
    let (bias, lies) = convolution.bias.map_or((weights, Storage::F32), |bias| (bias.buffer, bias.storage));
    let (y, max_groups) = (recorder.output(0).buffer, recorder.profile.max_workgroups);
    recorder.dispatch(&Work {
        shader: &tile.shader(),
        defines: &[Define::Scalar("Bias", lies)],
        buffers: &[convolution.x.buffer, weights, bias, y],
        params: params.words(),
        groups: linear_groups(patches, lanes, max_groups),
    })?;
    Ok(true)
}

/// The patch that is chosen: that of fewest accesses or one of the next.
fn chosen(convolution: &Depthwise<'_>, recorder: &mut Recorder<'_>, tiles: Vec<DepthwiseTile>) -> DepthwiseTile {
    let g = convolution.geometry;
    let accesses = |tile: &DepthwiseTile| {
        let patches = g.output[1].div_ceil(tile.rows as usize) * g.output[2].div_ceil(4 * tile.vectors as usize);
        (patches * convolution.images * convolution.channels).max(MIN_PATCHES) as f64 * f64::from(tile.accesses())
    };
    let smallest = tiles[tiles.len() - 1];
    let mut tiles: Vec<DepthwiseTile> = tiles.into_iter().filter(|t| t.statements() <= MAX_STATEMENTS).collect();
    tiles.sort_by(|a, b| accesses(a).total_cmp(&accesses(b)));
    tiles.truncate(CANDIDATES_MAX);
    if tiles.is_empty() {
        return smallest;
    }
    let names: Vec<String> = tiles.iter().map(|t| format!("{}x{}", t.rows, 4 * t.vectors)).collect();
    let epilogue = recorder.epilogue();
    tiles[recorder.choose(|| convolution.key("depthwise_fours", &epilogue), &names)]
}
