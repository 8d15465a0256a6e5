//! The sliding window of convolutions: attributes, and the geometry that they give at concrete extents.

use crate::engine::ir::Attributes;
use crate::error::{Error, Result};

/// Extents along z, y, x; axes that a model does not have are 1.
pub(super) type Extents = [usize; 3];

/// How padding is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// As given.
    Explicit,
    /// None.
    Valid,
    /// Output = ⌈input / stride⌉, an odd element of padding at the end.
    SameUpper,
    /// The same with the odd element at the start.
    SameLower,
}

/// The attributes that describe a window, as far as given.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) kernel: Option<Vec<usize>>,
    pub(super) strides: Option<Vec<usize>>,
    pub(super) dilations: Option<Vec<usize>>,
    pub(super) pads: Option<Vec<usize>>,
    pub(super) auto_pad: AutoPad,
}

/// A window at concrete extents: output pixel *o* reads inputs *o* × stride − pad + tap × dilation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) kernel: Extents,
    pub(super) input: Extents,
    pub(super) output: Extents,
    pub(super) stride: Extents,
    pub(super) dilation: Extents,
    /// Padding before the first element.
    pub(super) pad: Extents,
    /// Whether any window reaches outside the input.
    pub(super) padded: bool,
}

/// A list attribute of non-negative integers.
pub(super) fn extents(attributes: &Attributes, name: &str) -> Result<Option<Vec<usize>>> {
    let Some(values) = attributes.ints(name)? else { return Ok(None) };
    let convert = |v: &i64| usize::try_from(*v).map_err(|_| Error::invalid_argument(format!("{name} holds {v}")));
    values.iter().map(convert).collect::<Result<_>>().map(Some)
}

impl Window {
    /// Reads `kernel_shape`, `strides`, `dilations`, `pads` and `auto_pad`.
    pub(super) fn new(attributes: &Attributes) -> Result<Self> {
        let auto_pad = match attributes.string_or("auto_pad", "NOTSET")?.as_str() {
            "NOTSET" | "" => AutoPad::Explicit,
            "VALID" => AutoPad::Valid,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            other => return Err(Error::invalid_argument(format!("auto_pad is {other:?}"))),
        };
        let window = Self {
            kernel: extents(attributes, "kernel_shape")?,
            strides: extents(attributes, "strides")?,
            dilations: extents(attributes, "dilations")?,
            pads: extents(attributes, "pads")?,
            auto_pad,
        };
        let steps = window.strides.iter().chain(&window.dilations).flatten();
        if steps.into_iter().any(|s| *s == 0) {
            return Err(Error::invalid_argument("strides and dilations must be at least 1"));
        }
        Ok(window)
    }

    pub(super) fn stride(&self, axis: usize) -> usize {
        axis_of(self.strides.as_ref(), axis)
    }

    pub(super) fn dilation(&self, axis: usize) -> usize {
        axis_of(self.dilations.as_ref(), axis)
    }

    /// Padding before and after spatial axis `axis` of `rank`, as given.
    pub(super) fn explicit_pads(&self, axis: usize, rank: usize) -> (usize, usize) {
        let at = |i: usize| self.pads.as_ref().and_then(|p| p.get(i)).copied().unwrap_or(0);
        (at(axis), at(axis + rank))
    }

    /// How many input elements a window of `kernel` taps spans along `axis`.
    pub(super) fn span(&self, axis: usize, kernel: usize) -> usize {
        kernel.saturating_sub(1).saturating_mul(self.dilation(axis)).saturating_add(1)
    }

    /// Output extent and padding before the first element along one axis.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the window does not fit.
    pub(super) fn along(&self, axis: usize, rank: usize, kernel: usize, input: usize) -> Result<(usize, usize)> {
        let (stride, span) = (self.stride(axis), self.span(axis, kernel));
        let (before, after) = match self.auto_pad {
            AutoPad::Explicit => self.explicit_pads(axis, rank),
            AutoPad::Valid => (0, 0),
            AutoPad::SameUpper | AutoPad::SameLower => {
                let total = (input.div_ceil(stride).saturating_sub(1) * stride + span).saturating_sub(input);
                let small = total / 2;
                if self.auto_pad == AutoPad::SameUpper { (small, total - small) } else { (total - small, small) }
            }
        };
        let room = input.saturating_add(before).saturating_add(after).checked_sub(span);
        let room = room.ok_or_else(|| {
            Error::invalid_argument(format!("a window of {span} does not fit {input} + {before} + {after} elements"))
        })?;
        Ok((room / stride + 1, before))
    }

    /// The geometry for these spatial extents, outermost first.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the window does not fit; `UNIMPLEMENTED` for more than three axes.
    pub(super) fn geometry(&self, kernel: &[usize], input: &[usize]) -> Result<Geometry> {
        let rank = self.check_rank(kernel, input)?;
        let mut geometry = Geometry::unit();
        for axis in 0..rank {
            let (output, pad) = self.along(axis, rank, kernel[axis], input[axis])?;
            geometry.set(axis + 3 - rank, self, axis, kernel[axis], input[axis], output, pad);
        }
        Ok(geometry)
    }

    /// The number of spatial axes.
    pub(super) fn check_rank(&self, kernel: &[usize], input: &[usize]) -> Result<usize> {
        if kernel.len() != input.len() {
            return Err(Error::invalid_argument(format!(
                "a window of {} axes over {} axes",
                kernel.len(),
                input.len()
            )));
        }
        if kernel.len() > 3 {
            return Err(Error::unimplemented(format!("convolution over {} axes is not supported", kernel.len())));
        }
        Ok(kernel.len())
    }
}

fn axis_of(list: Option<&Vec<usize>>, axis: usize) -> usize {
    list.and_then(|l| l.get(axis)).copied().unwrap_or(1)
}

impl Geometry {
    /// One element in, one element out.
    pub(super) fn unit() -> Self {
        let one = [1; 3];
        Self { kernel: one, input: one, output: one, stride: one, dilation: one, pad: [0; 3], padded: false }
    }

    /// Fills in `slot` from axis `axis` of `window`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn set(
        &mut self,
        slot: usize,
        window: &Window,
        axis: usize,
        kernel: usize,
        input: usize,
        output: usize,
        pad: usize,
    ) {
        let (stride, dilation) = (window.stride(axis), window.dilation(axis));
        self.kernel[slot] = kernel;
        self.input[slot] = input;
        self.output[slot] = output;
        self.stride[slot] = stride;
        self.dilation[slot] = dilation;
        self.pad[slot] = pad;
        let last = output.saturating_sub(1) * stride + kernel.saturating_sub(1) * dilation;
        self.padded |= pad > 0 || last >= input + pad;
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    pub(super) fn input_pixels(&self) -> usize {
        self.input.iter().product()
    }

    pub(super) fn output_pixels(&self) -> usize {
        self.output.iter().product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(auto_pad: AutoPad, stride: usize, pads: Option<Vec<usize>>) -> Window {
        Window { kernel: None, strides: Some(vec![stride]), dilations: None, pads, auto_pad }
    }

    #[test]
    fn padding_is_chosen_as_onnx_says() {
        assert_eq!(window(AutoPad::Explicit, 2, Some(vec![1, 1])).along(0, 1, 3, 7).expect("fits"), (4, 1));
        assert_eq!(window(AutoPad::Valid, 2, None).along(0, 1, 3, 7).expect("fits"), (3, 0));
        assert_eq!(window(AutoPad::SameUpper, 2, None).along(0, 1, 3, 8).expect("fits"), (4, 0));
        assert_eq!(window(AutoPad::SameLower, 2, None).along(0, 1, 3, 8).expect("fits"), (4, 1));
        assert!(window(AutoPad::Valid, 1, None).along(0, 1, 3, 2).is_err());
    }

    #[test]
    fn a_window_that_stays_inside_is_not_padded() {
        let w = window(AutoPad::Explicit, 1, None);
        assert!(!w.geometry(&[3], &[8]).expect("fits").padded);
        let w = window(AutoPad::Explicit, 1, Some(vec![0, 1]));
        assert!(w.geometry(&[3], &[8]).expect("fits").padded);
        assert!(w.geometry(&[1, 1, 1, 1], &[1, 1, 1, 1]).is_err());
    }
}
