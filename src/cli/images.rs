//! Pictures as input tensors.

use std::path::Path;

use anyhow::{Context as _, bail};
use image::imageops::FilterType;

use crate::tensor::{DType, Dim, Spec, Tensor};

/// Where a picture's axes are in an input.
#[derive(Debug, PartialEq)]
struct Axes {
    rows: usize,
    columns: usize,
    /// Axis and extent; without one the picture is grey.
    channels: Option<(usize, usize)>,
}

/// The picture at `path` as one item of the input `spec`: resized where rows and columns are fixed, grey where it has one
/// channel; floats from 0 to 1, integers from 0 to 255.
///
/// # Errors
/// What is wrong with the file, or that the input is not shaped as a picture.
pub(super) fn read(path: &Path, spec: &Spec) -> anyhow::Result<Tensor> {
    let dims = spec.dims.as_deref().context("the input's rank is unknown, so that a picture cannot be laid out")?;
    let axes = axes(dims).with_context(|| format!("{spec} is not shaped as a picture"))?;
    let picture = image::open(path)?;
    let extent = |axis: usize, own: u32| dims[axis].fixed().map_or(Ok(own), u32::try_from);
    let (columns, rows) = (extent(axes.columns, picture.width())?, extent(axes.rows, picture.height())?);
    let picture = if (picture.width(), picture.height()) == (columns, rows) {
        picture
    } else {
        picture.resize_exact(columns, rows, FilterType::Triangle)
    };
    let channels = axes.channels.map_or(1, |(_, n)| n);
    let pixels = match channels {
        1 => picture.to_luma8().into_raw(),
        3 => picture.to_rgb8().into_raw(),
        _ => picture.to_rgba8().into_raw(),
    };
    let mut shape = vec![1; dims.len()];
    (shape[axes.rows], shape[axes.columns]) = (rows as usize, columns as usize);
    let mut planes = pixels.clone();
    if let Some((axis, n)) = axes.channels {
        shape[axis] = n;
        if axis < axes.rows {
            let area = (rows * columns) as usize;
            planes = (0..n * area).map(|i| pixels[i % area * n + i / area]).collect();
        }
    }
    let scale = if spec.dtype.is_float() { 1.0 / 255.0 } else { 1.0 };
    if matches!(spec.dtype, DType::Bool | DType::I8) {
        bail!("a picture does not fit {}", spec.dtype);
    }
    let values: Vec<f64> = planes.iter().map(|p| f64::from(*p) * scale).collect();
    Ok(Tensor::from_f64s(spec.dtype, shape, &values)?)
}

fn axes(dims: &[Dim]) -> Option<Axes> {
    let channels = |axis: usize| dims[axis].fixed().filter(|n| matches!(n, 1 | 3 | 4)).map(|n| (axis, n));
    let leading = dims.len().checked_sub(3);
    match (dims.len(), leading) {
        (2, _) => Some(Axes { rows: 0, columns: 1, channels: None }),
        (3 | 4, Some(first)) => match (channels(first), channels(first + 2)) {
            (Some(c), _) => Some(Axes { rows: first + 1, columns: first + 2, channels: Some(c) }),
            (None, Some(c)) => Some(Axes { rows: first, columns: first + 1, channels: Some(c) }),
            (None, None) if dims.len() == 3 => Some(Axes { rows: 1, columns: 2, channels: None }),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_laid_out_as_the_input_says() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("p.png");
        let picture = image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([10 * x as u8, 20, 255]));
        picture.save(&path).expect("writable");
        let spec = |dims: [usize; 4], dtype| Spec::tensor("x", dtype, Some(dims.map(Dim::Fixed).to_vec()));
        let planes = read(&path, &spec([1, 3, 1, 2], DType::U8)).expect("planes");
        assert_eq!(planes.to_i64s().expect("integers"), [0, 10, 20, 20, 255, 255]);
        let pixels = read(&path, &spec([1, 1, 2, 3], DType::U8)).expect("planes win where both fit");
        assert_eq!(pixels.shape().dims(), [1, 1, 2, 3]);
        let pixels = read(&path, &spec([1, 2, 2, 3], DType::F32)).expect("resized");
        assert_eq!(pixels.shape().dims(), [1, 2, 2, 3]);
        assert_eq!(pixels.to_f64s().expect("real")[2], 1.0);
        assert!(read(&path, &spec([1, 7, 7, 7], DType::F32)).is_err());
    }
}
