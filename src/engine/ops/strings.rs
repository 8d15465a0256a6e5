//! Operators over texts: StringConcat, StringSplit and RegexFullMatch.

use std::sync::Arc;

use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};

use super::arguments::required;
use super::broadcast::{common_dims, common_shape, indices};
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// Bytes that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 22;
/// Texts that an operator may give: a split fills its last axis up with empty ones.
const MAX_TEXTS: usize = 1 << 24;
/// Bytes that joined texts may take.
const MAX_JOINED_BYTES: usize = 1 << 30;

/// The texts that input `i` holds.
///
/// # Errors
/// `INVALID_ARGUMENT` for other types.
pub(super) fn texts<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Result<&'a [Bytes]> {
    let input = required(inputs, i)?;
    is_text(i, input.dtype())?;
    Ok(input.strings())
}

fn is_text(i: usize, dtype: DType) -> Result<()> {
    if dtype == DType::String {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("input {i} is to be of strings, it is of {dtype}")))
}

/// Fact `i`, of texts.
///
/// # Errors
/// As [`texts`].
pub(super) fn text_fact<'a>(inputs: &[Option<&'a Fact>], i: usize) -> Result<&'a Fact> {
    let fact = required(inputs, i)?;
    is_text(i, fact.dtype)?;
    Ok(fact)
}

/// The characters of a text.
///
/// # Errors
/// `INVALID_ARGUMENT` where it is not UTF-8.
pub(super) fn characters(text: &Bytes) -> Result<&str> {
    std::str::from_utf8(text).map_err(|_| Error::invalid_argument("a string is not UTF-8 text"))
}

pub(super) fn concat(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Concat))
}

/// Each text of input 0 with that of input 1 behind it, broadcast.
#[derive(Debug)]
struct Concat;

impl Op for Concat {
    fn name(&self) -> &'static str {
        "StringConcat"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let facts = [text_fact(inputs, 0)?, text_fact(inputs, 1)?];
        Ok(vec![Fact::open(DType::String, common_dims(&facts)?)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (a, b) = (texts(inputs, 0)?, texts(inputs, 1)?);
        let [a_shape, b_shape] = [required(inputs, 0)?.shape(), required(inputs, 1)?.shape()];
        let shape = common_shape([a_shape, b_shape])?;
        if shape.elements() > MAX_TEXTS {
            return Err(Error::resource_exhausted(format!("{} joined texts, at most {MAX_TEXTS}", shape.elements())));
        }
        let pairs = indices(a_shape, &shape).into_iter().zip(indices(b_shape, &shape));
        let count = shape.elements();
        let mut joined: Vec<Bytes> = Vec::with_capacity(count);
        let mut bytes = 0;
        for (i, j) in pairs {
            bytes += a[i].len() + b[j].len();
            if bytes > MAX_JOINED_BYTES {
                return Err(Error::resource_exhausted(format!(
                    "{count} joined texts of over {MAX_JOINED_BYTES} bytes"
                )));
            }
            joined.push([&a[i][..], &b[j][..]].concat().into());
        }
        Ok(vec![Tensor::from_strings(shape, joined)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }
}

pub(super) fn split(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let most = spec.attributes.int("maxsplit")?.and_then(|n| usize::try_from(n).ok());
    Ok(Arc::new(Split { delimiter: spec.attributes.string_or("delimiter", "")?, most, outputs: spec.outputs }))
}

/// The parts of each text along a new last axis, as long as the most parts there are, empty texts behind the others; and how
/// many parts each has. Without a delimiter the parts are what stands between white space.
#[derive(Debug)]
struct Split {
    delimiter: String,
    /// Splits of one text, from the left.
    most: Option<usize>,
    outputs: usize,
}

impl Split {
    fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let most = self.most.unwrap_or(usize::MAX);
        if !self.delimiter.is_empty() {
            return text.splitn(most.saturating_add(1), &self.delimiter).collect();
        }
        let mut parts = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = if parts.len() < most { rest.find(char::is_whitespace) } else { None };
            let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
            parts.push(part);
            rest = behind.trim_start();
        }
        parts
    }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "StringSplit"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let dims = &text_fact(inputs, 0)?.dims;
        let parts = dims.as_ref().map(|dims| dims.iter().cloned().chain([Dim::Unknown]).collect());
        let both = [Fact::open(DType::String, parts), Fact::open(DType::I64, dims.clone())];
        Ok(both.into_iter().take(self.outputs.max(1)).collect())
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = texts(inputs, 0)?;
        let mut parts = Vec::with_capacity(input.len());
        for text in input {
            parts.push(self.parts(characters(text)?));
        }
        let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
        if input.len().saturating_mul(longest) > MAX_TEXTS {
            return Err(Error::resource_exhausted(format!(
                "{} texts of up to {longest} parts: a split gives at most {MAX_TEXTS}",
                input.len()
            )));
        }
        let mut filled = Vec::with_capacity(input.len() * longest);
        for (text, parts) in input.iter().zip(&parts) {
            filled.extend(parts.iter().map(|part| text.slice_ref(part.as_bytes())));
            filled.resize(filled.len() + longest - parts.len(), Bytes::new());
        }
        let shape = required(inputs, 0)?.shape();
        let counts = parts.iter().map(|parts| parts.len() as i64).collect();
        let dims: Vec<usize> = shape.iter().copied().chain([longest]).collect();
        let both = [Tensor::from_strings(dims, filled)?, Tensor::from_vec(shape.clone(), counts)?];
        Ok(both.into_iter().take(self.outputs.max(1)).collect())
    }
}

pub(super) fn full_match(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let pattern = spec.attributes.string_or("pattern", "")?;
    Ok(Arc::new(FullMatch { whole: whole(&pattern)? }))
}

/// `pattern`, to match from the beginning to the end.
fn whole(pattern: &str) -> Result<Regex> {
    let compiled = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build()
    };
    // Alone first: a parenthesis too many would close the one put around it.
    let alone = compiled(pattern).map_err(|e| Error::invalid_argument(format!("pattern {pattern:?}: {e}")))?;
    let anchored = compiled(&format!(r"\A(?:{pattern})\z"))
        // A comment at its end would swallow what closes it.
        .or_else(|_| compiled(&format!("\\A(?:{pattern}\n)\\z")));
    drop(alone);
    anchored.map_err(|e| Error::invalid_argument(format!("pattern {pattern:?}: {e}")))
}

/// Whether the whole of each text matches a pattern.
#[derive(Debug)]
struct FullMatch {
    whole: Regex,
}

impl Op for FullMatch {
    fn name(&self) -> &'static str {
        "RegexFullMatch"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact::open(DType::Bool, text_fact(inputs, 0)?.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let matches = texts(inputs, 0)?.iter().map(|text| u8::from(self.whole.is_match(text)));
        Ok(vec![Tensor::from_bools(required(inputs, 0)?.shape().clone(), matches.collect())?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_counted_from_the_left() {
        let parts = |delimiter: &str, most, text| Split { delimiter: delimiter.into(), most, outputs: 2 }.parts(text);
        assert_eq!(parts("", None, "  a b\t c "), ["a", "b", "c"]);
        assert_eq!(parts("", Some(1), "  a  b  c "), ["a", "b  c "]);
        assert_eq!(parts("", Some(0), " a b"), ["a b"]);
        assert_eq!(parts("", None, " "), [""; 0]);
        assert_eq!(parts(",", None, ",a,,b"), ["", "a", "", "b"]);
        assert_eq!(parts("ab", Some(1), "xabyabz"), ["x", "yabz"]);
        assert_eq!(parts(",", None, ""), [""]);
    }

    #[test]
    fn the_whole_text_must_match() {
        let matches = |pattern: &str, text: &str| whole(pattern).expect("a pattern").is_match(text.as_bytes());
        assert!(matches("a|ab", "ab") && matches("a|ab", "a") && !matches("a|ab", "abc") && !matches("b", "ab"));
        assert!(matches("", "") && !matches("", "a") && !matches("a$", "a\n"));
        assert!(matches("(?x) a b # and a comment", "ab") && !matches("(?x) a b # and a comment", "ab "));
        for wrong in ["a)|(b", "(", "[a", "a{2000}{2000}{2000}", r"(a)\1"] {
            assert!(whole(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_types_and_bytes_are_refused() {
        let split = Split { delimiter: String::new(), most: None, outputs: 2 };
        let text = Tensor::from_strings([1], vec![Bytes::from_static(b"\xff")]).expect("one");
        assert!(split.evaluate(&[Some(&text)]).is_err());
        let number = Tensor::scalar(1.0f32);
        assert!(split.evaluate(&[Some(&number)]).is_err() && split.infer(&[Some(&Fact::from(&number))]).is_err());
        assert!(Concat.evaluate(&[Some(&text), Some(&number)]).is_err());
        let many =
            Tensor::from_strings([8192], [vec![Bytes::from(" a".repeat(4096))], vec![Bytes::new(); 8191]].concat());
        assert!(split.evaluate(&[Some(&many.expect("as many"))]).is_err());
    }
}
