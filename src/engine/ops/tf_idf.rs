//! TfIdfVectorizer: how often short runs of words or numbers occur.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::arguments::required;
use super::constants::non_negative;
use super::registry::OpSpec;
use crate::engine::ir::{Attributes, Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// Entries of one output line, and of all.
const MAX_LINE: usize = 1 << 24;
const MAX_ENTRIES: usize = 1 << 28;

/// What is made of a count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Count,
    /// The weight, if there is any.
    Weight,
    /// The weight for each.
    Weighted,
}

/// Distinct words or numbers of the pool, numbered.
#[derive(Debug)]
enum Tokens {
    Texts(HashMap<Bytes, usize>),
    Numbers(HashMap<i64, usize>),
}

impl Tokens {
    /// The numbers of a tensor's elements; `None` for those that are not in the pool.
    fn of(&self, tensor: &Tensor) -> Result<Vec<Option<usize>>> {
        match self {
            Tokens::Texts(known) if tensor.dtype() == DType::String => {
                Ok(tensor.strings().iter().map(|t| known.get(t).copied()).collect())
            }
            Tokens::Numbers(known) if tensor.dtype() != DType::String => {
                Ok(tensor.to_i64s()?.iter().map(|n| known.get(n).copied()).collect())
            }
            _ => Err(Error::invalid_argument(format!("{} values, where the pool holds others", tensor.dtype()))),
        }
    }
}

fn numbered<T: Clone + Eq + std::hash::Hash>(pool: &[T]) -> (HashMap<T, usize>, Vec<usize>) {
    let mut known = HashMap::new();
    let numbers = pool.iter().map(|token| {
        let next = known.len();
        *known.entry(token.clone()).or_insert(next)
    });
    let numbers = numbers.collect();
    (known, numbers)
}

/// Counts n-grams of `shortest` to `longest` tokens, up to `skips` others between each two.
#[derive(Debug)]
struct TfIdf {
    mode: Mode,
    shortest: usize,
    longest: usize,
    skips: usize,
    tokens: Tokens,
    /// For n-grams as token numbers, where they are in the pool's order.
    grams: HashMap<Vec<usize>, usize>,
    /// The place of each n-gram in an output line, and its weight.
    places: Vec<(usize, f64)>,
    line: usize,
}

fn pool(attributes: &Attributes) -> Result<(Tokens, Vec<usize>)> {
    match (attributes.strings("pool_strings")?, attributes.ints("pool_int64s")?) {
        (Some(texts), None) => {
            let texts: Vec<Bytes> = texts.into_iter().map(Bytes::from).collect();
            let (known, numbers) = numbered(&texts);
            Ok((Tokens::Texts(known), numbers))
        }
        (None, Some(numbers)) => {
            let (known, numbers) = numbered(&numbers);
            Ok((Tokens::Numbers(known), numbers))
        }
        _ => Err(Error::invalid_argument("either pool_strings or pool_int64s is to be given")),
    }
}

/// The n-grams of `pool`; those of n tokens begin at `starts[n - 1]`.
fn grams(pool: &[usize], starts: &[usize]) -> Result<Vec<Vec<usize>>> {
    let mut all = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let (length, end) = (index + 1, starts.get(index + 1).copied().unwrap_or(pool.len()));
        let section = pool.get(*start..end).filter(|s| s.len().is_multiple_of(length));
        let section = section.ok_or_else(|| {
            Error::invalid_argument(format!("ngram_counts {starts:?} do not divide a pool of {} entries", pool.len()))
        })?;
        all.extend(section.chunks_exact(length).map(<[usize]>::to_vec));
    }
    Ok(all)
}

pub(super) fn tf_idf(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let attributes = spec.attributes;
    let needed = |name: &str| Error::invalid_argument(format!("TfIdfVectorizer without the attribute {name}"));
    let integer = |name: &str| {
        let value = attributes.int(name)?.ok_or_else(|| needed(name))?;
        usize::try_from(value).map_err(|_| Error::invalid_argument(format!("{name} is {value}")))
    };
    let integers = |name: &str| non_negative(&attributes.ints(name)?.ok_or_else(|| needed(name))?);
    let mode = match attributes.string("mode")?.ok_or_else(|| needed("mode"))?.as_str() {
        "TF" => Mode::Count,
        "IDF" => Mode::Weight,
        "TFIDF" => Mode::Weighted,
        other => return Err(Error::invalid_argument(format!("mode {other:?}"))),
    };
    let (shortest, longest) = (integer("min_gram_length")?, integer("max_gram_length")?);
    if shortest == 0 || shortest > longest {
        return Err(Error::invalid_argument(format!("n-grams of {shortest} to {longest} tokens")));
    }
    let (tokens, pool) = pool(attributes)?;
    let all = grams(&pool, &integers("ngram_counts")?)?;
    let places = integers("ngram_indexes")?;
    let weights = attributes.floats("weights")?.unwrap_or_else(|| vec![1.0; places.len()]);
    if places.len() != all.len() || weights.len() != all.len() {
        let (places, weights) = (places.len(), weights.len());
        return Err(Error::invalid_argument(format!("{} n-grams, {places} indexes, {weights} weights", all.len())));
    }
    let line = places.iter().max().map_or(0, |most| most.saturating_add(1));
    if line > MAX_LINE {
        return Err(Error::resource_exhausted(format!("lines of {line} entries, at most {MAX_LINE} are made")));
    }
    let places = places.into_iter().zip(weights).map(|(place, weight)| (place, f64::from(weight))).collect();
    let grams = all.into_iter().enumerate().map(|(i, gram)| (gram, i)).collect();
    let skips = integer("max_skip_count")?;
    Ok(Arc::new(TfIdf { mode, shortest, longest, skips, tokens, grams, places, line }))
}

impl TfIdf {
    fn count(&self, tokens: &[Option<usize>]) -> Vec<f32> {
        let mut counts = vec![0u64; self.places.len()];
        let mut gram = Vec::new();
        for length in self.shortest..=self.longest.min(tokens.len()) {
            // Tokens further apart than the line is long are in no n-gram; single ones are not apart.
            let most = if length == 1 { 0 } else { self.skips.min((tokens.len() - 1) / (length - 1)) };
            for step in 1..=most + 1 {
                let reach = (length - 1) * step;
                for start in 0..tokens.len().saturating_sub(reach) {
                    gram.clear();
                    gram.extend(tokens[start..=start + reach].iter().step_by(step).map_while(|t| *t));
                    if let Some(found) = self.grams.get(&gram).filter(|_| gram.len() == length) {
                        counts[*found] += 1;
                    }
                }
            }
        }
        let mut line = vec![0f32; self.line];
        for (count, (place, weight)) in counts.into_iter().zip(&self.places).filter(|(count, _)| *count > 0) {
            line[*place] += match self.mode {
                Mode::Count => count as f64,
                Mode::Weight => *weight,
                Mode::Weighted => count as f64 * weight,
            } as f32;
        }
        line
    }
}

impl Op for TfIdf {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let dims = match required(inputs, 0)?.dims.as_deref() {
            None => None,
            Some([_]) => Some(vec![Dim::Fixed(self.line)]),
            Some([lines, _]) => Some(vec![lines.clone(), Dim::Fixed(self.line)]),
            Some(other) => return Err(Error::invalid_argument(format!("n-grams of {} axes", other.len()))),
        };
        Ok(vec![Fact::open(DType::F32, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let (lines, length, dims) = match input.shape().dims() {
            [length] => (1, *length, vec![self.line]),
            [lines, length] => (*lines, *length, vec![*lines, self.line]),
            other => return Err(Error::invalid_argument(format!("n-grams of {} axes", other.len()))),
        };
        if lines.saturating_mul(self.line) > MAX_ENTRIES {
            return Err(Error::resource_exhausted(format!("{lines} lines of {} entries", self.line)));
        }
        let tokens = self.tokens.of(input)?;
        let counted = (0..lines).flat_map(|i| self.count(&tokens[i * length..(i + 1) * length]));
        Ok(vec![Tensor::from_vec(dims, counted.collect())?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        match query.inputs.first().copied().flatten().and_then(Fact::rank) {
            Some(2) => query.leading_of_first(),
            _ => query.default_answer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::Attribute;

    fn op(changes: &[(&str, Attribute)]) -> Result<Arc<dyn Op>> {
        let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
        let mut all = Attributes::new();
        for (name, value) in [
            ("mode", Attribute::String("TFIDF".into())),
            ("min_gram_length", Attribute::Int(1)),
            ("max_gram_length", Attribute::Int(2)),
            ("max_skip_count", Attribute::Int(1)),
            ("ngram_counts", ints(&[0, 1])),
            ("ngram_indexes", ints(&[2, 0])),
            ("weights", Attribute::Floats(vec![0.5, 10.0])),
            ("pool_int64s", ints(&[7, 7, 8])),
        ] {
            all.set(name, value);
        }
        changes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        tf_idf(&OpSpec { domain: "", name: "TfIdfVectorizer", opset: 9, attributes: &all, inputs: 1, outputs: 1 })
    }

    #[test]
    fn runs_are_found_across_skipped_tokens() {
        let tokens = Tensor::from_vec([2, 4], vec![7i64, 7, 8, 1, 8, 7, 1, 8]).expect("eight");
        let run = |mode: &str| {
            let op = op(&[("mode", Attribute::String(mode.into()))]).expect("fits");
            op.evaluate(&[Some(&tokens)]).expect("two lines")[0].to_f64s().expect("real")
        };
        assert_eq!(run("TF"), [2.0, 0.0, 2.0, 1.0, 0.0, 1.0]);
        assert_eq!(run("IDF"), [10.0, 0.0, 0.5, 10.0, 0.0, 0.5]);
        assert_eq!(run("TFIDF"), [20.0, 0.0, 1.0, 10.0, 0.0, 0.5]);
    }

    #[test]
    fn attributes_that_do_not_fit_are_refused() {
        let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
        for (name, value) in [
            ("ngram_counts", ints(&[0, 2])),
            ("ngram_counts", ints(&[1, 0])),
            ("ngram_counts", ints(&[0, 9])),
            ("ngram_indexes", ints(&[0])),
            ("ngram_indexes", ints(&[-1, 0])),
            ("ngram_indexes", ints(&[0, 1 << 40])),
            ("min_gram_length", Attribute::Int(3)),
            ("max_skip_count", Attribute::Int(-1)),
            ("mode", Attribute::String("DF".into())),
            ("pool_strings", Attribute::Strings(vec![])),
        ] {
            assert!(op(&[(name, value)]).is_err(), "{name}");
        }
        let text = Tensor::from_strings([1], vec![Bytes::new()]).expect("one");
        assert!(op(&[]).expect("fits").evaluate(&[Some(&text)]).is_err());
    }
}
