//! Strided copies: what operators that only move elements are made of.

use super::box_fours::Fours;
use crate::engine::ir::{Define, Operand, Recorder, Storage, Strided, Work, linear_groups};
use crate::engine::kernels::copy::Params;
use crate::engine::kernels::{copy, copy4};
use crate::error::{Error, Result};

/// The most axes that a copy can have after collapsing.
const MAX_RANK: usize = 8;
/// Ranks that `shaders/copy.wgsl` and `copy4.wgsl` are compiled for.
const RANKS: [usize; 5] = [1, 2, 3, 4, 8];

/// One axis of a box: how many steps, and how far each goes in the source and in the target, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) extent: usize,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// Elements copied from strided places to strided places.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// The first element read.
    pub(super) from: i64,
    /// The first element written.
    pub(super) to: i64,
    /// Axes, outermost first.
    pub(super) axes: Vec<Axis>,
}

impl Copy {
    /// The same copy in as few axes as possible: an axis joins the one outside it when both go on at the same pace.
    fn collapsed(&self) -> Vec<Axis> {
        let mut axes: Vec<Axis> = Vec::new();
        for axis in self.axes.iter().filter(|a| a.extent != 1) {
            let n = axis.extent as i64;
            match axes.last_mut() {
                Some(last) if last.from == axis.from * n && last.to == axis.to * n => {
                    *last = Axis { extent: last.extent * axis.extent, ..*axis };
                }
                _ => axes.push(*axis),
            }
        }
        if axes.is_empty() {
            axes.push(Axis { extent: 1, from: 0, to: 0 });
        }
        axes
    }

    /// Where each element of the target lies in the source, if this fills the target.
    pub(super) fn arrangement(&self) -> Option<Strided> {
        let mut axes: Vec<&Axis> = self.axes.iter().filter(|a| a.extent != 1).collect();
        axes.sort_by_key(|a| std::cmp::Reverse(a.to));
        let mut filled = 1;
        for axis in axes.iter().rev() {
            if axis.to != filled {
                return None;
            }
            filled *= axis.extent as i64;
        }
        let from = axes.into_iter().map(|a| Some((a.extent, usize::try_from(a.from).ok()?)));
        (self.to == 0).then_some(())?;
        Some(Strided::new(usize::try_from(self.from).ok()?, from.collect::<Option<Vec<_>>>()?))
    }

    /// Does the copy on the host.
    pub(super) fn apply(&self, source: &[u8], target: &mut [u8], size: usize) {
        let axes = self.collapsed();
        self.apply_axis(&axes, self.from, self.to, source, target, size);
    }

    fn apply_axis(&self, axes: &[Axis], from: i64, to: i64, source: &[u8], target: &mut [u8], size: usize) {
        let Some((axis, inner)) = axes.split_first() else {
            let (from, to) = (from as usize * size, to as usize * size);
            target[to..to + size].copy_from_slice(&source[from..from + size]);
            return;
        };
        if inner.is_empty() && axis.from == 1 && axis.to == 1 {
            let (from, to, length) = (from as usize * size, to as usize * size, axis.extent * size);
            target[to..to + length].copy_from_slice(&source[from..from + length]);
            return;
        }
        for i in 0..axis.extent as i64 {
            self.apply_axis(inner, from + i * axis.from, to + i * axis.to, source, target, size);
        }
    }

    /// Records the copy from `source` to output `output` of the node.
    pub(super) fn record(&self, recorder: &mut Recorder<'_>, source: &Operand, output: usize) -> Result<()> {
        let target = recorder.output(output).clone();
        self.record_into(recorder, source, &target, output == 0)
    }

    /// Records the copy from `source` to `target`, which `is_first` says to be output 0 of the node.
    pub(super) fn record_into(
        &self,
        recorder: &mut Recorder<'_>,
        source: &Operand,
        target: &Operand,
        is_first: bool,
    ) -> Result<()> {
        let axes = self.collapsed();
        if axes.len() > MAX_RANK {
            return Err(Error::unimplemented(format!("a copy over {} axes", axes.len())));
        }
        let rank = RANKS.into_iter().find(|r| *r >= axes.len()).unwrap_or(MAX_RANK);
        let fours = Fours::new(self, &axes);
        let (from, to, axes) = match &fours {
            Some(fours) => (fours.from, fours.to, &fours.axes),
            None => (self.from, self.to, &axes),
        };
        let mut params = Params {
            count: word(axes.iter().map(|a| a.extent).product())?,
            from_offset: signed(from)?,
            to_offset: signed(to)?,
            extents: [[1; 4]; 2],
            ..Params::default()
        };
        // Axes stand at the inner end; those outside them have one step.
        for (position, axis) in axes.iter().enumerate() {
            let at = rank - axes.len() + position;
            params.extents[at / 4][at % 4] = word(axis.extent)?;
            params.from_strides[at / 4][at % 4] = signed(axis.from)?;
            params.to_strides[at / 4][at % 4] = signed(axis.to)?;
        }
        let square = fours.as_ref().and_then(|fours| fours.square);
        if let Some([row, column]) = square {
            params.square = [signed(row)?, signed(column)?, 0, 0];
        }
        let defines = [
            Define::Scalar("In", source.storage),
            Define::Const("RANK", rank as u32),
            Define::Const("TURNED", u32::from(square.is_some())),
        ];
        let (shader, defines) = match fours {
            Some(_) => (&copy4::SHADER, &defines[..]),
            None => (&copy::SHADER, &defines[..2]),
        };
        let work = Work {
            shader,
            defines,
            buffers: &[source.buffer, target.buffer],
            params: params.words(),
            groups: linear_groups(params.count as usize, 64, recorder.profile.max_workgroups),
        };
        if is_first { recorder.dispatch(&work) } else { recorder.dispatch_plain(&work, target.storage) }
    }
}

/// `value` as a shader's word.
pub(super) fn word(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| too_large(&value))
}

/// `value` as a shader's signed word.
pub(super) fn signed(value: i64) -> Result<i32> {
    i32::try_from(value).map_err(|_| too_large(&value))
}

fn too_large(value: &dyn std::fmt::Display) -> Error {
    Error::resource_exhausted(format!("{value} elements pass a device's 32-bit indices"))
}

/// `value` as the words of an element that lies as `storage`.
pub(super) fn words_of(value: f64, storage: Storage) -> Vec<u32> {
    let halves = |bits: u64| vec![bits as u32, (bits >> 32) as u32];
    match storage {
        Storage::F32 => vec![(value as f32).to_bits()],
        Storage::F16 => vec![u32::from(half::f16::from_f64(value).to_bits())],
        Storage::I32 => vec![(value as i32).cast_unsigned()],
        Storage::U32 | Storage::Packed(_) => vec![value as u32],
        Storage::I64 => halves((value as i64).cast_unsigned()),
        Storage::U64 => halves(value as u64),
        Storage::F64 => halves(value.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposition_is_a_box() {
        // [2, 3] → [3, 2]
        let copy =
            Copy { from: 0, to: 0, axes: vec![Axis { extent: 3, from: 1, to: 2 }, Axis { extent: 2, from: 3, to: 1 }] };
        let mut target = [0; 6];
        copy.apply(&[1, 2, 3, 4, 5, 6], &mut target, 1);
        assert_eq!(target, [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn even_axes_collapse() {
        let axis = |extent, from, to| Axis { extent, from, to };
        let copy = Copy { from: 0, to: 0, axes: vec![axis(2, 12, 24), axis(3, 4, 8), axis(1, 9, 9), axis(4, 1, 2)] };
        assert_eq!(copy.collapsed(), [axis(24, 1, 2)]);
    }
}
