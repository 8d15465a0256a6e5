//! Files and texts as tensors: `.npy`, JSON, images, ONNX tensors.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use serde_json::Value as Json;

use super::npy;
use crate::formats::onnx;
use crate::tensor::{DType, Shape, Spec, Tensor};

/// The tensor that `source` means for the input `spec`: `@FILE` (.npy, .json, .pb, or an image), or JSON itself.
///
/// Real numbers are converted to the input's type, floats never to integers. Images become as many channels, rows and
/// columns as the input has, floats from 0 to 1.
///
/// # Errors
/// What is wrong with the file, or why it does not fit the input.
pub(super) fn read_input(source: &str, spec: &Spec) -> anyhow::Result<Tensor> {
    let Some(path) = source.strip_prefix('@').map(Path::new) else {
        ensure!(!spec.dtype.is_compound(), "a {} is read from a .pb file", spec.dtype);
        return from_json(&serde_json::from_str(source).context("not JSON (a file is @FILE)")?, spec.dtype);
    };
    read_file(path, spec).with_context(|| format!("reading {}", path.display()))
}

fn read_file(path: &Path, spec: &Spec) -> anyhow::Result<Tensor> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    match extension.as_str() {
        "npy" => converted(npy::read(&std::fs::read(path)?.into())?, spec.dtype),
        "pb" if spec.dtype.is_compound() => Ok(read_proto(path, spec.dtype)?.1),
        "pb" => converted(read_proto(path, spec.dtype)?.1, spec.dtype),
        "json" => from_json(&serde_json::from_slice(&std::fs::read(path)?)?, spec.dtype),
        _ if spec.dtype == DType::String => {
            Ok(Tensor::from_strings(single(spec), vec![Bytes::from(std::fs::read(path)?)])?)
        }
        _ => super::images::read(path, spec),
    }
}

/// The extents of one element under the input's rank.
fn single(spec: &Spec) -> Shape {
    Shape::new(vec![1; spec.dims.as_ref().map_or(0, Vec::len)])
}

/// The name and contents of a file with an ONNX tensor or, where `kind` is the type of such, a sequence or an optional value.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read_proto(path: &Path, kind: DType) -> anyhow::Result<(String, Tensor)> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    onnx::decode_as(kind, bytes.into()).with_context(|| format!("reading {}", path.display()))
}

/// Writes `tensor` as what the file's extension says: `.npy`, `.pb` (with `name`), or else JSON.
///
/// # Errors
/// What the system reports, or that the type has no such form.
pub(super) fn write(path: &Path, name: &str, tensor: &Tensor) -> anyhow::Result<()> {
    let bytes = match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => npy::write(tensor)?,
        Some("pb") => onnx::encode(name, tensor),
        _ => serde_json::to_vec(&to_json(tensor)?)?,
    };
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn converted(tensor: Tensor, wanted: DType) -> anyhow::Result<Tensor> {
    let found = tensor.dtype();
    if found == wanted {
        return Ok(tensor);
    }
    let widens = wanted.is_float() || (wanted.is_integer() && !found.is_float());
    ensure!(widens && found != DType::String, "the input is {wanted}, the file holds {found}");
    if wanted.is_integer() {
        let fits = |v: &i64| i128::from(*v) >= integer_min(wanted) && i128::from(*v) <= integer_max(wanted);
        let values = tensor.to_i64s()?;
        ensure!(values.iter().all(fits), "a value does not fit {wanted}");
        return Ok(integers(wanted, tensor.shape().clone(), &values)?);
    }
    Ok(Tensor::from_f64s(wanted, tensor.shape().clone(), &tensor.to_f64s()?)?)
}

fn integer_max(dtype: DType) -> i128 {
    let signed = matches!(dtype.carrier(), DType::I8 | DType::I16 | DType::I32 | DType::I64);
    (1i128 << (dtype.bits() - usize::from(signed))) - 1
}

fn integer_min(dtype: DType) -> i128 {
    if matches!(dtype.carrier(), DType::I8 | DType::I16 | DType::I32 | DType::I64) {
        -integer_max(dtype) - 1
    } else {
        0
    }
}

/// Integers of any width from values that fit: the low bytes of each.
fn integers(dtype: DType, shape: Shape, values: &[i64]) -> crate::error::Result<Tensor> {
    let size = dtype.bytes();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(size)).collect();
    Tensor::from_bytes(dtype, shape, bytes)
}

/// Nested lists as a tensor of `dtype`.
///
/// # Errors
/// For ragged lists, and leaves that are not of the type.
pub(super) fn from_json(json: &Json, dtype: DType) -> anyhow::Result<Tensor> {
    let mut dims = Vec::new();
    let mut level = json;
    while let Json::Array(items) = level {
        dims.push(items.len());
        let Some(first) = items.first() else { break };
        level = first;
    }
    let mut leaves = Vec::new();
    flatten(json, &dims, &mut leaves)?;
    let shape = Shape::new(dims);
    if dtype == DType::String {
        let text = |leaf: &&Json| leaf.as_str().map(|s| Bytes::copy_from_slice(s.as_bytes()));
        let texts = leaves.iter().map(text).collect::<Option<Vec<_>>>().context("a leaf is not a text")?;
        return Ok(Tensor::from_strings(shape, texts)?);
    }
    if dtype == DType::Bool {
        let flag = |leaf: &&Json| leaf.as_bool().or_else(|| leaf.as_i64().map(|i| i != 0)).map(u8::from);
        let flags = leaves.iter().map(flag).collect::<Option<Vec<_>>>().context("a leaf is not true or false")?;
        return Ok(Tensor::from_bools(shape, flags)?);
    }
    if dtype == DType::U64 {
        let values = leaves.iter().map(|leaf| leaf.as_u64()).collect::<Option<Vec<_>>>();
        return Ok(Tensor::from_vec(shape, values.context("a leaf is not an unsigned integer")?)?);
    }
    if dtype.is_integer() {
        let fits = |v: &i64| i128::from(*v) >= integer_min(dtype) && i128::from(*v) <= integer_max(dtype);
        let values = leaves.iter().map(|leaf| leaf.as_i64().filter(fits)).collect::<Option<Vec<_>>>();
        return Ok(integers(dtype, shape, &values.with_context(|| format!("a leaf is no integer of type {dtype}"))?)?);
    }
    let values = leaves.iter().map(|leaf| float(leaf)).collect::<Option<Vec<_>>>().context("a leaf is not a number")?;
    Ok(Tensor::from_f64s(dtype, shape, &values)?)
}

fn float(leaf: &Json) -> Option<f64> {
    match leaf.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => leaf.as_f64(),
    }
}

fn flatten<'a>(json: &'a Json, dims: &[usize], leaves: &mut Vec<&'a Json>) -> anyhow::Result<()> {
    match (json, dims.split_first()) {
        (Json::Array(items), Some((extent, rest))) if items.len() == *extent => {
            items.iter().try_for_each(|item| flatten(item, rest, leaves))
        }
        (Json::Array(_), _) | (_, Some(_)) => bail!("the lists are ragged"),
        (leaf, None) => {
            leaves.push(leaf);
            Ok(())
        }
    }
}

/// `tensor` as nested lists, a sequence as a list of such; numbers that JSON cannot say are texts.
///
/// # Errors
/// For complex numbers.
pub(super) fn to_json(tensor: &Tensor) -> anyhow::Result<Json> {
    match tensor.dtype() {
        DType::Sequence => return tensor.elements().iter().map(to_json).collect(),
        DType::Optional => return tensor.elements().first().map_or(Ok(Json::Null), to_json),
        _ => {}
    }
    let leaves: Vec<Json> = match tensor.dtype() {
        DType::String => tensor.strings().iter().map(|s| String::from_utf8_lossy(s).into_owned().into()).collect(),
        DType::Bool => tensor.bytes().iter().map(|b| Json::from(*b != 0)).collect(),
        DType::U64 => tensor.values::<u64>()?.iter().map(|v| Json::from(*v)).collect(),
        // The shortest text that reads back as the same f32, not that of its f64.
        DType::F32 => {
            tensor.values::<f32>()?.iter().map(|v| json_float(v.to_string().parse().unwrap_or(0.0))).collect()
        }
        other if other.is_float() => tensor.to_f64s()?.into_iter().map(json_float).collect(),
        _ => tensor.to_i64s()?.into_iter().map(Json::from).collect(),
    };
    let mut leaves = leaves.into_iter();
    Ok(nest(tensor.shape(), &mut leaves))
}

fn json_float(value: f64) -> Json {
    let text = match value {
        v if v.is_nan() => "NaN",
        v if v == f64::INFINITY => "Infinity",
        v if v == f64::NEG_INFINITY => "-Infinity",
        v => return v.into(),
    };
    text.into()
}

fn nest(dims: &[usize], leaves: &mut impl Iterator<Item = Json>) -> Json {
    match dims.split_first() {
        None => leaves.next().unwrap_or(Json::Null),
        Some((extent, rest)) => (0..*extent).map(|_| nest(rest, leaves)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dtype: DType) -> Spec {
        Spec::tensor("x", dtype, None)
    }

    #[test]
    fn json_takes_the_type_of_the_input() {
        let read = |text: &str, dtype| read_input(text, &spec(dtype));
        let floats = read("[[1, 2.5], [\"NaN\", -3]]", DType::F16).expect("four floats");
        assert_eq!((floats.dtype(), floats.shape().dims()), (DType::F16, [2, 2].as_slice()));
        assert!(floats.to_f64s().expect("real")[2].is_nan());
        assert_eq!(read("7", DType::I8).expect("a scalar"), Tensor::scalar(7i8));
        assert_eq!(read("[]", DType::I64).expect("none").shape().dims(), [0]);
        for (text, dtype) in
            [("[[1], [1, 2]]", DType::F32), ("[1, [2]]", DType::F32), ("300", DType::U8), ("1.5", DType::I32)]
        {
            assert!(read(text, dtype).is_err(), "{text} as {dtype}");
        }
    }

    #[test]
    fn tensors_come_back_through_json() {
        let tensor = Tensor::from_vec([1, 3], vec![0.1f32, f32::INFINITY, -2.0]).expect("three");
        let json = to_json(&tensor).expect("real");
        assert_eq!(json.to_string(), r#"[[0.1,"Infinity",-2.0]]"#);
        assert_eq!(from_json(&json, DType::F32).expect("our own"), tensor);
    }

    #[test]
    fn files_are_converted_only_where_nothing_is_lost() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.npy");
        write(&path, "x", &Tensor::scalar(2.5f64)).expect("writable");
        let source = format!("@{}", path.display());
        assert_eq!(read_input(&source, &spec(DType::F32)).expect("narrowed"), Tensor::scalar(2.5f32));
        assert!(read_input(&source, &spec(DType::I32)).is_err());
    }
}
