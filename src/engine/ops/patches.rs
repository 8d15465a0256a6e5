//! Windows over planes by kernels that read rows of whole vectors: when they fit, and which patch is taken.

use super::conv_window::Geometry;
use super::product::Source;
use super::words::word;
use crate::engine::ir::{
    BufferId, Define, Family, Form, Planes, PlanesWish, Profile, Recorder, Storage, Work, linear_groups,
};
use crate::engine::kernels::patches::Params;
use crate::engine::kernels::{PatchTile, Stored, Taps};
use crate::error::Result;

/// Multiply-adds of vectors in the loop over rows: longer ones leave a CPU's instruction cache.
const MAX_STATEMENTS: u32 = 260;
/// Vectors of a patch, which stay in the first cache with those of its open rows.
const MAX_VECTORS: usize = 16;
/// Taps and steps beyond which even a small patch would take too long to compile.
const MAX_TAPS: usize = 49;
/// See [`MAX_TAPS`].
const MAX_STRIDE: usize = 4;
/// Elements from which a kernel for whole vectors repays its compiling.
pub(super) const MIN_ELEMENTS: usize = 4096;
/// Workgroups below which the last ones would leave cores idle for long.
const MIN_WORKGROUPS: usize = 32;
/// Patches that are timed at most.
const CANDIDATES_MAX: usize = 3;

/// Whether `rows` rows of `extent` elements are best read by vectors of four, a row an invocation, if they lie so.
pub(super) fn rows_by_vectors(recorder: &Recorder<'_>, rows: usize, extent: usize) -> bool {
    recorder.profile.family == Family::Software && rows.saturating_mul(extent) >= MIN_ELEMENTS && rows > 1
}

/// The same of rows of whole vectors.
pub(super) fn rows_of_fours(recorder: &Recorder<'_>, rows: usize, extent: usize) -> bool {
    rows_by_vectors(recorder, rows, extent) && extent.is_multiple_of(4)
}

/// How kernels over rows of whole vectors would have images, if they take windows of this geometry.
pub(super) fn wish(g: &Geometry, profile: &Profile) -> Option<PlanesWish> {
    let plane = g.kernel[0] == 1 && g.input[0] == 1 && g.output[0] == 1 && g.dilation == [1; 3];
    let small = g.taps() <= MAX_TAPS && g.stride.iter().all(|s| *s <= MAX_STRIDE);
    let rows = g.output[2] >= 4 && g.pad[2] < g.kernel[2];
    let fits = profile.family == Family::Software && profile.subgroup.is_some() && plane && small && rows;
    fits.then_some(PlanesWish { dense_serves: g.input[2].is_multiple_of(4), ..PlanesWish::ANY })
}

/// Windows over planes, made into output 0 of the node that is recorded.
#[derive(Debug)]
pub(super) struct Patches<'a> {
    pub(super) x: Source,
    /// Weights of each output channel and their bias; without them the largest tap is taken.
    pub(super) weights: Option<(BufferId, Option<Source>)>,
    pub(super) geometry: &'a Geometry,
    pub(super) images: usize,
    /// Output channels.
    pub(super) channels: usize,
    /// Output channels that read the same input channel.
    pub(super) multiplier: usize,
}

impl Patches<'_> {
    /// Adds a dispatch if a kernel over rows of whole vectors fits; says whether one does.
    pub(super) fn record(&self, recorder: &mut Recorder<'_>) -> Result<bool> {
        let g = self.geometry;
        let Some(lanes) = recorder.profile.subgroup.filter(|_| self.fits(recorder)) else { return Ok(false) };
        let (channels, taps) = (word(self.channels)?, word(g.taps())?);
        let formed = match self.weights {
            Some((weights, _)) => {
                let form = Form {
                    entries: vec![0],
                    extents: [1, 1, 1, channels, taps],
                    strides: [0, 0, 0, i64::from(taps), 1],
                    cut: None,
                };
                let Some(formed) = recorder.formed(weights, &form) else { return Ok(false) };
                Some(formed)
            }
            None => None,
        };
        let bias = self.weights.and_then(|(_, bias)| bias);
        let room = recorder.room().map(|room| room.planes).filter(|planes| planes.border == 0);
        let tile = self.chosen(recorder, lanes, room.is_some())?;
        let [rows, patches_y, patches_x] = self.grid(&tile);
        if room.is_some() {
            recorder.take_room();
        }
        let (from, to) = (self.read_strides(tile.tight.is_some())?, self.stored_strides(room)?);
        let patches = self.images * self.channels * patches_y * patches_x;
        let params = Params {
            patches: word(patches)?,
            patches_x: word(patches_x)?,
            patches_y: word(patches_y)?,
            rows: word(rows)?,
            channels,
            multiplier: word(self.multiplier)?,
            input_y: word(g.input[1])?,
            input_x: word(g.input[2].div_ceil(4))?,
            width: word(g.input[2])?,
            x_first: from[0],
            x_image: from[1],
            x_plane: from[2],
            x_row: from[3],
            x_last: word(recorder.vectors(self.x.buffer).saturating_sub(1))?,
            y_first: to[0],
            y_image: to[1],
            y_plane: to[2],
            y_row: to[3],
            output_y: word(g.output[1])?,
            output_x: word(g.output[2])?,
            pad_y: word(g.pad[1])?,
            lowest: f32::NEG_INFINITY.to_bits(),
        };
        let y = recorder.output(0).buffer;
        let (mut buffers, mut lies) = (vec![self.x.buffer], Storage::F32);
        if let Some(formed) = formed {
            // Nothing is read of a bias where there is none.
            buffers.extend([formed, bias.map_or(formed, |bias| bias.buffer)]);
            lies = bias.map_or(Storage::F32, |bias| bias.storage);
        }
        buffers.push(y);
        let max_groups = recorder.profile.max_workgroups;
        recorder.dispatch(&Work {
            shader: &tile.shader(),
            defines: &[Define::Scalar("Bias", lies)],
            buffers: &buffers,
            params: params.words(),
            groups: linear_groups(patches, lanes, max_groups),
        })?;
        Ok(true)
    }

    fn fits(&self, recorder: &Recorder<'_>) -> bool {
        let floats = self.x.storage == Storage::F32 && recorder.output(0).storage == Storage::F32;
        if !floats || wish(self.geometry, recorder.profile).is_none() {
            return false;
        }
        // One row's taps fit a kernel.
        let row = self.geometry.output[2].div_ceil(4);
        let short = row * self.geometry.taps() <= MAX_STATEMENTS as usize && row <= MAX_VECTORS;
        self.row_read().is_multiple_of(4)
            || (short && self.images * self.channels * self.geometry.input_pixels() >= MIN_ELEMENTS)
    }

    /// Elements between rows of x.
    fn row_read(&self) -> usize {
        self.x.planes.map_or(self.geometry.input[2], |planes| planes.row)
    }

    /// Vectors of x before the first one, and between images, planes and rows; elements where rows begin anywhere.
    fn read_strides(&self, tight: bool) -> Result<[u32; 4]> {
        let [_, y, x] = self.geometry.input;
        let channels = self.channels / self.multiplier;
        let strides = match self.x.planes {
            Some(Planes { first, image, plane, row, .. }) => [first, image, plane, row],
            None => [0, channels * y * x, y * x, x],
        };
        let [first, image, plane, row] = strides.map(|n| word(if tight { n } else { n / 4 }));
        Ok([first?, image?, plane?, row?])
    }

    /// Elements of y before the first one, and between images, planes and rows.
    fn stored_strides(&self, room: Option<Planes>) -> Result<[u32; 4]> {
        let [_, y, x] = self.geometry.output;
        let strides = match room {
            Some(Planes { first, image, plane, row, .. }) => [first, image, plane, row],
            None => [0, self.channels * y * x, y * x, x],
        };
        let [first, image, plane, row] = strides.map(word);
        Ok([first?, image?, plane?, row?])
    }

    /// Rows of a patch, all of a plane's unless too few patches were left for all cores, and patches of a plane along y and x.
    fn grid(&self, tile: &PatchTile) -> [usize; 3] {
        let [_, y, x] = self.geometry.output;
        let patches_x = x.div_ceil(4 * tile.vectors as usize);
        let beside = (self.images * self.channels * patches_x).max(1);
        let rows = y.div_ceil((MIN_WORKGROUPS * tile.lanes as usize).div_ceil(beside).min(y).max(1)).max(1);
        [rows, y.div_ceil(rows), patches_x]
    }

    /// The patch that is chosen: that of fewest accesses or one of the next.
    fn chosen(&self, recorder: &mut Recorder<'_>, lanes: u32, in_room: bool) -> Result<PatchTile> {
        let g = self.geometry;
        let two = |extents: [usize; 3]| -> Result<[u32; 2]> { Ok([word(extents[1])?, word(extents[2])?]) };
        let [kernel, stride, pad] = [two(g.kernel)?, two(g.stride)?, two(g.pad)?];
        let row = g.output[2].div_ceil(4);
        // Of all widths those that share a row out evenly.
        let mut widths: Vec<usize> = (1..=MAX_VECTORS.min(row)).map(|most| row.div_ceil(row.div_ceil(most))).collect();
        widths.dedup();
        let [input_x, output_x] = [word(g.input[2])?, word(g.output[2])?];
        let begins_anywhere = !self.row_read().is_multiple_of(4);
        if begins_anywhere {
            widths = vec![row];
        }
        let tile = |vectors: usize| PatchTile {
            lanes,
            vectors: vectors as u32,
            whole: (vectors == row).then_some(input_x.div_ceil(4)),
            kernel,
            stride,
            pad_x: pad[1],
            of: self.weights.map_or(Taps::Largest, |(_, bias)| Taps::Weighted { bias: bias.is_some() }),
            stored: match in_room || output_x.is_multiple_of(4) {
                true => Stored::Fours,
                false if vectors == row => Stored::Tight(output_x),
                false => Stored::Each,
            },
            cut: !input_x.is_multiple_of(4),
            tight: begins_anywhere.then_some(input_x),
        };
        let accesses = |tile: &PatchTile| {
            let [rows, patches_y, patches_x] = self.grid(tile);
            let groups =
                (patches_y * patches_x * self.images * self.channels).div_ceil(lanes as usize).max(MIN_WORKGROUPS);
            groups as f64 * f64::from(tile.accesses(rows as u32))
        };
        let short = |t: &PatchTile| t.vectors == 1 || t.statements() <= MAX_STATEMENTS;
        let mut tiles: Vec<PatchTile> = widths.into_iter().map(tile).filter(short).collect();
        tiles.sort_by(|a, b| accesses(a).total_cmp(&accesses(b)));
        tiles.truncate(CANDIDATES_MAX);
        let names: Vec<String> = tiles.iter().map(|t| (4 * t.vectors).to_string()).collect();
        let epilogue = recorder.epilogue();
        Ok(tiles[recorder.choose(|| self.key(&tiles[0], &epilogue), &names)])
    }

    /// What decides which patch is fastest.
    fn key(&self, tile: &PatchTile, epilogue: &str) -> String {
        let g = self.geometry;
        format!(
            "patches {:?} {}x{} kernel {:?} input {:?} stride {:?} pad {:?} stored {:?} epilogue {epilogue}",
            tile.of,
            self.images,
            self.channels,
            &g.kernel[1..],
            &g.input[1..],
            &g.stride[1..],
            &g.pad[1..],
            tile.stored,
        )
    }
}
