//! Products on software adapters by kernels that read rows of vectors: when they fit, and how both sides are laid out for them.

use super::layout::Layout;
use super::product::{Product, Start, word};
use super::span_axis::Axis;
use crate::engine::ir::{
    BufferId, CHANNELS_VARY, Define, Form, Profile, Recorder, Storage, Work, linear_groups, prune,
};
use crate::engine::kernels::{BiasAccess, SpanTile, arrange, span::Params};
use crate::error::{Error, Result};

/// Multiply-adds from which a kernel of this kind repays the time that it takes to compile.
const MIN_WORK: u64 = 262_144;
/// Columns below which most lanes would idle.
const MIN_COLUMNS: u32 = 16;
/// Multiply-adds of vectors in the innermost loop: longer ones leave a CPU's instruction cache.
const MAX_STATEMENTS: u32 = 224;
/// Vectors of a span, which stay in registers.
const MAX_SPAN: u32 = 8;
/// Tiles below which some of an adapter's cores would idle.
const FEW_TILES: usize = 4;
/// Times that each element of a computed side must be read before laying it out anew pays.
const MIN_READS: u32 = 2;
/// Columns from which laying out a computed left side pays: it is read once for every few of them.
const MIN_COLUMNS_PER_ROW: u32 = 256;
/// How many times as many elements an array may have when it is laid out anew.
const SPREAD_MAX: u64 = 8;
/// Tiles that are timed at most.
const CANDIDATES_MAX: usize = 3;

/// A side as the kernel reads it: the buffer, where entries start in it, and strides, all in vectors of four.
struct Side {
    buffer: BufferId,
    starts: Vec<u32>,
}

/// The right side, and vectors between its parts.
struct Right {
    side: Side,
    /// Images, channels, rows, slices, taps along y and z.
    strides: [u32; 6],
    /// What a tile of columns adds to its place.
    tile: u32,
}

/// A product in terms of rows of vectors.
struct Plan<'a> {
    product: &'a Product,
    x: Axis,
    y: Axis,
    z: Axis,
    images: u32,
    /// Whether the right side is a constant, which is laid out when it is uploaded.
    constant: bool,
}

/// Records `product` if a kernel over rows of vectors fits it.
pub(super) fn record(product: &Product, recorder: &mut Recorder<'_>) -> Result<bool> {
    let access = product.bias.map_or(BiasAccess::None, |(_, access)| access);
    let Some(plan) = Plan::new(product, recorder) else { return Ok(false) };
    let Some(tiles) = plan.tiles(recorder.profile, access) else { return Ok(false) };
    if !plan.right_pays(recorder.profile) {
        return Ok(false);
    }
    let Some(left) = plan.left(recorder)? else { return Ok(false) };
    let names: Vec<String> = tiles.iter().map(|t| format!("span {}x{}", t.rows, t.columns())).collect();
    let epilogue = recorder.epilogue();
    let tile = tiles[recorder.choose(|| plan.key(&tiles[0], &epilogue), &names)];
    plan.dispatch(recorder, &tile, left)?;
    Ok(true)
}

impl<'a> Plan<'a> {
    fn new(product: &'a Product, recorder: &Recorder<'_>) -> Option<Self> {
        let p = &product.params;
        let floats = [product.a.storage, product.b.storage, recorder.output(0).storage];
        let work = product.work();
        if floats != [Storage::F32; 3] || recorder.profile.subgroup.is_none() || work < MIN_WORK {
            return None;
        }
        let [x, y, z] = [0, 1, 2].map(|axis| Axis::new(product, axis));
        if p.columns < MIN_COLUMNS || [x, y, z].iter().any(|a| a.taps == 0 || a.output == 0) {
            return None;
        }
        let images = p.columns / p.output[3];
        let constant = recorder.is_constant(product.b.buffer);
        let mut plan = Self { product, x, y, z, images, constant };
        let flat = p.y_step[1] == p.output[0] * p.y_step[0] && p.y_step[2] == p.output[1] * p.y_step[1];
        if flat && !product.padded && [x, y, z].iter().all(Axis::is_plain) {
            // Windows of one element: an image is one row.
            let whole = p.output[3];
            plan.x = Axis { input: whole, output: whole, ..x };
            (plan.y, plan.z) = (Axis { input: 1, output: 1, ..y }, Axis { input: 1, output: 1, ..z });
        }
        Some(plan)
    }

    /// Elements of x between neighbours along z and y.
    fn right_strides(&self) -> [u32; 2] {
        let p = &self.product.params;
        [p.input[0] * p.input[1], p.input[0]]
    }

    /// The default tile and others.
    fn tiles(&self, profile: &Profile, bias: BiasAccess) -> Option<Vec<SpanTile>> {
        let p = &self.product.params;
        let lanes = profile.subgroup?;
        let rows_max = p.rows.next_power_of_two().min(32);
        let stride = if self.x.taps == 1 && !self.reads_directly() { 1 } else { self.x.stride };
        let fours = p.y_step[0] == 1
            && self.x.output.is_multiple_of(4)
            && [p.y_row, p.y_step[1], p.y_step[2], p.y_step[3]].iter().all(|s| s.is_multiple_of(4))
            && self.product.starts.iter().all(|s| s[2].is_multiple_of(4));
        let tile = |rows: u32, vectors: u32| SpanTile {
            lanes,
            rows,
            vectors,
            taps: self.x.taps,
            stride,
            dilation: if self.x.taps == 1 { 1 } else { self.x.dilation },
            rest: self.x.taps == 1 && !p.channels.is_multiple_of(4),
            bias,
            fours,
        };
        let mut tiles = Vec::new();
        let orders: &[(u32, u32)] = match self.x.taps {
            1 => &[(32, 1), (16, 2), (16, 1), (8, 2), (8, 1)],
            _ => &[(32, 2), (16, 2), (16, 1), (8, 2), (8, 1)],
        };
        let orders = orders.iter().map(|(rows, vectors)| (*rows.min(&rows_max), *vectors));
        for (rows, vectors) in orders {
            let tile = tile(rows, vectors);
            let grid = p.rows.div_ceil(rows) as usize * self.groups(&tile).div_ceil(lanes) as usize;
            let busy = grid * self.product.starts.len() >= FEW_TILES || rows <= 8;
            let fits = tile.statements() <= MAX_STATEMENTS && tile.span() <= MAX_SPAN && !tiles.contains(&tile);
            if busy && fits && (vectors == 1 || self.x.output > 4) {
                tiles.push(tile);
            }
        }
        if tiles.is_empty() {
            return None;
        }
        Some(prune(tiles, CANDIDATES_MAX, |tile| self.cost(tile)))
    }

    /// Estimated time, in reads: each costs as much as some multiply-adds of vectors.
    fn cost(&self, tile: &SpanTile) -> f64 {
        let p = &self.product.params;
        let tiles = f64::from(p.rows.div_ceil(tile.rows) * self.groups(tile).div_ceil(tile.lanes));
        let turns = if tile.taps == 1 { 4.0 } else { 1.0 };
        let reads =
            tile.rows.div_ceil(tile.lanes) as f64 * f64::from(tile.taps.div_ceil(4)) + f64::from(tile.span()) * turns;
        tiles * (reads + f64::from(tile.statements()) / 7.0) / turns
    }

    /// Groups of columns in all images.
    fn groups(&self, tile: &SpanTile) -> u32 {
        self.images * self.z.output * self.y.output * self.x.output.div_ceil(tile.columns())
    }

    /// What decides which tile is fastest.
    fn key(&self, tile: &SpanTile, epilogue: &str) -> String {
        let (p, axis) = (&self.product.params, |a: &Axis| format!("{}/{}*{}", a.taps, a.stride, a.output));
        format!(
            "span {}x{} batch {} images {} x {} y {} z {} {:?} fours {} lanes {} epilogue {epilogue}",
            p.rows,
            p.channels,
            self.product.starts.len(),
            self.images,
            axis(&self.x),
            axis(&self.y),
            axis(&self.z),
            tile.bias,
            tile.fours,
            tile.lanes,
        )
    }

    /// The left side: rows of channels, or of taps along x padded to fours.
    fn left(&self, recorder: &mut Recorder<'_>) -> Result<Option<Side>> {
        let p = &self.product.params;
        let offset = self.x.left_first + self.y.left_first + self.z.left_first;
        let (entries, places) = distinct(self.product.starts.iter().map(|s| s[0]));
        let entries: Option<Vec<u32>> =
            entries.into_iter().map(|e| u32::try_from(i64::from(e) + offset).ok()).collect();
        let Some(entries) = entries else { return Ok(None) };
        let (a_row, a_channel) = (i64::from(p.a_row), i64::from(p.a_channel));
        let form = match self.x.taps {
            1 => Form {
                entries,
                extents: [1, p.rows, self.z.taps, self.y.taps, p.channels],
                strides: [0, a_row, self.z.left_tap, self.y.left_tap, a_channel],
            },
            taps => Form {
                entries,
                extents: [p.rows, self.z.taps, self.y.taps, p.channels, taps],
                strides: [a_row, self.z.left_tap, self.y.left_tap, a_channel, self.x.left_tap],
            },
        };
        let plain = self.x.taps == 1 && p.taps == 1 && a_channel == 1 && p.a_row.is_multiple_of(4);
        if plain && form.entries.iter().all(|e| e.is_multiple_of(4)) {
            let starts = self.product.starts.iter().map(|s| s[0] / 4).collect();
            return Ok(Some(Side { buffer: self.product.a.buffer, starts }));
        }
        let entry = word(form.entry() / 4)?;
        let starts = places.iter().map(|place| place * entry).collect();
        if let Some(buffer) = recorder.formed(self.product.a.buffer, &form) {
            return Ok(Some(Side { buffer, starts }));
        }
        // Computed matrices are laid out by a kernel, where their terms lie in rows already.
        if p.taps != 1 || a_channel != 1 || p.columns < MIN_COLUMNS_PER_ROW {
            return Ok(None);
        }
        let mut layout = Layout::rows(form.entries, p.channels);
        layout.params.extent = [1, p.rows, p.channels, 0];
        layout.params.input = [1, p.rows, p.channels, 0];
        layout.params.stride = [0, p.a_row, 1, 0];
        Ok(layout.record(recorder, self.product.a)?.map(|buffer| Side { buffer, starts }))
    }

    /// Elements of a row of the left side's vectors, between rows and between lines.
    fn left_strides(&self, plain: bool) -> [u32; 2] {
        let p = &self.product.params;
        let lines = self.z.taps * self.y.taps;
        match self.x.taps {
            1 if plain => [p.a_row / 4, 0],
            1 => [lines * p.channels.div_ceil(4), p.channels.div_ceil(4)],
            taps => [lines * p.channels * taps.div_ceil(4), p.channels * taps.div_ceil(4)],
        }
    }

    /// Whether spans can be read where the input lies.
    fn reads_directly(&self) -> bool {
        let p = &self.product.params;
        let one_row = self.y.output * self.y.taps * self.z.output * self.z.taps == 1;
        let dense = self.x.taps > 1 || self.x.stride == 1 || !self.constant;
        !self.product.padded
            && dense
            && [self.x, self.y, self.z].iter().all(|a| a.pad == 0)
            && (one_row || self.x.input.is_multiple_of(4))
            && [p.b_channel, p.b_image].iter().all(|s| s.is_multiple_of(4))
            && self.product.starts.iter().all(|s| s[1].is_multiple_of(4))
    }

    /// Whether the right side is laid out already, is a constant, or is read often enough.
    fn right_pays(&self, profile: &Profile) -> bool {
        let p = &self.product.params;
        if self.reads_directly() {
            return true;
        }
        let planes = (self.product.starts.len() as u64).saturating_mul(u64::from(self.images) * u64::from(p.channels));
        let [x, y, z] = [self.x, self.y, self.z].map(|axis| u64::from(axis.arranged().0));
        let plane = x.div_ceil(4).saturating_mul(y).saturating_mul(z);
        let input = [self.x, self.y, self.z].iter().fold(planes, |n, axis| n.saturating_mul(u64::from(axis.input)));
        let bytes = plane.saturating_mul(planes).saturating_mul(16);
        // Windows with long padding may span far more than there is.
        let fits = bytes <= profile.max_binding_bytes
            && bytes / 4 <= input.saturating_mul(SPREAD_MAX)
            && planes.max(plane.div_ceil(64)) <= u64::from(profile.max_workgroups);
        let reads = p.rows.div_ceil(32).saturating_mul(p.taps);
        fits && (self.constant || reads >= MIN_READS)
    }

    /// The right side, a constant matrix, with the columns of each tile side by side, term behind term: so all that a tile reads
    /// lies together.
    fn tiled(&self, recorder: &mut Recorder<'_>, tile: &SpanTile) -> Result<Option<Right>> {
        let p = &self.product.params;
        let columns = tile.lanes * tile.columns();
        let one_row = self.y.output * self.y.taps * self.z.output * self.z.taps * self.images == 1;
        if !one_row
            || self.x.taps != 1
            || self.product.padded
            || self.x.pad != 0
            || !self.x.output.is_multiple_of(columns)
        {
            return Ok(None);
        }
        let (entries, places) = distinct(self.product.starts.iter().map(|s| s[1]));
        let step = i64::from(self.x.stride);
        let form = Form {
            entries,
            extents: [self.x.output / columns, 1, 1, p.channels, columns],
            strides: [i64::from(columns) * step, 0, 0, i64::from(p.b_channel), step],
        };
        let Some(buffer) = recorder.formed(self.product.b.buffer, &form) else { return Ok(None) };
        let (entry, channel) = (word(form.entry() / 4)?, columns / 4);
        let side = Side { buffer, starts: places.iter().map(|place| place * entry).collect() };
        let tile = (p.channels - 1) * channel;
        Ok(Some(Right { side, strides: [0, channel, 0, 0, 0, 0], tile }))
    }

    /// The right side.
    fn right(&self, recorder: &mut Recorder<'_>, tile: &SpanTile) -> Result<Right> {
        if let Some(tiled) = self.tiled(recorder, tile)? {
            return Ok(tiled);
        }
        let (side, strides) = self.spans(recorder)?;
        Ok(Right { side, strides, tile: 0 })
    }

    /// The right side in rows, and its strides.
    fn spans(&self, recorder: &mut Recorder<'_>) -> Result<(Side, [u32; 6])> {
        let p = &self.product.params;
        let [z_stride, y_stride] = self.right_strides();
        if self.reads_directly() {
            let starts = self.product.starts.iter().map(|s| s[1] / 4).collect();
            let strides = [
                p.b_image,
                p.b_channel,
                self.y.stride * y_stride,
                self.z.stride * z_stride,
                self.y.dilation * y_stride,
                self.z.dilation * z_stride,
            ];
            return Ok((Side { buffer: self.product.b.buffer, starts }, strides.map(|s| s / 4)));
        }
        let (entries, places) = distinct(self.product.starts.iter().map(|s| s[1]));
        let [(x_extent, x_step), (y_extent, y_step), (z_extent, z_step)] =
            [self.x, self.y, self.z].map(|axis| axis.arranged());
        let pitch = x_extent.div_ceil(4);
        let channel = pitch * y_extent * z_extent;
        let over = |axis: &Axis, extent: u32| match axis.taps {
            1 => [extent, 0],
            _ => [axis.stride * extent, axis.dilation * extent],
        };
        let ([row, tap_y], [slice, tap_z]) = (over(&self.y, pitch), over(&self.z, pitch * y_extent));
        let strides = [channel * p.channels, channel, row, slice, tap_y, tap_z];
        let entry = self.images * p.channels * channel;
        let starts = places.iter().map(|place| place * entry).collect();
        let plain = [self.x, self.y, self.z].iter().all(|a| a.pad == 0) && !self.product.padded;
        let form = Form {
            entries: entries.clone(),
            extents: [self.images * p.channels, 1, z_extent, y_extent, x_extent],
            strides: [
                i64::from(p.b_channel),
                0,
                i64::from(z_stride * z_step),
                i64::from(y_stride * y_step),
                i64::from(x_step),
            ],
        };
        if plain
            && self.images == 1
            && let Some(buffer) = recorder.formed(self.product.b.buffer, &form)
        {
            return Ok((Side { buffer, starts }, strides));
        }
        let mut layout = Layout::rows(entries, x_extent);
        layout.params = arrange::Params {
            images: self.images,
            channels: p.channels,
            image_stride: p.b_image,
            channel_stride: p.b_channel,
            extent: [z_extent, y_extent, x_extent, 0],
            input: [self.z.input, self.y.input, self.x.input, 0],
            step: [z_step, y_step, x_step, 0],
            pad: [self.z.pad, self.y.pad, self.x.pad, 0],
            stride: [z_stride, y_stride, 1, 0],
            ..layout.params
        };
        let buffer = layout.record(recorder, self.product.b)?;
        let buffer = buffer.ok_or_else(|| Error::resource_exhausted("more planes than the adapter's grid takes"))?;
        Ok((Side { buffer, starts }, strides))
    }

    fn dispatch(&self, recorder: &mut Recorder<'_>, tile: &SpanTile, left: Side) -> Result<()> {
        let p = &self.product.params;
        let plain = left.buffer == self.product.a.buffer;
        let [a_row, a_line] = self.left_strides(plain);
        let Right { side: right, strides, tile: x_tile } = self.right(recorder, tile)?;
        let [x_image, x_channel, x_row, x_slice, x_tap_y, x_tap_z] = strides;
        let params = Params {
            rows: p.rows,
            groups: self.groups(tile),
            channels: p.channels,
            lines: self.y.taps * self.z.taps,
            kernel_y: self.y.taps,
            row_groups: self.x.output.div_ceil(tile.columns()),
            out_y: self.y.output,
            out_z: self.z.output,
            width: self.x.output,
            a_row,
            a_line,
            x_image,
            x_channel,
            x_row,
            x_slice,
            x_tile,
            x_tap_y,
            x_tap_z,
            x_last: word(recorder.vectors(right.buffer))?.saturating_sub(1),
            y_row: p.y_row,
            y_column: p.y_step[0],
            y_line: p.y_step[1],
            y_slice: p.y_step[2],
            y_image: p.y_step[3],
            bias_row: p.bias_row,
            bias_column: p.bias_column,
            channel_row: p.channel_row,
            alpha: p.alpha,
            beta: p.beta,
        };
        let starts: Vec<Start> = (self.product.starts.iter().zip(&left.starts).zip(&right.starts))
            .map(|((start, a), x)| [*a, *x, start[2], start[3]])
            .collect();
        let tiles = params.rows.div_ceil(tile.rows) as usize * params.groups.div_ceil(tile.lanes) as usize;
        let max_groups = recorder.profile.max_workgroups;
        let [x_groups, y_groups, _] = linear_groups(tiles, 1, max_groups);
        let (shader, y) = (tile.shader(), recorder.output(0).buffer);
        // Nothing is read of it where there is none.
        let (bias, lies) = self.product.bias.map_or((left.buffer, Storage::F32), |(b, _)| (b.buffer, b.storage));
        let defines = [
            Define::Scalar("Left", Storage::F32),
            Define::Scalar("Right", Storage::F32),
            Define::Scalar("Bias", lies),
            Define::Const(CHANNELS_VARY, p.channel_column),
        ];
        for starts in starts.chunks(max_groups as usize) {
            let table = recorder.table(starts.as_flattened());
            recorder.dispatch(&Work {
                shader: &shader,
                defines: &defines,
                buffers: &[left.buffer, right.buffer, bias, table, y],
                params: params.words(),
                groups: [x_groups, y_groups, word(starts.len())?],
            })?;
        }
        Ok(())
    }
}

/// Distinct values in the order in which they come, and the place of each given one among them.
fn distinct(values: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<u32>) {
    let mut places = std::collections::HashMap::new();
    let mut distinct = Vec::new();
    let place = |value: u32| {
        *places.entry(value).or_insert_with(|| {
            distinct.push(value);
            (distinct.len() - 1) as u32
        })
    };
    let found = values.map(place).collect();
    (distinct, found)
}
