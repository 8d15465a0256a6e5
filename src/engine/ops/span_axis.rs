//! The windows of a product along one axis, as kernels over rows of vectors take them.

use super::product::Product;

/// Windows along one axis: taps go forwards, whatever the product's do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) taps: u32,
    pub(super) input: u32,
    pub(super) output: u32,
    pub(super) stride: u32,
    pub(super) pad: u32,
    pub(super) dilation: u32,
    /// Elements of a between taps, and to the first of them.
    pub(super) left_tap: i64,
    pub(super) left_first: i64,
}

impl Axis {
    pub(super) fn new(product: &Product, axis: usize) -> Self {
        let p = &product.params;
        let (taps, dilation, left_tap) = (p.kernel[axis], p.dilation[axis].cast_signed(), i64::from(p.a_tap[axis]));
        let own = Self {
            taps,
            input: p.input[axis],
            output: p.output[axis],
            stride: p.stride[axis],
            pad: p.pad[axis],
            dilation: dilation.unsigned_abs(),
            left_tap,
            left_first: 0,
        };
        if dilation >= 0 || taps == 0 {
            return own;
        }
        let last = taps - 1;
        let pad = own.pad.wrapping_add(last.wrapping_mul(own.dilation));
        Self { pad, left_tap: -left_tap, left_first: i64::from(last) * left_tap, ..own }
    }

    /// Input elements along it that windows span, when they are laid out anew; every `step`-th alone where there is one tap.
    pub(super) fn arranged(&self) -> (u32, u32) {
        match self.taps {
            1 => (self.output, self.stride),
            _ => {
                let taps = (self.taps - 1).saturating_mul(self.dilation);
                ((self.output - 1).saturating_mul(self.stride).saturating_add(taps).saturating_add(1), 1)
            }
        }
    }

    /// How far windows reach outside the input, before or behind it.
    pub(super) fn reach(&self) -> u32 {
        let end = (self.output - 1) * self.stride + (self.taps - 1) * self.dilation + 1;
        self.pad.max(end.saturating_sub(self.input + self.pad))
    }

    pub(super) fn is_plain(&self) -> bool {
        self.taps == 1 && self.stride == 1 && self.pad == 0 && self.input == self.output
    }
}
