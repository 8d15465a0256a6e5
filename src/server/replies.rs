//! Replies on their way to a caller, and how long each may take.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Bytes that buy a reply more time.
const PIECE: u64 = 256 << 10;

/// The replies that one connection is sending.
#[derive(Debug, Default)]
pub(super) struct Replies {
    count: AtomicU64,
    sending: Mutex<HashMap<u64, Progress>>,
}

/// What is being sent of a reply.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// `None` while there is nothing to send: streams of messages have pauses.
    begun: Option<Instant>,
    bytes: u64,
}

impl Progress {
    fn begin() -> Self {
        Self { begun: Some(Instant::now()), bytes: 0 }
    }
}

impl Replies {
    /// When the first of them will have taken too long: each may take `patience`, and each [`PIECE`] that was taken of it buys as
    /// much again.
    pub(super) fn due(&self, patience: Duration) -> Option<Instant> {
        let end = |progress: &Progress| {
            let pieces = u32::try_from(progress.bytes / PIECE).unwrap_or(u32::MAX);
            progress.begun?.checked_add(patience.saturating_mul(pieces.saturating_add(1)))
        };
        self.sending().values().filter_map(end).min()
    }

    fn sending(&self) -> MutexGuard<'_, HashMap<u64, Progress>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply's body that tells how far it has got, until it is dropped.
pub(super) struct Sending<B> {
    body: B,
    replies: Arc<Replies>,
    number: u64,
}

impl<B> Sending<B> {
    /// `body`, one of `replies` from now on.
    pub(super) fn new(body: B, replies: &Arc<Replies>) -> Self {
        let number = replies.count.fetch_add(1, Ordering::Relaxed);
        replies.sending().insert(number, Progress::begin());
        Self { body, replies: Arc::clone(replies), number }
    }
}

impl<B> Drop for Sending<B> {
    fn drop(&mut self) {
        self.replies.sending().remove(&self.number);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sending<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Some(progress) = self.replies.sending().get_mut(&self.number) {
            match &polled {
                Poll::Pending => progress.begun = None,
                Poll::Ready(frame) => {
                    if progress.begun.is_none() {
                        *progress = Progress::begin();
                    }
                    let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                    progress.bytes += data.map_or(0, |data| data.len() as u64);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn what_is_taken_buys_time_and_what_is_over_needs_none() {
        let (replies, patience) = (Arc::new(Replies::default()), Duration::from_secs(10));
        assert_eq!(replies.due(patience), None);
        let part = Bytes::from(vec![0; 2 * PIECE as usize]);
        let mut large = Sending::new(Full::new(part), &replies);
        let first = replies.due(patience).expect("one is being sent");
        assert!(first <= Instant::now() + patience);
        drop(large.frame().await.expect("all of it"));
        assert_eq!(replies.due(patience), Some(first + 2 * patience));
        let other = Sending::new(Full::new(Bytes::new()), &replies);
        assert!(replies.due(patience).expect("two are being sent") < first + 2 * patience);
        drop(other);
        assert_eq!(replies.due(patience), Some(first + 2 * patience));
        drop(large);
        assert_eq!(replies.due(patience), None);
    }
    #[tokio::test]
    async fn streams_may_pause() {
        use tokio_stream::StreamExt as _;

        let (replies, patience) = (Arc::new(Replies::default()), Duration::from_secs(10));
        let first = tokio_stream::once(Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"first"))));
        let body = http_body_util::StreamBody::new(first.chain(tokio_stream::pending()));
        let mut stream = Sending::new(body, &replies);
        drop(stream.frame().await.expect("the first"));
        assert!(replies.due(patience).is_some(), "it may not be taken");
        let next = tokio::time::timeout(Duration::from_millis(1), stream.frame()).await;
        assert!(next.is_err(), "there is no next");
        assert_eq!(replies.due(patience), None, "who waits for it is not to blame");
    }
}
