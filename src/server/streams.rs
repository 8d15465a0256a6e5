//! The requests of one HTTP/2 connection, answered by the connection's own task.
//!
//! A task for each request would be handed to another thread of the runtime and hand its reply back: two wake-ups of threads, which
//! cost more than most requests do.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::rt::Executor;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts the requests that have come.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        // One that panics is reset, and costs the others nothing.
        let stream = AssertUnwindSafe(stream).catch_unwind().map(drop);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

/// A connection and the requests that it has put into its [`Streams`].
pub(super) struct Driven<C> {
    pub(super) connection: C,
    come: Streams,
    running: FuturesUnordered<Stream>,
}

impl<C: Future + Unpin> Driven<C> {
    /// `connection` puts its requests into `streams`.
    pub(super) fn new(connection: C, streams: Streams) -> Self {
        Self { connection, come: streams, running: FuturesUnordered::new() }
    }
}

impl<C: Future + Unpin> Future for Driven<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        loop {
            // Before the connection, which sends what they answer.
            while let Poll::Ready(Some(())) = this.running.poll_next_unpin(context) {}
            if let Poll::Ready(output) = this.connection.poll_unpin(context) {
                return Poll::Ready(output);
            }
            let come = std::mem::take(&mut *this.come.0.lock().unwrap_or_else(PoisonError::into_inner));
            if come.is_empty() {
                return Poll::Pending;
            }
            this.running.extend(come);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn streams_are_answered_and_one_that_panics_costs_the_others_nothing() {
        let (streams, answered) = (Streams::default(), Arc::new(AtomicUsize::new(0)));
        let (come, seen) = (streams.clone(), Arc::clone(&answered));
        let mut waiting: Vec<Stream> = Vec::new();
        for number in 0..3 {
            let answered = Arc::clone(&answered);
            waiting.push(Box::pin(async move {
                tokio::task::yield_now().await;
                assert_ne!(number, 1, "a defect");
                answered.fetch_add(1, Ordering::Relaxed);
            }));
        }
        let connection = poll_fn(|_| {
            waiting.drain(..).for_each(|stream| come.execute(stream));
            if seen.load(Ordering::Relaxed) == 2 { Poll::Ready(()) } else { Poll::Pending }
        });
        Driven::new(connection, streams).await;
        assert_eq!(answered.load(Ordering::Relaxed), 2);
    }
}
