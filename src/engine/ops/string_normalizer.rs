//! StringNormalizer: words left out, and letters of one case.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::arguments::required;
use super::registry::OpSpec;
use super::strings::{characters, text_fact, texts};
use crate::engine::ir::{Fact, Op};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Case::Kept => text.to_owned(),
            Case::Lower => text.to_lowercase(),
            Case::Upper => text.to_uppercase(),
        }
    }
}

pub(super) fn string_normalizer(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let case = match spec.attributes.string_or("case_change_action", "NONE")?.as_str() {
        "NONE" => Case::Kept,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => return Err(Error::invalid_argument(format!("case_change_action {other:?}"))),
    };
    let compared = if spec.attributes.flag_or("is_case_sensitive", false)? { Case::Kept } else { Case::Lower };
    let words = spec.attributes.strings("stopwords")?.unwrap_or_default();
    let left_out = words.iter().map(|word| compared.of(word)).collect();
    Ok(Arc::new(StringNormalizer { case, compared, left_out }))
}

/// The texts of [C] or [1, C] without those left out, in one case; a single empty text when none is left. Letters are
/// Unicode's, whatever the locale.
#[derive(Debug)]
struct StringNormalizer {
    case: Case,
    /// The case in which texts and what is left out are compared.
    compared: Case,
    left_out: HashSet<String>,
}

fn refuse(shape: impl std::fmt::Debug) -> Error {
    Error::invalid_argument(format!("texts are normalised in [C] or [1, C], not {shape:?}"))
}

impl Op for StringNormalizer {
    fn name(&self) -> &'static str {
        "StringNormalizer"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let dims = match text_fact(inputs, 0)?.dims.as_deref() {
            None => None,
            Some(dims @ ([_] | [Dim::Fixed(1) | Dim::Symbol(_) | Dim::Unknown, _])) => {
                let mut dims = dims.to_vec();
                let last = dims.len() - 1;
                if !self.left_out.is_empty() {
                    dims[last] = Dim::Unknown;
                }
                Some(dims)
            }
            Some(other) => return Err(refuse(other)),
        };
        Ok(vec![Fact::open(DType::String, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let mut dims = required(inputs, 0)?.shape().to_vec();
        if !matches!(dims[..], [_] | [1, _]) {
            return Err(refuse(dims));
        }
        let mut kept = Vec::new();
        for text in texts(inputs, 0)? {
            let text = characters(text)?;
            if !self.left_out.contains(&self.compared.of(text)) {
                kept.push(Bytes::from(self.case.of(text)));
            }
        }
        if kept.is_empty() && !self.left_out.is_empty() {
            kept.push(Bytes::new());
        }
        let last = dims.len() - 1;
        dims[last] = kept.len();
        Ok(vec![Tensor::from_strings(dims, kept)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(case: Case, compared: Case, left_out: &[&str], texts: &[&'static str]) -> Vec<Bytes> {
        let left_out = left_out.iter().map(|word| compared.of(word)).collect();
        let texts =
            Tensor::from_strings([1, texts.len()], texts.iter().map(|t| Bytes::from_static(t.as_bytes())).collect());
        let op = StringNormalizer { case, compared, left_out };
        op.evaluate(&[Some(&texts.expect("as many"))]).expect("one line")[0].strings().to_vec()
    }

    #[test]
    fn words_go_before_the_case_changes() {
        assert_eq!(run(Case::Upper, Case::Kept, &["Été"], &["été", "Été", "noël"]), ["ÉTÉ", "NOËL"]);
        assert_eq!(run(Case::Lower, Case::Lower, &["ÉTÉ"], &["été", "Été", "NOËL"]), ["noël"]);
        assert_eq!(run(Case::Kept, Case::Lower, &["a"], &["A", "a"]), [""]);
    }

    #[test]
    fn other_shapes_are_refused() {
        let op = StringNormalizer { case: Case::Kept, compared: Case::Kept, left_out: HashSet::new() };
        for dims in [vec![2, 1], vec![], vec![1, 1, 2]] {
            let count = dims.iter().product();
            let tensor = Tensor::from_strings(dims.clone(), vec![Bytes::new(); count]).expect("as many");
            assert!(op.evaluate(&[Some(&tensor)]).is_err(), "{dims:?}");
            assert!(op.infer(&[Some(&Fact::from(&tensor))]).is_err(), "{dims:?}");
        }
    }
}
