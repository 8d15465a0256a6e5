//! Strided copies: what operators that only move elements are made of.

use super::box_steps::{Axis, Moved, Steps};
use crate::engine::ir::{Define, Operand, Recorder, Strided, Work, linear_groups};
use crate::engine::kernels::{copy, copy4};
use crate::error::Result;

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
        let steps = Steps::new([self.from, self.to], self.collapsed());
        let (params, rank) = steps.params()?;
        let turned = u32::from(matches!(steps.moved, Moved::Square(_)));
        let defines =
            [Define::Scalar("In", source.storage), Define::Const("RANK", rank), Define::Const("TURNED", turned)];
        let (shader, defines) = match steps.moved {
            Moved::Element => (&copy::SHADER, &defines[..2]),
            Moved::Vector | Moved::Square(_) => (&copy4::SHADER, &defines[..]),
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
