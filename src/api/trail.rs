//! What a request is called in logs and traces, and what is noted of it on its way.
//!
//! A request's trail is ambient, as the spans of tracing libraries are: nothing of it decides what is answered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use tokio::task::JoinSet;

use super::request_id::{self, request_id};
use super::trace::{self, TraceParent};
use crate::batch::Timing;

tokio::task_local! {
    static CURRENT: Arc<Trail>;
}

/// What was noted of a request.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// The signature asked for; empty: the model's default.
    pub signature: String,
    /// Where its time went, once it was answered by a model.
    pub timing: Option<Timing>,
}

/// A request, as logs and traces know it.
#[derive(Debug)]
pub struct Trail {
    id: HeaderValue,
    /// Where its caller is in a trace, if it said so.
    pub parent: Option<TraceParent>,
    /// Where it is itself, if its caller is somewhere.
    pub own: Option<TraceParent>,
    /// When it came.
    pub start: SystemTime,
    /// Examples that were read of it.
    examples: AtomicUsize,
    noted: Mutex<Noted>,
}

impl Trail {
    /// That of the request with these headers.
    pub(super) fn begin(headers: &HeaderMap) -> Arc<Self> {
        let parent = TraceParent::read(headers);
        let own = parent.map(|parent| parent.child());
        let (id, start, noted) = (request_id(headers), SystemTime::now(), Mutex::default());
        Arc::new(Self { id, parent, own, start, examples: AtomicUsize::new(0), noted })
    }

    /// That of the request which is being answered, if any is.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Answers a request: what `work` does has this trail.
    pub(super) async fn around<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        CURRENT.scope(Arc::clone(self), work).await
    }

    /// As [`Trail::around`], in a task of its own: others of the current one go on meanwhile. It ends with the future.
    pub(super) async fn apart<T: Send + 'static>(self: Arc<Self>, work: impl Future<Output = T> + Send + 'static) -> T {
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { self.around(work).await });
        match tasks.join_next().await {
            Some(Ok(output)) => output,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // It is cancelled with the runtime, which ends this task too.
            _ => std::future::pending().await,
        }
    }

    /// Says in a reply what the request is called.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(request_id::NAME, self.id.clone());
        if let Some(own) = self.own {
            headers.insert(trace::NAME, own.header());
        }
    }

    /// The request's name.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// How many examples it holds, as far as they were read.
    pub fn examples(&self) -> usize {
        self.examples.load(Ordering::Relaxed)
    }

    /// What was noted so far.
    pub fn noted(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes how many examples the current request holds. Several tasks may read them.
pub(super) fn note_examples(count: usize) {
    // As below.
    let _ = CURRENT.try_with(|trail| trail.examples.fetch_max(count, Ordering::Relaxed));
}

/// Notes which signature the current request asked for, and where its time went.
pub(super) fn note(signature: &str, timing: Timing) {
    // Without a request nobody wants to know.
    let _ = CURRENT.try_with(|trail| {
        let mut noted = trail.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // A request may have a model run several times: for each of its tasks.
        let before = noted.timing.unwrap_or_default();
        noted.signature.replace_range(.., signature);
        noted.timing = Some(Timing {
            queued: before.queued.max(timing.queued),
            ran: before.ran.max(timing.ran),
            batch_rows: before.batch_rows.max(timing.batch_rows),
            batches: before.batches + timing.batches,
            lane: timing.lane,
        });
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_noted_belongs_to_the_request_at_hand() {
        let mut headers = HeaderMap::new();
        headers.insert(request_id::NAME, HeaderValue::from_static("abc"));
        let trail = Trail::begin(&headers);
        note("outside", Timing::default());
        let timing = |ms| Timing { queued: Duration::from_millis(ms), batch_rows: 8, batches: 1, ..Timing::default() };
        trail.around(async { (note("read", timing(3)), note("read", timing(2))) }).await;
        let noted = trail.noted();
        let told = noted.timing.expect("it was noted");
        assert_eq!((noted.signature.as_str(), told.queued.as_millis(), told.batches), ("read", 3, 2));
        assert!(Trail::current().is_none());
        let mut reply = HeaderMap::new();
        trail.mark(&mut reply);
        assert_eq!((reply.len(), reply[request_id::NAME].as_bytes()), (1, &b"abc"[..]));
    }

    #[tokio::test]
    async fn work_apart_belongs_to_the_request_too_and_ends_with_it() {
        let trail = Trail::begin(&HeaderMap::new());
        Arc::clone(&trail).apart(async { note("apart", Timing::default()) }).await;
        assert_eq!(trail.noted().signature, "apart");
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let unending = Arc::clone(&trail).apart(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), unending).await.is_err());
        assert!(receiver.await.is_err(), "the work was dropped");
    }

    #[test]
    fn callers_in_a_trace_learn_where_the_request_is() {
        let mut headers = HeaderMap::new();
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert(trace::NAME, HeaderValue::from_static(text));
        let mut reply = HeaderMap::new();
        Trail::begin(&headers).mark(&mut reply);
        let told = reply[trace::NAME].to_str().expect("ASCII");
        assert!(told.starts_with(&text[..36]) && told.ends_with("-01") && told != text, "{told}");
    }
}
