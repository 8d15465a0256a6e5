//! NumPy's `.npy` files (format versions 1 to 3), read and written.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;

use crate::tensor::{DType, Shape, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The array in a file's bytes. Big-endian and Fortran-ordered arrays are turned round; `S` and `U` become strings.
///
/// # Errors
/// What is wrong with the bytes, or the kind of array that has no tensor form.
pub(super) fn read(bytes: &Bytes) -> anyhow::Result<Tensor> {
    let (header, data) = split(bytes)?;
    let descr = text_value(header, "descr").context("no dtype, or a structured one")?;
    let fortran = header_value(header, "fortran_order")?.starts_with("True");
    let shape = shape(header_value(header, "shape")?)?;
    let (order, kind) = descr.split_at_checked(1).context("an empty dtype")?;
    ensure!(matches!(order, "<" | ">" | "|" | "="), "dtype {descr:?} is not known");
    // Fortran order is row-major of the reversed shape.
    let stored = if fortran { Shape::new(shape.iter().rev().copied().collect::<Vec<_>>()) } else { shape };
    let tensor = match kind.split_at_checked(1) {
        Some(("S", width)) => strings(stored, data, width.parse()?, |chars| Ok(chars.to_vec()))?,
        Some(("U", width)) => {
            let width = width.parse::<usize>()?.checked_mul(4).context("a huge width")?;
            strings(stored, data, width, |chars| utf32(chars, order == ">"))?
        }
        _ => numbers(dtype(kind)?, stored, data, order == ">")?,
    };
    if fortran { reversed_axes(&tensor) } else { Ok(tensor) }
}

/// A file with `tensor`'s elements; strings become `S`, padded to the longest.
///
/// # Errors
/// When the dtype has no NumPy form.
pub(super) fn write(tensor: &Tensor) -> anyhow::Result<Vec<u8>> {
    let width = tensor.strings().iter().map(Bytes::len).max().unwrap_or(0).max(1);
    let descr = match tensor.dtype() {
        DType::Bool => "|b1".to_owned(),
        DType::U8 => "|u1".into(),
        DType::I8 => "|i1".into(),
        DType::U16 => "<u2".into(),
        DType::I16 => "<i2".into(),
        DType::U32 => "<u4".into(),
        DType::I32 => "<i4".into(),
        DType::U64 => "<u8".into(),
        DType::I64 => "<i8".into(),
        DType::F16 => "<f2".into(),
        DType::F32 => "<f4".into(),
        DType::F64 => "<f8".into(),
        DType::Complex64 => "<c8".into(),
        DType::Complex128 => "<c16".into(),
        DType::String => format!("|S{width}"),
        other => bail!("{other} has no NumPy form"),
    };
    let dims: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let dims = if tensor.shape().rank() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // The data starts at a multiple of 64; the header ends with a new line.
    let used = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(used.next_multiple_of(64) - used));
    header.push('\n');
    let mut file = MAGIC.to_vec();
    file.extend([1, 0]);
    file.extend(u16::try_from(header.len()).context("too many axes")?.to_le_bytes());
    file.extend(header.as_bytes());
    file.extend_from_slice(tensor.bytes());
    for string in tensor.strings() {
        file.extend_from_slice(string);
        file.resize(file.len() + width - string.len(), 0);
    }
    Ok(file)
}

fn split(bytes: &Bytes) -> anyhow::Result<(&str, Bytes)> {
    ensure!(bytes.starts_with(MAGIC) && bytes.len() >= 12, "not an .npy file");
    let (length, start) = match bytes[6] {
        1 => (usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), 10),
        2 | 3 => (u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize, 12),
        version => bail!("version {version} is not known"),
    };
    let header = bytes.get(start..).and_then(|rest| rest.get(..length)).context("the header is cut off")?;
    Ok((std::str::from_utf8(header).context("the header is not text")?, bytes.slice(start + length..)))
}

fn header_value<'a>(header: &'a str, key: &str) -> anyhow::Result<&'a str> {
    let quoted = |q: char| header.split_once(&format!("{q}{key}{q}")).map(|(_, rest)| rest);
    let rest = quoted('\'').or_else(|| quoted('"')).with_context(|| format!("the header has no {key}"))?;
    Ok(rest.trim_start().strip_prefix(':').context("the header is damaged")?.trim_start())
}

fn text_value<'a>(header: &'a str, key: &str) -> anyhow::Result<&'a str> {
    let value = header_value(header, key)?;
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"')).context("not a text")?;
    value[1..].split(quote).next().context("not a text")
}

fn shape(value: &str) -> anyhow::Result<Shape> {
    let inside = value.strip_prefix('(').and_then(|v| v.split(')').next()).context("the shape is not a tuple")?;
    let dims = inside.split(',').map(str::trim).filter(|d| !d.is_empty());
    Ok(Shape::new(dims.map(|d| d.trim_end_matches('L').parse()).collect::<Result<Vec<usize>, _>>()?))
}

fn dtype(kind: &str) -> anyhow::Result<DType> {
    Ok(match kind {
        "b1" => DType::Bool,
        "u1" => DType::U8,
        "i1" => DType::I8,
        "u2" => DType::U16,
        "i2" => DType::I16,
        "u4" => DType::U32,
        "i4" => DType::I32,
        "u8" => DType::U64,
        "i8" => DType::I64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "c8" => DType::Complex64,
        "c16" => DType::Complex128,
        "O" => bail!("arrays of Python objects are not read"),
        other => bail!("dtype {other:?} is not known"),
    })
}

fn numbers(dtype: DType, shape: Shape, data: Bytes, big_endian: bool) -> anyhow::Result<Tensor> {
    let bytes = shape.elements().checked_mul(dtype.bytes()).filter(|n| *n <= data.len());
    let data = data.slice(..bytes.context("the data is cut off")?);
    let part = if matches!(dtype, DType::Complex64 | DType::Complex128) { dtype.bytes() / 2 } else { dtype.bytes() };
    if big_endian && part > 1 {
        let mut swapped = data.to_vec();
        swapped.chunks_exact_mut(part).for_each(<[u8]>::reverse);
        return Ok(Tensor::from_bytes(dtype, shape, swapped)?);
    }
    Ok(Tensor::from_bytes(dtype, shape, data)?)
}

fn strings(
    shape: Shape,
    data: Bytes,
    width: usize,
    decode: impl Fn(&[u8]) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Tensor> {
    let needed = shape.elements().checked_mul(width).filter(|n| *n <= data.len()).context("the data is cut off")?;
    // Strings without width take no data, so that their number is unbounded.
    ensure!(width > 0 || shape.elements() == 0, "strings of no width");
    let chunks = data[..needed].chunks_exact(width.max(1));
    let values = chunks.map(|chunk| {
        let mut text = decode(chunk)?;
        text.truncate(text.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        Ok(Bytes::from(text))
    });
    Ok(Tensor::from_strings(shape, values.collect::<anyhow::Result<Vec<_>>>()?)?)
}

fn utf32(chars: &[u8], big_endian: bool) -> anyhow::Result<Vec<u8>> {
    let point = |c: &[u8]| {
        let c = [c[0], c[1], c[2], c[3]];
        char::from_u32(if big_endian { u32::from_be_bytes(c) } else { u32::from_le_bytes(c) })
    };
    let text: Option<String> = chars.chunks_exact(4).map(point).collect();
    Ok(text.context("not Unicode")?.into_bytes())
}

/// The transpose that reverses all axes.
fn reversed_axes(tensor: &Tensor) -> anyhow::Result<Tensor> {
    let from = tensor.shape();
    let to = Shape::new(from.iter().rev().copied().collect::<Vec<_>>());
    let strides = to.strides();
    // Where element `i` of the input goes.
    let place = |i: usize| {
        let mut rest = i;
        let mut at = 0;
        for axis in (0..from.rank()).rev() {
            at += rest % from[axis] * strides[from.rank() - 1 - axis];
            rest /= from[axis];
        }
        at
    };
    if tensor.dtype() == DType::String {
        let mut strings = vec![Bytes::new(); from.elements()];
        for (i, string) in tensor.strings().iter().enumerate() {
            strings[place(i)] = string.clone();
        }
        return Ok(Tensor::from_strings(to, strings)?);
    }
    let size = tensor.dtype().bytes();
    let mut data = vec![0; tensor.bytes().len()];
    for (i, element) in tensor.bytes().chunks_exact(size).enumerate() {
        data[place(i) * size..][..size].copy_from_slice(element);
    }
    Ok(Tensor::from_bytes(tensor.dtype(), to, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes.into()
    }

    #[test]
    fn what_is_written_reads_back() {
        let strings = Tensor::from_strings([2], vec![Bytes::from_static(b"ab"), Bytes::new()]).expect("two");
        let flags = Tensor::from_bools([1, 2], vec![1, 0]).expect("two");
        let halves = Tensor::from_vec([1], vec![half::f16::ONE]).expect("one");
        for tensor in [strings, flags, halves, Tensor::scalar(-3i64)] {
            let bytes = write(&tensor).expect("a NumPy type");
            assert_eq!(read(&bytes.into()).expect("our own bytes"), tensor);
        }
    }

    #[test]
    fn orders_are_turned_round() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        let columns: Vec<u8> = [1i16, 4, 2, 5, 3, 6].iter().flat_map(|v| v.to_be_bytes()).collect();
        let read = read(&file(header, &columns)).expect("six numbers");
        assert_eq!(read.shape().dims(), [2, 3]);
        assert_eq!(read.to_i64s().expect("integers"), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn unicode_becomes_utf8_and_lies_are_refused() {
        let header = "{'descr': '<U2', 'fortran_order': False, 'shape': (1,), }";
        let text: Vec<u8> = ['é', '\0'].iter().flat_map(|c| (*c as u32).to_le_bytes()).collect();
        assert_eq!(read(&file(header, &text)).expect("one string").strings()[0], "é".as_bytes());
        for header in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
            "{'descr': 'S0', 'fortran_order': False, 'shape': (99999999999,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (), }",
            "{'descr': '', 'shape': (",
        ] {
            assert!(read(&file(header, b"0123")).is_err(), "{header}");
        }
        assert!(read(&Bytes::from_static(b"\x93NUMPY\x01\0\xff\xff{}")).is_err());
    }
}
