//! How constants are laid out for the kernels that read them.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Rows of a multiple of four elements gathered from a constant when it is uploaded: element [entry, i0, i1, i2, i3, i4] is
/// number `entries[entry] + Σ i × strides` of the constant; past the last extent come zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The first element of each entry.
    pub entries: Vec<u32>,
    /// How many elements are gathered along each axis.
    pub extents: [u32; 5],
    /// Elements of the constant between neighbours along each axis.
    pub strides: [i64; 5],
    /// An axis, the first or the second, and how many elements it and the last one hold together, where they are one axis cut into
    /// equal parts: zeros fill the last part.
    pub cut: Option<(usize, u32)>,
}

impl Form {
    /// Elements of a row, zeros included.
    pub fn row(&self) -> usize {
        (self.extents[4] as usize).next_multiple_of(4)
    }

    /// Elements of all rows of an entry.
    pub fn entry(&self) -> usize {
        self.extents[..4].iter().fold(self.row(), |elements, n| elements.saturating_mul(*n as usize))
    }

    /// Elements in all.
    pub fn elements(&self) -> usize {
        self.entry().saturating_mul(self.entries.len())
    }

    /// The rows gathered from `constant`, as one axis.
    ///
    /// # Errors
    /// `INTERNAL` when the form reaches outside the constant.
    pub fn apply(&self, constant: &Tensor) -> Result<Tensor> {
        let (bytes, size) = (constant.bytes(), constant.dtype().bytes());
        let outside = || Error::internal(format!("{self:?} reaches outside {}", constant.shape()));
        let [n0, n1, n2, n3, n4] = self.extents.map(i64::from);
        let [s0, s1, s2, s3, s4] = self.strides;
        let mut rows = vec![0; self.elements() * size];
        let mut targets = rows.chunks_exact_mut((self.row() * size).max(1));
        for entry in &self.entries {
            for i in 0..n0 * n1 * n2 * n3 {
                let (i0, i1, i2, i3) = (i / (n1 * n2 * n3), i / (n2 * n3) % n1, i / n3 % n2, i % n3);
                let first = i64::from(*entry) + i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3;
                let target = targets.next().ok_or_else(outside)?;
                let held = self.cut.map_or(n4, |(axis, all)| n4.min(i64::from(all) - [i0, i1][axis] * n4));
                for (i4, element) in (0..held).zip(target.chunks_exact_mut(size)) {
                    let at = usize::try_from(first + i4 * s4).map_err(|_| outside())? * size;
                    element.copy_from_slice(bytes.get(at..at + size).ok_or_else(outside)?);
                }
            }
        }
        Tensor::from_bytes(constant.dtype(), [self.elements()], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_and_padded() {
        let constant = Tensor::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("six");
        let turned = Form { entries: vec![0], extents: [1, 1, 1, 3, 2], strides: [0, 0, 0, 1, 3], cut: None };
        let rows = turned.apply(&constant).expect("inside").values::<f32>().expect("floats").to_vec();
        assert_eq!(rows, [1.0, 4.0, 0.0, 0.0, 2.0, 5.0, 0.0, 0.0, 3.0, 6.0, 0.0, 0.0]);
        let backwards = Form { entries: vec![2, 5], extents: [1, 1, 1, 1, 3], strides: [0, 0, 0, 0, -1], cut: None };
        let rows = backwards.apply(&constant).expect("inside").values::<f32>().expect("floats").to_vec();
        assert_eq!(rows, [3.0, 2.0, 1.0, 0.0, 6.0, 5.0, 4.0, 0.0]);
        assert!(Form { entries: vec![4], ..backwards.clone() }.apply(&constant).is_ok());
        assert!(Form { entries: vec![1], ..backwards }.apply(&constant).is_err());
    }

    #[test]
    fn the_last_part_of_an_axis_is_filled_up() {
        let constant = Tensor::from_vec([2, 5], (1..=10).map(|n| n as f32).collect()).expect("ten");
        let parts = Form { entries: vec![0], extents: [2, 1, 1, 2, 4], strides: [4, 0, 0, 5, 1], cut: Some((0, 5)) };
        let rows = parts.apply(&constant).expect("inside").values::<f32>().expect("floats").to_vec();
        let wanted = [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 5.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0];
        assert_eq!(rows, wanted);
    }
}
