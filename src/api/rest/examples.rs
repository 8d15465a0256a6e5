//! Classify and Regress: rows of features in, labels and numbers out.

use std::sync::Arc;

use bytes::Bytes;

use super::json::{Text, base64_object, outline, write_float, write_string};
use super::predict::string;
use super::reply::Reply;
use super::service::Asking;
use super::work::off_the_runtime;
use crate::api::budget::Ledger;
use crate::api::inference::{Target, with_context};
use crate::error::{Error, Result};
use crate::model::{Example, Face, Feature, Method};

/// Bytes that examples take for each byte of their text, at most.
const DECODED: u64 = 64;

/// What each example is.
///
/// # Errors
/// Those of TensorFlow Serving's Classify.
pub(super) async fn classify(asking: &Asking, mut target: Target) -> Result<Reply> {
    let (face, examples) = read(asking, &mut target, Method::Classify).await?;
    let results = target.classify(&face, &examples, &asking.terms).await?;
    let mut out = b"{\"results\":[".to_vec();
    for (i, classes) in results.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
        for (i, class) in classes.iter().enumerate() {
            out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
            write_string(&String::from_utf8_lossy(&class.label), &mut out);
            out.push(b',');
            write_float(class.score, &mut out);
            out.push(b']');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    Ok(Reply::json(out))
}

/// A number for each example.
///
/// # Errors
/// Those of TensorFlow Serving's Regress.
pub(super) async fn regress(asking: &Asking, mut target: Target) -> Result<Reply> {
    let (face, examples) = read(asking, &mut target, Method::Regress).await?;
    let results = target.regress(&face, &examples, &asking.terms).await?;
    let mut out = b"{\"results\":[".to_vec();
    for (i, value) in results.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_float(*value, &mut out);
    }
    out.extend_from_slice(b"]}");
    Ok(Reply::json(out))
}

/// The examples of a request, whose signature `target` then names, and the face for them.
async fn read(asking: &Asking, target: &mut Target, method: Method) -> Result<(Arc<Face>, Vec<Example>)> {
    let (body, ledger, depth_max) = (asking.body.clone(), Arc::clone(&asking.terms.ledger), asking.limits.depth_max);
    let reading = move || parse(&body, depth_max, &ledger);
    let (signature, examples) = off_the_runtime(asking.body.len(), reading).await?;
    if let Some(name) = signature {
        target.signature = name;
    }
    asking.asked.get_or_init(|| target.answering());
    Ok((target.example_face(method, &asking.terms)?, examples))
}

/// The signature that a body names, and its examples.
fn parse(body: &[u8], depth_max: usize, ledger: &Ledger) -> Result<(Option<String>, Vec<Example>)> {
    const NAMES: [&str; 3] = ["signature_name", "context", "examples"];
    let [name, context, examples] = outline(body, NAMES, depth_max)?;
    let name = name.map(|text| string(text, "'signature_name' key must be a string value.")).transpose()?;
    ledger.take((body.len() as u64).saturating_mul(DECODED))?;
    let context = context.map(|text| example(&mut Text::new(text))).transpose()?;
    let wrong = |what: &str| Error::invalid_argument(format!("JSON Value: {} {what}", Text::new(body).excerpt()));
    let examples =
        examples.ok_or_else(|| wrong("When method is classify, key 'examples' is expected and was not found"))?;
    let mut text = Text::new(examples);
    if text.peek() != Some(b'[') {
        return Err(wrong("Expecting 'examples' value to be an list/array"));
    }
    let mut rows = Vec::new();
    text.list(|text| {
        rows.push(example(text)?);
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(wrong("'examples' value is an empty array"));
    }
    let rows = match context {
        Some(context) => with_context(&context, rows, ledger)?,
        None => rows,
    };
    Ok((name.filter(|name| !name.is_empty()), rows))
}

/// The features of the object that begins here.
fn example(text: &mut Text<'_>) -> Result<Example> {
    if text.peek() != Some(b'{') {
        let kind = text.kind();
        return Err(Error::invalid_argument(format!("Example must be JSON object but got JSON {kind}")));
    }
    let mut features = Example::new();
    text.object(|text, name| {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut feature = None;
        if text.peek() == Some(b'[') {
            text.list(|text| add(text, &name, &mut feature))?;
        } else {
            add(text, &name, &mut feature)?;
        }
        // A list of nothing is of no kind, and counts as absent.
        if let Some(feature) = feature {
            features.insert(name, feature);
        }
        Ok(())
    })?;
    Ok(features)
}

/// Adds the value that begins here, which must be of the kind of those before it.
fn add(text: &mut Text<'_>, name: &str, feature: &mut Option<Feature>) -> Result<()> {
    let kind = text.kind();
    let value = match kind {
        "True" | "False" => {
            text.skip(0)?;
            Feature::Ints(vec![i64::from(kind == "True")])
        }
        "String" => Feature::Bytes(vec![Bytes::from(text.string()?.into_owned())]),
        "Object" if text.is_base64() => Feature::Bytes(vec![base64_object(text)?]),
        "Number" => number(text, name)?,
        _ => {
            let what = format!("Feature: {name} has element with unexpected JSON type: {kind}");
            return Err(Error::invalid_argument(what));
        }
    };
    match (&mut *feature, value) {
        (Some(Feature::Bytes(list)), Feature::Bytes(value)) => list.extend(value),
        (Some(Feature::Floats(list)), Feature::Floats(value)) => list.extend(value),
        (Some(Feature::Ints(list)), Feature::Ints(value)) => list.extend(value),
        (Some(other), _) => {
            let expected = match other {
                Feature::Bytes(_) => "bytes",
                Feature::Floats(_) => "float",
                Feature::Ints(_) => "int64",
            };
            let what = format!("Unexpected element type in feature: {name} expecting type: {expected}");
            return Err(Error::invalid_argument(what));
        }
        (None, value) => *feature = Some(value),
    }
    Ok(())
}

/// Numbers that are written as integers are integers.
fn number(text: &mut Text<'_>, name: &str) -> Result<Feature> {
    let token = text.token();
    if let Ok(value) = token.parse::<i64>() {
        return Ok(Feature::Ints(vec![value]));
    }
    if token.parse::<u64>().is_ok() {
        let what = format!("Feature: {name} has uint64 element. Only int64 is supported.");
        return Err(Error::invalid_argument(what));
    }
    let wrong = || Error::invalid_argument(format!("Feature: {name} has the number {token}"));
    Ok(Feature::Floats(vec![token.parse().map_err(|_| wrong())?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;

    fn ask(body: &str) -> Result<(Option<String>, Vec<Example>)> {
        parse(body.as_bytes(), 16, &Ledger::open(&Budget::new(1 << 20)))
    }

    #[test]
    fn features_have_the_kind_of_their_values() {
        let body = r#"{"signature_name": "s", "context": {"c": [true, 2], "x": 0.5},
            "examples": [{"x": [1.0, 2e0, NaN], "none": []}, {"b": ["a", {"b64": "AP8="}], "x": 7.5}]}"#;
        let (name, examples) = ask(body).expect("two examples");
        assert_eq!(name.as_deref(), Some("s"));
        assert_eq!(examples[0]["c"], Feature::Ints(vec![1, 2]));
        assert!(matches!(&examples[0]["x"], Feature::Floats(v) if v[..2] == [1.0, 2.0] && v[2].is_nan()));
        assert!(!examples[0].contains_key("none"));
        assert_eq!(examples[1]["b"], Feature::Bytes(vec![Bytes::from("a"), Bytes::from_static(&[0, 255])]));
        assert_eq!(examples[1]["x"], Feature::Floats(vec![7.5]));
    }

    #[test]
    fn what_is_wrong_is_said_as_tensorflow_serving_does() {
        for (body, text) in [
            ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
            (r#"{"examples": 1}"#, "Expecting 'examples' value to be an list/array"),
            (r#"{"examples": []}"#, "'examples' value is an empty array"),
            (r#"{"examples": [[1]]}"#, "Example must be JSON object but got JSON Array"),
            (r#"{"examples": [{"x": null}]}"#, "Feature: x has element with unexpected JSON type: Null"),
            (r#"{"examples": [{"x": [[1]]}]}"#, "Feature: x has element with unexpected JSON type: Array"),
            (r#"{"examples": [{"x": [1.5, 2]}]}"#, "Unexpected element type in feature: x expecting type: float"),
            (r#"{"examples": [{"x": 18446744073709551615}]}"#, "Feature: x has uint64 element."),
            (r#"{"examples": [{"x": {"b64": "?"}}]}"#, "Unable to base64 decode"),
        ] {
            let error = ask(body).expect_err(body);
            assert!(error.message().contains(text), "{body}: {error}");
        }
    }
}
