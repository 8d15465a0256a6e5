//! The `traceparent` header of W3C's Trace Context: which trace a request belongs to.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use http::{HeaderMap, HeaderValue};

/// The header.
pub(super) const NAME: &str = "traceparent";

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Of the trace, never zero.
    pub trace_id: u128,
    /// Of the span within it, never zero.
    pub span_id: u64,
    /// Whether whoever began the trace has it recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// A trace that begins here.
    pub fn root() -> Self {
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self { trace_id: trace_id.max(1), span_id: random().max(1), is_sampled: true }
    }

    /// A place below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: random().max(1), ..*self }
    }

    /// What `headers` say; `None` when they say nothing, or what is no place.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(NAME)?.to_str().ok()?;
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lengths = (version.len(), trace_id.len(), span_id.len(), flags.len()) == (2, 32, 16, 2);
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let all_hex = [version, trace_id, span_id, flags].iter().all(|part| part.chars().all(is_hex));
        // Later versions may have more parts; the first has not.
        if !lengths || !all_hex || version == "ff" || version == "00" && parts.next().is_some() {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id > 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id > 0)?;
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, is_sampled })
    }

    /// As the header has it.
    pub(super) fn header(&self) -> HeaderValue {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled));
        // Digits and dashes only.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Other numbers in each process and at each call, as the standard library's tables have them.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<TraceParent> {
        TraceParent::read(
            &[(http::HeaderName::from_static(NAME), HeaderValue::from_str(text).expect("ASCII"))].into_iter().collect(),
        )
    }

    #[test]
    fn headers_are_read_as_they_are_written() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let place = read(text).expect("a place");
        assert_eq!((place.trace_id >> 96, place.span_id, place.is_sampled), (0x0af7_6519, 0xb7ad_6b71_6920_3331, true));
        assert_eq!(place.header(), text);
        let child = place.child();
        assert_eq!(child.trace_id, place.trace_id);
        assert_ne!(child.span_id, place.span_id);
        assert_eq!(read(&(text.replacen("00", "cc", 1) + "-more")), Some(place), "later versions may say more");
        assert_ne!(TraceParent::root().trace_id, TraceParent::root().trace_id);
    }

    #[test]
    fn what_is_no_place_is_passed_over() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-011",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
