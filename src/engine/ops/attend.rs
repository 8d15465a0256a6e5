//! Whole attention over arrays that lie anywhere inside others: what patterns of products, softmax and transposes become.

use super::arguments::required;
use crate::engine::ir::{Cost, Fact, Op, Recorder};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Where rows of contiguous elements lie: the first element, and elements between batch entries, heads and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lie {
    pub(super) first: usize,
    pub(super) steps: [usize; 3],
}

impl Lie {
    pub(super) fn at(&self, [entry, head, row]: [usize; 3]) -> usize {
        self.first + entry * self.steps[0] + head * self.steps[1] + row * self.steps[2]
    }

    /// Whether all rows start at multiples of four elements.
    pub(super) fn is_in_fours(&self) -> bool {
        self.first.is_multiple_of(4) && self.steps.iter().all(|s| s.is_multiple_of(4))
    }
}

/// What a mask does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// It is added to the scores.
    Added,
    /// It hides the keys where it is 0.
    Zero,
    /// It hides the keys where it is not 0.
    Set,
}

/// The mask of the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) mask: Mask,
    pub(super) lie: Lie,
    /// Elements between keys.
    pub(super) key: usize,
}

/// `y = softmax(scale × q·kᵀ + mask)·v` for every batch entry and head. A query that sees no key gives zeros. Inputs: the arrays
/// that q, k, v and the mask lie in.
#[derive(Debug)]
pub(super) struct Attend {
    pub(super) entries: usize,
    pub(super) heads: usize,
    /// Heads in a row that have the same keys and values.
    pub(super) sharing: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Elements of a row of q and k.
    pub(super) depth: usize,
    /// Elements of a row of v and y.
    pub(super) width: usize,
    pub(super) q: Lie,
    pub(super) k: Lie,
    pub(super) v: Lie,
    pub(super) y: Lie,
    pub(super) mask: Option<Masked>,
    pub(super) scale: f64,
    /// Of the output, all of which y fills.
    pub(super) shape: Shape,
}

impl Attend {
    /// Weights of the values of a query, before they are divided by their sum.
    fn weights(&self, inputs: &[Vec<f64>], at: [usize; 3]) -> Vec<f64> {
        let (q, [entry, head, query]) = (&inputs[0][self.q.at(at)..][..self.depth], at);
        let score = |key: usize| {
            let k = &inputs[1][self.k.at([entry, head / self.sharing, key])..][..self.depth];
            let score: f64 = q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * self.scale;
            let Some(Masked { mask, lie, key: step }) = self.mask else { return score };
            let given = inputs[3][lie.at([entry, head, query]) + key * step];
            match mask {
                Mask::Added => score + given,
                Mask::Zero if given == 0.0 => f64::NEG_INFINITY,
                Mask::Set if given != 0.0 => f64::NEG_INFINITY,
                _ => score,
            }
        };
        let scores: Vec<f64> = (0..self.keys).map(score).collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight = |s: &f64| if *s == f64::NEG_INFINITY { 0.0 } else { (s - greatest).exp() };
        scores.iter().map(weight).collect()
    }
}

impl Op for Attend {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact::of_shape(required(inputs, 0)?.dtype, &self.shape)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let read: Vec<Vec<f64>> = inputs.iter().flatten().map(|t| t.to_f64s()).collect::<Result<_>>()?;
        if read.len() < 3 + usize::from(self.mask.is_some()) {
            return Err(Error::invalid_argument("attention takes queries, keys, values and a mask"));
        }
        let mut y = vec![0.0; self.shape.elements()];
        let rows = self.entries * self.heads * self.queries;
        for at in (0..rows).map(|i| [i / (self.heads * self.queries), i / self.queries % self.heads, i % self.queries])
        {
            let weights = self.weights(&read, at);
            let total: f64 = weights.iter().sum();
            let row = &mut y[self.y.at(at)..][..self.width];
            for (key, weight) in weights.iter().enumerate().filter(|_| total > 0.0) {
                let v = &read[2][self.v.at([at[0], at[1] / self.sharing, key])..][..self.width];
                row.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight / total * v);
            }
        }
        Ok(vec![Tensor::from_f64s(required(inputs, 0)?.dtype(), self.shape.clone(), &y)?])
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        super::attend_record::record(self, recorder)
    }

    fn cost(&self, _inputs: &[Option<&Fact>], _outputs: &[Fact]) -> Cost {
        let rows = self.entries * self.heads * self.queries;
        Cost { flops: 2.0 * rows as f64 * self.keys as f64 * (self.depth + self.width) as f64 }
    }
}

/// Types of queries, keys and values that kernels read.
pub(super) fn is_attended(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16)
}
