//! Predict: rows or columns in, rows or columns out.

use std::sync::Arc;

use super::inputs;
use super::json::{Bounds, Text, outline};
use super::outputs::{Format, write_json};
use super::raw;
use super::reply::Reply;
use super::service::Asking;
use super::work::off_the_runtime;
use crate::api::inference::Target;
use crate::error::{Error, Result};
use crate::model::Face;
use crate::tensor::Tensor;

/// A request, read.
struct Read {
    format: Format,
    /// The signature's name; empty for the default.
    signature: String,
    inputs: Vec<(String, Tensor)>,
    /// Names of the outputs wanted; all when empty.
    filter: Vec<String>,
}

/// Answers a request.
///
/// # Errors
/// Those of TensorFlow Serving, with its codes and texts.
pub(super) async fn predict(asking: &Arc<Asking>, mut target: Target) -> Result<Reply> {
    let (reading, reader) = (Arc::clone(asking), target.clone());
    let read = off_the_runtime(asking.body.len(), move || read(&reading, reader)).await?;
    target.signature = read.signature;
    asking.asked.get_or_init(|| target.answering());
    let outputs = target.predict(read.inputs, &read.filter, &asking.terms).await?;
    let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.bytes().len()).sum();
    let (raw, ledger) = (raw::is_wanted(&asking.headers), Arc::clone(&asking.terms.ledger));
    // Text takes some bytes for each of an element.
    off_the_runtime(bytes.saturating_mul(4), move || {
        if raw {
            return raw::write(&outputs, &ledger);
        }
        Ok(Reply::json(write_json(read.format, &outputs, &ledger)?))
    })
    .await
}

/// The face that `target` names after its signature was set to `name`.
fn face(target: &mut Target, name: String) -> Result<Arc<Face>> {
    target.signature = name;
    target.face().cloned().ok_or_else(|| {
        Error::invalid_argument(format!("Serving signature name: \"{}\" not found in signature def", target.signature))
    })
}

fn read(asking: &Asking, mut target: Target) -> Result<Read> {
    let Asking { headers, query, body, terms, limits, .. } = asking;
    let query = query.as_deref();
    let filter = raw::parameter(query, "output_filter");
    let filter: Vec<String> =
        filter.iter().flat_map(|names| names.split(',')).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    if raw::is_sent(headers) {
        let face = face(&mut target, raw::parameter(query, "signature_name").unwrap_or_default())?;
        let inputs = raw::read(query, &face.signature, body)?;
        return Ok(Read { format: Format::Column, signature: target.signature, inputs, filter });
    }
    const NAMES: [&str; 4] = ["signature_name", "instances", "inputs", "output_filter"];
    let [name, instances, inputs, named_filter] = outline(body, NAMES, limits.depth_max)?;
    let name = name.map_or(Ok(String::new()), |text| string(text, "'signature_name' key must be a string value."))?;
    let face = face(&mut target, name)?;
    let filter = named_filter.map_or(Ok(filter), names)?;
    let bounds = Bounds { ledger: &terms.ledger, elements_max: limits.elements_max, text_bytes: body.len() };
    let (format, inputs) = inputs::read(instances, inputs, &face.signature, bounds)?;
    Ok(Read { format, signature: target.signature, inputs, filter })
}

/// The string that `text` is.
pub(super) fn string(text: &[u8], otherwise: &str) -> Result<String> {
    let wrong = || {
        let whole = Text::new(text).excerpt();
        Error::invalid_argument(format!("JSON Value: {whole} not formatted correctly. {otherwise}"))
    };
    let mut text = Text::new(text);
    if text.peek() != Some(b'"') {
        return Err(wrong());
    }
    String::from_utf8(text.string()?.into_owned()).map_err(|_| wrong())
}

/// The names in a list, or the single one.
fn names(text: &[u8]) -> Result<Vec<String>> {
    const OTHERWISE: &str = "'output_filter' key must be a list of strings.";
    let mut list = Text::new(text);
    if list.peek() != Some(b'[') {
        return Ok(vec![string(text, OTHERWISE)?]);
    }
    let mut names = Vec::new();
    list.list(|text| {
        let mut one = text.clone();
        text.skip(1)?;
        if one.peek() != Some(b'"') {
            let value = one.excerpt();
            return Err(Error::invalid_argument(format!("JSON Value: {value} not formatted correctly. {OTHERWISE}")));
        }
        names.push(String::from_utf8_lossy(&one.string()?).into_owned());
        Ok(())
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_lists_or_one_name() {
        assert_eq!(names(br#"["a", "b"]"#).expect("two"), ["a", "b"]);
        assert_eq!(names(br#" "a""#).expect("one"), ["a"]);
        assert_eq!(
            names(br#"["a", 1]"#).expect_err("a number").message(),
            "JSON Value: 1 not formatted correctly. 'output_filter' key must be a list of strings."
        );
        assert_eq!(
            string(b"[1]", "'signature_name' key must be a string value.").expect_err("a list").message(),
            "JSON Value: [1] not formatted correctly. 'signature_name' key must be a string value."
        );
    }
}
