//! Bodies of requests, gathered and inflated under the memory budget, and bodies of replies, deflated.

use std::cell::Cell;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;

use super::reply::Refusal;
use super::work::off_the_runtime;
use crate::api::budget::Ledger;
use crate::api::gather::{Coding, grow, inflate};
use crate::error::{Error, Result};

/// The whole of a request's body, inflated.
///
/// # Errors
/// [`Refusal::TooLarge`] for more than `most` bytes; `RESOURCE_EXHAUSTED` for more than the ledger gives, `UNIMPLEMENTED` for an encoding that is not known,
/// `INVALID_ARGUMENT` for damaged data, `CANCELLED` when the connection breaks off.
pub(super) async fn gather(
    headers: &HeaderMap,
    body: &mut Body,
    most: usize,
    ledger: &Arc<Ledger>,
) -> Result<Bytes, Refusal> {
    // What says that it is too large is believed.
    let claimed = usize::try_from(http_body::Body::size_hint(body).lower()).unwrap_or(usize::MAX);
    if claimed > most {
        return Err(Refusal::TooLarge(too_large(claimed, most)));
    }
    let mut buffer = BytesMut::new();
    let mut only: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::cancelled(format!("the request broke off: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let held = buffer.len() + only.as_ref().map_or(0, Bytes::len);
        if held + data.len() > most {
            return Err(Refusal::TooLarge(too_large(held + data.len(), most)));
        }
        if held == 0 {
            // Small bodies come in one piece, which is not copied.
            ledger.take(data.len() as u64)?;
            only = Some(data);
            continue;
        }
        if let Some(first) = only.take() {
            grow(&mut buffer, first.len(), most, ledger)?;
            buffer.put(first);
        }
        grow(&mut buffer, data.len(), most, ledger)?;
        buffer.put(data);
    }
    let body = only.unwrap_or_else(|| buffer.freeze());
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(body),
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => {
            let ledger = Arc::clone(ledger);
            let inflating = move || {
                let is_large = Cell::new(false);
                let refuse = |length| {
                    is_large.set(true);
                    too_large(length, most)
                };
                match inflate(Coding::Gzip, &body, BytesMut::new(), most, &ledger, refuse) {
                    Err(error) if is_large.get() => Ok(Err(Refusal::TooLarge(error))),
                    inflated => Ok(Ok(inflated?.freeze())),
                }
            };
            // Inflating takes longer than its input's size tells.
            off_the_runtime(usize::MAX, inflating).await?
        }
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            Err(Error::unimplemented(format!("Content-Encoding {other:?} is not supported, gzip is")).into())
        }
    }
}

/// Passes over what comes of a body that was refused: where bytes stay unread when a connection is closed, its client may see
/// a reset in place of the answer. Bounded in bytes and in time.
pub(super) async fn drain(body: &mut Body) {
    const BYTES_MAX: usize = 1 << 20;
    const TIME_MAX: Duration = Duration::from_millis(50);
    let draining = async {
        let mut passed = 0;
        while let Some(Ok(frame)) = body.frame().await {
            passed += frame.data_ref().map_or(0, Bytes::len);
            if passed > BYTES_MAX {
                return;
            }
        }
    };
    // What has not come by then is the client's to lose.
    let _ = tokio::time::timeout(TIME_MAX, draining).await;
}

fn too_large(length: usize, most: usize) -> Error {
    Error::resource_exhausted(format!(
        "a body of {length} bytes is larger than the limit of {most} (max_message_bytes)"
    ))
}

/// Whether a caller says that it takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = codings.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let name = name.trim();
        let refused = quality.trim().strip_prefix("q=").and_then(|q| q.parse().ok()).is_some_and(|q: f32| q <= 0.0);
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

/// `body` deflated, its room taken from `ledger` first.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` beyond the ledger.
pub(super) async fn deflate(body: Bytes, ledger: &Arc<Ledger>) -> Result<Bytes> {
    // Data that do not shrink grow by a block's header each 16 KiB.
    let most = body.len() + body.len() / 1024 + 64;
    ledger.take(most as u64)?;
    off_the_runtime(body.len(), move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(most / 2), Compression::fast());
        encoder.write_all(&body)?;
        Ok(encoder.finish()?.into())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;
    use crate::error::Code;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[tokio::test]
    async fn bodies_come_out_as_they_went_in() {
        let ledger = Ledger::open(&Budget::new(1 << 20));
        let packed = deflate(Bytes::from("hello".repeat(100)), &ledger).await.expect("it fits");
        assert!(packed.len() < 100);
        let gzip = headers(&[(header::CONTENT_ENCODING, "gzip")]);
        let body = gather(&gzip, &mut Body::from(packed.clone()), 1000, &ledger).await.expect("it is whole");
        assert_eq!(body, "hello".repeat(100));
        let error = gather(&gzip, &mut Body::from(packed.slice(..10)), 1000, &ledger).await.expect_err("it is cut");
        assert_eq!(error.error().code(), Code::InvalidArgument);
        let refusal = gather(&gzip, &mut Body::from(packed), 400, &ledger).await.expect_err("500 bytes");
        assert!(matches!(refusal, Refusal::TooLarge(_)));
        let brotli = headers(&[(header::CONTENT_ENCODING, "br")]);
        let error = gather(&brotli, &mut Body::from("x"), 400, &ledger).await.expect_err("unknown");
        assert_eq!(error.error().code(), Code::Unimplemented);
        let mut pieces = in_pieces(&["ab", "cd", "e"]);
        assert_eq!(gather(&HeaderMap::new(), &mut pieces, 5, &ledger).await.expect("three pieces"), "abcde");
        let mut pieces = in_pieces(&["ab", "cd", "e"]);
        assert!(gather(&HeaderMap::new(), &mut pieces, 4, &ledger).await.is_err());
    }

    /// A body that comes in these pieces.
    fn in_pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces.iter().map(|p| Ok::<_, std::io::Error>(Bytes::from(*p))).collect();
        Body::from_stream(tokio_stream::iter(pieces))
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let accepts = |value| takes_gzip(&headers(&[(header::ACCEPT_ENCODING, value)]));
        assert!(accepts("gzip, deflate") && accepts("br;q=1.0, gzip;q=0.8") && accepts("*"));
        assert!(!accepts("identity") && !accepts("gzip;q=0") && !takes_gzip(&HeaderMap::new()));
    }
}
