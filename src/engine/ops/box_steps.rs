//! What copies of boxes move at a time: elements, vectors of four where all that they move lies so, or squares of four vectors.

use super::patches::MIN_ELEMENTS;
use super::words::{signed, word};
use crate::engine::kernels::copy::Params;
use crate::error::{Error, Result};

/// Ranks that `shaders/copy.wgsl` and `copy4.wgsl` are compiled for.
const RANKS: [usize; 5] = [1, 2, 3, 4, 8];

/// One axis of a box: how many steps, and how far each goes in the source and in the target, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) extent: usize,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// What one step moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Element,
    Vector,
    /// Four vectors, so far apart in the source, become four vectors, so far apart in the target, turned.
    Square([i64; 2]),
}

/// A copy as steps; offsets and strides count elements where one is moved at a time, else vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    from: i64,
    to: i64,
    /// Outermost first.
    axes: Vec<Axis>,
    pub(super) moved: Moved,
}

impl Steps {
    /// The largest steps that copying elements along `axes` can be made in, from element `from` of the source to `to` of the target.
    pub(super) fn new([from, to]: [i64; 2], axes: Vec<Axis>) -> Self {
        Self::by_vectors([from, to], &axes).unwrap_or(Self { from, to, axes, moved: Moved::Element })
    }

    /// `None` where single elements are moved, or too few for a kernel of its own.
    fn by_vectors(first: [i64; 2], axes: &[Axis]) -> Option<Self> {
        let elements = axes.iter().fold(1usize, |n, axis| n.saturating_mul(axis.extent));
        let near = |end: fn(&Axis) -> i64| {
            axes.iter().position(|axis| end(axis) == 1).filter(|at| axes[*at].extent.is_multiple_of(4))
        };
        let (from, to) = (near(|axis| axis.from)?, near(|axis| axis.to)?);
        let whole = |position: usize, axis: &Axis| {
            (position == from || axis.from % 4 == 0) && (position == to || axis.to % 4 == 0)
        };
        let all_whole = axes.iter().enumerate().all(|(position, axis)| whole(position, axis));
        if elements < MIN_ELEMENTS || !all_whole || first.iter().any(|at| at % 4 != 0) {
            return None;
        }
        // A step along an axis of neighbours goes on by four of them.
        let step = |position: usize, axis: &Axis| {
            let four = if position == from || position == to { 4 } else { 1 };
            Axis { extent: axis.extent / four, from: axis.from * four as i64 / 4, to: axis.to * four as i64 / 4 }
        };
        let moved = match from == to {
            true => Moved::Vector,
            false => Moved::Square([axes[to].from / 4, axes[from].to / 4]),
        };
        let axes = axes.iter().enumerate().map(|(position, axis)| step(position, axis)).collect();
        Some(Self { from: first[0] / 4, to: first[1] / 4, axes, moved })
    }

    /// The kernel's parameters, and the rank that it is compiled for.
    pub(super) fn params(&self) -> Result<(Params, u32)> {
        let count = self.axes.len();
        let rank = RANKS.into_iter().find(|rank| *rank >= count);
        let rank = rank.ok_or_else(|| Error::unimplemented(format!("a copy over {count} axes")))?;
        let square = match self.moved {
            Moved::Square([row, column]) => [signed(row)?, signed(column)?, 0, 0],
            Moved::Element | Moved::Vector => [0; 4],
        };
        let mut params = Params {
            count: word(self.axes.iter().map(|a| a.extent).product())?,
            from_offset: signed(self.from)?,
            to_offset: signed(self.to)?,
            extents: [[1; 4]; 2],
            square,
            ..Params::default()
        };
        // Axes stand at the inner end; those outside them have one step.
        for (axis, at) in self.axes.iter().zip(rank - count..) {
            params.extents[at / 4][at % 4] = word(axis.extent)?;
            params.from_strides[at / 4][at % 4] = signed(axis.from)?;
            params.to_strides[at / 4][at % 4] = signed(axis.to)?;
        }
        Ok((params, rank as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(extent: usize, from: i64, to: i64) -> Axis {
        Axis { extent, from, to }
    }

    fn steps(from: i64, to: i64, axes: &[Axis]) -> Steps {
        Steps::new([from, to], axes.to_vec())
    }

    #[test]
    fn rows_of_whole_vectors_stay_rows() {
        let rows = steps(8, 4, &[axis(32, 400, 200), axis(160, 1, 1)]);
        let axes = vec![axis(32, 100, 50), axis(40, 1, 1)];
        assert_eq!(rows, Steps { from: 2, to: 1, axes, moved: Moved::Vector });
    }

    #[test]
    fn transposed_rows_are_squares() {
        // [40, 24] → [24, 40], and an axis outside.
        let turned = steps(0, 0, &[axis(5, 960, 960), axis(24, 1, 40), axis(40, 24, 1)]);
        let axes = vec![axis(5, 240, 240), axis(6, 1, 40), axis(10, 24, 1)];
        assert_eq!(turned, Steps { from: 0, to: 0, axes, moved: Moved::Square([6, 10]) });
    }

    #[test]
    fn single_elements_are_left_alone() {
        let single = |from, axes: &[Axis]| steps(from, 0, axes).moved == Moved::Element;
        assert!(single(0, &[axis(4092, 1, 1)]), "too few");
        assert!(single(2, &[axis(4096, 1, 1)]));
        assert!(single(0, &[axis(4098, 1, 1)]));
        assert!(single(0, &[axis(99, 130, 128), axis(128, 1, 1)]));
        assert!(single(0, &[axis(4096, 0, 1)]));
        assert!(single(0, &[axis(102, 1, 100), axis(100, 102, 1)]));
    }
}
