//! NonMaxSuppression: boxes that overlap a better one of their class are left out.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

pub(super) fn suppression(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Suppression { centered: spec.attributes.flag_or("center_point_box", false)? }))
}

/// Inputs: boxes [batch, boxes, 4], scores [batch, classes, boxes], and as scalars that may be left out the most boxes for each
/// class of each image, the overlap from which a box is left out, and the score that a box must pass.
#[derive(Debug)]
struct Suppression {
    /// Boxes are (x, y, width, height) around a centre rather than two corners (y₁, x₁, y₂, x₂).
    centered: bool,
}

/// Lower and upper corner.
#[derive(Clone, Copy, Debug)]
struct Area {
    low: [f32; 2],
    high: [f32; 2],
}

impl Area {
    fn size(self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// Intersection over union.
    fn overlap(self, other: Self) -> f32 {
        let along = |i: usize| (self.high[i].min(other.high[i]) - self.low[i].max(other.low[i])).max(0.0);
        let shared = along(0) * along(1);
        let whole = self.size() + other.size() - shared;
        if self.size() <= 0.0 || other.size() <= 0.0 || whole <= 0.0 { 0.0 } else { shared / whole }
    }
}

impl Suppression {
    fn area(&self, values: &[f32]) -> Area {
        let &[a, b, c, d] = values else { return Area { low: [0.0; 2], high: [0.0; 2] } };
        if self.centered {
            let (x, y, width, height) = (a, b, c, d);
            return Area { low: [x - width / 2.0, y - height / 2.0], high: [x + width / 2.0, y + height / 2.0] };
        }
        Area { low: [a.min(c), b.min(d)], high: [a.max(c), b.max(d)] }
    }
}

fn scalar(inputs: &[Option<&Tensor>], i: usize) -> Result<Option<f64>> {
    Ok(optional(inputs, i).map(Tensor::to_f64s).transpose()?.and_then(|v| v.first().copied()))
}

impl Op for Suppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        required(inputs, 1)?;
        Ok(vec![Fact::new(DType::I64, [Dim::Unknown, Dim::Fixed(3)])])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (boxes, scores) = (required(inputs, 0)?, required(inputs, 1)?);
        let (&[batch, count, 4], &[images, classes, scored]) = (boxes.shape().dims(), scores.shape().dims()) else {
            return Err(Error::invalid_argument(format!("boxes {} with scores {}", boxes.shape(), scores.shape())));
        };
        if images != batch || scored != count {
            return Err(Error::invalid_argument(format!("boxes {} with scores {}", boxes.shape(), scores.shape())));
        }
        let most = scalar(inputs, 2)?.unwrap_or(0.0).max(0.0) as usize;
        let limit = scalar(inputs, 3)?.unwrap_or(0.0) as f32;
        let least = scalar(inputs, 4)?.map(|v| v as f32);
        let (boxes, scores) = (boxes.to_f32s()?, scores.to_f32s()?);
        let mut selected = Vec::new();
        for image in 0..batch {
            let areas: Vec<Area> =
                boxes[image * count * 4..][..count * 4].chunks(4).map(|values| self.area(values)).collect();
            for class in 0..classes {
                let scores = &scores[(image * classes + class) * count..][..count];
                let mut order: Vec<usize> = (0..count).filter(|i| least.is_none_or(|l| scores[*i] > l)).collect();
                // Stable: of equal scores the first comes first.
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                let mut kept: Vec<Area> = Vec::new();
                for i in order {
                    if kept.len() >= most {
                        break;
                    }
                    if kept.iter().all(|k| k.overlap(areas[i]) <= limit) {
                        kept.push(areas[i]);
                        selected.extend([image as i64, class as i64, i as i64]);
                    }
                }
            }
        }
        Ok(vec![Tensor::from_vec([selected.len() / 3, 3], selected)?])
    }
}
