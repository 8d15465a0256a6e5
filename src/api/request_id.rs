//! What a request is called in logs: the caller's `x-request-id`, or one of ours. Replies carry it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};

/// The header.
pub(super) const NAME: &str = "x-request-id";
/// Longer names of callers' are replaced.
const BYTES_MAX: usize = 128;

/// The name that the request with these headers has.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(NAME).filter(|id| !id.is_empty() && id.len() <= BYTES_MAX && id.to_str().is_ok());
    given.cloned().unwrap_or_else(fresh)
}

/// A name that no other request has: the process' start and a count.
fn fresh() -> HeaderValue {
    static START: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let start = *START.get_or_init(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_right(16)
    });
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut text = *b"0000000000000000-0000000000000000";
    for (digits, mut number) in [(0..16, start), (17..33, count)] {
        for at in digits.rev() {
            text[at] = b"0123456789abcdef"[(number & 15) as usize];
            number >>= 4;
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_names_are_kept_and_others_made() {
        let mut headers = HeaderMap::new();
        let (first, second) = (request_id(&headers), request_id(&headers));
        assert_ne!(first, second);
        assert_eq!(first.len(), 33);
        headers.insert(NAME, HeaderValue::from_static("abc-1"));
        assert_eq!(request_id(&headers), "abc-1");
        headers.insert(NAME, HeaderValue::from_str(&"x".repeat(200)).expect("a value"));
        assert_eq!(request_id(&headers).len(), 33);
    }
}
