//! Copies of boxes by vectors of four elements, where what they move lies so.

use super::boxes::{Axis, Copy};
use super::patches::MIN_ELEMENTS;

/// A copy of which one step moves a vector, or a square of four of them; everything counts vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fours {
    pub(super) from: i64,
    pub(super) to: i64,
    /// Outermost first.
    pub(super) axes: Vec<Axis>,
    /// What lies between the four rows of a square in the source, and between its four columns in the target.
    pub(super) square: Option<[i64; 2]>,
}

impl Fours {
    /// `copy`, with these axes, by vectors: `None` where it moves single elements, or too few for a kernel of its own.
    pub(super) fn new(copy: &Copy, axes: &[Axis]) -> Option<Self> {
        let elements = axes.iter().fold(1usize, |n, axis| n.saturating_mul(axis.extent));
        let near = |end: fn(&Axis) -> i64| {
            axes.iter().position(|axis| end(axis) == 1).filter(|at| axes[*at].extent.is_multiple_of(4))
        };
        let (from, to) = (near(|axis| axis.from)?, near(|axis| axis.to)?);
        let whole = |position: usize, axis: &Axis| {
            (position == from || axis.from % 4 == 0) && (position == to || axis.to % 4 == 0)
        };
        let all_whole = axes.iter().enumerate().all(|(position, axis)| whole(position, axis));
        if elements < MIN_ELEMENTS || !all_whole || copy.from % 4 != 0 || copy.to % 4 != 0 {
            return None;
        }
        // A step along an axis of neighbours goes on by four of them.
        let step = |position: usize, axis: &Axis| {
            let four = if position == from || position == to { 4 } else { 1 };
            Axis { extent: axis.extent / four, from: axis.from * four as i64 / 4, to: axis.to * four as i64 / 4 }
        };
        let square = (from != to).then(|| [axes[to].from / 4, axes[from].to / 4]);
        let axes = axes.iter().enumerate().map(|(position, axis)| step(position, axis)).collect();
        Some(Self { from: copy.from / 4, to: copy.to / 4, axes, square })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(extent: usize, from: i64, to: i64) -> Axis {
        Axis { extent, from, to }
    }

    fn fours(from: i64, to: i64, axes: &[Axis]) -> Option<Fours> {
        Fours::new(&Copy { from, to, axes: axes.to_vec() }, axes)
    }

    #[test]
    fn rows_of_whole_vectors_stay_rows() {
        let rows = fours(8, 4, &[axis(32, 400, 200), axis(160, 1, 1)]);
        let axes = vec![axis(32, 100, 50), axis(40, 1, 1)];
        assert_eq!(rows, Some(Fours { from: 2, to: 1, axes, square: None }));
    }

    #[test]
    fn transposed_rows_are_squares() {
        // [40, 24] → [24, 40], and an axis outside.
        let turned = fours(0, 0, &[axis(5, 960, 960), axis(24, 1, 40), axis(40, 24, 1)]);
        let axes = vec![axis(5, 240, 240), axis(6, 1, 40), axis(10, 24, 1)];
        assert_eq!(turned, Some(Fours { from: 0, to: 0, axes, square: Some([6, 10]) }));
    }

    #[test]
    fn single_elements_are_left_alone() {
        assert_eq!(fours(0, 0, &[axis(4092, 1, 1)]), None);
        assert_eq!(fours(2, 0, &[axis(4096, 1, 1)]), None);
        assert_eq!(fours(0, 0, &[axis(4098, 1, 1)]), None);
        assert_eq!(fours(0, 0, &[axis(99, 130, 128), axis(128, 1, 1)]), None);
        assert_eq!(fours(0, 0, &[axis(4096, 0, 1)]), None);
        assert_eq!(fours(0, 0, &[axis(102, 1, 100), axis(100, 102, 1)]), None);
    }
}
