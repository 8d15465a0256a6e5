//! Slice: every so many-th element between two bounds, along some axes.

use std::sync::Arc;

use super::arguments::{axis_of, known_ints, required, unknown};
use super::box_steps::Axis;
use super::boxes::Copy;
use super::movement::{Movement, Moving};
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape};

pub(super) fn slice(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // Bounds are attributes before opset 10, inputs since.
    Ok(Moving::op(Slice {
        starts: spec.attributes.ints("starts")?,
        ends: spec.attributes.ints("ends")?,
        axes: spec.attributes.ints("axes")?,
    }))
}

#[derive(Debug)]
struct Slice {
    starts: Option<Vec<i64>>,
    ends: Option<Vec<i64>>,
    axes: Option<Vec<i64>>,
}

/// What is taken along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    axis: usize,
    start: i64,
    end: i64,
    step: i64,
}

impl Cut {
    /// First element and number of elements taken of `extent`: bounds are clamped as numpy does.
    fn resolve(&self, extent: usize) -> (i64, usize) {
        let n = extent as i64;
        let counted = |bound: i64| if bound < 0 { bound.saturating_add(n) } else { bound };
        let (low, high) = if self.step > 0 { (0, n) } else { (-1, n - 1) };
        let start = counted(self.start).clamp(if self.step > 0 { 0 } else { -1 }, high);
        let end = counted(self.end).clamp(low, high.max(low));
        let span = if self.step > 0 { end - start } else { start - end };
        let count = if span <= 0 { 0 } else { (span - 1) / self.step.abs() + 1 };
        (start.max(0), count as usize)
    }
}

impl Slice {
    /// The cuts, as far as they are constant.
    fn cuts(&self, facts: &[Option<&Fact>], rank: usize) -> Result<Option<Vec<Cut>>> {
        let list = |i: usize, attribute: &Option<Vec<i64>>| -> Result<Option<Option<Vec<i64>>>> {
            Ok(known_ints(facts, i)?.or_else(|| attribute.clone().map(Some)))
        };
        let (Some(starts), Some(ends)) = (list(1, &self.starts)?, list(2, &self.ends)?) else {
            return Err(Error::invalid_argument("Slice without starts and ends"));
        };
        let (Some(starts), Some(ends)) = (starts, ends) else { return Ok(None) };
        let Some(axes) = list(3, &self.axes)?.unwrap_or_else(|| Some((0..starts.len() as i64).collect())) else {
            return Ok(None);
        };
        let Some(steps) = list(4, &None)?.unwrap_or_else(|| Some(vec![1; starts.len()])) else { return Ok(None) };
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(Error::invalid_argument("starts, ends, axes and steps differ in length"));
        }
        if steps.contains(&0) {
            return Err(Error::invalid_argument("a step of 0"));
        }
        let cut = |i: usize| Ok(Cut { axis: axis_of(axes[i], rank)?, start: starts[i], end: ends[i], step: steps[i] });
        (0..starts.len()).map(cut).collect::<Result<Vec<_>>>().map(Some)
    }
}

impl Movement for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1, 2, 3, 4]
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let Some(dims) = &required(facts, 0)?.dims else { return Ok(vec![None]) };
        let Some(cuts) = self.cuts(facts, dims.len())? else { return Ok(vec![Some(unknown(dims.len()))]) };
        let mut dims = dims.clone();
        for cut in cuts {
            let whole = cut.start == 0 && cut.step == 1 && cut.end >= i64::from(i32::MAX);
            dims[cut.axis] = match dims[cut.axis].fixed() {
                Some(extent) => Dim::Fixed(cut.resolve(extent).1),
                None if whole => continue,
                None => Dim::Unknown,
            };
        }
        Ok(vec![Some(dims)])
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let input = required(facts, 0)?.concrete()?;
        let cuts = self.cuts(facts, input.rank())?.unwrap_or_default();
        let (strides, targets) = (input.strides(), outputs[0].strides());
        let mut copy = Copy { from: 0, to: 0, axes: Vec::with_capacity(input.rank()) };
        for axis in 0..input.rank() {
            let stride = strides[axis] as i64;
            let cut = cuts.iter().find(|c| c.axis == axis);
            let (start, step) = cut.map_or((0, 1), |c| (c.resolve(input[axis]).0, c.step));
            copy.from += start * stride;
            copy.axes.push(Axis { extent: outputs[0][axis], from: step * stride, to: targets[axis] as i64 });
        }
        Ok(vec![(0, 0, copy)])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let Some(Some(input)) = query.inputs.first() else { return query.default_answer() };
        let (Some(shape), rank) = (input.shape(), input.rank().unwrap_or(0)) else { return query.default_answer() };
        let Ok(Some(cuts)) = self.cuts(query.inputs, rank) else { return query.default_answer() };
        // A cut that takes the whole axis in order does not touch it.
        let touches = |c: &&Cut| c.step != 1 || c.resolve(shape[c.axis]) != (0, shape[c.axis]);
        let touched: Vec<usize> = cuts.iter().filter(touches).map(|c| c.axis).collect();
        match query.rows.split_first() {
            Some((rows @ Rows::Along { axis, .. }, rest))
                if !touched.contains(axis) && rest.iter().all(|r| matches!(r, Rows::Constant | Rows::Counted)) =>
            {
                query.all(*rows)
            }
            _ => query.default_answer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_clamped_as_numpy_does() {
        let cut = |start, end, step| Cut { axis: 0, start, end, step };
        assert_eq!(cut(1, 1000, 2).resolve(6), (1, 3));
        assert_eq!(cut(-1, i64::MIN, -1).resolve(4), (3, 4));
        assert_eq!(cut(20, 0, -4).resolve(10), (9, 3));
        assert_eq!(cut(5, 2, 1).resolve(6).1, 0);
        assert_eq!(cut(0, i64::MAX, 1).resolve(0).1, 0);
    }
}
