//! Transpose, Expand, Tile, DepthToSpace and SpaceToDepth: whole tensors in another order, or repeated.

use std::sync::Arc;

use super::arguments::{axis_of, known_ints, required, unknown};
use super::box_steps::Axis;
use super::boxes::Copy;
use super::broadcast::common_dims;
use super::constants::non_negative;
use super::movement::{Movement, Moving};
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape};

pub(super) fn transpose(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Moving::op(Transpose { order: spec.attributes.ints("perm")? }))
}

/// Axes in another order; reversed when none is given.
#[derive(Debug)]
struct Transpose {
    order: Option<Vec<i64>>,
}

impl Transpose {
    fn order(&self, rank: usize) -> Result<Vec<usize>> {
        let Some(order) = &self.order else { return Ok((0..rank).rev().collect()) };
        let order = order.iter().map(|a| axis_of(*a, rank)).collect::<Result<Vec<_>>>()?;
        if order.len() != rank || (0..rank).any(|a| !order.contains(&a)) {
            return Err(Error::invalid_argument(format!("perm {order:?} does not reorder {rank} axes")));
        }
        Ok(order)
    }
}

impl Movement for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let Some(dims) = &required(facts, 0)?.dims else { return Ok(vec![None]) };
        Ok(vec![Some(self.order(dims.len())?.into_iter().map(|a| dims[a].clone()).collect())])
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let input = required(facts, 0)?.concrete()?;
        let (strides, targets) = (input.strides(), outputs[0].strides());
        let axes = self.order(input.rank())?.into_iter().enumerate().map(|(at, axis)| Axis {
            extent: input[axis],
            from: strides[axis] as i64,
            to: targets[at] as i64,
        });
        Ok(vec![(0, 0, Copy { from: 0, to: 0, axes: axes.collect() })])
    }

    fn is_transposition(&self) -> bool {
        self.order.as_deref().is_none_or(|order| order == [1, 0])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = query.outputs.first().and_then(Fact::rank).unwrap_or(0);
        match (query.rows, self.order(rank)) {
            ([rows @ Rows::Along { axis, .. }], Ok(order)) => match order.iter().position(|a| a == axis) {
                Some(axis) => query.all(rows.moved_to(axis)),
                None => query.default_answer(),
            },
            _ => query.default_answer(),
        }
    }
}

pub(super) fn expand(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Moving::op(Expand))
}

/// Broadcasting to a shape.
#[derive(Debug)]
struct Expand;

impl Movement for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let input = required(facts, 0)?;
        Ok(vec![match known_ints(facts, 1)?.flatten() {
            Some(shape) => common_dims(&[input, &Fact::of_shape(input.dtype, &non_negative(&shape)?)])?,
            None => {
                let count = required(facts, 1)?.shape().map(|s| s.elements());
                count.zip(input.rank()).map(|(n, rank)| unknown(n.max(rank)))
            }
        }])
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let input = required(facts, 0)?.concrete()?;
        let (strides, targets) = (input.strides(), outputs[0].strides());
        let lead = outputs[0].rank() - input.rank();
        let axes = (0..outputs[0].rank()).map(|at| {
            let from = at.checked_sub(lead).filter(|i| input[*i] != 1).map_or(0, |i| strides[i] as i64);
            Axis { extent: outputs[0][at], from, to: targets[at] as i64 }
        });
        Ok(vec![(0, 0, Copy { from: 0, to: 0, axes: axes.collect() })])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let (Some(Some(input)), Some(output)) = (query.inputs.first(), query.outputs.first()) else {
            return query.default_answer();
        };
        let (Some(from), Some(to)) = (input.shape(), output.shape()) else { return query.default_answer() };
        match query.rows {
            [rows @ Rows::Along { axis, .. }, Rows::Constant | Rows::Counted] => {
                query.all(rows.moved_to(axis + to.rank() - from.rank()))
            }
            // A constant repeated for every row.
            [Rows::Constant, Rows::Counted]
                if to.first() == Some(&query.batch) && (from.rank() < to.rank() || from.first() == Some(&1)) =>
            {
                query.all(Rows::LEADING)
            }
            _ => query.default_answer(),
        }
    }
}

pub(super) fn tile(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Moving::op(Tile))
}

/// The whole tensor repeated along its axes.
#[derive(Debug)]
struct Tile;

impl Tile {
    fn repeats(facts: &[Option<&Fact>], rank: usize) -> Result<Option<Vec<usize>>> {
        let Some(repeats) = known_ints(facts, 1)?.flatten() else { return Ok(None) };
        if repeats.len() != rank {
            return Err(Error::invalid_argument(format!("{} repeats for rank {rank}", repeats.len())));
        }
        non_negative(&repeats).map(Some)
    }
}

impl Movement for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let Some(dims) = &required(facts, 0)?.dims else { return Ok(vec![None]) };
        let repeats = Self::repeats(facts, dims.len())?;
        let tiled = |(axis, dim): (usize, &Dim)| match (dim.fixed(), repeats.as_ref().map(|r| r[axis])) {
            (Some(extent), Some(n)) => Dim::Fixed(extent * n),
            (None, Some(1)) => dim.clone(),
            _ => Dim::Unknown,
        };
        Ok(vec![Some(dims.iter().enumerate().map(tiled).collect())])
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let input = required(facts, 0)?.concrete()?;
        let repeats = Self::repeats(facts, input.rank())?.unwrap_or_default();
        let (strides, targets) = (input.strides(), outputs[0].strides());
        let axes = (0..input.rank()).flat_map(|axis| {
            let (from, to) = (strides[axis] as i64, targets[axis] as i64);
            let repeat = Axis { extent: repeats[axis], from: 0, to: to * input[axis] as i64 };
            [repeat, Axis { extent: input[axis], from, to }]
        });
        Ok(vec![(0, 0, Copy { from: 0, to: 0, axes: axes.collect() })])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = query.outputs.first().and_then(Fact::rank).unwrap_or(0);
        match (query.rows, Self::repeats(query.inputs, rank)) {
            ([rows @ Rows::Along { axis, .. }, Rows::Constant], Ok(Some(repeats))) if repeats[*axis] == 1 => {
                query.all(*rows)
            }
            _ => query.default_answer(),
        }
    }
}

/// Pixels along each side of a block.
const MAX_BLOCK: usize = 1 << 12;

/// Where the blocks of DepthToSpace lie among the channels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blocks {
    /// Blocks outside the channels (depth, column, row).
    Outer,
    /// Blocks inside the channels.
    Inner,
}

pub(super) fn depth_to_space(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Moving::op(DepthToSpace { block: block_size(spec)?, blocks: blocks(spec)?, reverse: false }))
}

pub(super) fn space_to_depth(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Moving::op(DepthToSpace { block: block_size(spec)?, blocks: blocks(spec)?, reverse: true }))
}

fn blocks(spec: &OpSpec<'_>) -> Result<Blocks> {
    match spec.attributes.string_or("mode", "DCR")?.as_str() {
        "DCR" => Ok(Blocks::Outer),
        "CRD" => Ok(Blocks::Inner),
        other => Err(Error::invalid_argument(format!("{} mode {other:?}", spec.name))),
    }
}

fn block_size(spec: &OpSpec<'_>) -> Result<usize> {
    let block = spec.attributes.int_or("blocksize", 0)?;
    usize::try_from(block)
        .ok()
        .filter(|b| (1..=MAX_BLOCK).contains(b))
        .ok_or_else(|| Error::invalid_argument(format!("blocksize {block}")))
}

/// Channels to blocks of pixels, or back.
#[derive(Debug)]
struct DepthToSpace {
    block: usize,
    blocks: Blocks,
    reverse: bool,
}

impl Movement for DepthToSpace {
    fn name(&self) -> &'static str {
        if self.reverse { "SpaceToDepth" } else { "DepthToSpace" }
    }

    fn dims(&self, facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        let Some(dims) = &required(facts, 0)?.dims else { return Ok(vec![None]) };
        let [n, c, h, w] = &dims[..] else {
            return Err(Error::invalid_argument(format!("{} of rank {}", self.name(), dims.len())));
        };
        let times = |d: &Dim, by: usize| d.fixed().map_or(Dim::Unknown, |d| Dim::Fixed(d.saturating_mul(by)));
        let part = |d: &Dim, by: usize| match d.fixed() {
            Some(d) if d % by != 0 => Err(Error::invalid_argument(format!("extent {d} is no multiple of {by}"))),
            Some(d) => Ok(Dim::Fixed(d / by)),
            None => Ok(Dim::Unknown),
        };
        let b = self.block;
        let dims = if self.reverse {
            vec![n.clone(), times(c, b * b), part(h, b)?, part(w, b)?]
        } else {
            vec![n.clone(), part(c, b * b)?, times(h, b), times(w, b)]
        };
        Ok(vec![Some(dims)])
    }

    fn copies(&self, facts: &[Option<&Fact>], outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let input = required(facts, 0)?.concrete()?;
        let b = self.block;
        // Deep: [n, c·b·b, h, w]; wide: [n, c, h·b, w·b].
        let (deep, wide) = if self.reverse { (&outputs[0], &input) } else { (&input, &outputs[0]) };
        let (channels, h, w) = (wide[1], deep[2], deep[3]);
        let plane = h * w;
        let (channel, block) = match self.blocks {
            Blocks::Outer => (plane, channels * plane),
            Blocks::Inner => (b * b * plane, plane),
        };
        let row = w * b;
        let axis = |extent: usize, deep: usize, wide: usize| {
            let (from, to) = if self.reverse { (wide, deep) } else { (deep, wide) };
            Axis { extent, from: from as i64, to: to as i64 }
        };
        let axes = vec![
            axis(deep[0], channels * b * b * plane, channels * b * b * plane),
            axis(channels, channel, h * b * row),
            axis(h, w, b * row),
            axis(b, b * block, row),
            axis(w, 1, b),
            axis(b, block, 1),
        ];
        Ok(vec![(0, 0, Copy { from: 0, to: 0, axes })])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }
}
