//! GridSample: an image sampled at the points of a grid.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::registry::OpSpec;
use super::words::{signed, word};
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::grid_sample as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// What stands outside the image; numbered as `shaders/grid_sample.wgsl` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Padding {
    Zeros = 0,
    Border = 1,
    Reflection = 2,
}

#[derive(Debug)]
struct GridSample {
    /// Neighbours an axis: 1 nearest, 2 linear, 4 cubic.
    taps: usize,
    padding: Padding,
    align_corners: bool,
}

pub(super) fn grid_sample(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // Opset 20 renamed the modes.
    let taps = match spec.attributes.string_or("mode", "linear")?.as_str() {
        "nearest" => 1,
        "linear" | "bilinear" => 2,
        "cubic" | "bicubic" => 4,
        other => return Err(Error::invalid_argument(format!("GridSample mode {other:?}"))),
    };
    let padding = match spec.attributes.string_or("padding_mode", "zeros")?.as_str() {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return Err(Error::invalid_argument(format!("GridSample padding_mode {other:?}"))),
    };
    let align_corners = spec.attributes.flag_or("align_corners", false)?;
    Ok(Arc::new(GridSample { taps, padding, align_corners }))
}

/// `at` mirrored at `low` and `high` until it is between them.
fn reflected(at: f32, low: f32, high: f32) -> f32 {
    let span = high - low;
    if span <= 0.0 {
        return low;
    }
    let distance = (at - low).abs();
    let turns = (distance / span).floor();
    let rest = distance - turns * span;
    if turns % 2.0 == 1.0 { high - rest } else { low + rest }
}

/// Keys (1981), coefficient −0.75.
fn cubic(d: f32) -> f32 {
    if d <= 1.0 {
        (1.25 * d - 2.25) * d * d + 1.0
    } else if d < 2.0 {
        ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0
    } else {
        0.0
    }
}

impl GridSample {
    fn ends(&self, extent: usize) -> (f32, f32) {
        let last = extent as f32 - 1.0;
        if self.align_corners { (0.0, last) } else { (-0.5, last + 0.5) }
    }

    /// The coordinate in the image for one in −1..1, in `f32`: rounding decides between neighbours.
    fn coordinate(&self, given: f32, extent: usize) -> f32 {
        let size = extent as f32;
        let at =
            if self.align_corners { (given + 1.0) / 2.0 * (size - 1.0) } else { ((given + 1.0) * size - 1.0) / 2.0 };
        let at = at.clamp(-1e9, 1e9);
        let at = if self.taps == 1 { at.round_ties_even() } else { at };
        let (low, high) = self.ends(extent);
        match self.padding {
            Padding::Border if at < low || at > high => at.clamp(0.0, size - 1.0),
            Padding::Reflection if at < low || at > high => reflected(at, low, high),
            _ => at,
        }
    }

    /// Elements and their weights along one axis; those that are zeros are left out.
    fn neighbours(&self, at: f32, extent: usize) -> Vec<(usize, f64)> {
        let first = if self.taps == 1 { at as i64 } else { at.floor() as i64 - self.taps as i64 / 2 + 1 };
        let (low, high) = self.ends(extent);
        let inside = |i: i64| (0..extent as i64).contains(&i);
        let element = |i: i64| match self.padding {
            _ if inside(i) => Some(i as usize),
            Padding::Zeros => None,
            Padding::Border => Some(i.clamp(0, extent as i64 - 1) as usize),
            Padding::Reflection => Some((reflected(i as f32, low, high) as i64).clamp(0, extent as i64 - 1) as usize),
        };
        let weight = |i: i64| match (self.taps, (at - i as f32).abs()) {
            (1, _) => 1.0,
            (2, d) => (1.0 - d).max(0.0),
            (_, d) => cubic(d),
        };
        (first..first + self.taps as i64).filter_map(|i| Some((element(i)?, f64::from(weight(i))))).collect()
    }
}

impl Op for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (x, grid) = (required(inputs, 0)?, required(inputs, 1)?);
        let (Some(dims), Some(points)) = (&x.dims, &grid.dims) else {
            return Ok(vec![Fact::of_unknown_rank(x.dtype)]);
        };
        let axes = points.last().and_then(Dim::fixed);
        let fits = dims.len() == points.len() && (4..=5).contains(&dims.len());
        if !fits || axes.is_some_and(|a| a + 2 != dims.len()) || dims[2..].contains(&Dim::Fixed(0)) {
            return Err(Error::invalid_argument(format!("a grid {points:?} over an image {dims:?}")));
        }
        if matches!((dims[0].fixed(), points[0].fixed()), (Some(a), Some(b)) if a != b) {
            return Err(Error::invalid_argument(format!("a grid {points:?} over a batch {dims:?}")));
        }
        let dims = dims[..2].iter().chain(&points[1..points.len() - 1]).cloned();
        Ok(vec![Fact::new(x.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (x, grid) = (required(inputs, 0)?, required(inputs, 1)?);
        let output = self.infer(&[Some(&Fact::from(x)), Some(&Fact::from(grid))])?[0].concrete()?;
        let spatial = &x.shape()[2..];
        let (values, places) = (x.to_f64s()?, grid.to_f64s()?);
        let (channels, plane) = (x.shape()[1], spatial.iter().product::<usize>());
        let points: usize = output[2..].iter().product();
        let mut result = Vec::with_capacity(output.elements());
        for number in 0..output[0] * channels {
            let of_plane = &values[number * plane..(number + 1) * plane];
            for point in 0..points {
                let place = &places[(number / channels * points + point) * spatial.len()..][..spatial.len()];
                let mut taps = vec![(0, 1.0)];
                // The grid names the innermost axis first.
                for (extent, given) in spatial.iter().zip(place.iter().rev()) {
                    let along = self.neighbours(self.coordinate(*given as f32, *extent), *extent);
                    let join = |(at, w): (usize, f64)| along.iter().map(move |(i, v)| (at * extent + i, w * v));
                    taps = taps.into_iter().flat_map(join).collect();
                }
                result.push(taps.into_iter().map(|(at, w)| of_plane[at] * w).sum());
            }
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), output, &result)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        match query.rows {
            [Rows::LEADING, Rows::LEADING] => query.all(Rows::LEADING),
            _ => query.default_answer(),
        }
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let floats = |i| optional(inputs, i).is_some_and(|f| matches!(f.dtype, DType::F32 | DType::F16));
        (!floats(0) || !floats(1)).then(|| "it samples other values than floats".into())
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, grid) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let axes = x.shape.rank() - 2;
        let mut input = [1; 4];
        for (slot, extent) in input[3 - axes..3].iter_mut().zip(&x.shape[2..]) {
            *slot = signed(*extent as i64)?;
        }
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            channels: word(x.shape[1])?,
            points: word(output.shape[2..].iter().product())?,
            align_corners: u32::from(self.align_corners),
            input,
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[
                Define::Scalar("In", x.storage),
                Define::Scalar("Point", grid.storage),
                Define::Const("AXES", axes as u32),
                Define::Const("TAPS", self.taps as u32),
                Define::Const("PADDING", self.padding as u32),
            ],
            buffers: &[x.buffer, grid.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_repeats_at_both_ends() {
        assert_eq!(reflected(-1.0, -0.5, 2.5), 0.0);
        assert_eq!(reflected(3.0, -0.5, 2.5), 2.0);
        assert_eq!(reflected(5.0, 0.0, 2.0), 1.0);
        assert_eq!(reflected(7.0, 0.0, 0.0), 0.0);
    }
}
