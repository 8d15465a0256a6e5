//! Whether an answer of a device is what the host computes, as near as rounding allows.

use crate::engine::ir::Origin;
use crate::tensor::{Data, Tensor};

/// How far floats may be apart, in units of the output's largest magnitude: sums of thousands of products in 32 bits, and with
/// 16-bit floats on the way.
const APART_MAX: f64 = 1e-3;
const APART_MAX_HALVES: f64 = 5e-2;
/// Outputs of smaller magnitude are taken to be of this one: they are what differences of larger numbers leave.
const MAGNITUDE_MIN: f64 = 1e-3;
/// Of the elements that rest on a choice among computed floats so many may be others: one part in ten, one at least.
const CHOSEN_PART: usize = 10;

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// They are the same but for rounding.
    Agreed,
    /// They are not; says where the most.
    Disagreed(String),
    /// Nobody can tell: another choice among nearly equal floats gives another shape.
    Open,
}

/// Compares one output, which the device gave, with what the host `expected`.
pub(super) fn compare(expected: &Tensor, found: &Tensor, origin: Origin) -> Verdict {
    let disagreed = |what: String| Verdict::Disagreed(what);
    if expected.dtype() != found.dtype() {
        return disagreed(format!("a {} value on the device, a {} value on the host", found.dtype(), expected.dtype()));
    }
    if expected.shape() != found.shape() || expected.elements().len() != found.elements().len() {
        let what = format!("shape {} on the device, {} on the host", found.shape(), expected.shape());
        return if origin.chosen { Verdict::Open } else { disagreed(what) };
    }
    if expected.dtype().is_compound() {
        let each = expected.elements().iter().zip(found.elements()).map(|(e, f)| compare(e, f, origin));
        return each.enumerate().fold(Verdict::Agreed, |sum, (i, verdict)| match (sum, verdict) {
            (Verdict::Disagreed(what), _) => Verdict::Disagreed(what),
            (_, Verdict::Disagreed(what)) => Verdict::Disagreed(format!("value {i}: {what}")),
            (Verdict::Open, _) | (_, Verdict::Open) => Verdict::Open,
            (Verdict::Agreed, Verdict::Agreed) => Verdict::Agreed,
        });
    }
    let wrong = if expected.dtype().is_float() { floats(expected, found, origin) } else { exact(expected, found) };
    let free = if origin.chosen { (expected.shape().elements() / CHOSEN_PART).max(1) } else { 0 };
    match wrong {
        Some(Wrong { count, worst }) if count > free => disagreed(format!("{worst}; {count} elements are wrong")),
        _ => Verdict::Agreed,
    }
}

/// Elements that are not what they should be.
struct Wrong {
    count: usize,
    worst: String,
}

fn floats(expected: &Tensor, found: &Tensor, origin: Origin) -> Option<Wrong> {
    let (Ok(expected), Ok(found)) = (expected.to_f64s(), found.to_f64s()) else { return exact(expected, found) };
    let finite = expected.iter().copied().filter(|v| v.is_finite());
    let magnitude = finite.fold(MAGNITUDE_MIN, |most, v| most.max(v.abs()));
    let part = if origin.halves { APART_MAX_HALVES } else { APART_MAX };
    let allowed = part * magnitude;
    // Sums may pass the largest number on one side alone, and with 16 bits much earlier.
    let overflow = if origin.halves { f64::from(half::f16::MAX) / 2.0 } else { f64::from(f32::MAX) / 2.0 };
    let (mut count, mut worst) = (0, (0, 0.0));
    for (index, (e, f)) in expected.iter().zip(&found).enumerate() {
        let apart = distance(*e, *f, overflow);
        if apart > allowed {
            count += 1;
            if count == 1 || apart > worst.1 {
                worst = (index, apart);
            }
        }
    }
    let (at, apart) = worst;
    let what = || {
        let (found, expected) = (found[at], expected[at]);
        format!(
            "element {at} is {found} on the device and {expected} on the host, {apart:.3e} apart where {allowed:.3e} may be"
        )
    };
    (count > 0).then(|| Wrong { count, worst: what() })
}

/// How far two floats are apart. What one side has infinite must be so on the other, or of a magnitude from `overflow` on; a NaN of
/// the host's says nothing, since devices compute as if there were none.
fn distance(expected: f64, found: f64, overflow: f64) -> f64 {
    match () {
        () if expected.is_nan() => 0.0,
        () if expected.is_finite() && found.is_finite() => (expected - found).abs(),
        // The same infinity.
        () if expected == found => 0.0,
        () if expected.signum() == found.signum() && expected.abs().min(found.abs()) >= overflow => 0.0,
        () => f64::INFINITY,
    }
}

fn exact(expected: &Tensor, found: &Tensor) -> Option<Wrong> {
    let differing: Vec<usize> = match (expected.data(), found.data()) {
        (Data::Strings(e), Data::Strings(f)) => differing(e.iter().zip(f.iter())),
        _ => {
            let size = expected.dtype().bytes().max(1);
            differing(expected.bytes().chunks(size).zip(found.bytes().chunks(size)))
        }
    };
    let at = *differing.first()?;
    let shown = |tensor: &Tensor| match tensor.to_i64s() {
        Ok(values) => values.get(at).map_or_else(String::new, ToString::to_string),
        Err(_) => format!("another {}", tensor.dtype()),
    };
    let worst = format!("element {at} is {} on the device and {} on the host", shown(found), shown(expected));
    Some(Wrong { count: differing.len(), worst })
}

fn differing<T: PartialEq>(pairs: impl Iterator<Item = (T, T)>) -> Vec<usize> {
    pairs.enumerate().filter(|(_, (e, f))| e != f).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDED: Origin = Origin { rounded: true, halves: false, chosen: false };
    const CHOSEN: Origin = Origin { rounded: true, halves: false, chosen: true };

    fn floats(values: &[f32]) -> Tensor {
        Tensor::from_vec([values.len()], values.to_vec()).expect("as many as there are")
    }

    fn agrees(expected: &[f32], found: &[f32], origin: Origin) -> bool {
        compare(&floats(expected), &floats(found), origin) == Verdict::Agreed
    }

    #[test]
    fn floats_may_be_off_by_a_thousandth_of_the_largest() {
        assert!(agrees(&[0.0, -100.0], &[0.09, -100.0], ROUNDED));
        assert!(!agrees(&[0.0, -100.0], &[0.11, -100.0], ROUNDED));
        assert!(agrees(&[0.0, -100.0], &[4.0, -100.0], Origin { halves: true, ..ROUNDED }));
        // What is left of larger numbers is not asked to have all its digits.
        assert!(agrees(&[1e-7], &[2e-7], ROUNDED));
        assert!(!agrees(&[1e-7], &[1e-2], ROUNDED));
    }

    #[test]
    fn what_is_not_finite_must_not_come_up() {
        assert!(!agrees(&[1.0], &[f32::NAN], ROUNDED));
        assert!(!agrees(&[1.0], &[f32::INFINITY], ROUNDED));
        assert!(!agrees(&[f32::INFINITY], &[f32::NEG_INFINITY], ROUNDED));
        assert!(!agrees(&[f32::INFINITY, 1.0], &[7.0, 1.0], ROUNDED));
        assert!(agrees(&[f32::INFINITY, 1.0], &[f32::INFINITY, 1.0], ROUNDED));
        assert!(agrees(&[f32::NAN, 1.0], &[0.0, 1.0], ROUNDED), "devices know no NaN");
        assert!(agrees(&[3e38, 1.0], &[f32::INFINITY, 1.0], ROUNDED));
        let halves = Origin { halves: true, ..ROUNDED };
        assert!(agrees(&[f32::INFINITY], &[7e4], halves) && !agrees(&[f32::INFINITY], &[7e4], ROUNDED));
    }

    #[test]
    fn choices_among_floats_may_fall_otherwise_now_and_then() {
        let integers = |values: Vec<i64>| Tensor::from_vec([values.len()], values).expect("as many as there are");
        let (expected, one_off) = (integers(vec![3; 20]), integers([vec![3; 19], vec![4]].concat()));
        let far_off = integers([vec![3; 17], vec![4; 3]].concat());
        assert_eq!(compare(&expected, &one_off, CHOSEN), Verdict::Agreed);
        assert!(matches!(compare(&expected, &far_off, CHOSEN), Verdict::Disagreed(_)));
        let Verdict::Disagreed(what) = compare(&expected, &one_off, Origin::default()) else {
            panic!("integers that no float decides are exact")
        };
        assert_eq!(what, "element 19 is 4 on the device and 3 on the host; 1 elements are wrong");
        assert_eq!(compare(&expected, &integers(vec![3; 19]), CHOSEN), Verdict::Open);
        assert!(matches!(compare(&expected, &integers(vec![3; 19]), ROUNDED), Verdict::Disagreed(_)));
    }
}
