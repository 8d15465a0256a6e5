//! Matrix products on the host: exact enough to judge kernels by, quick enough for whole networks.

use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// A type that sums of products are kept in.
pub(super) trait Sum: Copy + Default {
    /// `self + a × b`; integers wrap.
    #[must_use]
    fn add_product(self, a: Self, b: Self) -> Self;
}

impl Sum for f64 {
    fn add_product(self, a: Self, b: Self) -> Self {
        self + a * b
    }
}

impl Sum for i64 {
    fn add_product(self, a: Self, b: Self) -> Self {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// y\[m, n\] += Σ a\[m, k\] b\[k, n\], all dense and row-major; `n` and `k` say the extents.
pub(super) fn add_product<T: Sum>(a: &[T], b: &[T], y: &mut [T], n: usize, k: usize) {
    if n == 0 || k == 0 {
        return;
    }
    // Four rows at a time read b once; blocks of columns stay in the cache.
    const COLUMNS: usize = 512;
    for (rows, sums) in a.chunks(4 * k).zip(y.chunks_mut(4 * n)) {
        for first in (0..n).step_by(COLUMNS) {
            let columns = first..(first + COLUMNS).min(n);
            for (line, term) in b.chunks_exact(n).zip(0..k) {
                for (row, sums) in rows.chunks_exact(k).zip(sums.chunks_exact_mut(n)) {
                    let factor = row[term];
                    for (sum, value) in sums[columns.clone()].iter_mut().zip(&line[columns.clone()]) {
                        *sum = sum.add_product(factor, *value);
                    }
                }
            }
        }
    }
}

/// An integer tensor as `i64`, modulo 2⁶⁴.
pub(super) fn wrapped_i64s(tensor: &Tensor) -> Result<Vec<i64>> {
    match tensor.dtype() {
        DType::U64 => Ok(tensor.values::<u64>()?.iter().map(|v| v.cast_signed()).collect()),
        _ => tensor.to_i64s(),
    }
}

/// An integer tensor of `dtype` from values modulo its range.
pub(super) fn from_wrapped_i64s(dtype: DType, shape: Shape, values: &[i64]) -> Result<Tensor> {
    macro_rules! wrap {
        ($t:ty) => {
            Tensor::from_vec::<$t>(shape, values.iter().map(|v| *v as $t).collect())
        };
    }
    match dtype {
        DType::U8 => wrap!(u8),
        DType::I8 => wrap!(i8),
        DType::U16 => wrap!(u16),
        DType::I16 => wrap!(i16),
        DType::U32 => wrap!(u32),
        DType::I32 => wrap!(i32),
        DType::U64 => wrap!(u64),
        DType::I64 => wrap!(i64),
        other => Err(Error::invalid_argument(format!("products of {other} tensors are not defined"))),
    }
}
