//! One connection, from its first byte to its end: HTTP/1 and HTTP/2, and the times that it must keep.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower::Service as _;

use super::limits::Limits;
use super::metered::{Metered, Written};
use super::replies::{Replies, Sending};
use super::streams::{Driven, Streams};
use crate::api::{Budget, Held, Peer, random};

/// Bytes of a stream's replies that HTTP/2 holds beside what the budget counts: a piece more at most.
const SEND_BUFFER: usize = 64 << 10;

/// How long a connection that should end may do nothing.
const GOODBYE: Duration = Duration::from_secs(2);

/// What speaks HTTP/1 and HTTP/2 within the limits, and puts the requests of the latter into `streams`.
fn protocols(limits: &Limits, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    // The times of HTTP/1 are kept by `Life`: hyper's own does not tell a slow caller from an idle one.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

/// Why a connection is ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// No request came.
    Slow,
    /// No request came any more.
    Idle,
    /// Replies are not taken.
    Unread,
    /// It has lasted long enough.
    Old,
    /// The server stops.
    Stopping,
}

/// What a connection has carried so far.
#[derive(Debug)]
struct Life {
    start: Instant,
    /// When it is old.
    old_at: Option<Instant>,
    requests: AtomicU64,
    running: AtomicUsize,
    replies: Arc<Replies>,
    written: Written,
    /// When the last request was answered, in milliseconds from the start.
    quiet_since_ms: AtomicU64,
}

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// To look again then; `None`: nothing will come of looking.
    Stay(Option<Instant>),
    End(Ending),
}

impl Life {
    /// `jitter` is a number from 0 to 1: connections of one moment do not all end in one.
    fn new(start: Instant, limits: &Limits, jitter: f64) -> Arc<Self> {
        let old_at = limits.age.and_then(|age| start.checked_add(age.mul_f64(0.9 + 0.2 * jitter)));
        let (requests, quiet_since_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        let (replies, written) = (Arc::default(), Written::new(start));
        Arc::new(Self { start, old_at, requests, running: AtomicUsize::new(0), replies, written, quiet_since_ms })
    }

    fn enter(self: &Arc<Self>) -> Running {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) > 0
    }

    /// When replies, or what is left of them, will have waited too long to be taken.
    fn unread_at(&self, limits: &Limits) -> Option<Instant> {
        let patience = limits.send?;
        let stuck = self.written.stuck_since().and_then(|since| since.checked_add(patience));
        self.replies.due(patience).into_iter().chain(stuck).min()
    }

    fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let (quiet_at, ending) = if self.requests.load(Ordering::Relaxed) == 0 {
            (self.start.checked_add(limits.first_request), Ending::Slow)
        } else if self.is_running() {
            // It may be quiet from now on, at the earliest.
            (limits.idle.and_then(|idle| now.checked_add(idle)), Ending::Idle)
        } else {
            let since = self.start + Duration::from_millis(self.quiet_since_ms.load(Ordering::Acquire));
            (limits.idle.and_then(|idle| since.checked_add(idle)), Ending::Idle)
        };
        let is_past = |at: &Instant| *at <= now;
        let unread_at = self.unread_at(limits);
        if unread_at.as_ref().is_some_and(is_past) {
            return Verdict::End(Ending::Unread);
        }
        if self.old_at.as_ref().is_some_and(is_past) {
            Verdict::End(Ending::Old)
        } else if quiet_at.as_ref().is_some_and(is_past) {
            Verdict::End(ending)
        } else {
            // Replies may come to wait at any time.
            let unread_at = unread_at.or_else(|| limits.send.and_then(|patience| now.checked_add(patience)));
            Verdict::Stay(quiet_at.into_iter().chain(self.old_at).chain(unread_at).min())
        }
    }
}

/// A request on its way; when it is dropped its answer has been sent, or nobody wants it.
struct Running(Arc<Life>);

impl Drop for Running {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since_ms.store(since, Ordering::Release);
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers what comes over `io` with `app`, until the caller hangs up, a time is over, or the server stops; running requests may
/// then finish. Requests take their memory of `budget`. `None`: the caller ended it.
pub(super) async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: I,
    peer: Peer,
    app: Router,
    limits: &Limits,
    budget: Arc<Budget>,
    mut stopping: watch::Receiver<bool>,
) -> Option<Ending> {
    let life = Life::new(Instant::now(), limits, random() as f64 / u64::MAX as f64);
    let entering = Arc::clone(&life);
    let answering = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(Arc::clone(&budget));
        let running = entering.enter();
        let answer = app.clone().call(request.map(Body::new));
        async move {
            let replies = Arc::clone(&running.0.replies);
            Ok::<_, Infallible>(answer.await?.map(|body| Sending::new(Held::new(body, running), &replies)))
        }
    });
    let io = Metered { io, written: life.written.clone() };
    let streams = Streams::default();
    let protocols = protocols(limits, streams.clone());
    let connection = pin!(protocols.serve_connection(TokioIo::new(io), answering));
    let mut driven = Driven::new(connection, streams);
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut is_timed = true;
    let ending = loop {
        tokio::select! {
            // How a connection ends is the caller's business.
            _ = &mut driven => return None,
            () = stopped(&mut stopping) => break Ending::Stopping,
            () = timer.as_mut(), if is_timed => match life.verdict(limits, Instant::now()) {
                Verdict::End(ending) => break ending,
                Verdict::Stay(Some(until)) => timer.as_mut().reset(until.into()),
                Verdict::Stay(None) => is_timed = false,
            },
        }
    };
    if ending == Ending::Unread {
        // Nothing that is said now would be read.
        return Some(ending);
    }
    driven.connection.as_mut().graceful_shutdown();
    let last = limits.age_grace.filter(|_| ending == Ending::Old).and_then(|grace| Instant::now().checked_add(grace));
    loop {
        let (before, soon) = (life.written.bytes(), Instant::now() + GOODBYE);
        let until = last.map_or(soon, |last| last.min(soon));
        let ended = tokio::time::timeout_at(until.into(), &mut driven).await.is_ok();
        // A request that came just now is answered all the same, and a caller may take a long reply slowly.
        let is_busy = life.is_running() || life.written.bytes() > before;
        if life.unread_at(limits).is_some_and(|at| at <= Instant::now()) {
            return Some(Ending::Unread);
        }
        if ended || !is_busy || last.is_some_and(|last| last <= Instant::now()) {
            return Some(ending);
        }
    }
}

/// Returns once the server is told to stop.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the server too.
    drop(stopping.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections_max: 1,
            handshake: Duration::from_secs(1),
            first_request: Duration::from_secs(10),
            idle: Some(Duration::from_secs(100)),
            send: Some(Duration::from_secs(5000)),
            age: Some(Duration::from_secs(1000)),
            age_grace: None,
            keepalive: None,
            keepalive_timeout: Duration::from_secs(1),
            streams_max: 1,
        }
    }

    #[test]
    fn connections_end_when_nothing_comes_and_when_they_are_old() {
        let (limits, start) = (limits(), Instant::now());
        let life = Life::new(start, &limits, 0.5);
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(life.verdict(&limits, at(9)), Verdict::Stay(Some(at(10))));
        assert_eq!(life.verdict(&limits, at(10)), Verdict::End(Ending::Slow));
        let running = life.enter();
        assert_eq!(life.verdict(&limits, at(500)), Verdict::Stay(Some(at(600))));
        assert_eq!(life.verdict(&limits, at(950)), Verdict::Stay(life.old_at));
        drop(running);
        life.quiet_since_ms.store(500_000, Ordering::Release);
        assert_eq!(life.verdict(&limits, at(599)), Verdict::Stay(Some(at(600))));
        assert_eq!(life.verdict(&limits, at(600)), Verdict::End(Ending::Idle));
        assert_eq!(life.verdict(&limits, at(1001)), Verdict::End(Ending::Old));
    }

    #[test]
    fn connections_end_when_their_replies_are_not_taken() {
        let (patience, start) = (Duration::from_secs(20), Instant::now());
        let limits = Limits { send: Some(patience), age: None, ..limits() };
        let life = Life::new(start, &limits, 0.5);
        let running = life.enter();
        let now = Instant::now();
        assert_eq!(life.verdict(&limits, now), Verdict::Stay(Some(now + patience)), "a reply may begin at once");
        let reply = Sending::new(Held::new(Body::empty(), running), &life.replies);
        let due = life.replies.due(patience).expect("one is being sent");
        assert_eq!(life.verdict(&limits, now), Verdict::Stay(Some(due)));
        assert_eq!(life.verdict(&limits, due), Verdict::End(Ending::Unread));
        drop(reply);
        assert_eq!(life.verdict(&limits, now + patience), Verdict::Stay(Some(now + 2 * patience)));
    }

    #[test]
    fn ages_differ_by_a_tenth() {
        let (limits, start) = (limits(), Instant::now());
        let old = |jitter| Life::new(start, &limits, jitter).old_at.expect("there is a bound") - start;
        assert_eq!((old(0.0).as_secs(), old(1.0).as_secs()), (900, 1100));
    }

    #[test]
    fn without_bounds_nothing_is_looked_at() {
        let limits = Limits { idle: None, age: None, send: None, ..limits() };
        let life = Life::new(Instant::now(), &limits, 0.5);
        drop(life.enter());
        assert_eq!(life.verdict(&limits, Instant::now() + Duration::from_secs(1 << 20)), Verdict::Stay(None));
    }
}
