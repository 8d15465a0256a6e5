//! How convolutions over rows of vectors would have their input, and where they store their output.

use super::conv_window::Geometry;
use super::product::Product;
use super::words::word;
use crate::engine::ir::{BORDER_MAX, PlanesWish, Recorder};
use crate::engine::kernels::SpanTile;

/// How a convolution of these windows would have its input.
pub(super) fn wish(g: &Geometry) -> Option<PlanesWish> {
    let reach = |axis: usize| {
        let end = g.output[axis].saturating_sub(1) * g.stride[axis] + (g.kernel[axis] - 1) * g.dilation[axis] + 1;
        g.pad[axis].max(end.saturating_sub(g.input[axis] + g.pad[axis]))
    };
    let (border, [_, y, x]) = (reach(1).max(reach(2)), g.input);
    let flat = g.kernel == [1; 3] && g.stride == [1; 3];
    let rows = if flat { y * x } else { x };
    let dense_serves = border == 0 && rows.is_multiple_of(4);
    (border <= BORDER_MAX).then_some(PlanesWish { border, dense_serves, flat: false })
}

/// Elements of the output between neighbours, and before the first one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stores {
    pub(super) first: u32,
    pub(super) channel: u32,
    pub(super) column: u32,
    pub(super) line: u32,
    pub(super) slice: u32,
    pub(super) image: u32,
    /// Rows and columns of zeros around planes.
    pub(super) border: u32,
    /// Whether this is where the output's readers would have it.
    pub(super) in_room: bool,
}

impl Stores {
    /// Where the product says that it stores what it gives.
    pub(super) fn own(product: &Product) -> Self {
        let [column, line, slice, image] = product.params.y_step;
        Self { first: 0, channel: product.params.y_row, column, line, slice, image, border: 0, in_room: false }
    }

    /// Where the readers of the output would have it, if the product gives whole images.
    pub(super) fn in_room(product: &Product, recorder: &Recorder<'_>) -> Option<Self> {
        let (p, own, [x, y, z, _]) = (&product.params, Self::own(product), product.params.output);
        let dense = own.column == 1 && own.line == x && own.channel == x * y && own.image == p.rows * own.channel;
        let room = recorder.room().filter(|_| dense && z == 1 && product.starts.len() == 1)?.planes;
        let [first, channel, line, image, border] =
            [room.first, room.plane, room.row, room.image, room.border].map(|n| word(n).ok());
        let line = line?;
        Some(Self {
            first: first?,
            channel: channel?,
            column: 1,
            line,
            slice: y * line,
            image: image?,
            border: border?,
            in_room: true,
        })
    }

    /// Whether rows of `width` columns, and as many lines, slices and images as `beside` says, can be stored in vectors of four:
    /// those of planes have room for a last one.
    pub(super) fn in_fours(&self, width: u32, beside: [u32; 3]) -> bool {
        let strides = [self.line, self.slice, self.image].into_iter().zip(beside);
        let taken = strides.filter(|(_, extent)| *extent > 1).map(|(stride, _)| stride);
        let aligned = taken.chain([self.channel]).all(|stride| stride.is_multiple_of(4));
        self.column == 1 && aligned && (self.in_room || width.is_multiple_of(4))
    }

    /// What keys of problems say of it, and of what is read.
    pub(super) fn named(&self, tile: &SpanTile) -> String {
        let border = if self.in_room { format!(" bordered {}", self.border) } else { String::new() };
        let lead = if tile.lead > 0 { format!(" lead {}", tile.lead) } else { String::new() };
        let scaled = if tile.scaled { " scaled" } else { "" };
        format!("{border}{lead}{scaled}")
    }
}
