//! Concrete shapes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The extent of each axis, outermost first; row-major. A scalar has rank 0. Clones share the extents: every tensor has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Arc<[usize]>);

impl Shape {
    /// A shape of these extents.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Self(Arc::from(dims.into()))
    }

    /// The shape of a single value.
    pub fn scalar() -> Self {
        Self::default()
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// How many axes there are.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// How many elements there are; saturates at `usize::MAX`, which no allocation can satisfy.
    pub fn elements(&self) -> usize {
        if self.0.contains(&0) {
            return 0;
        }
        self.0.iter().fold(1usize, |n, d| n.saturating_mul(*d))
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.0.len()];
        for axis in (0..self.0.len().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * self.0[axis + 1];
        }
        strides
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims.into())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.into())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.into())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

/// The shape that numpy-style broadcasting of `a` and `b` gives: trailing axes aligned, 1 stretched.
///
/// # Errors
/// `INVALID_ARGUMENT` when two aligned extents differ and neither is 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Shape> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::invalid_argument(format!(
                "shapes {} and {} do not broadcast",
                Shape::from(a),
                Shape::from(b)
            ))),
        })
        .collect::<Result<Vec<_>>>()
        .map(Shape::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_trailing_axes() {
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]).expect("compatible").dims(), [2, 4, 3]);
        assert_eq!(broadcast(&[], &[0, 2]).expect("scalar").dims(), [0, 2]);
        assert!(broadcast(&[2], &[3]).is_err());
    }

    #[test]
    fn element_counts_never_overflow() {
        assert_eq!(Shape::new([usize::MAX, 2]).elements(), usize::MAX);
        assert_eq!(Shape::new([usize::MAX, 2, 0]).elements(), 0);
    }
}
