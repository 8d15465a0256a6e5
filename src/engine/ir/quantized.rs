//! Constants of small integers that stand for other numbers.

use super::packing::Packing;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Which scale belongs to which integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleLayout {
    /// One for all.
    Whole,
    /// One for each entry of this axis.
    Axis(usize),
    /// One for each `block` entries of `axis`, at each place along the other axes.
    Blocks {
        /// The axis that is divided.
        axis: usize,
        /// Entries of a block; the last one may be shorter.
        block: usize,
    },
}

/// Numbers `(code − zero) × scale`.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The integers.
    pub codes: Tensor,
    /// What `scales` and `zeros` are given for.
    pub layout: ScaleLayout,
    /// Factors; all 1 where none are given.
    pub scales: Option<Tensor>,
    /// Zero points; all 0 where none are given.
    pub zeros: Option<Tensor>,
}

/// Which axes of a weight its reader takes scales along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightAxes {
    /// Output channels: each may have scales of its own.
    pub channel: usize,
    /// What is summed over, if it may lie in blocks of scales of their own.
    pub term: Option<usize>,
}

/// Scales and zero points as kernels read them.
#[derive(Clone, Debug)]
pub struct Grid {
    /// A plane of scales, if there are any, and one of zero points, if there are any: f32, \[blocks, channels\] each.
    pub values: Tensor,
    /// Extent of a block along the terms; `None` when each channel has one block.
    pub block: Option<usize>,
    /// Entries of a row.
    pub channels: usize,
    /// Whether there are scales.
    pub has_scales: bool,
    /// Whether there are zero points.
    pub has_zeros: bool,
}

impl Quantized {
    /// How the integers lie on the device, where they are packed and read along `axes`.
    pub fn packing(&self, axes: WeightAxes) -> Option<Packing> {
        let fits = match self.layout {
            ScaleLayout::Whole => true,
            ScaleLayout::Axis(axis) => axis == axes.channel,
            ScaleLayout::Blocks { axis, .. } => axes.term == Some(axis) && self.codes.shape().rank() == 2,
        };
        Packing::of_constant(&self.codes).filter(|_| fits)
    }

    /// Scales and zero points for a reader along `axes`; `None` when codes are the numbers themselves.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when there are not as many as the layout needs.
    pub fn grid(&self, axes: WeightAxes) -> Result<Option<Grid>> {
        let channels = self.codes.shape()[axes.channel];
        let (blocks, block) = match self.layout {
            ScaleLayout::Blocks { axis, block } => (self.codes.shape()[axis].div_ceil(block), Some(block)),
            _ => (1, None),
        };
        // Entries between channels and between blocks in the given scales.
        let (channel_step, block_step) = match self.layout {
            ScaleLayout::Whole => (0, 0),
            ScaleLayout::Axis(_) => (1, 0),
            ScaleLayout::Blocks { axis: 0, .. } => (1, channels),
            ScaleLayout::Blocks { .. } => (blocks, 1),
        };
        let plane = |given: &Option<Tensor>, plain: f32| -> Result<Vec<f32>> {
            let Some(given) = given else { return Ok(Vec::new()) };
            let given = given.to_f32s()?;
            let places = (0..blocks).flat_map(|b| (0..channels).map(move |c| b * block_step + c * channel_step));
            let values = places.map(|at| given.get(at).copied()).collect::<Option<Vec<_>>>();
            let values = values.ok_or_else(|| Error::invalid_argument("there are too few scales or zero points"))?;
            Ok(if values.iter().all(|v| *v == plain) { Vec::new() } else { values })
        };
        let (mut values, zeros) = (plane(&self.scales, 1.0)?, plane(&self.zeros, 0.0)?);
        let (has_scales, has_zeros) = (!values.is_empty(), !zeros.is_empty());
        if !has_scales && !has_zeros {
            return Ok(None);
        }
        values.extend(zeros);
        let values = Tensor::from_vec([values.len()], values)?;
        Ok(Some(Grid { values, block, channels, has_scales, has_zeros }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_laid_out_by_block_and_channel() {
        let codes = Tensor::from_vec([2, 4], vec![0i8; 8]).expect("eight");
        let scales = Some(Tensor::from_vec([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four"));
        let layout = ScaleLayout::Blocks { axis: 1, block: 2 };
        let quantized = Quantized { codes: codes.clone(), layout, scales, zeros: None };
        let axes = WeightAxes { channel: 0, term: Some(1) };
        let grid = quantized.grid(axes).expect("fits").expect("scales");
        assert_eq!(grid.values.to_f64s().expect("real"), [1.0, 3.0, 2.0, 4.0]);
        let zeros = Some(Tensor::scalar(3i8));
        let quantized = Quantized { codes, layout: ScaleLayout::Whole, scales: Some(Tensor::scalar(1.0f32)), zeros };
        let grid = quantized.grid(axes).expect("fits").expect("zero points");
        assert_eq!((grid.has_scales, grid.has_zeros, grid.channels), (false, true, 2));
        assert_eq!(grid.values.to_f64s().expect("real"), [3.0, 3.0]);
    }
}
