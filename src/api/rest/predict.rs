//! Predict: rows or columns in, rows or columns out.

use std::sync::Arc;

use super::inputs::{self, Format};
use super::json::{Bounds, Text, outline};
use super::outputs;
use super::raw;
use super::reply::Reply;
use super::service::Asking;
use super::work::off_the_runtime;
use crate::error::{Error, Result};
use crate::model::{Servable, select_outputs};
use crate::tensor::Tensor;

/// A request, read.
struct Read {
    format: Format,
    /// The signature's name; empty for the default.
    signature: String,
    inputs: Vec<(String, Tensor)>,
    /// Places of the outputs wanted.
    wanted: Vec<usize>,
}

/// Answers a request.
///
/// # Errors
/// Those of TensorFlow Serving, with its codes and texts.
pub(super) async fn predict(asking: &Asking, servable: Arc<Servable>) -> Result<Reply> {
    let (reading, reader) = (asking.clone(), Arc::clone(&servable));
    let read = off_the_runtime(asking.body.len(), move || read(&reading, &reader)).await?;
    let bytes: u64 = read.inputs.iter().map(|(_, tensor)| size(tensor)).sum();
    // A merged and padded copy may be twice as long.
    asking.ledger.take(bytes.saturating_mul(2))?;
    let running = servable.predict(read.inputs, Some(asking.deadline), Box::new(Arc::clone(&asking.ledger)));
    let answer = tokio::time::timeout_at(asking.deadline.into(), running)
        .await
        .map_err(|_| Error::deadline_exceeded("Timed out waiting for notification"))??;
    let bytes: u64 = read.wanted.iter().map(|at| size(&answer.outputs[*at])).sum();
    asking.ledger.take(bytes)?;
    let (raw, ledger) = (raw::is_wanted(&asking.headers), Arc::clone(&asking.ledger));
    // Text takes some bytes for each of an element.
    off_the_runtime(bytes as usize * 4, move || {
        let signature = signature(&servable, &read.signature)?;
        let name = |at: &usize| (signature.outputs[*at].name.as_str(), &answer.outputs[*at]);
        let named: Vec<_> = read.wanted.iter().map(name).collect();
        if raw {
            return raw::write(&named, &ledger);
        }
        Ok(Reply::json(outputs::write(read.format, &named, &ledger)?))
    })
    .await
}

fn signature<'a>(servable: &'a Servable, name: &str) -> Result<&'a crate::tensor::Signature> {
    servable.signature(name).ok_or_else(|| {
        Error::invalid_argument(format!("Serving signature name: \"{name}\" not found in signature def"))
    })
}

fn read(asking: &Asking, servable: &Servable) -> Result<Read> {
    let Asking { headers, query, body, ledger, limits, .. } = asking;
    let query = query.as_deref();
    let filter = raw::parameter(query, "output_filter");
    let filter: Vec<String> =
        filter.iter().flat_map(|names| names.split(',')).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    if raw::is_sent(headers) {
        let name = raw::parameter(query, "signature_name").unwrap_or_default();
        let signature = signature(servable, &name)?;
        let wanted = select_outputs(signature, &filter)?;
        let inputs = raw::read(query, signature, body)?;
        return Ok(Read { format: Format::Column, signature: name, inputs, wanted });
    }
    const NAMES: [&str; 4] = ["signature_name", "instances", "inputs", "output_filter"];
    let [name, instances, inputs, named_filter] = outline(body, NAMES, limits.depth_max)?;
    let name = name.map_or(Ok(String::new()), |text| string(text, "'signature_name' key must be a string value."))?;
    let signature = signature(servable, &name)?;
    let filter = named_filter.map_or(Ok(filter), names)?;
    let wanted = select_outputs(signature, &filter)?;
    let bounds = Bounds { ledger, elements_max: limits.elements_max, text_bytes: body.len() };
    let (format, inputs) = inputs::read(instances, inputs, signature, bounds)?;
    Ok(Read { format, signature: name, inputs, wanted })
}

/// The string that `text` is.
pub(super) fn string(text: &[u8], otherwise: &str) -> Result<String> {
    let mut text = Text::new(text);
    let whole = text.excerpt();
    let wrong = || Error::invalid_argument(format!("JSON Value: {whole} not formatted correctly. {otherwise}"));
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

fn size(tensor: &Tensor) -> u64 {
    let strings: usize = tensor.strings().iter().map(|s| s.len() + 32).sum();
    (tensor.bytes().len() + strings) as u64
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
