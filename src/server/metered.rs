//! A connection that counts what is written to it, and knows since when it takes nothing: replies may be on their way long after
//! they were handed over.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was written so far. Clones are of one connection.
#[derive(Clone, Debug)]
pub(super) struct Written(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    start: Instant,
    bytes: AtomicU64,
    /// When it took nothing any more, in milliseconds from the start; [`NEVER`]: it takes what comes.
    stuck_at_ms: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Written {
    /// Nothing yet.
    pub(super) fn new(start: Instant) -> Self {
        Self(Arc::new(Counts { start, bytes: AtomicU64::new(0), stuck_at_ms: AtomicU64::new(NEVER) }))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Since when bytes wait that the connection does not take.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        let at = Some(self.0.stuck_at_ms.load(Ordering::Relaxed)).filter(|at| *at != NEVER)?;
        Some(self.0.start + Duration::from_millis(at))
    }

    fn count(&self, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                self.0.stuck_at_ms.store(NEVER, Ordering::Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let now = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(NEVER - 1);
                // The first time counts.
                let _ = self.0.stuck_at_ms.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        written
    }
}

/// Counts what is written to `io`.
pub(super) struct Metered<I> {
    pub(super) io: I,
    pub(super) written: Written,
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.written.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
