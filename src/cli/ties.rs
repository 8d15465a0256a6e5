//! Detections whose scores are the same up to rounding may stand in any order.

use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// Scores closer than this in units of the largest are the same.
const TIE: f64 = 1e-6;
/// Floats of one detection closer than this in units of the output's largest are the same.
const ALIKE: f64 = 1e-3;

/// `actual` with entries of axis 0 exchanged where that brings what is expected to its place: of outputs that list as many
/// entries as a list of scores, largest first, among entries of the same score. Other outputs stay as they are.
///
/// # Errors
/// `INTERNAL` for tensors that do not hold what their dtypes say.
pub(super) fn untied(expected: &[Option<Tensor>], actual: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let pairs: Vec<(usize, &Tensor)> =
        expected.iter().enumerate().filter_map(|(i, e)| Some((i, e.as_ref()?))).collect();
    let same = |i: usize, e: &Tensor| {
        actual.get(i).is_some_and(|a| (a.dtype(), a.shape()) == (e.dtype(), e.shape()) && !a.bytes().is_empty())
    };
    let scores =
        pairs.iter().find(|(i, e)| e.dtype() == DType::F32 && e.shape().rank() == 1 && same(*i, e) && falls(e));
    let Some((place, scores)) = scores else { return Ok(actual) };
    let count = scores.shape()[0];
    let own = actual[*place].to_f64s()?;
    let largest = own.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let mut lists = Vec::new();
    for (i, e) in pairs.iter().filter(|(i, e)| e.shape().first() == Some(&count) && same(*i, e)) {
        lists.push(List::new(*i, e, &actual[*i])?);
    }
    let mut order: Vec<usize> = (0..count).collect();
    for at in 0..count {
        let fits = |candidate: &usize| lists.iter().all(|list| list.fits(at, *candidate));
        let tied = |j: &usize| (own[order[*j]] - own[order[at]]).abs() <= TIE * largest;
        if let Some(found) = (at..count).take_while(tied).find(|j| fits(&order[*j])) {
            order.swap(at, found);
        }
    }
    let mut result = actual.clone();
    for list in &lists {
        result[list.output] = list.in_order(&order)?;
    }
    Ok(result)
}

fn falls(scores: &Tensor) -> bool {
    scores.to_f64s().is_ok_and(|values| values.len() > 1 && values.windows(2).all(|w| w[0] >= w[1]))
}

/// An output that lists what the scores are of.
struct List<'a> {
    output: usize,
    actual: &'a Tensor,
    values: [Vec<f64>; 2],
    width: usize,
    allowed: f64,
}

impl<'a> List<'a> {
    fn new(output: usize, expected: &Tensor, actual: &'a Tensor) -> Result<Self> {
        let values = [expected.to_f64s()?, actual.to_f64s()?];
        let largest = values[0].iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let allowed = if expected.dtype().is_float() { ALIKE * largest } else { 0.0 };
        let width = expected.shape()[1..].iter().product();
        Ok(Self { output, actual, values, width, allowed })
    }

    /// Whether entry `candidate` of the actual list is what is expected at `at`.
    fn fits(&self, at: usize, candidate: usize) -> bool {
        let row = |side: usize, i: usize| &self.values[side][i * self.width..(i + 1) * self.width];
        row(0, at).iter().zip(row(1, candidate)).all(|(e, a)| (e - a).abs() <= self.allowed)
    }

    fn in_order(&self, order: &[usize]) -> Result<Tensor> {
        let size = self.width * self.actual.dtype().bytes();
        let bytes = order.iter().flat_map(|i| &self.actual.bytes()[i * size..(i + 1) * size]).copied();
        Tensor::from_bytes(self.actual.dtype(), self.actual.shape().clone(), bytes.collect::<Vec<u8>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detections(scores: [f32; 4], labels: [i64; 4]) -> Vec<Tensor> {
        vec![
            Tensor::from_vec([4], labels.to_vec()).expect("four"),
            Tensor::from_vec([4], scores.to_vec()).expect("four"),
        ]
    }

    #[test]
    fn only_ties_change_places() {
        let wanted = detections([0.9, 0.5, 0.5, 0.1], [1, 2, 3, 4]);
        let expected: Vec<Option<Tensor>> = wanted.iter().cloned().map(Some).collect();
        let swapped = untied(&expected, detections([0.9, 0.5, 0.5, 0.1], [1, 3, 2, 4])).expect("lists");
        assert_eq!(swapped, wanted);
        let wrong = detections([0.9, 0.5, 0.5, 0.1], [2, 1, 3, 4]);
        assert_eq!(untied(&expected, wrong.clone()).expect("lists"), wrong);
    }
}
