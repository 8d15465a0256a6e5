//! Which scale belongs to which element of a quantised tensor.

use super::arguments::axis_of;
use crate::engine::ir::{PointwiseBuilder, Reg, ScaleLayout};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// One scale for a tensor, for each entry of an axis, or for each block of entries along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// The axis, counted from the end when negative.
    pub(super) axis: i64,
    /// Entries of the axis for each scale; 0 where the shapes say it.
    pub(super) block: i64,
}

impl Grid {
    /// Which scale belongs to which value.
    pub(super) fn layout(&self, scales: &Shape, values: &Shape) -> Result<ScaleLayout> {
        let wrong = || Error::invalid_argument(format!("scales {scales} do not fit values {values}"));
        if scales.elements() == 1 && scales.rank() <= 1 {
            return Ok(ScaleLayout::Whole);
        }
        let axis = axis_of(self.axis, values.rank())?;
        if scales.rank() == 1 && self.block == 0 {
            return if scales[0] == values[axis] { Ok(ScaleLayout::Axis(axis)) } else { Err(wrong()) };
        }
        let others_agree =
            scales.rank() == values.rank() && (0..values.rank()).all(|a| a == axis || scales[a] == values[a]);
        if !others_agree || scales[axis] == 0 {
            return Err(wrong());
        }
        let block = match usize::try_from(self.block) {
            Ok(0) => values[axis].div_ceil(scales[axis]),
            Ok(block) => block,
            Err(_) => return Err(wrong()),
        };
        if block == 0 || values[axis].div_ceil(block) != scales[axis] {
            return Err(wrong());
        }
        Ok(ScaleLayout::Blocks { axis, block })
    }

    /// For each value in order, the index of its scale.
    pub(super) fn indices(&self, scales: &Shape, values: &Shape) -> Result<Vec<usize>> {
        let layout = self.layout(scales, values)?;
        let strides = scales.strides();
        let offset = |at: usize, i: usize| match layout {
            ScaleLayout::Whole => 0,
            ScaleLayout::Axis(axis) => {
                if at == axis {
                    i
                } else {
                    0
                }
            }
            ScaleLayout::Blocks { axis, block } => strides[at] * if at == axis { i / block } else { i },
        };
        if values.contains(&0) {
            return Ok(Vec::new());
        }
        let mut indices = vec![0];
        for (at, extent) in values.iter().enumerate() {
            indices = indices
                .iter()
                .flat_map(|base| (0..*extent).map(move |i| (*base, i)))
                .map(|(b, i)| b + offset(at, i))
                .collect();
        }
        Ok(indices)
    }

    /// Input `i`, scales or zero points, for the output's elements, whose shape is `values`. `None` where the last block
    /// is a shorter one.
    pub(super) fn read(&self, builder: &mut PointwiseBuilder<'_>, i: usize, values: &Shape) -> Option<Reg> {
        let scales = builder.fact(i)?.shape()?;
        match self.layout(&scales, values).ok()? {
            ScaleLayout::Whole => builder.input_viewed(i, &[], values),
            ScaleLayout::Axis(axis) => builder.input_at(i, axis),
            ScaleLayout::Blocks { axis, block } => {
                if !values[axis].is_multiple_of(block) {
                    return None;
                }
                let (mut input, mut output) = (scales.dims().to_vec(), values.dims().to_vec());
                input.insert(axis + 1, 1);
                output[axis] = scales[axis];
                output.insert(axis + 1, block);
                builder.input_viewed(i, &input, &output)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_share_a_scale_and_the_last_may_be_short() {
        let grid = Grid { axis: 1, block: 2 };
        let at = grid.indices(&Shape::new([2, 2]), &Shape::new([2, 3])).expect("they fit");
        assert_eq!(at, [0, 0, 1, 2, 2, 3]);
        let axis = Grid { axis: -1, block: 0 };
        assert_eq!(axis.indices(&Shape::new([2]), &Shape::new([2, 2])).expect("they fit"), [0, 1, 0, 1]);
        assert!(axis.indices(&Shape::new([3]), &Shape::new([2, 2])).is_err());
    }
}
