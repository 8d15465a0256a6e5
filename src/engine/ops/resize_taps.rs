//! Interpolation along one axis: which input elements an output element is made of, and how much of each.
//!
//! Formulas: ONNX's Resize. Coordinates are computed in `f32`, as its runtimes do, since rounding decides between neighbours.

/// How an output coordinate becomes an input coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNearest,
    TfCropAndResize,
}

/// Which neighbour is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// Towards the coarser grid: down when the axis grows, up when it shrinks (before opset 11).
    Coarser,
}

/// How values between elements are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    Nearest(Rounding),
    Linear,
    /// Keys' cubic convolution with this coefficient.
    Cubic(f32),
}

/// What holds for every axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interpolation {
    pub(super) transform: Transform,
    pub(super) method: Method,
    /// Whether elements outside the input weigh nothing, instead of repeating the edge.
    pub(super) exclude_outside: bool,
    /// Whether kernels widen when the axis shrinks.
    pub(super) antialias: bool,
    /// What stands where a cropping transform leaves the input.
    pub(super) extrapolation: f32,
}

/// One axis at concrete extents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) scale: f32,
    /// Start and end of the region of interest, in parts of the axis.
    pub(super) region: (f32, f32),
}

impl Line {
    /// The output extent before it was rounded down to whole elements.
    fn stretched(&self) -> f32 {
        let (exact, whole) = (self.scale * self.input as f32, self.output as f32);
        // Scales that come from sizes give the size back but for rounding.
        if (exact - whole).abs() < 1e-4 * whole { whole } else { exact }
    }
}

/// An output element: `constant + Σ weight × input[index]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taps {
    pub(super) constant: f32,
    pub(super) taps: Vec<(usize, f32)>,
}

impl Interpolation {
    /// Whether the axis is copied as it is.
    pub(super) fn keeps(&self, line: &Line) -> bool {
        self.transform != Transform::TfCropAndResize && line.input == line.output && line.scale == 1.0
    }

    fn coordinate(&self, at: usize, line: &Line) -> f32 {
        let (x, last) = (at as f32, line.input as f32 - 1.0);
        let half_pixel = (x + 0.5) / line.scale - 0.5;
        match self.transform {
            Transform::HalfPixel => half_pixel,
            Transform::PytorchHalfPixel if line.output > 1 => half_pixel,
            Transform::PytorchHalfPixel => 0.0,
            Transform::HalfPixelSymmetric => {
                let adjustment = line.output as f32 / (line.scale * line.input as f32);
                line.input as f32 / 2.0 * (1.0 - adjustment) + half_pixel
            }
            Transform::AlignCorners if line.stretched() > 1.0 => x * last / (line.stretched() - 1.0),
            Transform::AlignCorners => 0.0,
            Transform::Asymmetric => x / line.scale,
            Transform::TfHalfPixelForNearest => (x + 0.5) / line.scale,
            Transform::TfCropAndResize => {
                let (start, end) = line.region;
                if line.output > 1 {
                    start * last + x * (end - start) * last / (line.output as f32 - 1.0)
                } else {
                    0.5 * (start + end) * last
                }
            }
        }
    }

    /// The taps of output element `at`.
    pub(super) fn taps(&self, at: usize, line: &Line) -> Taps {
        let x = self.coordinate(at, line);
        let last = line.input as f32 - 1.0;
        if self.transform == Transform::TfCropAndResize && (x < 0.0 || x > last) {
            return Taps { constant: self.extrapolation, taps: Vec::new() };
        }
        let squeeze = if self.antialias { line.scale.min(1.0) } else { 1.0 };
        let (reach, kernel): (f32, &dyn Fn(f32) -> f32) = match self.method {
            Method::Nearest(rounding) => {
                let index = rounding.round(x, line.scale).clamp(0.0, last);
                return Taps { constant: 0.0, taps: vec![(index as usize, 1.0)] };
            }
            Method::Linear => (1.0, &|d: f32| (1.0 - d.abs()).max(0.0)),
            Method::Cubic(a) => (2.0, &move |d: f32| cubic(a, d.abs())),
        };
        let first = (x - reach / squeeze).floor() as i64 + 1;
        let end = (x + reach / squeeze).ceil() as i64;
        let outside = |i: i64| i < 0 || i >= line.input as i64;
        let weigh = |i: i64| if self.exclude_outside && outside(i) { 0.0 } else { kernel((i as f32 - x) * squeeze) };
        let weighed: Vec<(i64, f32)> = (first..end.max(first + 1)).map(|i| (i, weigh(i))).collect();
        let sum: f32 = weighed.iter().map(|(_, w)| w).sum();
        let scaled = self.exclude_outside || self.antialias;
        let taps = weighed.into_iter().filter(|(_, w)| *w != 0.0).map(|(i, w)| {
            let index = i.clamp(0, line.input as i64 - 1) as usize;
            (index, if scaled { w / sum } else { w })
        });
        Taps { constant: 0.0, taps: taps.collect() }
    }
}

impl Rounding {
    fn round(self, x: f32, scale: f32) -> f32 {
        match self {
            Rounding::PreferFloor => (x - 0.5).ceil(),
            Rounding::PreferCeil => (x + 0.5).floor(),
            Rounding::Coarser if scale < 1.0 => x.ceil(),
            Rounding::Floor | Rounding::Coarser => x.floor(),
            Rounding::Ceil => x.ceil(),
        }
    }
}

/// Keys (1981), "Cubic convolution interpolation for digital image processing".
fn cubic(a: f32, d: f32) -> f32 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(transform: Transform) -> Interpolation {
        Interpolation {
            transform,
            method: Method::Linear,
            exclude_outside: false,
            antialias: false,
            extrapolation: 7.0,
        }
    }

    #[test]
    fn half_pixels_repeat_the_edge() {
        let line = Line { input: 2, output: 4, scale: 2.0, region: (0.0, 1.0) };
        let taps = linear(Transform::HalfPixel).taps(0, &line).taps;
        assert_eq!(taps, [(0, 0.25), (0, 0.75)]);
        assert_eq!(linear(Transform::HalfPixel).taps(1, &line).taps, [(0, 0.75), (1, 0.25)]);
    }

    #[test]
    fn a_crop_beyond_the_input_extrapolates() {
        let line = Line { input: 4, output: 3, scale: 0.75, region: (0.0, 2.0) };
        assert_eq!(linear(Transform::TfCropAndResize).taps(2, &line), Taps { constant: 7.0, taps: vec![] });
        assert_eq!(linear(Transform::TfCropAndResize).taps(1, &line).taps, [(3, 1.0)]);
    }

    #[test]
    fn weights_sum_to_one() {
        let line = Line { input: 9, output: 4, scale: 4.0 / 9.0, region: (0.0, 1.0) };
        for (exclude_outside, antialias) in [(false, false), (true, false), (true, true), (false, true)] {
            for method in [Method::Linear, Method::Cubic(-0.75)] {
                let all = Interpolation { method, exclude_outside, antialias, ..linear(Transform::HalfPixel) };
                for at in 0..4 {
                    let sum: f32 = all.taps(at, &line).taps.iter().map(|t| t.1).sum();
                    assert!((sum - 1.0).abs() < 1e-5, "{all:?} at {at}: {sum}");
                }
            }
        }
    }
}
