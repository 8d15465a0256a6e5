//! Tensors → JSON, straight into the reply's buffer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::model::dtype_name;
use crate::tensor::{DType, Tensor};

/// A tensor being written.
pub(in crate::api::rest) trait Print {
    /// Writes all of it, lists for axes.
    fn whole(&self, out: &mut Vec<u8>);
    /// Writes what stands at `row` of axis 0.
    fn row(&self, row: usize, out: &mut Vec<u8>);
    /// Bytes that it takes at most.
    fn bytes_max(&self) -> u64;
}

/// What writes `tensor`, the output called `name`. The name decides how byte strings are written: those of names that end in
/// `_bytes`, and those that are not UTF-8, as objects of base64.
///
/// # Errors
/// `UNIMPLEMENTED` for types that JSON has no form for here.
pub(in crate::api::rest) fn printer<'a>(name: &str, tensor: &'a Tensor) -> Result<Box<dyn Print + 'a>> {
    fn of<'a, T: Clone + 'a>(
        tensor: &'a Tensor,
        values: Cow<'a, [T]>,
        width: u64,
        write: impl Fn(&T, &mut Vec<u8>) + 'a,
    ) -> Result<Box<dyn Print + 'a>> {
        Ok(Box::new(Printer { dims: tensor.shape().dims(), values, width, text: text_max(tensor.strings()), write }))
    }
    match tensor.dtype() {
        DType::F32 => of(tensor, tensor.values::<f32>()?, 16, |v, out| write_float(*v, out)),
        DType::F64 => of(tensor, tensor.values::<f64>()?, 25, |v, out| write_float(*v, out)),
        DType::F16 => of(tensor, tensor.values::<f16>()?, 16, |v, out| write_float(v.to_f32(), out)),
        DType::BF16 => of(tensor, tensor.values::<bf16>()?, 16, |v, out| write_float(v.to_f32(), out)),
        DType::I8 => of(tensor, tensor.values::<i8>()?, 5, |v, out| write_integer(*v, out)),
        DType::U8 => of(tensor, tensor.values::<u8>()?, 4, |v, out| write_integer(*v, out)),
        DType::I16 => of(tensor, tensor.values::<i16>()?, 7, |v, out| write_integer(*v, out)),
        DType::U16 => of(tensor, tensor.values::<u16>()?, 6, |v, out| write_integer(*v, out)),
        DType::I32 => of(tensor, tensor.values::<i32>()?, 12, |v, out| write_integer(*v, out)),
        DType::U32 => of(tensor, tensor.values::<u32>()?, 11, |v, out| write_integer(*v, out)),
        DType::I64 => of(tensor, tensor.values::<i64>()?, 21, |v, out| write_integer(*v, out)),
        DType::U64 => of(tensor, tensor.values::<u64>()?, 21, |v, out| write_integer(*v, out)),
        DType::Bool => of(tensor, tensor.values::<u8>()?, 6, |v, out| {
            out.extend_from_slice(if *v == 0 { b"false" } else { b"true" });
        }),
        DType::String => {
            let as_bytes = name.ends_with("_bytes");
            let strings = tensor.strings();
            of(tensor, Cow::Borrowed(strings), 16, move |v: &Bytes, out| match std::str::from_utf8(v) {
                Ok(text) if !as_bytes => write_string(text, out),
                _ => write_base64(v, out),
            })
        }
        other => {
            Err(Error::unimplemented(format!("Failed to write JSON value for tensor type: {}", dtype_name(other))))
        }
    }
}

struct Printer<'a, T: Clone, W> {
    dims: &'a [usize],
    values: Cow<'a, [T]>,
    /// Bytes that one value takes at most, its comma included and the contents of strings apart.
    width: u64,
    /// Bytes that the contents of all strings take at most.
    text: u64,
    write: W,
}

impl<T: Clone, W: Fn(&T, &mut Vec<u8>)> Printer<'_, T, W> {
    fn block(&self, dims: &[usize], values: &[T], out: &mut Vec<u8>) {
        let Some((count, inner)) = dims.split_first() else {
            return values.iter().for_each(|value| (self.write)(value, out));
        };
        out.push(b'[');
        let size = values.len().checked_div(*count).unwrap_or(0);
        for i in 0..*count {
            if i > 0 {
                out.push(b',');
            }
            self.block(inner, &values[i * size..(i + 1) * size], out);
        }
        out.push(b']');
    }
}

impl<T: Clone, W: Fn(&T, &mut Vec<u8>)> Print for Printer<'_, T, W> {
    fn whole(&self, out: &mut Vec<u8>) {
        self.block(self.dims, &self.values, out);
    }

    fn row(&self, row: usize, out: &mut Vec<u8>) {
        let Some((count, inner)) = self.dims.split_first() else { return };
        let size = self.values.len().checked_div(*count).unwrap_or(0);
        self.block(inner, &self.values[row * size..(row + 1) * size], out);
    }

    fn bytes_max(&self) -> u64 {
        // Two brackets and a comma for each list; lists of lists that are empty count too.
        let mut lists = 1u64;
        let brackets = self.dims.iter().fold(0u64, |sum, extent| {
            let sum = sum.saturating_add(lists.saturating_mul(3));
            lists = lists.saturating_mul(*extent as u64);
            sum
        });
        let values = (self.values.len() as u64).saturating_mul(self.width);
        brackets.saturating_add(values).saturating_add(self.text)
    }
}

/// Bytes that the contents of strings take at most: control characters six, others two, be it escaped or as base64.
fn text_max(strings: &[Bytes]) -> u64 {
    strings.iter().flatten().map(|byte| if *byte < 0x20 { 6 } else { 2 }).sum()
}

/// Writes the shortest number that reads as the same value, with `.0` or an exponent where it is whole; `NaN`, `Infinity` and
/// `-Infinity` stand bare, which is not JSON, but what clients of TensorFlow Serving read.
pub(in crate::api::rest) fn write_float<F: zmij::Float + Into<f64> + Copy>(value: F, out: &mut Vec<u8>) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if wide.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if wide > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
    }
}

fn write_integer<I: itoa::Integer>(value: I, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes `text` in quotation marks.
pub(in crate::api::rest) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"b64\":\"");
    out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Bounds, Text, filler};
    use super::*;
    use crate::api::budget::{Budget, Ledger};

    fn written(name: &str, tensor: &Tensor) -> String {
        let printer = printer(name, tensor).expect("a type with a form");
        let mut out = Vec::new();
        printer.whole(&mut out);
        assert!(out.len() as u64 <= printer.bytes_max());
        String::from_utf8(out).expect("text")
    }

    fn read(dtype: DType, text: &str) -> Result<Tensor> {
        let budget = Budget::new(1 << 20);
        let ledger = Ledger::open(&budget);
        let bounds = Bounds { ledger: &ledger, elements_max: 1 << 20, text_bytes: text.len() };
        let mut filler = filler(dtype, bounds)?;
        filler.item(&mut Text::new(text.as_bytes()))?;
        filler.tensor(&[])
    }

    #[test]
    fn values_are_written_as_tensorflow_serving_does() {
        let floats = Tensor::from_vec([6], vec![1.0f32, 0.1, -3.5e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(written("y", &floats.expect("six")), "[1.0,0.1,-3.5e+30,NaN,Infinity,-Infinity]");
        assert_eq!(written("y", &Tensor::from_vec([2, 1], vec![1i64, -2]).expect("two")), "[[1],[-2]]");
        assert_eq!(written("y", &Tensor::scalar(3u8)), "3");
        assert_eq!(written("y", &Tensor::from_bools([2], vec![1, 0]).expect("two")), "[true,false]");
        assert_eq!(written("y", &Tensor::from_vec::<f32>([2, 0], vec![]).expect("none")), "[[],[]]");
        let strings = Tensor::from_strings([2], vec![Bytes::from("a\"\n\u{1}é"), Bytes::from_static(&[0, 255])]);
        let strings = strings.expect("two");
        assert_eq!(written("y", &strings), r#"["a\"\n\u0001é",{"b64":"AP8="}]"#);
        let hostile = ["\u{1}".repeat(40), "\"".repeat(40), String::new(), "a".to_owned()].map(Bytes::from);
        written("y", &Tensor::from_strings([4], hostile.to_vec()).expect("four"));
        written("y_bytes", &Tensor::from_strings([4], hostile.to_vec()).expect("four"));
        assert_eq!(written("y_bytes", &strings), r#"[{"b64":"YSIKAcOp"},{"b64":"AP8="}]"#);
    }

    #[test]
    fn rows_are_what_stands_behind_axis_0() {
        let tensor = Tensor::from_vec([2, 2], vec![1i32, 2, 3, 4]).expect("four");
        let printer = printer("y", &tensor).expect("integers");
        let mut out = Vec::new();
        printer.row(1, &mut out);
        assert_eq!(out, b"[3,4]");
    }

    proptest! {
        #[test]
        fn tensors_survive_their_text(bits in proptest::collection::vec(any::<u64>(), 1..40), columns in 1usize..4) {
            let rows = bits.len() / columns;
            let bits = &bits[..rows * columns];
            let shape = [rows, columns];
            let narrow = |v: &u64| f32::from_bits(*v as u32);
            let tensors = [
                Tensor::from_vec(shape, bits.iter().map(narrow).collect()),
                Tensor::from_vec(shape, bits.iter().map(|v| f64::from_bits(*v)).collect()),
                Tensor::from_vec(shape, bits.iter().map(|v| f16::from_bits(*v as u16)).collect()),
                Tensor::from_vec(shape, bits.iter().map(|v| bf16::from_bits(*v as u16)).collect()),
                Tensor::from_vec(shape, bits.iter().map(|v| *v as i8).collect()),
                Tensor::from_vec(shape, bits.iter().map(|v| *v as u16).collect()),
                Tensor::from_vec(shape, bits.iter().map(|v| *v as i64).collect()),
                Tensor::from_vec(shape, bits.to_vec()),
                Tensor::from_bools(shape, bits.iter().map(|v| (*v & 1) as u8).collect()),
                Tensor::from_strings(shape, bits.iter().map(|v| Bytes::copy_from_slice(&v.to_le_bytes())).collect()),
            ];
            for tensor in tensors {
                let tensor = tensor.expect("as many");
                let text = written("y", &tensor);
                let again = read(tensor.dtype(), &text).expect("its own text");
                if rows > 0 {
                    prop_assert_eq!(again.shape(), tensor.shape());
                }
                // Numbers that are none have many patterns of bits.
                prop_assert_eq!(written("y", &again), text);
            }
        }

        #[test]
        fn strings_are_json(text in ".{0,30}") {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), text);
        }
    }
}
