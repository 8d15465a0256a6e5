//! What a model gave against what it should give.

use crate::tensor::{DType, Tensor};

/// How far floats may be from what is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tolerance {
    /// At most `atol + rtol × |expected|`.
    Given {
        /// Relative part.
        rtol: f64,
        /// Absolute part.
        atol: f64,
    },
    /// At most 10⁻⁴ of the expected output's range, or ten times the noise that a correct engine shows.
    Range {
        /// How far one correct engine is from another.
        noise_max_abs: f64,
        /// Whether the model rounds to few bits inside, where one last bit may become a whole step: then all elements together
        /// count, see [`is_alike`].
        rounds: bool,
    },
}

/// The least cosine of two outputs of a model that rounds inside, and the largest mean error in units of the range: a step of 8
/// bits.
const ALIKE_COSINE: f64 = 0.999;
const ALIKE_MEAN_ERROR: f64 = 1.0 / 255.0;

/// How two tensors differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// The largest distance of two elements; `None` when they cannot be compared.
    pub(super) max_abs: Option<f64>,
    /// The same in units of the expected range.
    pub(super) max_rel_to_range: Option<f64>,
    /// Why they do not agree, if so.
    pub(super) reason: Option<String>,
}

impl Difference {
    /// The larger of two distances, if there are any.
    pub(super) fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
        a.into_iter().chain(b).reduce(f64::max)
    }

    /// Both: the larger distances, the first reason.
    fn and(self, other: Self) -> Self {
        Self {
            max_abs: Self::larger(self.max_abs, other.max_abs),
            max_rel_to_range: Self::larger(self.max_rel_to_range, other.max_rel_to_range),
            reason: self.reason.or(other.reason),
        }
    }
}

/// Compares dtype, shape, the places of NaN and infinities, and every element; sequences value by value.
pub(super) fn compare(expected: &Tensor, actual: &Tensor, tolerance: Tolerance) -> Difference {
    let failed = |reason: String| Difference { reason: Some(reason), ..Difference::default() };
    if expected.dtype().is_compound() && expected.dtype() == actual.dtype() {
        let (e, a) = (expected.elements(), actual.elements());
        if e.len() != a.len() {
            return failed(format!("holds {} values, expected {}", a.len(), e.len()));
        }
        let each = e.iter().zip(a).enumerate().map(|(i, (e, a))| {
            let difference = compare(e, a, tolerance);
            Difference { reason: difference.reason.map(|r| format!("value {i}: {r}")), ..difference }
        });
        let none = Difference { max_abs: Some(0.0), max_rel_to_range: Some(0.0), reason: None };
        return each.fold(none, Difference::and);
    }
    if (expected.dtype(), expected.shape()) != (actual.dtype(), actual.shape()) {
        let (e, a) = (expected, actual);
        return failed(format!("is {}{}, expected {}{}", a.dtype(), a.shape(), e.dtype(), e.shape()));
    }
    let (Ok(expected_values), Ok(actual_values)) = (expected.to_f64s(), actual.to_f64s()) else {
        let equal = expected.data() == actual.data();
        let apart = Some(if equal { 0.0 } else { 1.0 });
        let reason = (!equal).then(|| format!("differs in some {} element", expected.dtype()));
        return Difference { max_abs: apart, max_rel_to_range: apart, reason };
    };
    let range = range(&expected_values);
    let allowed = |e: f64| match tolerance {
        _ if !expected.dtype().is_float() => 0.0,
        Tolerance::Given { rtol, atol } => atol + rtol * e.abs(),
        Tolerance::Range { noise_max_abs, .. } => (1e-4 * range).max(10.0 * noise_max_abs),
    };
    let mut worst: f64 = 0.0;
    let mut first_bad = None;
    for (i, (e, a)) in expected_values.iter().zip(&actual_values).enumerate() {
        let same = if e.is_finite() && a.is_finite() {
            let apart = (e - a).abs().min(f64::MAX);
            worst = worst.max(apart);
            apart <= allowed(*e)
        } else {
            e.to_bits() == a.to_bits() || (e.is_nan() && a.is_nan())
        };
        if !same && first_bad.is_none() {
            first_bad = Some(format!("element {i} of {} is {a}, expected {e}", expected.shape()));
        }
    }
    let rounds = expected.dtype().is_float() && matches!(tolerance, Tolerance::Range { rounds: true, .. });
    if first_bad.is_some() && rounds && is_alike(&expected_values, &actual_values, range) {
        first_bad = None;
    }
    // f64 cannot tell large 64-bit integers apart.
    let exact = matches!(expected.dtype(), DType::I64 | DType::U64) && expected.data() != actual.data();
    let reason = first_bad.or_else(|| exact.then(|| "differs in some large integer".to_owned()));
    Difference { max_abs: Some(worst), max_rel_to_range: Some((worst / range).min(f64::MAX)), reason }
}

/// Whether two outputs point the same way and are close on average.
fn is_alike(expected: &[f64], actual: &[f64], range: f64) -> bool {
    let pairs = || expected.iter().copied().zip(actual.iter().copied());
    let product = |pairs: &mut dyn Iterator<Item = (f64, f64)>| pairs.map(|(a, b)| a * b).sum::<f64>();
    let sizes = product(&mut pairs().map(|(e, _)| (e, e))) * product(&mut pairs().map(|(_, a)| (a, a)));
    let cosine = product(&mut pairs()) / sizes.sqrt();
    let mean_error = pairs().map(|(e, a)| (e - a).abs()).sum::<f64>() / expected.len() as f64;
    // What is not finite makes either of them NaN, which is never within a bound.
    cosine >= ALIKE_COSINE && mean_error <= ALIKE_MEAN_ERROR * range
}

/// Largest minus smallest finite value, else the largest magnitude, else 1.
fn range(values: &[f64]) -> f64 {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let spread = high - low;
    let largest = finite().fold(0.0, |m: f64, v| m.max(v.abs()));
    match () {
        () if spread > 0.0 => spread.min(f64::MAX),
        () if largest > 0.0 => largest,
        () => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Tolerance = Tolerance::Range { noise_max_abs: 0.0, rounds: false };

    fn floats(values: &[f32]) -> Tensor {
        Tensor::from_vec([values.len()], values.to_vec()).expect("as many as there are")
    }

    #[test]
    fn tolerance_follows_the_expected_range() {
        let expected = floats(&[0.0, 100.0]);
        let near = compare(&expected, &floats(&[0.009, 100.0]), RANGE);
        assert_eq!(near.reason, None);
        assert!((near.max_rel_to_range.expect("compared") - 9e-5).abs() < 1e-9);
        assert!(compare(&expected, &floats(&[0.011, 100.0]), RANGE).reason.is_some());
        assert_eq!(
            compare(&expected, &floats(&[0.011, 100.0]), Tolerance::Range { noise_max_abs: 0.002, rounds: false })
                .reason,
            None
        );
        let given = Tolerance::Given { rtol: 0.0, atol: 0.02 };
        assert_eq!(compare(&expected, &floats(&[0.011, 100.0]), given).reason, None);
    }

    #[test]
    fn models_that_round_are_judged_by_all_elements() {
        let rounds = Tolerance::Range { noise_max_abs: 0.0, rounds: true };
        let expected: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let mut actual = expected.clone();
        actual[500] += 20.0;
        assert!(compare(&floats(&expected), &floats(&actual), RANGE).reason.is_some());
        let judged = compare(&floats(&expected), &floats(&actual), rounds);
        assert_eq!((judged.reason, judged.max_abs), (None, Some(20.0)));
        actual.reverse();
        assert!(compare(&floats(&expected), &floats(&actual), rounds).reason.is_some());
        actual[0] = f32::NAN;
        assert!(compare(&floats(&expected), &floats(&actual), rounds).reason.is_some());
    }

    #[test]
    fn nan_and_infinities_must_be_in_their_places() {
        let expected = floats(&[f32::NAN, f32::INFINITY, 1.0]);
        assert_eq!(compare(&expected, &expected, RANGE).reason, None);
        for wrong in [[0.0, f32::INFINITY, 1.0], [f32::NAN, f32::NEG_INFINITY, 1.0], [f32::NAN, 3.0, f32::NAN]] {
            let difference = compare(&expected, &floats(&wrong), RANGE);
            assert!(difference.reason.is_some() && difference.max_abs.is_some_and(f64::is_finite), "{wrong:?}");
        }
    }

    #[test]
    fn integers_and_strings_are_equal_or_not() {
        let large = Tensor::scalar(i64::MAX);
        assert!(compare(&large, &Tensor::scalar(i64::MAX - 1), RANGE).reason.is_some());
        assert_eq!(compare(&large, &large, RANGE).max_abs, Some(0.0));
        let text = |t: &'static str| Tensor::from_strings([], vec![t.into()]).expect("one");
        assert!(compare(&text("a"), &text("b"), RANGE).reason.is_some());
        assert_eq!(compare(&floats(&[1.0]), &text("a"), RANGE).max_abs, None);
    }

    #[test]
    fn sequences_are_compared_value_by_value() {
        let sequence = |values: &[f32]| {
            let values = values.iter().map(|v| floats(&[*v, 1.0])).collect();
            Tensor::sequence(values).expect("one type")
        };
        let expected = sequence(&[1.0, 2.0]);
        assert_eq!(
            compare(&expected, &expected, RANGE),
            Difference { max_abs: Some(0.0), max_rel_to_range: Some(0.0), reason: None }
        );
        let wrong = compare(&expected, &sequence(&[1.0, 3.0]), RANGE);
        assert!(wrong.max_abs == Some(1.0) && wrong.reason.is_some_and(|r| r.starts_with("value 1: element 0")));
        assert!(compare(&expected, &sequence(&[1.0]), RANGE).reason.is_some());
        assert!(compare(&expected, &Tensor::optional(Some(expected.clone())).expect("one"), RANGE).reason.is_some());
    }
}
