//! How urgent a request is: our metadata key and header.

use http::HeaderMap;

use crate::batch::Priority;
use crate::error::{Error, Result};

/// The key.
const NAME: &str = "x-coracle-priority";

/// What the headers say: low, normal or high; normal where they say nothing.
///
/// # Errors
/// `INVALID_ARGUMENT` for anything else.
pub(super) fn priority(headers: &HeaderMap) -> Result<Priority> {
    let Some(value) = headers.get(NAME) else { return Ok(Priority::default()) };
    let text = value.to_str().map_err(|_| Error::invalid_argument(format!("{NAME} is no text")))?;
    text.trim().to_ascii_lowercase().parse().map_err(|e: Error| e.at(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_words() {
        let read = |value: &'static str| {
            priority(&HeaderMap::from_iter([(
                http::HeaderName::from_static(NAME),
                http::HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(priority(&HeaderMap::new()).expect("nothing is said"), Priority::Normal);
        assert_eq!((read("high").expect("known"), read(" Low ").expect("known")), (Priority::High, Priority::Low));
        let error = read("7").expect_err("a number");
        assert_eq!(error.message(), "x-coracle-priority: the priority is \"7\", expected low, normal or high");
    }
}
