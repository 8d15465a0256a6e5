//! Computed arrays laid out anew, in rows of whole vectors of four.

use super::product::{Source, word};
use crate::engine::ir::{BufferId, Define, Recorder, Storage, Work};
use crate::engine::kernels::arrange::Params;
use crate::engine::kernels::{arrange, arrange4};
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// `shaders/lib/arrange.wgsl` states the problem.
#[derive(Debug)]
pub(super) struct Layout {
    /// The first element of each entry.
    pub(super) entries: Vec<u32>,
    /// What is filled in besides the number of vectors.
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

    /// Whether rows of x are whole vectors.
    fn reads_fours(&self) -> bool {
        let p = &self.params;
        let strides = [p.image_stride, p.channel_stride, p.stride[0], p.stride[1], p.input[2]];
        // The last vector of a row may be read whole only where what follows the row's width is zero anyway.
        let whole = p.width >= p.input[2] || p.width.is_multiple_of(4);
        let plain = p.step[2] == 1 && p.stride[2] == 1 && p.pad[2] <= p.width && whole;
        plain && strides.iter().chain(&self.entries).all(|n| n.is_multiple_of(4))
    }

    /// The buffer that holds the rows; `None` when there are more planes than a grid takes.
    pub(super) fn record(mut self, recorder: &mut Recorder<'_>, source: Source) -> Result<Option<BufferId>> {
        let fours = self.reads_fours();
        let p = &mut self.params;
        let planes = [p.images, p.channels].iter().fold(self.entries.len(), |n, e| n.saturating_mul(*e as usize));
        let vectors =
            [p.extent[0], p.extent[1]].iter().fold(p.row_vectors as usize, |n, e| n.saturating_mul(*e as usize));
        let max = recorder.profile.max_workgroups as usize;
        if planes > max || vectors.div_ceil(64) > max {
            return Ok(None);
        }
        p.plane_vectors = word(vectors)?;
        let elements = planes.saturating_mul(vectors).saturating_mul(4);
        word(elements)?;
        let rows = recorder.scratch(Shape::new([elements]), DType::F32, Storage::F32);
        let entries = recorder.table(self.entries);
        let slices = Define::Const("SLICES", u32::from(p.extent[0] > 1));
        let shifted = [slices.clone(), Define::Const("SHIFT", p.pad[2] % 4)];
        let plain = [slices];
        recorder.dispatch_plain(
            &Work {
                shader: if fours { &arrange4::SHADER } else { &arrange::SHADER },
                defines: if fours { &shifted } else { &plain },
                buffers: &[source.buffer, entries, rows.buffer],
                params: self.params.words(),
                groups: [word(vectors.div_ceil(64))?, 1, word(planes)?],
            },
            Storage::F32,
        )?;
        Ok(Some(rows.buffer))
    }
}
