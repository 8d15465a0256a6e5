//! Small integers packed into 32-bit words.

use crate::tensor::{DType, Tensor};

/// How small integers share a word: the first in the lowest bits. Only constants lie so, and only ones that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Packing {
    /// Bits of one integer: 4 or 8.
    pub bits: u32,
    /// Whether the highest of them is a sign.
    pub signed: bool,
}

/// Elements from which a constant is packed: smaller ones save nothing.
const MIN_ELEMENTS: usize = 1024;

impl Packing {
    /// How integers of `dtype` are packed, if they are.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::I8 => Some(Self { bits: 8, signed: true }),
            DType::U8 | DType::Bool => Some(Self { bits: 8, signed: false }),
            DType::I4 => Some(Self { bits: 4, signed: true }),
            DType::U4 => Some(Self { bits: 4, signed: false }),
            _ => None,
        }
    }

    /// How `constant` is packed, if it is of a small type and large enough to be worth it.
    pub fn of_constant(constant: &Tensor) -> Option<Self> {
        Self::of(constant.dtype()).filter(|_| constant.shape().elements() >= MIN_ELEMENTS)
    }

    /// Integers in a word.
    pub fn per_word(self) -> usize {
        32 / self.bits as usize
    }

    /// `elements`, a byte each as host tensors hold them, as words.
    pub fn pack(self, elements: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let mask = u32::MAX >> (32 - self.bits);
        elements.chunks(self.per_word()).map(move |chunk| {
            chunk.iter().rev().fold(0, |word, element| word << self.bits | u32::from(*element) & mask)
        })
    }

    /// WGSL for the integer at bit `shift` of `word`. Shifts alone: software adapters spend more on `extractBits`, whose
    /// arguments are checked.
    pub fn extract(self, word: &str, shift: &str) -> String {
        let unused = 32 - self.bits;
        match self.signed {
            true => format!("(bitcast<i32>({word} << ({unused}u - ({shift}))) >> {unused}u)"),
            false => format!("(({word} >> ({shift})) & {}u)", u32::MAX >> unused),
        }
    }

    /// WGSL for element `at`, an expression without operators, of `array`.
    pub fn element(self, array: &str, at: &str) -> String {
        let (places, size) = (self.per_word().ilog2(), self.bits.ilog2());
        let mask = self.per_word() - 1;
        self.extract(&format!("{array}[{at} >> {places}u]"), &format!("({at} & {mask}u) << {size}u"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_integer_lies_lowest() {
        let bytes = Packing { bits: 8, signed: true };
        assert_eq!(bytes.pack(&[1, 2, 0xff, 4, 5]).collect::<Vec<_>>(), [0x04ff_0201, 5]);
        let nibbles = Packing { bits: 4, signed: true };
        assert_eq!(nibbles.pack(&[1, 0xf8, 7]).collect::<Vec<_>>(), [0x781]);
        assert_eq!(nibbles.element("b", "i"), "(bitcast<i32>(b[i >> 3u] << (28u - ((i & 7u) << 2u))) >> 28u)");
    }
}
