//! Computed arrays laid out anew, in rows of whole vectors of four.

use super::product::Source;
use super::words::word;
use crate::engine::ir::{BufferId, Define, Recorder, Storage, Work, linear_groups};
use crate::engine::kernels::arrange::Params;
use crate::engine::kernels::{arrange, arrange_tight4, arrange4};
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// `shaders/lib/arrange.wgsl` states the problem.
#[derive(Debug)]
pub(super) struct Layout {
    /// The first element of each entry.
    pub(super) entries: Vec<u32>,
    /// What is filled in besides the numbers of vectors.
    pub(super) params: Params,
}

impl Layout {
    /// One image of one channel of rows of `width` elements that lie side by side.
    pub(super) fn rows(entries: Vec<u32>, width: u32) -> Self {
        let params = Params {
            width,
            row_vectors: width.div_ceil(4),
            images: 1,
            channels: 1,
            step: [1, 1, 1, 0],
            stride: [0, 0, 1, 0],
            ..Params::default()
        };
        Self { entries, params }
    }

    /// Whether elements of a row of x lie side by side.
    fn reads_rows(&self) -> bool {
        self.params.step[2] == 1 && self.params.stride[2] == 1
    }

    /// Whether rows of x are whole vectors.
    fn reads_fours(&self) -> bool {
        let p = &self.params;
        let strides = [p.image_stride, p.channel_stride, p.stride[0], p.stride[1], p.input[2]];
        // The last vector of a row may be read whole only where what follows the row's width is zero anyway.
        let whole = p.width >= p.input[2] || p.width.is_multiple_of(4);
        self.reads_rows()
            && p.pad[2] <= p.width
            && whole
            && strides.iter().chain(&self.entries).all(|n| n.is_multiple_of(4))
    }

    /// The buffer that holds the rows.
    pub(super) fn record(mut self, recorder: &mut Recorder<'_>, source: Source) -> Result<BufferId> {
        let (in_rows, fours) = (self.reads_rows(), self.reads_fours());
        let p = &mut self.params;
        let planes = [p.images, p.channels].iter().fold(self.entries.len(), |n, e| n.saturating_mul(*e as usize));
        let vectors =
            [p.extent[0], p.extent[1]].iter().fold(p.row_vectors as usize, |n, e| n.saturating_mul(*e as usize));
        let all = planes.saturating_mul(vectors);
        let elements = all.saturating_mul(4);
        word(elements)?;
        p.extent[3] = word(all)?;
        p.plane_vectors = word(vectors)?;
        p.last = word(recorder.vectors(source.buffer).saturating_sub(1))?;
        let rows = recorder.scratch(Shape::new([elements]), DType::F32, Storage::F32);
        let entries = recorder.table(self.entries);
        let slices = Define::Const("SLICES", u32::from(p.extent[0] > 1));
        let shifted = [slices.clone(), Define::Const("SHIFT", p.pad[2] % 4)];
        let plain = [slices];
        let (shader, defines) = match (in_rows, fours) {
            (_, true) => (&arrange4::SHADER, &shifted[..]),
            (true, false) => (&arrange_tight4::SHADER, &plain[..]),
            (false, false) => (&arrange::SHADER, &plain[..]),
        };
        recorder.dispatch_plain(
            &Work {
                shader,
                defines,
                buffers: &[source.buffer, entries, rows.buffer],
                params: self.params.words(),
                groups: linear_groups(all, 64, recorder.profile.max_workgroups),
            },
            Storage::F32,
        )?;
        Ok(rows.buffer)
    }
}
