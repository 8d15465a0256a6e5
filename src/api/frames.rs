//! In front of gRPC: one message is gathered and inflated under the memory budget, before anything else sees it, unless it
//! can be told from its first bytes that it would be answered too late.
//!
//! A message's header only claims a length: memory is taken as bytes arrive, never for the claim.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use tower::{Layer, Service};

use super::budget::{Budget, Ledger};
use super::deadline::deadline;
use super::gather::{Coding, Held, grow, inflate};
use super::in_flight::{InFlight, Place};
use super::inference::Target;
use super::methods::{method, right};
use super::observer::{Answering, Call, Entrypoint, Observer};
use super::priority::priority;
use super::status::{PUSHBACK, status};
use super::tfs::{peek, weigh};
use super::tokens::Access;
use super::trail::Trail;
use crate::batch::{each_step_aside, is_much};
use crate::error::{Code, Error, Result};
use crate::model::Manager;

/// A flag and the length of what follows.
const HEADER: usize = 5;
/// Bytes that buy a message more time.
const PIECE: usize = 256 << 10;
/// Larger compressed messages are inflated on a thread for blocking work.
const INFLATE_INLINE: usize = 32 << 10;

/// Wraps services whose methods take one message.
#[derive(Clone)]
pub(super) struct Frames {
    /// What requests share, where their connection has no part of it.
    pub(super) budget: Arc<Budget>,
    /// Bytes of one message, inflated.
    pub(super) max_message_bytes: usize,
    /// How long a message may take to come, and how long each [`PIECE`] of it more.
    pub(super) receive_timeout: Duration,
    /// Requests being answered.
    pub(super) in_flight: Arc<InFlight>,
    /// Who may call.
    pub(super) access: Arc<Access>,
    /// The models; `None` foresees nothing.
    pub(super) manager: Option<Arc<Manager>>,
    /// Receives statistics of calls that do not reach their method.
    pub(super) observer: Arc<dyn Observer>,
}

impl<S> Layer<S> for Frames {
    type Service = Framed<S>;
    fn layer(&self, inner: S) -> Framed<S> {
        Framed { inner, frames: self.clone() }
    }
}

/// A service behind [`Frames`].
#[derive(Clone)]
pub(super) struct Framed<S> {
    inner: S,
    frames: Frames,
}

type HttpBody = axum::body::Body;
type Message = Full<Bytes>;
type Reply = Pin<Box<dyn Future<Output = std::result::Result<Response<HttpBody>, Infallible>> + Send>>;

impl<S> Service<Request<HttpBody>> for Framed<S>
where
    S: Service<Request<Message>, Response = Response<tonic::body::Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<HttpBody>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<HttpBody>) -> Reply {
        let frames = self.frames.clone();
        // The clone takes the next call, the ready one this.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let (trail, start) = (Trail::begin(request.headers()), Instant::now());
            let method = method(request.uri().path());
            let answer = async {
                let mut asked = None;
                Ok::<_, Infallible>(match frames.prepare(request, start, &mut asked).await {
                    Err(error) => frames.refuse(&error, method, asked.as_ref(), start),
                    Ok((request, kept)) => {
                        // gRPC copies the message and decodes it in one step.
                        let bytes = request.body().size_hint().lower() as usize;
                        let answering = inner.call(request);
                        let response = if is_much(bytes) {
                            // Its connection answers others meanwhile.
                            Arc::clone(&trail).apart(each_step_aside(bytes, answering)).await?
                        } else {
                            answering.await?
                        };
                        response.map(|body| HttpBody::new(Held::new(body, kept)))
                    }
                })
            };
            let answered = trail.around(async {
                tokio::select! {
                    answered = answer => answered,
                    error = frames.in_flight.given_up() => Ok(frames.refuse(&error, method, None, start)),
                }
            });
            let mut response = answered.await?;
            if response.headers().contains_key(PUSHBACK) {
                frames.observer.refused(Entrypoint::Grpc, start.elapsed());
            }
            trail.mark(response.headers_mut());
            Ok(response)
        })
    }
}

impl Frames {
    /// The answer to a call that does not reach its method, or whose method is not waited for any more.
    fn refuse(
        &self,
        error: &Error,
        method: &'static str,
        asked: Option<&Answering>,
        start: Instant,
    ) -> Response<HttpBody> {
        self.observer.called(&Call {
            entrypoint: Entrypoint::Grpc,
            method,
            model: asked.map_or("", |asked| &asked.id.name),
            version: asked.map(|asked| asked.id.version),
            signature: asked.map_or("", |asked| &asked.signature),
            error: Some(error),
            latency: start.elapsed(),
        });
        status(error).into_http()
    }

    /// The request with its message gathered, and what it holds until it is answered. `asked` is told which servable refuses it.
    async fn prepare(
        &self,
        request: Request<HttpBody>,
        start: Instant,
        asked: &mut Option<Answering>,
    ) -> Result<(Request<Message>, (Arc<Ledger>, Place))> {
        if let Some(right) = right(request.uri().path()) {
            self.access.permit(right, request.headers())?;
        }
        let place = self.in_flight.enter()?;
        let (mut parts, body) = request.into_parts();
        let ledger = Ledger::open(parts.extensions.get().unwrap_or(&self.budget));
        let (path, deadline) = (parts.uri.path(), deadline(&parts.headers, start));
        let foresee = |beginning: &[u8]| self.foresee(path, beginning, deadline, asked);
        let message = self.gather(&parts.headers, path, body, &ledger, foresee).await?;
        parts.extensions.insert(priority(&parts.headers)?);
        parts.headers.remove("grpc-encoding");
        parts.extensions.insert(Arc::clone(&ledger));
        Ok((Request::from_parts(parts, Full::new(message)), (ledger, place)))
    }

    /// Whether the request whose message begins so would be answered in time; `false` where that cannot be told yet.
    fn foresee(
        &self,
        path: &str,
        beginning: &[u8],
        deadline: Option<Instant>,
        asked: &mut Option<Answering>,
    ) -> Result<bool> {
        let Some(manager) = &self.manager else { return Ok(true) };
        let Some(wanted) = peek(path, beginning) else { return Ok(false) };
        // What is not there yet, or not at all, is the method's to say.
        let Some(target) = Target::present(manager, &wanted) else { return Ok(true) };
        *asked = Some(target.answering());
        target.foresee(deadline)?;
        Ok(true)
    }

    /// The message with a header that says it is not compressed. As soon as its beginning has come, `foresee` may refuse it, or say
    /// that it need not be asked again.
    async fn gather(
        &self,
        headers: &HeaderMap,
        path: &str,
        mut body: HttpBody,
        ledger: &Arc<Ledger>,
        mut foresee: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<Bytes> {
        let mut buffer = BytesMut::new();
        let (mut claimed, mut foreseen) = (None, false);
        let start = tokio::time::Instant::now();
        loop {
            let pieces = u32::try_from(buffer.len() / PIECE).unwrap_or(u32::MAX);
            let patience = self.receive_timeout.saturating_mul(pieces.saturating_add(1));
            let next = match start.checked_add(patience) {
                None => body.frame().await,
                Some(end) => {
                    tokio::time::timeout_at(end, body.frame()).await.map_err(|_| late(buffer.len(), patience))?
                }
            };
            let Some(frame) = next else { break };
            let frame = frame.map_err(|e| Error::cancelled(format!("the request broke off: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let most = claimed.map_or(HEADER + self.max_message_bytes, |length: usize| HEADER + length);
            if buffer.len() + data.len() > most {
                return Err(match claimed {
                    Some(_) => Error::unimplemented("the method takes one message, the request holds more"),
                    None => self.too_large(buffer.len() + data.len()),
                });
            }
            grow(&mut buffer, data.len(), most, ledger)?;
            buffer.put(data);
            if claimed.is_none() && buffer.len() >= HEADER {
                let length = (&buffer[1..HEADER]).get_u32() as usize;
                if length > self.max_message_bytes {
                    return Err(self.too_large(length));
                }
                if buffer.len() > HEADER + length {
                    return Err(Error::unimplemented("the method takes one message, the request holds more"));
                }
                claimed = Some(length);
            }
            // What has come as a whole is judged with all that is known of it.
            if !foreseen
                && buffer.len() > HEADER
                && buffer[0] == 0
                && claimed.is_some_and(|l| buffer.len() < HEADER + l)
            {
                foreseen = foresee(&buffer[HEADER..])?;
            }
        }
        if claimed.is_none_or(|length| buffer.len() < HEADER + length) {
            return Err(Error::internal("the request ends before its message does"));
        }
        let message = if buffer[0] == 0 { buffer.freeze() } else { self.inflate(headers, buffer, ledger).await? };
        // gRPC copies the message once more, and decoding makes values of it.
        ledger.take(message.len() as u64)?;
        ledger.take(weigh(path, &message[HEADER..]))?;
        Ok(message)
    }

    fn too_large(&self, length: usize) -> Error {
        Error::resource_exhausted(format!(
            "a message of {length} bytes is larger than the limit of {} (max_message_bytes)",
            self.max_message_bytes
        ))
    }

    async fn inflate(&self, headers: &HeaderMap, packed: BytesMut, ledger: &Arc<Ledger>) -> Result<Bytes> {
        let coding = match headers.get("grpc-encoding").and_then(|v| v.to_str().ok()) {
            Some("gzip") => Coding::Gzip,
            Some("deflate") => Coding::Deflate,
            other => {
                let name = other.unwrap_or("none");
                let what = format!("message compression {name:?} is not supported, gzip and deflate are");
                return Err(Error::unimplemented(what));
            }
        };
        let (frames, ledger) = (self.clone(), Arc::clone(ledger));
        if packed.len() <= INFLATE_INLINE {
            return frames.inflate_now(coding, &packed[HEADER..], &ledger);
        }
        let inflating = tokio::task::spawn_blocking(move || frames.inflate_now(coding, &packed[HEADER..], &ledger));
        inflating.await.map_err(|e| Error::internal(format!("inflating a message failed: {e}")))?
    }

    fn inflate_now(&self, coding: Coding, packed: &[u8], ledger: &Ledger) -> Result<Bytes> {
        let most = HEADER + self.max_message_bytes;
        let mut buffer =
            inflate(coding, packed, BytesMut::zeroed(HEADER), most, ledger, |length| self.too_large(length))
                .map_err(|error| if error.code() == Code::InvalidArgument { damaged(&error) } else { error })?;
        let length = u32::try_from(buffer.len() - HEADER).map_err(|_| self.too_large(buffer.len()))?;
        buffer[1..HEADER].copy_from_slice(&length.to_be_bytes());
        Ok(buffer.freeze())
    }
}

fn late(bytes: usize, patience: Duration) -> Error {
    Error::deadline_exceeded(format!(
        "{bytes} bytes of the message came within {patience:?}, too few (receive_timeout_ms)"
    ))
}

/// gRPC's code for messages that cannot be inflated.
fn damaged(error: &Error) -> Error {
    Error::internal(error.message())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::api::observer::Silent;
    use crate::error::Code;

    fn frames(limit: u64) -> (Frames, Arc<Ledger>) {
        let budget = Budget::new(limit);
        let ledger = Ledger::open(&budget);
        let (in_flight, access, observer) = (InFlight::new(0, ""), Access::new(None, None), Arc::new(Silent));
        let receive_timeout = Duration::from_secs(1);
        let frames =
            Frames { budget, max_message_bytes: 1 << 20, receive_timeout, in_flight, access, manager: None, observer };
        (frames, ledger)
    }

    fn framed(flag: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![flag];
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    async fn gather(frames: &Frames, ledger: &Arc<Ledger>, headers: &HeaderMap, bytes: Vec<u8>) -> Result<Bytes> {
        frames.gather(headers, "/tensorflow.serving.X/Y", HttpBody::from(bytes), ledger, |_| Ok(true)).await
    }

    #[tokio::test]
    async fn a_message_that_comes_too_late_is_not_waited_for() {
        let (frames, ledger) = frames(1 << 20);
        let frame = framed(0, &[7; 1000]);
        // The rest never comes.
        let pieces = [frame[..3].to_vec(), frame[3..100].to_vec()].map(|p| Ok::<_, std::io::Error>(Bytes::from(p)));
        let stream = tokio_stream::StreamExt::chain(tokio_stream::iter(pieces), tokio_stream::pending());
        let (headers, path) = (HeaderMap::new(), "/tensorflow.serving.X/Y");
        let refuse = |beginning: &[u8]| {
            assert_eq!(beginning, [7; 95]);
            Err(Error::resource_exhausted("too late"))
        };
        let gathering = frames.gather(&headers, path, HttpBody::from_stream(stream), &ledger, refuse);
        assert_eq!(gathering.await.expect_err("it is refused").message(), "too late");
    }

    #[tokio::test]
    async fn a_claim_without_bytes_takes_nothing() {
        let (frames, ledger) = frames(64 << 10);
        let mut frame = framed(0, b"abc");
        frame[1..5].copy_from_slice(&(1u32 << 19).to_be_bytes());
        let error = gather(&frames, &ledger, &HeaderMap::new(), frame).await.expect_err("it ends early");
        assert_eq!(error.code(), Code::Internal);
        assert!(frames.budget.used() <= 32 << 10);
    }

    #[tokio::test]
    async fn bombs_are_stopped_by_the_budget() {
        let (frames, ledger) = frames(100 << 10);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&vec![0; 1 << 20]).expect("in memory");
        let mut headers = HeaderMap::new();
        headers.insert("grpc-encoding", http::HeaderValue::from_static("gzip"));
        let frame = framed(1, &packer.finish().expect("in memory"));
        let error = gather(&frames, &ledger, &headers, frame).await.expect_err("too much");
        assert_eq!(error.code(), Code::ResourceExhausted);
        drop(ledger);
        assert_eq!(frames.budget.used(), 0);
    }

    #[tokio::test]
    async fn compressed_messages_come_out_as_they_went_in() {
        let (frames, ledger) = frames(1 << 20);
        let (level, hello) = (flate2::Compression::fast(), b"hello".as_slice());
        let mut codings = [("gzip", Vec::new()), ("deflate", Vec::new())];
        flate2::bufread::GzEncoder::new(hello, level).read_to_end(&mut codings[0].1).expect("in memory");
        flate2::bufread::ZlibEncoder::new(hello, level).read_to_end(&mut codings[1].1).expect("in memory");
        for (name, packed) in codings {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-encoding", http::HeaderValue::from_static(name));
            let message = gather(&frames, &ledger, &headers, framed(1, &packed)).await.expect("it is whole");
            assert_eq!(message, framed(0, hello));
            headers.insert("grpc-encoding", http::HeaderValue::from_static("br"));
            let error = gather(&frames, &ledger, &headers, framed(1, &packed)).await.expect_err("another coding");
            assert_eq!(error.code(), Code::Unimplemented);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_come_too_slowly_are_given_up() {
        use http_body::Frame;
        use tokio_stream::StreamExt as _;

        let (frames, ledger) = frames(4 << 20);
        let start = tokio::time::Instant::now();
        for (bytes, seconds) in [(0, 1), (100, 1), (600 << 10, 3)] {
            let mut message = vec![0; bytes];
            if bytes > HEADER {
                message[1..HEADER].copy_from_slice(&(1u32 << 20).to_be_bytes());
            }
            let sent = Ok::<_, Infallible>(Frame::data(Bytes::from(message)));
            let body = http_body_util::StreamBody::new(tokio_stream::once(sent).chain(tokio_stream::pending()));
            let begun = start.elapsed();
            let error = frames
                .gather(&HeaderMap::new(), "", HttpBody::new(body), &ledger, |_| Ok(true))
                .await
                .expect_err("no end");
            assert_eq!(error.code(), Code::DeadlineExceeded);
            assert!(
                error.message().starts_with(&format!("{bytes} bytes of the message came within {seconds}s")),
                "{error}"
            );
            assert_eq!((start.elapsed() - begun).as_secs(), seconds);
        }
    }
}
