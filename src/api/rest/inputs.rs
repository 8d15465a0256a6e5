//! The `instances` or `inputs` of a predict request → named tensors.

use super::json::{Bounds, Fill, JsonLimits, Text, filler, outline};
use super::outputs::Format;
use crate::api::budget::Ledger;
use crate::error::{Error, Result};
use crate::tensor::{Signature, Tensor};

type Named = Vec<(String, Tensor)>;

/// The inputs of a body of JSON, by name. What they take is taken from `ledger` first.
///
/// # Errors
/// `INVALID_ARGUMENT` with TensorFlow Serving's texts; `RESOURCE_EXHAUSTED` beyond the limits or the ledger.
pub fn read_json(body: &[u8], signature: &Signature, limits: JsonLimits, ledger: &Ledger) -> Result<Named> {
    let [instances, inputs] = outline(body, ["instances", "inputs"], limits.depth_max)?;
    let bounds = Bounds { ledger, elements_max: limits.elements_max, text_bytes: body.len() };
    read(instances, inputs, signature, bounds).map(|(_, inputs)| inputs)
}

/// The inputs whose text is `instances` or `inputs`, of which one must be there. Their grammar was checked.
///
/// # Errors
/// `INVALID_ARGUMENT` with TensorFlow Serving's texts, and those of [`filler`].
pub(super) fn read(
    instances: Option<&[u8]>,
    inputs: Option<&[u8]>,
    signature: &Signature,
    bounds: Bounds<'_>,
) -> Result<(Format, Named)> {
    match (instances, inputs) {
        (Some(_), Some(_)) => Err(Error::invalid_argument(
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )),
        (None, None) => Err(Error::invalid_argument("Missing 'inputs' or 'instances' key")),
        (Some(text), None) => Ok((Format::Row, rows(&mut Text::new(text), signature, bounds)?)),
        (None, Some(text)) => Ok((Format::Column, columns(&mut Text::new(text), signature, bounds)?)),
    }
}

/// The name of a model's only input; `what` is a plain value, which cannot stand for several.
fn only_input<'a>(signature: &'a Signature, what: &str) -> Result<&'a str> {
    match signature.inputs.as_slice() {
        [input] => Ok(&input.name),
        _ => Err(Error::invalid_argument(format!("{what} as multiple input tensors required as per tensorinfo_map"))),
    }
}

fn fillers<'a>(signature: &Signature, bounds: Bounds<'a>) -> Result<Vec<Box<dyn Fill + 'a>>> {
    signature.inputs.iter().map(|spec| filler(spec.dtype, bounds)).collect()
}

/// Puts `error` in its place in the list.
fn element(error: &Error, row: usize, key: Option<&str>) -> Error {
    let key = key.map(|key| format!(" key: {key}")).unwrap_or_default();
    let (code, message) = (error.code().name(), error.message());
    let message = format!("Failed to process element: {row}{key} of 'instances' list. Error: {code}: {message}");
    Error::new(error.code(), message)
}

fn rows(text: &mut Text<'_>, signature: &Signature, bounds: Bounds<'_>) -> Result<Named> {
    if text.peek() != Some(b'[') {
        let value = text.excerpt();
        return Err(Error::invalid_argument(format!("JSON Value: {value} Excepting 'instances' to be an list/array")));
    }
    // The first element says what all of them are.
    let mut first = text.clone();
    first.take(b'[');
    if first.peek() == Some(b']') {
        return Err(Error::invalid_argument("JSON Value: [] No values in 'instances' array"));
    }
    if first.peek() == Some(b'{') && !first.is_base64() {
        return objects(text, signature, bounds);
    }
    let only = only_input(signature, "instances is a plain list, but expecting list of objects")?;
    let mut filler = filler(signature.inputs[0].dtype, bounds)?;
    let mut count = 0;
    text.list(|text| {
        if text.peek() == Some(b'{') && !text.is_base64() {
            return Err(Error::invalid_argument(format!(
                "Expecting value/list but got object at item {count} of input list"
            )));
        }
        filler.item(text).map_err(|error| element(&error, count, None))?;
        count += 1;
        Ok(())
    })?;
    Ok(vec![(only.to_owned(), filler.tensor(&[count])?)])
}

fn objects(text: &mut Text<'_>, signature: &Signature, bounds: Bounds<'_>) -> Result<Named> {
    let mut fillers = fillers(signature, bounds)?;
    // Elements in which each input was seen.
    let mut seen = vec![0; fillers.len()];
    let mut count = 0;
    text.list(|text| {
        if text.peek() != Some(b'{') || text.is_base64() {
            return Err(Error::invalid_argument(format!(
                "Expecting object but got list at item {count} of input list"
            )));
        }
        let mut whole = text.clone();
        text.object(|text, key| {
            let key = String::from_utf8_lossy(key);
            let Some(i) = signature.inputs.iter().position(|spec| spec.name == key) else {
                let unknown = Error::invalid_argument(format!("JSON object: does not have named input: {key}"));
                return Err(element(&unknown, count, Some(&key)));
            };
            if seen[i] > count {
                let twice = Error::invalid_argument("the key stands twice");
                return Err(element(&twice, count, Some(&key)));
            }
            seen[i] = count + 1;
            fillers[i].item(text).map_err(|error| element(&error, count, Some(&key)))
        })?;
        count += 1;
        if seen.iter().any(|seen| *seen < count) {
            let mut names: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
            names.sort_unstable();
            return Err(Error::invalid_argument(format!(
                "Failed to process element: {} of 'instances' list. JSON object: {} keys must be equal to: {}",
                count - 1,
                whole.excerpt(),
                names.join(",")
            )));
        }
        Ok(())
    })?;
    let named = signature.inputs.iter().zip(fillers);
    named.map(|(spec, filler)| Ok((spec.name.clone(), filler.tensor(&[count])?))).collect()
}

fn columns(text: &mut Text<'_>, signature: &Signature, bounds: Bounds<'_>) -> Result<Named> {
    if text.peek() != Some(b'{') || text.is_base64() {
        let only = only_input(signature, "inputs is a plain value/list, but expecting an object")?;
        let mut filler = filler(signature.inputs[0].dtype, bounds)?;
        filler.item(text)?;
        return Ok(vec![(only.to_owned(), filler.tensor(&[])?)]);
    }
    let mut fillers: Vec<_> = fillers(signature, bounds)?.into_iter().map(Some).collect();
    let mut tensors: Vec<Option<Tensor>> = vec![None; fillers.len()];
    text.object(|text, key| {
        // Names that are no input's are passed over.
        let Some(i) = signature.inputs.iter().position(|spec| spec.name.as_bytes() == key) else {
            return text.skip(usize::MAX);
        };
        let mut filler = fillers[i].take().ok_or_else(|| {
            Error::invalid_argument(format!("the key '{}' stands twice in 'inputs'", signature.inputs[i].name))
        })?;
        filler.item(text)?;
        tensors[i] = Some(filler.tensor(&[])?);
        Ok(())
    })?;
    let named = signature.inputs.iter().zip(tensors).map(|(spec, tensor)| match tensor {
        Some(tensor) => Ok((spec.name.clone(), tensor)),
        None => Err(Error::invalid_argument(format!("Missing named input: {} in 'inputs' object.", spec.name))),
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;
    use crate::tensor::{DType, Spec};

    fn signature(inputs: &[(&str, DType)]) -> Signature {
        let inputs = inputs.iter().map(|(name, dtype)| Spec::tensor(*name, *dtype, None)).collect();
        Signature { inputs, outputs: Vec::new() }
    }

    fn ask(body: &str, signature: &Signature) -> Result<(Format, Named)> {
        let [instances, inputs] = outline(body.as_bytes(), ["instances", "inputs"], 32)?;
        let ledger = Ledger::open(&Budget::new(1 << 20));
        let bounds = Bounds { ledger: &ledger, elements_max: 1 << 20, text_bytes: body.len() };
        read(instances, inputs, signature, bounds)
    }

    fn shapes(body: &str, signature: &Signature) -> Vec<(String, Vec<usize>)> {
        let (_, named) = ask(body, signature).expect(body);
        named.into_iter().map(|(name, tensor)| (name, tensor.shape().dims().to_vec())).collect()
    }

    #[test]
    fn one_input_needs_no_name() {
        let one = signature(&[("x", DType::F32)]);
        let x = |dims: &[usize]| vec![("x".to_owned(), dims.to_vec())];
        for (body, dims) in [
            (r#"{"instances": [1.0, 2.0, 5.0]}"#, &[3][..]),
            (r#"{"instances": [[1, 2], [3, 4], [5, 6]]}"#, &[3, 2]),
            (r#"{"instances": [{"x": [1]}, {"x": [2]}]}"#, &[2, 1]),
            (r#"{"instances": [[]]}"#, &[1, 0]),
            (r#"{"inputs": 7}"#, &[]),
            (r#"{"inputs": [[1, 2]]}"#, &[1, 2]),
            (r#"{"inputs": {"x": [1, 2], "other": {"y": []}}}"#, &[2]),
        ] {
            assert_eq!(shapes(body, &one), x(dims), "{body}");
        }
        let bytes = signature(&[("x", DType::String)]);
        assert_eq!(shapes(r#"{"instances": [{"b64": "YQ=="}, {"b64": "Yg=="}]}"#, &bytes), x(&[2]));
        assert_eq!(shapes(r#"{"inputs": {"b64": "YQ=="}}"#, &bytes), x(&[]));
        assert_eq!(shapes(r#"{"instances": [{"x": {"b64": "YQ=="}}]}"#, &bytes), x(&[1]));
    }

    #[test]
    fn several_inputs_are_named() {
        let two = signature(&[("a", DType::F32), ("b", DType::I64)]);
        let body = r#"{"instances": [{"a": [1, 2], "b": 3}, {"b": 4, "a": [5, 6]}]}"#;
        let (format, named) = ask(body, &two).expect("two rows");
        assert_eq!(format, Format::Row);
        assert_eq!(named[0].1, Tensor::from_vec([2, 2], vec![1.0f32, 2.0, 5.0, 6.0]).expect("four"));
        assert_eq!(named[1].1, Tensor::from_vec([2], vec![3i64, 4]).expect("two"));
        let body = r#"{"inputs": {"b": 3, "a": [[1, 2]]}}"#;
        assert_eq!(ask(body, &two).expect("columns").0, Format::Column);
        assert_eq!(shapes(body, &two), [("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![])]);
    }

    #[test]
    fn what_is_wrong_is_said_as_tensorflow_serving_does() {
        let one = signature(&[("x", DType::F32)]);
        let two = signature(&[("a", DType::F32), ("b", DType::I64)]);
        let refusal = |body: &str, signature| ask(body, signature).expect_err(body).message().to_owned();
        for (body, signature, text) in [
            ("{}", &one, "Missing 'inputs' or 'instances' key"),
            (
                r#"{"instances": [1], "inputs": [1]}"#,
                &one,
                "expecting only one of 'inputs' or 'instances' keys to exist",
            ),
            (r#"{"instances": 1}"#, &one, "Excepting 'instances' to be an list/array"),
            (r#"{"instances": []}"#, &one, "No values in 'instances' array"),
            (r#"{"instances": [1]}"#, &two, "instances is a plain list, but expecting list of objects"),
            (r#"{"inputs": [1]}"#, &two, "inputs is a plain value/list, but expecting an object"),
            (r#"{"inputs": {"a": 1}}"#, &two, "Missing named input: b in 'inputs' object."),
            (r#"{"inputs": {"x": 1, "x": 2}}"#, &one, "the key 'x' stands twice in 'inputs'"),
            (r#"{"instances": [{"x": 1}, 2]}"#, &one, "Expecting object but got list at item 1 of input list"),
            (r#"{"instances": [1, {"x": 2}]}"#, &one, "Expecting value/list but got object at item 1 of input list"),
            (
                r#"{"instances": [{"a": 1, "b": 2}, {"a": 1}]}"#,
                &two,
                r#"Failed to process element: 1 of 'instances' list. JSON object: {"a": 1} keys must be equal to: a,b"#,
            ),
            (
                r#"{"instances": [{"x": 1, "y": 2}]}"#,
                &one,
                "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not \
                 have named input: y",
            ),
            (r#"{"instances": [{"x": 1, "x": 2}]}"#, &one, "the key stands twice"),
            (
                r#"{"instances": [[1, 2], [3]]}"#,
                &one,
                "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but \
                 got: 1",
            ),
            (r#"{"instances": [[1, 2], [[3, 4]]]}"#, &one, "Expecting shape [2] but got: [1,2]"),
            (r#"{"instances": [[[1, 2], [3]]]}"#, &one, "Encountered list at unexpected size: 1 at level: 1"),
            (r#"{"instances": [{"b64": "AA=="}]}"#, &one, "is not of expected type: float"),
        ] {
            let found = refusal(body, signature);
            assert!(found.contains(text), "{body}: {found}");
        }
    }

    proptest::proptest! {
        /// Requests that end early or hold other bytes are refused or read, and never more than that.
        #[test]
        fn damaged_requests_are_answered(
            row: bool,
            damage in proptest::collection::vec((0usize..200, proptest::num::u8::ANY), 0..4),
            cut in 0usize..200,
        ) {
            let body = match row {
                true => r#"{"signature_name":"s","instances":[{"a":[1.5,-2e3,NaN],"b":{"b64":"YQ=="}},{"b":"\u00e9","a":[1,2,3]}]}"#,
                false => r#"{"inputs": {"b": [["x", "y"], ["\ud83d\ude00", {"b64": "AP8"}]], "a": [[1, 2], [3, 4]]}, "x": []}"#,
            };
            let mut bytes = body.as_bytes().to_vec();
            for (at, value) in damage {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            bytes.truncate(bytes.len() - cut % bytes.len());
            let signature = signature(&[("a", DType::F32), ("b", DType::String)]);
            if let Ok([instances, inputs]) = outline(&bytes, ["instances", "inputs"], 8) {
                let budget = Budget::new(1 << 12);
                let ledger = Ledger::open(&budget);
                let bounds = Bounds { ledger: &ledger, elements_max: 100, text_bytes: bytes.len() };
                drop(read(instances, inputs, &signature, bounds));
                proptest::prop_assert!(budget.used() <= budget.limit());
            }
        }
    }
}
