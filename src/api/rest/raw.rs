//! Tensors as bare bytes, an extension: `Content-Type: application/octet-stream` for the inputs, `Accept` for the outputs.
//!
//! A body holds the elements of each input, little-endian and row-major, one input after another in the signature's order.
//! The query gives shapes: `shape=2,3` for the only input, `shape.NAME=2,3` for one of several; where the signature leaves at
//! most one extent of an only input open, none need be given.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::json::write_string;
use super::reply::Reply;
use super::route::decoded;
use crate::api::budget::Ledger;
use crate::error::{Error, Result};
use crate::model::dtype_name;
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

const TYPE: &str = "application/octet-stream";
/// What a reply's bytes are: a list of objects with name, dtype and shape.
const TENSORS: HeaderName = HeaderName::from_static("x-coracle-tensors");

/// Whether a request's body is bare bytes.
pub(super) fn is_sent(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|value| media_type(value) == TYPE)
}

/// Whether a caller asks for bare bytes.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|value| media_type(value) == TYPE)
}

fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The value of `key` in a query, decoded.
pub(super) fn parameter(query: Option<&str>, key: &str) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| decoded(name).is_some_and(|name| name == key)).map(|(_, value)| value);
    values.next().and_then(decoded)
}

/// The inputs that `body` holds; they share its bytes.
///
/// # Errors
/// `INVALID_ARGUMENT` when shapes are missing or wrong, or do not make as many bytes; `UNIMPLEMENTED` for strings.
pub(super) fn read(query: Option<&str>, signature: &Signature, body: &Bytes) -> Result<Vec<(String, Tensor)>> {
    let mut rest = body.clone();
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let size = size(spec.dtype)?;
        let mut given = parameter(query, &format!("shape.{}", spec.name));
        if signature.inputs.len() == 1 {
            given = given.or_else(|| parameter(query, "shape"));
        }
        let shape = match given {
            Some(text) => stated(spec, &text)?,
            None => implied(spec, rest.len() / size, signature.inputs.len() == 1)?,
        };
        let bytes = shape.elements().checked_mul(size).filter(|bytes| *bytes <= rest.len()).ok_or_else(|| {
            let (name, left) = (&spec.name, rest.len());
            Error::invalid_argument(format!("input {name} of shape {shape} has more than the {left} bytes left"))
        })?;
        let bytes = rest.split_to(bytes);
        if spec.dtype == DType::Bool && bytes.iter().any(|b| *b > 1) {
            return Err(Error::invalid_argument(format!("input {} has bytes that are neither 0 nor 1", spec.name)));
        }
        inputs.push((spec.name.clone(), Tensor::from_bytes(spec.dtype, shape, bytes)?));
    }
    if !rest.is_empty() {
        return Err(Error::invalid_argument(format!("{} bytes follow the last input", rest.len())));
    }
    Ok(inputs)
}

fn size(dtype: DType) -> Result<usize> {
    match dtype.bytes() {
        0 => Err(Error::unimplemented(format!("{} values have no form as bare bytes", dtype_name(dtype)))),
        size => Ok(size),
    }
}

/// The shape that a query states.
fn stated(spec: &Spec, text: &str) -> Result<Shape> {
    let dims = text.split(',').filter(|part| !part.is_empty()).map(|part| part.trim().parse::<usize>().ok());
    let dims: Option<Vec<usize>> = dims.collect();
    let dims = dims.filter(|dims| {
        // Zero extents do not hide an overflow of the others.
        dims.iter().filter(|d| **d > 0).try_fold(1usize, |n, d| n.checked_mul(*d)).is_some()
    });
    let wrong = || Error::invalid_argument(format!("the shape {text:?} of input {} is none: say 2,3", spec.name));
    dims.map(Shape::from).ok_or_else(wrong)
}

/// The declared shape, its one open extent such that it holds `elements`.
fn implied(spec: &Spec, elements: usize, only: bool) -> Result<Shape> {
    let missing = || {
        let key = if only { "shape".to_owned() } else { format!("shape.{}", spec.name) };
        Error::invalid_argument(format!("the shape of {spec} must be given: {key}=… in the query"))
    };
    let dims = spec.dims.as_ref().ok_or_else(missing)?;
    let open = dims.iter().filter(|dim| dim.fixed().is_none()).count();
    if open > usize::from(only) {
        return Err(missing());
    }
    let fixed = dims.iter().filter_map(Dim::fixed).try_fold(1usize, usize::checked_mul).ok_or_else(missing)?;
    let fill = elements.checked_div(fixed).unwrap_or(0);
    Ok(dims.iter().map(|dim| dim.fixed().unwrap_or(fill)).collect::<Vec<_>>().into())
}

/// The outputs as bare bytes.
///
/// # Errors
/// `UNIMPLEMENTED` for strings, `RESOURCE_EXHAUSTED` beyond the ledger.
pub(super) fn write(outputs: &[(String, Tensor)], ledger: &Ledger) -> Result<Reply> {
    let mut described = b"[".to_vec();
    for (i, (name, tensor)) in outputs.iter().enumerate() {
        size(tensor.dtype())?;
        described.extend_from_slice(if i > 0 { b",{\"name\":" } else { b"{\"name\":" });
        write_string(name, &mut described);
        let line = format!(",\"dtype\":\"{}\",\"shape\":{}}}", dtype_name(tensor.dtype()), tensor.shape());
        described.extend_from_slice(line.as_bytes());
    }
    described.push(b']');
    let described = HeaderValue::from_bytes(&described)
        .map_err(|_| Error::unimplemented("the outputs' names have no form as a header"))?;
    let body = match outputs {
        [(_, only)] => only.bytes().clone(),
        several => {
            let bytes: usize = several.iter().map(|(_, tensor)| tensor.bytes().len()).sum();
            ledger.take(bytes as u64)?;
            let mut body = Vec::with_capacity(bytes);
            several.iter().for_each(|(_, tensor)| body.extend_from_slice(tensor.bytes()));
            body.into()
        }
    };
    let mut reply = Reply::json(body);
    reply.headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(TYPE)), (TENSORS, described)];
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;
    use crate::error::Code;

    fn spec(name: &str, dtype: DType, dims: &[Option<usize>]) -> Spec {
        let dims = dims.iter().map(|d| d.map_or(Dim::Unknown, Dim::Fixed)).collect();
        Spec::tensor(name, dtype, Some(dims))
    }

    fn signature(inputs: Vec<Spec>) -> Signature {
        Signature { inputs, outputs: Vec::new() }
    }

    #[test]
    fn shapes_are_stated_or_implied() {
        let one = signature(vec![spec("x", DType::F32, &[None, Some(3)])]);
        let body = Bytes::from(vec![0u8; 24]);
        let dims = |query: Option<&str>| read(query, &one, &body).map(|inputs| inputs[0].1.shape().dims().to_vec());
        assert_eq!(dims(None).expect("two rows"), [2, 3]);
        assert_eq!(dims(Some("a=b&shape=3,2")).expect("stated"), [3, 2]);
        assert_eq!(dims(Some("shape=6")).expect("stated"), [6]);
        assert_eq!(dims(Some("shape.x=1%2C6")).expect("stated"), [1, 6]);
        for (query, text) in [
            ("shape=4,2", "more than the 24 bytes"),
            ("shape=2,2", "8 bytes follow"),
            ("shape=-1", "is none"),
            ("shape=18446744073709551615,2,0", "is none"),
        ] {
            let error = dims(Some(query)).expect_err(query);
            assert!(error.message().contains(text), "{error}");
        }
        let two = signature(vec![spec("a", DType::I32, &[Some(2)]), spec("b", DType::Bool, &[None])]);
        let body = Bytes::from_static(&[1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1]);
        let inputs = read(Some("shape.b=3"), &two, &body).expect("two inputs");
        assert_eq!(inputs[0].1.values::<i32>().expect("i32").as_ref(), [1, 2]);
        assert_eq!(inputs[1].1.bytes().as_ref(), [1, 0, 1]);
        let error = read(None, &two, &body).expect_err("b is open");
        assert!(error.message().contains("shape.b="), "{error}");
        let text = signature(vec![spec("s", DType::String, &[None])]);
        assert_eq!(read(None, &text, &body).expect_err("no size").code(), Code::Unimplemented);
    }

    #[test]
    fn outputs_are_described_in_a_header() {
        let ledger = Ledger::open(&Budget::new(1 << 10));
        let a = Tensor::from_vec([1, 2], vec![1.0f32, 2.0]).expect("two");
        let b = Tensor::scalar(7u8);
        let reply = write(&[("a".into(), a), ("b".into(), b)], &ledger).expect("numbers");
        assert_eq!(reply.body.len(), 9);
        let described = r#"[{"name":"a","dtype":"float","shape":[1,2]},{"name":"b","dtype":"uint8","shape":[]}]"#;
        assert_eq!(reply.headers[1].1, described);
    }
}
