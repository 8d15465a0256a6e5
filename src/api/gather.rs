//! Bytes off the network: held only as far as they have arrived, and taken from the memory budget before.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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

/// A reply is handed over in pieces of at most so many bytes: what is handed over waits in the connection, where no budget sees it.
const REPLY_PIECE: usize = 64 << 10;

/// A reply's body that keeps something until it is sent: the request's memory, and its place among those being answered.
pub struct Held<B, K> {
    body: B,
    /// Of the body's last part what has not been handed over.
    rest: Bytes,
    _kept: K,
}

impl<B, K> Held<B, K> {
    /// `body`, which keeps `kept`.
    pub fn new(body: B, kept: K) -> Self {
        Self { body, rest: Bytes::new(), _kept: kept }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(REPLY_PIECE);
        Frame::data(self.rest.split_to(length))
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin, K: Unpin> http_body::Body for Held<B, K> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, B::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.piece()
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn replies_are_handed_over_in_pieces_and_keep_what_they_hold_until_the_last() {
        let whole: Vec<u8> = (0..3 * REPLY_PIECE + 7).map(|at| at as u8).collect();
        let (kept, is_kept) = tokio::sync::oneshot::channel::<()>();
        let mut body = Held::new(Full::new(Bytes::from(whole.clone())), kept);
        let (mut found, mut is_kept) = (Vec::new(), is_kept);
        while !http_body::Body::is_end_stream(&body) {
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some((whole.len() - found.len()) as u64));
            assert!(is_kept.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
            let piece = body.frame().await.expect("there is more").expect("no error").into_data().expect("data");
            assert!(piece.len() <= REPLY_PIECE);
            found.extend_from_slice(&piece);
        }
        assert_eq!(found, whole);
    }
}
