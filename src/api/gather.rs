//! Bytes off the network: held only as far as they have arrived, and taken from the memory budget before.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use super::budget::Ledger;
use crate::error::{Error, Result};

/// Buffers start at this size and double.
const FIRST_BUFFER: usize = 16 << 10;

/// Makes room for `more` bytes, taking what it adds from the ledger first; `most` bounds the doubling.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` beyond the ledger.
pub(super) fn grow(buffer: &mut BytesMut, more: usize, most: usize, ledger: &Ledger) -> Result<()> {
    let needed = buffer.len() + more;
    if needed > buffer.capacity() {
        let capacity = needed.max(buffer.capacity() * 2).max(FIRST_BUFFER).min(most.max(needed));
        ledger.take((capacity - buffer.capacity()) as u64)?;
        buffer.reserve(capacity - buffer.len());
    }
    Ok(())
}

/// How the bytes of a request are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// In zlib's frame, as HTTP and gRPC mean it.
    Deflate,
}

/// What `packed` holds, behind what is in `buffer` already. `too_large` is the error for a buffer of more than `most`
/// bytes.
///
/// # Errors
/// `INVALID_ARGUMENT` for damaged bytes, `RESOURCE_EXHAUSTED` beyond the ledger.
pub(super) fn inflate(
    coding: Coding,
    packed: &[u8],
    mut buffer: BytesMut,
    most: usize,
    ledger: &Ledger,
    too_large: impl Fn(usize) -> Error,
) -> Result<BytesMut> {
    let mut decoder: Box<dyn Read + '_> = match coding {
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Coding::Deflate => Box::new(flate2::read::ZlibDecoder::new(packed)),
    };
    let mut chunk = [0; FIRST_BUFFER];
    loop {
        let read = decoder.read(&mut chunk);
        let read =
            read.map_err(|e| Error::invalid_argument(format!("the compressed data of the request are damaged: {e}")))?;
        if read == 0 {
            return Ok(buffer);
        }
        if buffer.len() + read > most {
            return Err(too_large(buffer.len() + read));
        }
        grow(&mut buffer, read, most, ledger)?;
        buffer.extend_from_slice(&chunk[..read]);
    }
}

/// A reply's body that keeps something until it is sent: the request's memory, and its place among those being answered.
pub struct Held<B, K> {
    body: B,
    _kept: K,
}

impl<B, K> Held<B, K> {
    /// `body`, which keeps `kept`.
    pub fn new(body: B, kept: K) -> Self {
        Self { body, _kept: kept }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin, K: Unpin> http_body::Body for Held<B, K> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
