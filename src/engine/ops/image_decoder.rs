//! ImageDecoder: pixels from the bytes of an image file.

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageReader, Limits};

use super::arguments::required;
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, Profile};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// Pixels along an axis past which a file is refused.
const MAX_EXTENT: u32 = 1 << 15;
/// Bytes of decoded pixels past which a file is refused: small files may claim to hold huge images.
const MAX_BYTES: u64 = 1 << 29;

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pixel {
    Rgb,
    Bgr,
    Gray,
}

pub(super) fn image_decoder(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let pixel = match spec.attributes.string_or("pixel_format", "RGB")?.as_str() {
        "RGB" => Pixel::Rgb,
        "BGR" => Pixel::Bgr,
        "Grayscale" => Pixel::Gray,
        other => return Err(Error::invalid_argument(format!("ImageDecoder pixel_format {other:?}"))),
    };
    Ok(Arc::new(ImageDecoder { pixel }))
}

/// Bytes of a file → [height, width, channels] of u8.
#[derive(Debug)]
struct ImageDecoder {
    pixel: Pixel,
}

/// ITU-R BT.601 luma in 16-bit fixed point.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + (1 << 15)) >> 16) as u8
}

impl ImageDecoder {
    fn channels(&self) -> usize {
        if self.pixel == Pixel::Gray { 1 } else { 3 }
    }

    fn pixels(&self, image: DynamicImage) -> Vec<u8> {
        match (self.pixel, image) {
            (Pixel::Gray, DynamicImage::ImageLuma8(gray)) => gray.into_raw(),
            (Pixel::Rgb, image) => image.into_rgb8().into_raw(),
            (Pixel::Bgr, image) => image.into_rgb8().pixels().flat_map(|p| [p.0[2], p.0[1], p.0[0]]).collect(),
            (Pixel::Gray, image) => image.into_rgb8().pixels().map(|p| luma(p.0)).collect(),
        }
    }
}

fn decoded(bytes: &[u8]) -> Result<DynamicImage> {
    let wrong = |e: &dyn std::fmt::Display| Error::invalid_argument(format!("an image that cannot be decoded: {e}"));
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| wrong(&e))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_EXTENT);
    limits.max_image_height = Some(MAX_EXTENT);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    reader.decode().map_err(|e| wrong(&e))
}

impl Op for ImageDecoder {
    fn name(&self) -> &'static str {
        "ImageDecoder"
    }

    fn infer(&self, _inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact::new(DType::U8, [Dim::Unknown, Dim::Unknown, Dim::Fixed(self.channels())])])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let file = required(inputs, 0)?;
        if file.dtype() != DType::U8 {
            return Err(Error::invalid_argument(format!("an image file of {} values", file.dtype())));
        }
        let image = decoded(file.bytes())?;
        let shape = [image.height() as usize, image.width() as usize, self.channels()];
        Ok(vec![Tensor::from_bytes(DType::U8, shape, self.pixels(image))?])
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some("image files are read on the host".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_in_the_order_asked_for() {
        let file = b"P6 2 1 255\n\x01\x02\x03\xff\x00\x00";
        let file = Tensor::from_vec([file.len()], file.to_vec()).expect("a vector");
        let decode = |pixel| ImageDecoder { pixel }.evaluate(&[Some(&file)]).expect("a small image")[0].clone();
        assert_eq!(decode(Pixel::Rgb).shape().dims(), [1, 2, 3]);
        assert_eq!(decode(Pixel::Bgr).bytes().as_ref(), [3, 2, 1, 0, 0, 255]);
        assert_eq!(decode(Pixel::Gray).bytes().as_ref(), [2, 76]);
    }

    #[test]
    fn an_image_that_claims_too_much_is_refused() {
        let file = b"P6 60000 60000 255\n".to_vec();
        let file = Tensor::from_vec([file.len()], file).expect("a vector");
        assert!(ImageDecoder { pixel: Pixel::Rgb }.evaluate(&[Some(&file)]).is_err());
    }
}
