//! Lists of lists of JSON → one tensor, value by value.

use bytes::Bytes;
use half::{bf16, f16};

use super::scalar::Scalar;
use super::text::Text;
use crate::api::budget::Ledger;
use crate::error::{Error, Result};
use crate::model::dtype_name;
use crate::tensor::{DType, Shape, Tensor};

/// Elements that room is made for at first.
const FIRST_ELEMENTS: usize = 64;

/// What bounds a tensor's size.
#[derive(Clone, Copy, Debug)]
pub(in crate::api::rest) struct Bounds<'a> {
    /// What elements take is taken from here before.
    pub(in crate::api::rest) ledger: &'a Ledger,
    /// Elements of one tensor.
    pub(in crate::api::rest) elements_max: usize,
    /// Bytes of all the text: no string becomes longer than its text is.
    pub(in crate::api::rest) text_bytes: usize,
}

/// A tensor being filled with items of equal shape, one after another.
pub(in crate::api::rest) trait Fill {
    /// Reads the value or list of lists that begins here, of text whose grammar was checked.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for values of another type, ragged lists, and shapes that differ from the first item's;
    /// `RESOURCE_EXHAUSTED` beyond the bounds.
    fn item(&mut self, text: &mut Text<'_>) -> Result<()>;

    /// The tensor: of the items' shape behind `leading` extents, whose product is the number of items.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    fn tensor(self: Box<Self>, leading: &[usize]) -> Result<Tensor>;
}

/// What fills a tensor of `dtype`.
///
/// # Errors
/// `UNIMPLEMENTED` for types that JSON has no form for here, `RESOURCE_EXHAUSTED` for strings beyond the bounds.
pub(in crate::api::rest) fn filler<'a>(dtype: DType, bounds: Bounds<'a>) -> Result<Box<dyn Fill + 'a>> {
    fn of<'a, T: Scalar + 'a>(bounds: Bounds<'a>) -> Result<Box<dyn Fill + 'a>> {
        Ok(Box::new(Filler::<T> { bounds, values: Vec::new(), first: None, dims: Vec::new(), counts: Vec::new() }))
    }
    match dtype {
        DType::F32 => of::<f32>(bounds),
        DType::F64 => of::<f64>(bounds),
        DType::F16 => of::<f16>(bounds),
        DType::BF16 => of::<bf16>(bounds),
        DType::I8 => of::<i8>(bounds),
        DType::U8 => of::<u8>(bounds),
        DType::I16 => of::<i16>(bounds),
        DType::U16 => of::<u16>(bounds),
        DType::I32 => of::<i32>(bounds),
        DType::U32 => of::<u32>(bounds),
        DType::I64 => of::<i64>(bounds),
        DType::U64 => of::<u64>(bounds),
        DType::Bool => of::<bool>(bounds),
        DType::String => {
            bounds.ledger.take(bounds.text_bytes as u64)?;
            of::<Bytes>(bounds)
        }
        other => Err(Error::unimplemented(format!("Conversion of JSON Value to type: {}", dtype_name(other)))),
    }
}

struct Filler<'a, T> {
    bounds: Bounds<'a>,
    values: Vec<T>,
    /// Elements and extents of the first item.
    first: Option<(usize, Vec<usize>)>,
    /// Extents of the item being read, as its first lists have them.
    dims: Vec<usize>,
    /// Elements seen of each list that is open.
    counts: Vec<usize>,
}

/// The extent of a list that has not ended yet.
const OPEN: usize = usize::MAX;

impl<T: Scalar> Filler<'_, T> {
    #[inline]
    fn push(&mut self, value: T) -> Result<()> {
        if self.values.len() == self.values.capacity() {
            self.grow()?;
        }
        self.values.push(value);
        Ok(())
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        let (held, most) = (self.values.len(), self.bounds.elements_max);
        if held >= most {
            return Err(Error::resource_exhausted(format!(
                "a tensor has more than {most} elements (rest_api_json_elements)"
            )));
        }
        let more = held.max(FIRST_ELEMENTS).min(most - held);
        self.bounds.ledger.take((more as u64).saturating_mul(size_of::<T>() as u64))?;
        self.values.reserve_exact(more);
        Ok(())
    }

    /// Reads one value, which stands in `level` lists.
    #[inline]
    fn leaf(&mut self, text: &mut Text<'_>, level: usize, rank: usize) -> Result<()> {
        if level != rank {
            return Err(Error::invalid_argument(format!(
                "JSON Value: {} found at incorrect level: {} in the JSON DOM. Expected at level: {rank}",
                text.excerpt(),
                level + 1
            )));
        }
        let mut ahead = text.clone();
        match T::read(&mut ahead)? {
            Some(value) => {
                *text = ahead;
                self.push(value)
            }
            None => Err(Error::invalid_argument(format!(
                "JSON Value: {} Type: {} is not of expected type: {}",
                text.excerpt(),
                text.kind(),
                dtype_name(T::DTYPE)
            ))),
        }
    }

    /// Reads an item and notes its extents.
    fn read(&mut self, text: &mut Text<'_>) -> Result<()> {
        self.dims.clear();
        self.counts.clear();
        // Known once the first lists have led down to a value, or to an empty list.
        let mut rank = None;
        loop {
            let level = self.counts.len();
            if text.take(b'[') {
                if let Some(rank) = rank.filter(|rank| level >= *rank) {
                    return Err(Error::invalid_argument(format!(
                        "Encountered list at unexpected level: {level} expected < {rank}"
                    )));
                }
                if rank.is_none() {
                    self.dims.push(OPEN);
                }
                self.counts.push(0);
                if text.peek() != Some(b']') {
                    continue;
                }
                rank.get_or_insert(level + 1);
            } else {
                let rank = *rank.get_or_insert(level);
                self.leaf(text, level, rank)?;
                match self.counts.last_mut() {
                    None => return Ok(()),
                    Some(count) => *count += 1,
                }
            }
            // A value has ended, or an empty list is about to.
            while text.take(b']') {
                self.close()?;
                match self.counts.last_mut() {
                    None => return Ok(()),
                    Some(count) => *count += 1,
                }
            }
            text.take(b',');
        }
    }

    /// Ends the innermost list, which must be as long as the first of its level.
    fn close(&mut self) -> Result<()> {
        let count = self.counts.pop().unwrap_or_default();
        let level = self.counts.len();
        let extent = &mut self.dims[level];
        if *extent == OPEN {
            *extent = count;
        }
        if *extent != count {
            return Err(Error::invalid_argument(format!(
                "Encountered list at unexpected size: {count} at level: {level} expected size: {extent}"
            )));
        }
        Ok(())
    }
}

impl<T: Scalar> Fill for Filler<'_, T> {
    fn item(&mut self, text: &mut Text<'_>) -> Result<()> {
        let before = self.values.len();
        self.read(text)?;
        let size = self.values.len() - before;
        let Some((expected, dims)) = &self.first else {
            self.first = Some((size, self.dims.clone()));
            return Ok(());
        };
        if *expected != size {
            return Err(Error::invalid_argument(format!("Expecting tensor size: {expected} but got: {size}")));
        }
        if *dims != self.dims {
            let (dims, found) = (Shape::from(dims.as_slice()), Shape::from(self.dims.as_slice()));
            return Err(Error::invalid_argument(format!("Expecting shape {dims} but got: {found}")));
        }
        Ok(())
    }

    fn tensor(self: Box<Self>, leading: &[usize]) -> Result<Tensor> {
        let dims = self.first.map(|(_, dims)| dims).unwrap_or_default();
        T::tensor(Shape::from([leading, &dims].concat()), self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::budget::Budget;
    use crate::error::Code;

    fn read(dtype: DType, text: &str) -> Result<Tensor> {
        let budget = Budget::new(1 << 16);
        let ledger = Ledger::open(&budget);
        let bounds = Bounds { ledger: &ledger, elements_max: 1000, text_bytes: text.len() };
        let mut filler = filler(dtype, bounds)?;
        filler.item(&mut Text::new(text.as_bytes()))?;
        filler.tensor(&[])
    }

    fn refusal(dtype: DType, text: &str) -> String {
        read(dtype, text).expect_err(text).message().to_owned()
    }

    #[test]
    fn lists_are_axes() {
        let tensor = read(DType::F32, "[[1, 2.5, -3e2], [ NaN , Infinity, -Infinity]]").expect("2 by 3");
        assert_eq!(tensor.shape().dims(), [2, 3]);
        let values = tensor.values::<f32>().expect("f32").into_owned();
        assert_eq!(values[..3], [1.0, 2.5, -300.0]);
        assert!(values[3].is_nan() && values[4] == f32::INFINITY && values[5] == f32::NEG_INFINITY);
        for (text, dims) in [
            ("7", &[][..]),
            ("[]", &[0]),
            ("[[],[]]", &[2, 0]),
            ("[[[1],[2]]]", &[1, 2, 1]),
            ("[[[]],[[]]]", &[2, 1, 0]),
        ] {
            assert_eq!(read(DType::I64, text).expect(text).shape().dims(), dims, "{text}");
        }
    }

    #[test]
    fn ragged_lists_are_refused_as_tensorflow_serving_does() {
        let size = |size, level, expected| {
            format!("Encountered list at unexpected size: {size} at level: {level} expected size: {expected}")
        };
        assert_eq!(refusal(DType::F32, "[[1,2],[3]]"), size(1, 1, 2));
        assert_eq!(refusal(DType::F32, "[[],[1]]"), size(1, 1, 0));
        assert_eq!(refusal(DType::F32, "[[[1],[2]],[[3]]]"), size(1, 1, 2));
        assert_eq!(refusal(DType::F32, "[1,[2]]"), "Encountered list at unexpected level: 1 expected < 1");
        assert_eq!(
            refusal(DType::F32, "[[1],2]"),
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"
        );
    }

    #[test]
    fn types_are_the_signatures() {
        let mistaken = |dtype, text: &str, kind, name| {
            let value = text.trim_matches(['[', ']']);
            let expected = format!("JSON Value: {value} Type: {kind} is not of expected type: {name}");
            assert_eq!(refusal(dtype, text), expected);
        };
        mistaken(DType::I32, "[1.5]", "Number", "int32");
        mistaken(DType::I32, "[1e2]", "Number", "int32");
        mistaken(DType::I32, "[2147483648]", "Number", "int32");
        mistaken(DType::F32, "[null]", "Null", "float");
        mistaken(DType::F32, "\"1\"", "String", "float");
        mistaken(DType::F32, "{\"b64\": \"aa\"}", "Object", "float");
        mistaken(DType::Bool, "[1]", "Number", "bool");
        mistaken(DType::String, "[true]", "True", "string");
        mistaken(DType::U64, "[-1]", "Number", "uint64");
        assert_eq!(read(DType::U8, "[256, 300, -1]").expect("they wrap").bytes().as_ref(), [0, 44, 255]);
        assert_eq!(read(DType::F32, "[1e39, 1e-60]").expect("floats").to_f64s().expect("f32"), [f64::INFINITY, 0.0]);
        assert_eq!(read(DType::F16, "[0.1]").expect("f16").values::<f16>().expect("f16")[0], f16::from_f64(0.1));
        assert_eq!(read(DType::Bool, "[true,false]").expect("bools").bytes().as_ref(), [1, 0]);
        assert_eq!(read(DType::Complex64, "[1]").expect_err("no form").code(), Code::Unimplemented);
    }

    #[test]
    fn strings_may_be_base64() {
        let text = r#"["a\u00e9", {"b64": "AP8="}, {"b64":"YWI"}, ""]"#;
        let tensor = read(DType::String, text).expect("strings");
        assert_eq!(tensor.strings(), ["aé".as_bytes(), &[0, 255], b"ab", b""]);
        assert_eq!(refusal(DType::String, r#"[{"b64": "?"}]"#), "Unable to base64 decode");
        assert_eq!(
            refusal(DType::String, r#"[{"b65": "AP8="}]"#),
            r#"JSON Value: {"b65": "AP8="} not formatted correctly for base64 data"#
        );
    }

    #[test]
    fn sizes_are_bounded() {
        let text = format!("[{}1]", "1,".repeat(1000));
        assert_eq!(read(DType::F32, &text).expect_err("1001 elements").code(), Code::ResourceExhausted);
        let budget = Budget::new(1000);
        let ledger = Ledger::open(&budget);
        let bounds = Bounds { ledger: &ledger, elements_max: 1 << 20, text_bytes: 0 };
        let mut filler = filler(DType::F32, bounds).expect("floats");
        let error = filler.item(&mut Text::new(text.as_bytes())).expect_err("4 KB");
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert!(budget.used() <= 1000);
    }
}
