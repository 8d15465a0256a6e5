//! Where the members of a request stand. Their names come in any order, and what one means depends on another: a tensor's
//! type on the signature that is named behind it.

use super::text::Text;
use crate::error::{Error, Result};

/// Bounds on JSON.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Lists and objects inside each other.
    pub depth_max: usize,
    /// Elements of one tensor.
    pub elements_max: usize,
}

/// The text of the values that `names` have in the object `body`; other members are passed over. The grammar of all of it is
/// checked.
///
/// # Errors
/// `INVALID_ARGUMENT` when `body` is no object of JSON, with the offset of the mistake, when it is nested deeper than
/// `depth_max`, or when one of the names stands twice.
pub(in crate::api::rest) fn outline<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
    depth_max: usize,
) -> Result<[Option<&'a [u8]>; N]> {
    let mut text = Text::new(body);
    let mut found = [None; N];
    match text.peek() {
        None => return Err(Error::invalid_argument("JSON Parse error: The document is empty")),
        Some(b'{') => text.object(|text, name| {
            let start = text.start();
            text.skip(depth_max.saturating_sub(1))?;
            if let Some(i) = names.iter().position(|n| n.as_bytes() == name)
                && found[i].replace(text.since(start)).is_some()
            {
                return Err(Error::invalid_argument(format!("the key '{}' stands twice", names[i])));
            }
            Ok(())
        })?,
        Some(_) => {
            let mut whole = text.clone();
            text.skip(depth_max)?;
            text.end()?;
            return Err(Error::invalid_argument(format!("JSON Value: {} Is not object", whole.excerpt())));
        }
    }
    text.end()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_order() {
        let body = br#" {"x": [1, {"a": 2}], "signature_name": "s" , "instances":[ [1.0] ]} "#;
        let [signature, instances, inputs] =
            outline(body, ["signature_name", "instances", "inputs"], 8).expect("an object");
        assert_eq!(signature, Some(br#""s""#.as_slice()));
        assert_eq!(instances, Some(b"[ [1.0] ]".as_slice()));
        assert_eq!(inputs, None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let refusal = |body: &str| outline(body.as_bytes(), ["a"], 3).expect_err(body).message().to_owned();
        assert_eq!(refusal(" "), "JSON Parse error: The document is empty");
        assert_eq!(refusal("[1, 2]"), "JSON Value: [1, 2] Is not object");
        assert_eq!(refusal("[1, 2"), "JSON Parse error: Missing a comma or ] after an array element. at offset: 5");
        assert_eq!(refusal(r#"{"a": 1, "a": 2}"#), "the key 'a' stands twice");
        assert_eq!(
            refusal(r#"{"a": 1} {"#),
            "JSON Parse error: The document root must not be followed by other values. at offset: 9"
        );
        assert!(refusal(r#"{"a": [[[1]]]}"#).starts_with("JSON nested deeper than 2"));
    }
}
