//! Concat and Split.

use std::sync::Arc;

use super::arguments::{axis_of, known_ints, optional, required};
use super::box_steps::Axis;
use super::boxes::Copy;
use super::constants::non_negative;
use super::movement::{Movement, Moving};
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape};

pub(super) fn concat(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axis = spec.attributes.int("axis")?;
    let axis = axis.ok_or_else(|| Error::invalid_argument("Concat without the attribute axis"))?;
    Ok(Moving::op(Concat { axis }))
}

/// Tensors side by side along one axis.
#[derive(Debug)]
struct Concat {
    axis: i64,
}

/// [outer, extent, inner] of `shape` around `axis`.
fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

/// A slab of `extent` entries of the middle axis, from entry `from` of a source with `source` entries to entry `to` of a
/// target with `target` entries.
fn slab(outer: usize, inner: usize, extent: usize, [source, from]: [usize; 2], [target, to]: [usize; 2]) -> Copy {
    let axis = |extent, from: usize, to: usize| Axis { extent, from: from as i64, to: to as i64 };
    Copy {
        from: (from * inner) as i64,
        to: (to * inner) as i64,
        axes: vec![axis(outer, source * inner, target * inner), axis(extent * inner, 1, 1)],
    }
}

impl Movement for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn moved(&self, inputs: usize) -> usize {
        inputs
    }

    fn joins_channels(&self, rank: usize) -> bool {
        axis_of(self.axis, rank).is_ok_and(|axis| axis == 1)
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let all: Option<Vec<&Vec<Dim>>> = facts.iter().flatten().map(|f| f.dims.as_ref()).collect();
        let Some(all) = all else { return Ok(vec![None]) };
        let first = all.first().ok_or_else(|| Error::invalid_argument("Concat of nothing"))?;
        let axis = axis_of(self.axis, first.len())?;
        let mut dims = (*first).clone();
        let mut total = Some(0);
        for other in &all {
            if other.len() != dims.len() {
                return Err(Error::invalid_argument(format!("ranks {} and {} are joined", dims.len(), other.len())));
            }
            total = total.zip(other[axis].fixed()).map(|(a, b)| a + b);
            for (i, dim) in other.iter().enumerate().filter(|(i, _)| *i != axis) {
                match (dims[i].fixed(), dim.fixed()) {
                    (Some(a), Some(b)) if a != b => {
                        return Err(Error::invalid_argument(format!("extents {a} and {b} of axis {i} are joined")));
                    }
                    (None, Some(_)) => dims[i] = dim.clone(),
                    _ => {}
                }
            }
        }
        dims[axis] = total.map_or(Dim::Unknown, Dim::Fixed);
        Ok(vec![Some(dims)])
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let axis = axis_of(self.axis, outputs[0].rank())?;
        let [outer, total, inner] = around(&outputs[0], axis);
        let mut at = 0;
        let mut copies = Vec::new();
        for (input, fact) in facts.iter().enumerate() {
            let Some(fact) = fact else { continue };
            let extent = fact.concrete()?[axis];
            copies.push((input, 0, slab(outer, inner, extent, [extent, 0], [total, at])));
            at += extent;
        }
        Ok(copies)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = query.outputs.first().and_then(Fact::rank).unwrap_or(0);
        let Ok(joined) = axis_of(self.axis, rank) else { return query.default_answer() };
        match query.rows.split_first() {
            Some((rows @ Rows::Along { axis, .. }, rest))
                if *axis != joined && rest.iter().all(|other| other == rows) =>
            {
                query.all(*rows)
            }
            _ => query.default_answer(),
        }
    }
}

pub(super) fn split(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Moving::op(Split {
        axis: spec.attributes.int_or("axis", 0)?,
        // Lengths are an attribute before opset 13, an input since.
        lengths: spec.attributes.ints("split")?,
        outputs: spec.outputs,
    }))
}

/// A tensor cut along one axis.
#[derive(Debug)]
struct Split {
    axis: i64,
    lengths: Option<Vec<i64>>,
    outputs: usize,
}

impl Split {
    /// The lengths along the axis; `None` while they are not known.
    fn lengths(&self, facts: &[Option<&Fact>], extent: Option<usize>) -> Result<Option<Vec<usize>>> {
        let given = match known_ints(facts, 1)? {
            Some(None) => return Ok(None),
            Some(Some(lengths)) => Some(lengths),
            None => self.lengths.clone(),
        };
        if let Some(lengths) = given {
            let lengths = non_negative(&lengths)?;
            let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
            if total.is_none() || extent.is_some_and(|e| Some(e) != total) {
                return Err(Error::invalid_argument(format!("lengths {lengths:?} do not make up the axis")));
            }
            return Ok(Some(lengths));
        }
        let Some(extent) = extent else { return Ok(None) };
        // Equal parts, the last one shorter where they do not come out even.
        let part = extent.div_ceil(self.outputs.max(1));
        Ok(Some((0..self.outputs).map(|i| part.min(extent.saturating_sub(i * part))).collect()))
    }
}

impl Movement for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let Some(dims) = &required(facts, 0)?.dims else { return Ok(vec![None; self.outputs]) };
        let axis = axis_of(self.axis, dims.len())?;
        let lengths = self.lengths(facts, dims[axis].fixed())?;
        let part = |i: usize| {
            let mut part = dims.clone();
            part[axis] = lengths.as_ref().and_then(|l| l.get(i)).map_or(Dim::Unknown, |n| Dim::Fixed(*n));
            Some(part)
        };
        Ok((0..self.outputs).map(part).collect())
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let input = required(facts, 0)?.concrete()?;
        let axis = axis_of(self.axis, input.rank())?;
        let [outer, total, inner] = around(&input, axis);
        let mut at = 0;
        let mut copies = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            let extent = output[axis];
            copies.push((0, index, slab(outer, inner, extent, [total, at], [extent, 0])));
            at += extent;
        }
        Ok(copies)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match axis_of(self.axis, rank) {
            Ok(cut) => query.except_axes(&[cut]),
            Err(_) => query.default_answer(),
        }
    }
}
