//! Products on software adapters by kernels that read rows of vectors: when they fit, and how both sides are laid out for them.

use super::layout::Layout;
use super::product::{Product, Start};
use super::span_axis::Axis;
use super::span_plan::{MAX_SPAN, MAX_STATEMENTS, Plan, Side, distinct};
use super::span_right::Right;
use super::words::word;
use crate::engine::ir::{
    BufferId, CHANNELS_VARY, Define, Form, Profile, Recorder, Storage, Work, linear_groups, prune,
};
use crate::engine::kernels::{BiasAccess, SpanTile, span::Params};
use crate::error::Result;

/// Tiles below which some of an adapter's cores would idle.
const FEW_TILES: usize = 4;
/// Workgroups below which the last ones would leave cores idle for long.
const MIN_WORKGROUPS: usize = 64;
/// What is read again and again stays in the second cache of a core: half of 1 MiB.
const CACHE_BYTES: usize = 512 << 10;
/// Columns from which laying out a computed left side pays: it is read once for every few of them.
const MIN_COLUMNS_PER_ROW: u32 = 256;
/// Tiles that are timed at most.
const CANDIDATES_MAX: usize = 3;

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

impl Plan<'_> {
    /// The default tile and others.
    fn tiles(&self, profile: &Profile, bias: BiasAccess) -> Option<Vec<SpanTile>> {
        let p = &self.product.params;
        let lanes = profile.subgroup?;
        let rows_max = p.rows.next_power_of_two().min(32);
        let stride = if self.x.taps == 1 && !self.reads_directly() { 1 } else { self.x.stride };
        let beside = [self.y.output, self.z.output, self.images];
        let fours =
            self.stores.in_fours(self.x.output, beside) && self.product.starts.iter().all(|s| s[2].is_multiple_of(4));
        let tile = |rows: u32, vectors: u32| SpanTile {
            lanes,
            rows,
            vectors,
            taps: self.taken,
            tail: self.tail(),
            stride,
            dilation: if self.x.taps == 1 { 1 } else { self.x.dilation },
            rest: self.x.taps == 1 && !p.channels.is_multiple_of(4),
            bias,
            fours,
            lead: self.lead(),
            scaled: self.product.b.scale.is_some(),
            framed: self.stores.border > 0,
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
        let tiles = f64::from(p.rows.div_ceil(tile.rows)) * f64::from(self.groups(tile).div_ceil(tile.lanes));
        let turns = if tile.taps == 1 { 4.0 } else { 1.0 };
        let reads =
            tile.rows.div_ceil(tile.lanes) as f64 * f64::from(tile.taps.div_ceil(4)) + f64::from(tile.span()) * turns;
        tiles * (reads + f64::from(tile.statements()) / 7.0) / turns
    }

    /// Tiles of rows that a workgroup makes.
    fn turns(&self, tile: &SpanTile) -> u32 {
        let p = &self.product.params;
        let beside = self.groups(tile).div_ceil(tile.lanes) as usize * self.product.starts.len();
        let column_bytes = (p.channels as usize * p.taps as usize * size_of::<f32>()).max(1);
        let columns = (tile.lanes * tile.columns()) as usize;
        let kept = (CACHE_BYTES / column_bytes).saturating_sub(columns) / tile.rows as usize;
        turns(p.rows.div_ceil(tile.rows) as usize, beside, kept) as u32
    }

    /// Groups of columns in all images.
    fn groups(&self, tile: &SpanTile) -> u32 {
        self.images * self.z.output * self.y.output * self.x.output.div_ceil(tile.columns())
    }

    /// What decides which tile is fastest.
    fn key(&self, tile: &SpanTile, epilogue: &str) -> String {
        let (p, axis) = (&self.product.params, |a: &Axis| format!("{}/{}*{}", a.taps, a.stride, a.output));
        format!(
            "span {}x{} batch {} images {} x {} y {} z {} {:?} fours {}{} lanes {} epilogue {epilogue}",
            p.rows,
            p.channels,
            self.product.starts.len(),
            self.images,
            axis(&self.x),
            axis(&self.y),
            axis(&self.z),
            tile.bias,
            tile.fours,
            self.stores.named(tile),
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
                cut: None,
            },
            taps if self.folds() => Form {
                entries,
                extents: [p.rows, self.slices(), self.y.taps, p.channels, self.taken],
                strides: [a_row, i64::from(self.taken) * self.x.left_tap, self.y.left_tap, a_channel, self.x.left_tap],
                cut: Some((1, taps)),
            },
            taps => Form {
                entries,
                extents: [p.rows, self.z.taps, self.y.taps, p.channels, taps],
                strides: [a_row, self.z.left_tap, self.y.left_tap, a_channel, self.x.left_tap],
                cut: None,
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
        Ok(Some(Side { buffer: layout.record(recorder, self.product.a)?, starts }))
    }

    /// Elements of a row of the left side's vectors, between rows and between lines.
    fn left_strides(&self, plain: bool) -> [u32; 2] {
        let p = &self.product.params;
        let lines = self.slices() * self.y.taps;
        match self.taken {
            1 if plain => [p.a_row / 4, 0],
            1 => [lines * p.channels.div_ceil(4), p.channels.div_ceil(4)],
            taps => [lines * p.channels * taps.div_ceil(4), p.channels * taps.div_ceil(4)],
        }
    }

    fn dispatch(&self, recorder: &mut Recorder<'_>, tile: &SpanTile, left: Side) -> Result<()> {
        let p = &self.product.params;
        let plain = left.buffer == self.product.a.buffer;
        let [a_row, a_line] = self.left_strides(plain);
        let Right { side: right, strides, tile: x_tile } = self.right(recorder, tile)?;
        let [x_image, x_channel, x_row, x_slice, x_tap_y, x_tap_z] = strides;
        let x_tap_z = if self.folds() { self.taken * self.x.dilation / 4 } else { x_tap_z };
        let turns = self.turns(tile);
        let params = Params {
            rows: p.rows,
            turns,
            groups: self.groups(tile),
            channels: p.channels,
            lines: self.y.taps * self.slices(),
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
            y_row: self.stores.channel,
            y_column: self.stores.column,
            y_line: self.stores.line,
            y_slice: self.stores.slice,
            y_image: self.stores.image,
            border: self.stores.border,
            bias_row: p.bias_row,
            bias_column: p.bias_column,
            channel_row: p.channel_row,
            alpha: p.alpha,
            beta: p.beta,
        };
        let starts: Vec<Start> = (self.product.starts.iter().zip(&left.starts).zip(&right.starts))
            .map(|((start, a), x)| [*a, *x, self.stores.first + start[2], start[3]])
            .collect();
        let tiles = params.rows.div_ceil(tile.rows * turns) as usize * params.groups.div_ceil(tile.lanes) as usize;
        let max_groups = recorder.profile.max_workgroups;
        let [x_groups, y_groups, _] = linear_groups(tiles, 1, max_groups);
        if self.stores.in_room {
            recorder.take_room();
        }
        let (shader, y) = (tile.shader(), recorder.output(0).buffer);
        let scale = self.product.b.scale;
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
            let buffers: Vec<BufferId> =
                [left.buffer, right.buffer, bias, table].into_iter().chain(scale).chain([y]).collect();
            recorder.dispatch(&Work {
                shader: &shader,
                defines: &defines,
                buffers: &buffers,
                params: params.words(),
                groups: [x_groups, y_groups, word(starts.len())?],
            })?;
        }
        Ok(())
    }
}

/// How many of `row_tiles` a workgroup makes, `beside` of them at a time: as many as leave workgroups for all cores, of those of
/// which a cache keeps what `kept` read.
fn turns(row_tiles: usize, beside: usize, kept: usize) -> usize {
    let row_tiles = row_tiles.max(1);
    let blocks = MIN_WORKGROUPS.div_ceil(beside.max(1)).max(row_tiles.div_ceil(kept.max(1)));
    row_tiles.div_ceil(blocks.min(row_tiles))
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn turns_leave_workgroups_and_what_they_read_in_a_cache() {
        // Many columns, and the other way round.
        assert_eq!((turns(2, 98, 15), turns(16, 16, 15), turns(8, 7, 15)), (2, 4, 1));
        // So many terms that a cache keeps what three tiles read, or none.
        assert_eq!((turns(7, 96, 3), turns(7, 96, 0)), (3, 1));
        assert_eq!(turns(0, 0, 0), 1);
    }
}
