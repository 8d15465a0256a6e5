//! How large sums over constant integer weights can become.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Remembers the bound of one node's weights: compilation asks for it again and again.
#[derive(Debug, Default)]
pub(super) struct WeightSums {
    last: Mutex<Option<(Tensor, Option<Tensor>, f64)>>,
}

impl WeightSums {
    /// The most that |w − zero| sum up to in one channel. Channels are entries of the first axis if `channels_first`, else
    /// of the last one; `zeros` holds one zero point, or one for each.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for weights of more than 8 bits, or zero points of another number.
    pub(super) fn bound(&self, weights: &Tensor, zeros: Option<&Tensor>, channels_first: bool) -> Result<f64> {
        let place = |tensor: &Tensor| (tensor.bytes().as_ptr(), tensor.dtype(), tensor.shape().clone());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Tensors that are kept cannot have given their place to others.
        if let Some((w, z, bound)) = &*last
            && place(w) == place(weights)
            && z.as_ref().map(place) == zeros.map(place)
        {
            return Ok(*bound);
        }
        let bound = largest_sum(weights, zeros, channels_first)?;
        *last = Some((weights.clone(), zeros.cloned(), bound));
        Ok(bound)
    }
}

fn largest_sum(weights: &Tensor, zeros: Option<&Tensor>, channels_first: bool) -> Result<f64> {
    let shape = weights.shape();
    let channels = match &shape[..] {
        // A vector is one channel.
        [] | [_] => 1,
        [first, ..] if channels_first => *first,
        [.., last] => *last,
    };
    let channels = channels.max(1);
    let zeros = zeros.map_or(Ok(vec![0]), Tensor::to_i64s)?;
    if zeros.len() != 1 && zeros.len() != channels {
        return Err(Error::invalid_argument(format!("{} zero points for {channels} channels", zeros.len())));
    }
    let mut zeros: Vec<i32> = zeros.into_iter().map(|z| z as i32).collect();
    zeros.resize(channels, zeros[0]);
    Ok(match weights.dtype().carrier() {
        DType::I8 => over(&weights.values::<i8>()?, &zeros, channels_first),
        DType::U8 => over(&weights.values::<u8>()?, &zeros, channels_first),
        other => return Err(Error::invalid_argument(format!("weights of {other}"))),
    } as f64)
}

/// Sums over a billion terms of 8 bits may pass 32 bits: lines are summed apart.
fn over<T: Copy + Into<i32>>(values: &[T], zeros: &[i32], channels_first: bool) -> u64 {
    let distance = |value: &T, zero: &i32| ((*value).into() - zero).unsigned_abs();
    let mut sums = vec![0u64; zeros.len()];
    if channels_first {
        let inner = (values.len() / zeros.len()).max(1);
        for ((line, zero), sum) in values.chunks(inner).zip(zeros).zip(&mut sums) {
            for part in line.chunks(1 << 16) {
                *sum += u64::from(part.iter().map(|v| distance(v, zero)).sum::<u32>());
            }
        }
        return sums.into_iter().max().unwrap_or(0);
    }
    for rows in values.chunks(zeros.len() << 16) {
        let mut part = vec![0u32; zeros.len()];
        for row in rows.chunks_exact(zeros.len()) {
            for ((value, zero), sum) in row.iter().zip(zeros).zip(&mut part) {
                *sum += distance(value, zero);
            }
        }
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += u64::from(part));
    }
    sums.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_summed_apart() {
        let weights = Tensor::from_vec([2, 3], vec![1i8, -2, 3, -4, 5, -6]).expect("six");
        let sums = WeightSums::default();
        assert_eq!(sums.bound(&weights, None, false).expect("8 bits"), 9.0);
        let zeros = Tensor::from_vec([2], vec![1i8, -1]).expect("two");
        let other = WeightSums::default();
        assert_eq!(other.bound(&weights, Some(&zeros), true).expect("8 bits"), 14.0);
        assert_eq!(other.bound(&weights, None, true).expect("8 bits"), 15.0);
        assert!(other.bound(&weights, Some(&zeros), false).is_err());
        let vector = weights.reshaped([6]).expect("six");
        assert_eq!(sums.bound(&vector, None, false).expect("8 bits"), 21.0);
    }
}
