//! Elements of 2 and 4 bits: several a byte in files, the first in the lowest bits; a byte each in memory.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// The tensor whose elements lie in `bytes`; the last byte may be filled in part.
///
/// # Errors
/// `INVALID_ARGUMENT` when there are more or fewer bytes than the shape needs.
pub(super) fn unpack(dtype: DType, shape: Shape, bytes: &[u8]) -> Result<Tensor> {
    let (bits, elements) = (dtype.bits(), shape.elements());
    let per_byte = 8 / bits;
    if bytes.len() != elements.div_ceil(per_byte) {
        let got = bytes.len();
        return Err(Error::invalid_argument(format!("{got} bytes do not make a {dtype} tensor of shape {shape}")));
    }
    let unused = 8 - bits;
    let signed = dtype.carrier() == DType::I8;
    let element = |i: usize| {
        let top = bytes[i / per_byte] << (unused - i % per_byte * bits);
        if signed { (top.cast_signed() >> unused).cast_unsigned() } else { top >> unused }
    };
    Tensor::from_bytes(dtype, shape, (0..elements).map(element).collect::<Vec<u8>>())
}

/// `tensor`'s elements as files hold them.
pub(super) fn pack(tensor: &Tensor) -> Bytes {
    let bits = tensor.dtype().bits();
    if !(1..8).contains(&bits) {
        return tensor.bytes().clone();
    }
    let mask = (1u8 << bits) - 1;
    let join = |group: &[u8]| group.iter().rev().fold(0u8, |byte, v| (byte << bits) | (v & mask));
    tensor.bytes().chunks(8 / bits).map(join).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_packed_from_the_lowest_bits() {
        let signed = unpack(DType::I4, Shape::new([3]), &[0x8f, 0x07]).expect("three");
        assert_eq!(signed.to_i64s().expect("integers"), [-1, -8, 7]);
        assert_eq!(pack(&signed).as_ref(), [0x8f, 0x07]);
        let crumbs = unpack(DType::U2, Shape::new([5]), &[0b11_10_01_00, 2]).expect("five");
        assert_eq!(crumbs.to_i64s().expect("integers"), [0, 1, 2, 3, 2]);
        assert!(unpack(DType::U2, Shape::new([5]), &[0]).is_err());
    }
}
