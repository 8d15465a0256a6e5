//! Random numbers: RandomUniform, RandomNormal, their Like forms, Bernoulli and Multinomial.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use super::arguments::required;
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, Profile, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Why such operators run on the host.
pub(super) const REASON: &str = "random numbers are drawn on the host";
/// Numbers drawn at a time.
const MAX_NUMBERS: usize = 1 << 28;

/// Numbers drawn one after another: PCG64 (O'Neill, 2014), the same for a seed on every run and machine.
#[derive(Debug)]
pub(super) struct Numbers(Pcg64Mcg);

impl Numbers {
    /// Begins with `seed`, or at a place of its own.
    pub(super) fn begin(seed: Option<u64>) -> Self {
        // Every state of the standard library's hasher has other keys.
        Self(Pcg64Mcg::seed_from_u64(seed.unwrap_or_else(|| RandomState::new().hash_one(0))))
    }

    /// A number of [0, 1): one that f32 holds, unless for f64.
    pub(super) fn uniform(&mut self, dtype: DType) -> f64 {
        let bits = if dtype == DType::F64 { 53 } else { 24 };
        (self.0.next_u64() >> (64 - bits)) as f64 / (1u64 << bits) as f64
    }

    /// A number of mean 0 and standard deviation 1 (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(DType::F64)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(DType::F64)).cos()
    }
}

/// Where numbers are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        scale: f64,
    },
    /// 1 with the probability that the input says, else 0.
    Bernoulli,
    /// Classes, by the logarithms of their weights: input [batch, classes], output [batch, samples].
    Multinomial {
        samples: usize,
    },
}

/// Draws as many numbers as a shape, or else the input, has elements.
#[derive(Debug)]
struct Random {
    kind: Kind,
    shape: Option<Shape>,
    dtype: Option<DType>,
    seed: Option<u64>,
}

pub(super) fn random(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let attributes = spec.attributes;
    let number = |name: &str, default| attributes.float_or(name, default).map(f64::from);
    let kind = match spec.name {
        "RandomUniform" | "RandomUniformLike" => Kind::Uniform { low: number("low", 0.0)?, high: number("high", 1.0)? },
        "RandomNormal" | "RandomNormalLike" => {
            Kind::Normal { mean: number("mean", 0.0)?, scale: number("scale", 1.0)? }
        }
        "Bernoulli" => Kind::Bernoulli,
        "Multinomial" => {
            let samples = attributes.int_or("sample_size", 1)?;
            let samples = usize::try_from(samples)
                .map_err(|_| Error::invalid_argument(format!("sample_size {samples} is negative")))?;
            Kind::Multinomial { samples }
        }
        other => return Err(Error::internal(format!("{other} draws no random numbers"))),
    };
    let like = matches!(spec.name, "RandomUniformLike" | "RandomNormalLike" | "Bernoulli" | "Multinomial");
    let shape = match (like, attributes.ints("shape")?) {
        (true, _) => None,
        (false, None) => return Err(Error::invalid_argument(format!("{} without the attribute shape", spec.name))),
        (false, Some(dims)) => Some(Shape::new(super::constants::non_negative(&dims)?)),
    };
    let default = match kind {
        Kind::Multinomial { .. } => Some(DType::I32),
        _ if like => None,
        _ => Some(DType::F32),
    };
    // Any two floats give different numbers.
    let seed = attributes.float("seed")?.map(|seed| u64::from(seed.to_bits()));
    Ok(Arc::new(Random { kind, shape, dtype: attributes.dtype("dtype")?.or(default), seed }))
}

impl Random {
    /// The outcomes of each line of `weights`, logarithms.
    fn classes(&self, numbers: &mut Numbers, weights: &Tensor, samples: usize) -> Result<Vec<f64>> {
        let &[batch, classes] = weights.shape().dims() else { return Err(not_lines(weights.shape().rank())) };
        within(batch.saturating_mul(samples))?;
        let logarithms = weights.to_f64s()?;
        let mut outcomes = Vec::with_capacity(batch * samples);
        for line in 0..batch {
            let line = &logarithms[line * classes..(line + 1) * classes];
            let most = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            let sums: Vec<f64> = line
                .iter()
                .map(|l| {
                    sum += (l - most).exp();
                    sum
                })
                .collect();
            if samples > 0 && !(sum.is_finite() && sum > 0.0) {
                return Err(Error::invalid_argument("weights of classes that are no logarithms of probabilities"));
            }
            for _ in 0..samples {
                let drawn = numbers.uniform(DType::F64) * sum;
                outcomes.push(sums.partition_point(|s| *s <= drawn).min(classes - 1) as f64);
            }
        }
        Ok(outcomes)
    }
}

fn not_lines(rank: usize) -> Error {
    Error::invalid_argument(format!("weights of classes have two axes, not {rank}"))
}

fn within(count: usize) -> Result<usize> {
    if count <= MAX_NUMBERS {
        return Ok(count);
    }
    Err(Error::resource_exhausted(format!("{count} random numbers, at most {MAX_NUMBERS} are drawn at a time")))
}

impl Op for Random {
    fn name(&self) -> &'static str {
        match (self.kind, &self.shape) {
            (Kind::Uniform { .. }, Some(_)) => "RandomUniform",
            (Kind::Uniform { .. }, None) => "RandomUniformLike",
            (Kind::Normal { .. }, Some(_)) => "RandomNormal",
            (Kind::Normal { .. }, None) => "RandomNormalLike",
            (Kind::Bernoulli, _) => "Bernoulli",
            (Kind::Multinomial { .. }, _) => "Multinomial",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        if let Some(shape) = &self.shape {
            within(shape.elements())?;
            return Ok(vec![Fact::of_shape(self.dtype.unwrap_or(DType::F32), shape)]);
        }
        let input = required(inputs, 0)?;
        let dims = match (self.kind, &input.dims) {
            (Kind::Multinomial { samples }, Some(dims)) => match &dims[..] {
                [batch, _] => Some(vec![batch.clone(), Dim::Fixed(samples)]),
                other => return Err(not_lines(other.len())),
            },
            (_, dims) => dims.clone(),
        };
        Ok(vec![Fact::open(self.dtype.unwrap_or(input.dtype), dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = if self.shape.is_some() { None } else { Some(required(inputs, 0)?) };
        let shape = self.shape.clone().or_else(|| input.map(|t| t.shape().clone())).unwrap_or_default();
        let dtype = self.dtype.or_else(|| input.map(Tensor::dtype)).unwrap_or(DType::F32);
        let mut numbers = Numbers::begin(self.seed);
        let mut draw = |next: &mut dyn FnMut(&mut Numbers) -> f64| -> Result<Vec<f64>> {
            Ok((0..within(shape.elements())?).map(|_| next(&mut numbers)).collect())
        };
        let values = match (self.kind, input) {
            (Kind::Uniform { low, high }, _) => draw(&mut |n| low + n.uniform(dtype) * (high - low))?,
            (Kind::Normal { mean, scale }, _) => draw(&mut |n| mean + scale * n.normal())?,
            (Kind::Bernoulli, Some(input)) => {
                let probabilities = input.to_f64s()?;
                if let Some(wrong) = probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
                    return Err(Error::invalid_argument(format!("{wrong} is no probability")));
                }
                let mut probabilities = probabilities.into_iter();
                draw(&mut |n| f64::from(n.uniform(DType::F64) < probabilities.next().unwrap_or(0.0)))?
            }
            (Kind::Multinomial { samples }, Some(weights)) => {
                let outcomes = self.classes(&mut numbers, weights, samples)?;
                return Ok(vec![Tensor::from_f64s(dtype, [shape[0], samples], &outcomes)?]);
            }
            (_, None) => return Err(Error::internal("nothing to draw like")),
        };
        Ok(vec![Tensor::from_f64s(dtype, shape, &values)?])
    }

    fn is_pure(&self) -> bool {
        false
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        // A seed promises the same numbers whoever else is in a batch.
        query.all(Rows::Mixed)
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    fn op(name: &str, attributes: &[(&str, Attribute)]) -> Result<Arc<dyn Op>> {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        random(&OpSpec { domain: "", name, opset: 22, attributes: &all, inputs: 1, outputs: 1 })
    }

    fn moments(values: &[f64]) -> [f64; 2] {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        [mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()]
    }

    #[test]
    fn seeds_repeat_and_none_do_not() {
        let shape = || ("shape", Attribute::Ints(vec![4]));
        let seeded = op("RandomNormal", &[shape(), ("seed", Attribute::Float(3.5))]).expect("a shape");
        assert_eq!(seeded.evaluate(&[]).expect("four"), seeded.evaluate(&[]).expect("four"));
        let free = op("RandomNormal", &[shape()]).expect("a shape");
        assert_ne!(free.evaluate(&[]).expect("four"), free.evaluate(&[]).expect("four"));
        // What a seed gives does not change from one version to the next.
        let uniform = op("RandomUniform", &[shape(), ("seed", Attribute::Float(1.0))]).expect("a shape");
        let drawn = uniform.evaluate(&[]).expect("four").remove(0);
        assert_eq!(drawn.values::<f32>().expect("f32").as_ref(), [0.9818473, 0.7113782, 0.26364404, 0.7576579]);
    }

    #[test]
    fn numbers_are_spread_as_asked() {
        let like = Tensor::from_vec([20000], vec![0.25f64; 20000]).expect("as many");
        let drawn = |name: &str, attributes: &[(&str, Attribute)]| {
            let seed = ("seed", Attribute::Float(7.0));
            let attributes = [attributes, &[seed]].concat();
            let op = op(name, &attributes).expect("known");
            moments(&op.evaluate(&[Some(&like)]).expect("as many")[0].to_f64s().expect("real"))
        };
        let near = |a: [f64; 2], b: [f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.05);
        let float = |name, v| (name, Attribute::Float(v));
        assert!(near(drawn("RandomUniformLike", &[float("low", -1.0), float("high", 3.0)]), [1.0, 4.0 / 12f64.sqrt()]));
        assert!(near(drawn("RandomNormalLike", &[float("mean", 2.0), float("scale", 0.5)]), [2.0, 0.5]));
        assert!(near(drawn("Bernoulli", &[]), [0.25, 0.1875f64.sqrt()]));
    }

    #[test]
    fn classes_come_as_often_as_they_weigh() {
        let weights = Tensor::from_vec([2, 3], vec![0.0f32, 3f32.ln(), f32::NEG_INFINITY, -900.0, -900.0, -900.0]);
        let weights = weights.expect("six");
        let samples = ("sample_size", Attribute::Int(3000));
        let op = op("Multinomial", &[samples, ("seed", Attribute::Float(1.0))]).expect("known");
        let drawn = op.evaluate(&[Some(&weights)]).expect("two lines").remove(0);
        assert_eq!((drawn.dtype(), drawn.shape().dims()), (DType::I32, [2, 3000].as_slice()));
        let drawn = drawn.to_f64s().expect("integers");
        let share = |line: usize, class: f64| {
            drawn[line * 3000..(line + 1) * 3000].iter().filter(|c| **c == class).count() as f64 / 3000.0
        };
        assert!(
            (share(0, 1.0) - 0.75).abs() < 0.05 && share(0, 2.0) == 0.0 && (share(1, 2.0) - 1.0 / 3.0).abs() < 0.05
        );
        let nothing = Tensor::from_vec([1, 2], vec![f32::NEG_INFINITY; 2]).expect("two");
        for wrong in [nothing, Tensor::scalar(1.0f32)] {
            assert!(op.evaluate(&[Some(&wrong)]).is_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(op("RandomNormal", &[]).is_err());
        assert!(op("RandomNormal", &[("shape", Attribute::Ints(vec![-1]))]).is_err());
        let huge = op("RandomUniform", &[("shape", Attribute::Ints(vec![1 << 40, 1 << 40]))]).expect("a shape");
        assert!(huge.infer(&[]).is_err() && huge.evaluate(&[]).is_err());
        let wrong = Tensor::scalar(1.5f32);
        assert!(op("Bernoulli", &[]).expect("known").evaluate(&[Some(&wrong)]).is_err());
    }
}
