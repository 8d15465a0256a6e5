//! Writing to memory that the device reads next.

/// From so many bytes on, writing past this processor's caches is quicker: what is copied would push out more than is read again,
/// and each line that is written would be read first.
#[cfg(target_arch = "x86_64")]
const STREAMED_MIN: usize = 256 << 10;

/// Copies `from` to the beginning of `to`.
#[cfg(target_arch = "x86_64")]
pub(super) fn write(mut to: wgpu::WriteOnly<'_, [u8]>, from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    /// Bytes of a line of the cache, which is written whole.
    const LINE: usize = 64;
    let mut to = to.slice(..from.len());
    if from.len() < STREAMED_MIN {
        return to.copy_from_slice(from);
    }
    let head = to.as_raw_element_ptr().as_ptr().align_offset(LINE);
    let (first, rest) = from.split_at(head);
    to.slice(..head).copy_from_slice(first);
    let lines = rest.chunks_exact(LINE);
    let last = lines.remainder();
    to.slice(from.len() - last.len()..).copy_from_slice(last);
    // SAFETY: `head` bytes behind the beginning of `to` a line of the cache begins, and `to` has room for all of `from`, hence for
    // `lines`. Nobody else has `to`.
    unsafe {
        let mut place = to.as_raw_element_ptr().as_ptr().add(head).cast::<__m128i>();
        for line in lines {
            let line = line.as_ptr().cast::<__m128i>();
            for part in 0..LINE / size_of::<__m128i>() {
                _mm_stream_si128(place.add(part), _mm_loadu_si128(line.add(part)));
            }
            place = place.add(LINE / size_of::<__m128i>());
        }
        // Such writes are not ordered with others: what comes after must find them done.
        _mm_sfence();
    }
}

/// Copies `from` to the beginning of `to`.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn write(mut to: wgpu::WriteOnly<'_, [u8]>, from: &[u8]) {
    to.slice(..from.len()).copy_from_slice(from);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_streamed_arrives_whole_and_nothing_beside_it() {
        let from: Vec<u8> = (0..STREAMED_MIN + 200).map(|i| (i * 31 % 251) as u8).collect();
        for (start, shift, length) in [
            (0, 0, STREAMED_MIN - 1),
            (0, 0, STREAMED_MIN),
            (1, 3, STREAMED_MIN + 63),
            (63, 0, STREAMED_MIN + 64),
            (5, 17, STREAMED_MIN + 130),
        ] {
            let mut place = vec![255; STREAMED_MIN + 400];
            let from = &from[shift..shift + length];
            write(wgpu::WriteOnly::from(&mut place[start..]), from);
            assert!(place[start..start + length] == *from, "{start} {length}");
            let beside = place[..start].iter().chain(&place[start + length..]);
            assert!(beside.copied().all(|byte| byte == 255), "{start} {length}");
        }
    }
}
