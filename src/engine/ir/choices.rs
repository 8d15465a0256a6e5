//! Which of several ways an operator's device work is done: what there is to choose from, and what was chosen, as plain data.

use std::collections::BTreeMap;
use std::ops::Range;

/// Problem key → name of the chosen candidate. Made once an adapter and driver and used by all its lanes, so that equal
/// problems give equal bits on each. Without an entry, or with one that a problem does not know, its first candidate is used.
pub type Choices = BTreeMap<String, String>;

/// A choice that was met while a program was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Operator family, extents, types and epilogue: all that decides which candidate is fastest, and no node's name, so that
    /// equal problems of all models are one.
    pub key: String,
    /// Names of the ways, the deterministic default first; at least two.
    pub candidates: Vec<String>,
    /// Which of them was taken.
    pub chosen: usize,
    /// The dispatches of its segment that the choice decided: those of its node from the choice on.
    pub dispatches: Range<usize>,
}

/// The position among `candidates` of what `choices` names for `key`, 0 when it names none of them.
pub(super) fn chosen(choices: &Choices, key: &str, candidates: &[String]) -> usize {
    choices.get(key).and_then(|name| candidates.iter().position(|c| c == name)).unwrap_or(0)
}

/// At most `most` of `candidates`, the first always among them, then those of least estimated `cost`, in their order.
pub fn prune<T>(candidates: Vec<T>, most: usize, cost: impl Fn(&T) -> f64) -> Vec<T> {
    let mut order: Vec<usize> = (1..candidates.len()).collect();
    order.sort_by(|a, b| cost(&candidates[*a]).total_cmp(&cost(&candidates[*b])));
    order.truncate(most.saturating_sub(1));
    let kept = candidates.into_iter().enumerate().filter(|(i, _)| *i == 0 || order.contains(i));
    kept.map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_fall_back_to_the_default() {
        let candidates = ["16x4".to_owned(), "8x8".to_owned()];
        let choices = |name: &str| Choices::from([("product".to_owned(), name.to_owned())]);
        assert_eq!(chosen(&choices("8x8"), "product", &candidates), 1);
        assert_eq!(chosen(&choices("64x64"), "product", &candidates), 0);
        assert_eq!(chosen(&choices("8x8"), "another", &candidates), 0);
    }

    #[test]
    fn pruning_keeps_the_default_and_the_cheapest() {
        assert_eq!(prune(vec![9, 5, 7, 1, 6], 3, |c| f64::from(*c)), [9, 5, 1]);
        assert_eq!(prune(vec![9], 3, |c| f64::from(*c)), [9]);
    }
}
