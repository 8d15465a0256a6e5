//! Operators that crop, pad, scale or lay a grid over images: CenterCropPad, AffineGrid, and Crop and ImageScaler of the
//! first opsets.

use std::sync::Arc;

use super::arguments::{axis_of, known_ints, made, optional, required};
use super::composed::{Composed, composed, over_shape, push, same_extents, same_rank, same_type};
use super::registry::OpSpec;
use crate::engine::ir::{Attribute, Attributes, Expansion, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Pad with amounts (before, after) for each axis; negative ones crop.
fn padded(amounts: &[(i64, i64)]) -> Result<Expansion> {
    let amounts: Vec<i64> = amounts.iter().map(|a| a.0).chain(amounts.iter().map(|a| a.1)).collect();
    let mut expansion = Expansion::default();
    let pads = Wire::Constant(Tensor::from_vec([amounts.len()], amounts)?);
    let y = push(&mut expansion, "Pad", &Attributes::new(), vec![Some(Wire::Input(0)), Some(pads)])?;
    expansion.outputs.push(Some(y));
    Ok(expansion)
}

pub(super) fn center_crop_pad(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axes = spec.attributes.ints("axes")?;
    composed(Composed {
        name: "CenterCropPad",
        shape_inputs: &[1],
        compose: Box::new(move |inputs| {
            let (Some(shape), Some(Some(wanted))) = (required(inputs, 0)?.shape(), known_ints(inputs, 1)?) else {
                return Ok(None);
            };
            let axes = match &axes {
                Some(axes) => axes.iter().map(|a| axis_of(*a, shape.rank())).collect::<Result<Vec<_>>>()?,
                None => (0..shape.rank()).collect(),
            };
            if axes.len() != wanted.len() {
                return Err(Error::invalid_argument(format!("{} extents for {} axes", wanted.len(), axes.len())));
            }
            let mut amounts = vec![(0, 0); shape.rank()];
            for (axis, wanted) in axes.into_iter().zip(wanted) {
                // An odd element goes to the end when padding, and comes off the end when cropping.
                let more = wanted - shape[axis] as i64;
                amounts[axis] = (more / 2, more - more / 2);
            }
            padded(&amounts).map(Some)
        }),
        open: Box::new(same_rank),
        rows: Box::new(|query| {
            let kept = |f: &[Option<&Fact>]| optional(f, 0).and_then(Fact::shape).map(|s| s.first().copied());
            let output = query.outputs.first().and_then(Fact::shape).map(|s| s.first().copied());
            // Rows stay when axis 0 is neither cropped nor padded.
            if kept(query.inputs) == output { query.leading_of_first() } else { query.default_answer() }
        }),
    })
}

/// Crop of opset 1: `border` (left, top, right, bottom) comes off, or `scale` (height, width) is kept from the corner on.
pub(super) fn crop(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let border = spec.attributes.ints("border")?.unwrap_or_default();
    let scale = spec.attributes.ints("scale")?;
    let &[left, top, right, bottom] = border.as_slice() else {
        return Err(Error::invalid_argument(format!("Crop with a border of {border:?}")));
    };
    composed(Composed {
        name: "Crop",
        shape_inputs: &[],
        compose: over_shape(move |shape, _| {
            let &[_, _, height, width] = shape else {
                return Err(Error::invalid_argument(format!("Crop of an input of rank {}", shape.len())));
            };
            let (bottom, right) = match scale.as_deref() {
                Some(&[rows, columns]) => (height as i64 - top - rows, width as i64 - left - columns),
                _ => (bottom, right),
            };
            padded(&[(0, 0), (0, 0), (-top, -bottom), (-left, -right)])
        }),
        open: Box::new(same_rank),
        rows: Box::new(|query| query.leading_of_first()),
    })
}

/// ImageScaler of opset 1: x × scale + bias, one bias a channel.
pub(super) fn image_scaler(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let scale = f64::from(spec.attributes.float_or("scale", 1.0)?);
    let bias: Vec<f64> = spec.attributes.floats("bias")?.unwrap_or_default().into_iter().map(f64::from).collect();
    composed(Composed {
        name: "ImageScaler",
        shape_inputs: &[],
        compose: over_shape(move |shape, input| {
            let none = Attributes::new();
            let mut expansion = Expansion::default();
            let factor = Wire::Constant(Tensor::from_f64s(input.dtype, Vec::new(), &[scale])?);
            let mut y = push(&mut expansion, "Mul", &none, vec![Some(Wire::Input(0)), Some(factor)])?;
            if !bias.is_empty() {
                let dims: Vec<usize> = (0..shape.len()).map(|a| if a == 1 { bias.len() } else { 1 }).collect();
                let bias = Wire::Constant(Tensor::from_f64s(input.dtype, dims, &bias)?);
                y = push(&mut expansion, "Add", &none, vec![Some(y), Some(bias)])?;
            }
            expansion.outputs.push(Some(y));
            Ok(expansion)
        }),
        open: Box::new(same_extents),
        rows: Box::new(|query| query.leading_of_first()),
    })
}

/// The homogeneous coordinates [points, axes + 1] of a grid over −1..1, innermost axis first.
fn homogeneous(extents: &[usize], align_corners: bool) -> Vec<f64> {
    let coordinate = |at: usize, extent: usize| match (align_corners, extent) {
        (true, 1) => -1.0,
        (true, _) => 2.0 * at as f64 / (extent - 1) as f64 - 1.0,
        (false, _) => (2.0 * at as f64 + 1.0) / extent as f64 - 1.0,
    };
    let mut points = Vec::new();
    for point in 0..extents.iter().product() {
        let mut rest = point;
        for extent in extents.iter().rev() {
            points.push(coordinate(rest % extent, *extent));
            rest /= extent;
        }
        points.push(1.0);
    }
    points
}

/// AffineGrid: the grid's points [points, axes + 1] × theta [batch, axes, axes + 1] transposed.
pub(super) fn affine_grid(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let align_corners = spec.attributes.flag_or("align_corners", false)?;
    composed(Composed {
        name: "AffineGrid",
        shape_inputs: &[1],
        compose: Box::new(move |inputs| {
            let theta = required(inputs, 0)?;
            let (Some(shape), Some(Some(size))) = (theta.shape(), known_ints(inputs, 1)?) else { return Ok(None) };
            let extents: Option<Vec<usize>> = size.iter().map(|e| usize::try_from(*e).ok()).collect();
            let extents = extents.filter(|e| (4..=5).contains(&e.len()) && shape.rank() == 3);
            let extents = extents.ok_or_else(|| Error::invalid_argument(format!("AffineGrid of size {size:?}")))?;
            let extents = &extents[2..];
            let axes = extents.len();
            let points = made(extents.iter().copied())?;
            let grid = Tensor::from_f64s(theta.dtype, [points, axes + 1], &homogeneous(extents, align_corners))?;
            let mut expansion = Expansion::default();
            let mut swap = Attributes::new();
            swap.set("perm", Attribute::Ints(vec![0, 2, 1]));
            let turned = push(&mut expansion, "Transpose", &swap, vec![Some(Wire::Input(0))])?;
            let none = Attributes::new();
            let moved = push(&mut expansion, "MatMul", &none, vec![Some(Wire::Constant(grid)), Some(turned)])?;
            let mut dims = vec![shape[0] as i64];
            dims.extend(extents.iter().map(|e| *e as i64));
            dims.push(axes as i64);
            let dims = Wire::Constant(Tensor::from_vec([dims.len()], dims)?);
            let y = push(&mut expansion, "Reshape", &none, vec![Some(moved), Some(dims)])?;
            expansion.outputs.push(Some(y));
            Ok(Some(expansion))
        }),
        open: Box::new(same_type),
        rows: Box::new(|query| query.leading_of_first()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_span_pixels_or_their_centres() {
        assert_eq!(homogeneous(&[1, 2], false), [-0.5, 0.0, 1.0, 0.5, 0.0, 1.0]);
        assert_eq!(homogeneous(&[2, 1], true), [-1.0, -1.0, 1.0, -1.0, 1.0, 1.0]);
    }

    #[test]
    fn an_odd_element_comes_off_the_end() {
        let attributes = Attributes::new();
        let spec =
            OpSpec { domain: "", name: "CenterCropPad", opset: 18, attributes: &attributes, inputs: 2, outputs: 1 };
        let x = Tensor::from_vec([4], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four");
        let wanted = Tensor::from_vec([1], vec![1i64]).expect("one");
        let y = center_crop_pad(&spec).expect("it is there").evaluate(&[Some(&x), Some(&wanted)]).expect("it crops");
        assert_eq!(y[0].values::<f32>().expect("f32").as_ref(), [2.0]);
    }
}
