//! The right side of a product over rows of vectors: read where it lies, or laid out anew.

use super::layout::Layout;
use super::span_axis::Axis;
use super::span_plan::{InputStrides, Plan, Side, distinct};
use super::words::word;
use crate::engine::ir::{Form, Profile, Recorder};
use crate::engine::kernels::{SpanTile, arrange};
use crate::error::Result;

/// Times that each element of a computed side must be read before laying it out anew pays.
const MIN_READS: u32 = 2;
/// How many times as many elements an array may have when it is laid out anew.
const SPREAD_MAX: u64 = 8;
/// Of how many columns one may be filled in with zeros, so that tiles come out even.
const FILLED_MAX: u32 = 8;
/// The right side, and vectors between its parts.
pub(super) struct Right {
    pub(super) side: Side,
    /// Images, channels, rows, slices, taps along y and z.
    pub(super) strides: [u32; 6],
    /// What a tile of columns adds to its place.
    pub(super) tile: u32,
}

impl Plan<'_> {
    /// Whether the right side is laid out already, is a constant, or is read often enough.
    pub(super) fn right_pays(&self, profile: &Profile) -> bool {
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
        let fits = bytes <= profile.max_binding_bytes && bytes / 4 <= input.saturating_mul(SPREAD_MAX);
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
            || self.x.output.next_multiple_of(columns) > self.x.output + self.x.output / FILLED_MAX
        {
            return Ok(None);
        }
        let (entries, places) = distinct(self.product.starts.iter().map(|s| s[1]));
        let step = i64::from(self.x.stride);
        let form = Form {
            entries,
            extents: [self.x.output.div_ceil(columns), 1, 1, p.channels, columns],
            strides: [i64::from(columns) * step, 0, 0, i64::from(p.b_channel), step],
            cut: Some((0, self.x.output)),
        };
        let Some(buffer) = recorder.formed(self.product.b.buffer, &form) else { return Ok(None) };
        let (entry, channel) = (word(form.entry() / 4)?, columns / 4);
        let side = Side { buffer, starts: places.iter().map(|place| place * entry).collect() };
        let tile = (p.channels - 1) * channel;
        Ok(Some(Right { side, strides: [0, channel, 0, 0, 0, 0], tile }))
    }

    /// The right side.
    pub(super) fn right(&self, recorder: &mut Recorder<'_>, tile: &SpanTile) -> Result<Right> {
        if let Some(tiled) = self.tiled(recorder, tile)? {
            return Ok(tiled);
        }
        let (side, strides) = self.spans(recorder)?;
        Ok(Right { side, strides, tile: 0 })
    }

    /// The right side in rows, and its strides.
    fn spans(&self, recorder: &mut Recorder<'_>) -> Result<(Side, [u32; 6])> {
        let p = &self.product.params;
        let InputStrides { first, image, channel, slice: z_stride, row: y_stride } = self.input_strides()?;
        if self.reads_directly() {
            // Windows start in the borders of planes: before a row is a vector of which they read the last elements.
            let (before, above) = match self.product.b.planes {
                Some(_) => (self.x.pad.div_ceil(4) * 4, self.y.pad * y_stride),
                None => (0, 0),
            };
            let starts = self.product.starts.iter().map(|s| (first + s[1] - before - above) / 4).collect();
            let strides = [
                image,
                channel,
                self.y.stride * y_stride,
                self.z.stride * z_stride,
                self.y.dilation * y_stride,
                self.z.dilation * z_stride,
            ];
            return Ok((Side { buffer: self.product.b.buffer, starts }, strides.map(|s| s / 4)));
        }
        let (entries, places) = distinct(self.product.starts.iter().map(|s| first + s[1]));
        let [(x_extent, x_step), (y_extent, y_step), (z_extent, z_step)] =
            [self.x, self.y, self.z].map(|axis| axis.arranged());
        let pitch = x_extent.div_ceil(4);
        let plane = pitch * y_extent * z_extent;
        let over = |axis: &Axis, extent: u32| match axis.taps {
            1 => [extent, 0],
            _ => [axis.stride * extent, axis.dilation * extent],
        };
        let ([row, tap_y], [slice, tap_z]) = (over(&self.y, pitch), over(&self.z, pitch * y_extent));
        let strides = [plane * p.channels, plane, row, slice, tap_y, tap_z];
        let entry = self.images * p.channels * plane;
        let starts = places.iter().map(|place| place * entry).collect();
        let plain = [self.x, self.y, self.z].iter().all(|a| a.pad == 0) && !self.product.padded;
        let form = Form {
            entries: entries.clone(),
            extents: [self.images * p.channels, 1, z_extent, y_extent, x_extent],
            strides: [
                i64::from(channel),
                0,
                i64::from(z_stride * z_step),
                i64::from(y_stride * y_step),
                i64::from(x_step),
            ],
            cut: None,
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
            image_stride: image,
            channel_stride: channel,
            extent: [z_extent, y_extent, x_extent, 0],
            input: [self.z.input, self.y.input, self.x.input, 0],
            step: [z_step, y_step, x_step, 0],
            pad: [self.z.pad, self.y.pad, self.x.pad, 0],
            stride: [z_stride, y_stride, 1, 0],
            ..layout.params
        };
        Ok((Side { buffer: layout.record(recorder, self.product.b)?, starts }, strides))
    }
}
