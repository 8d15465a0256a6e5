//! TreeEnsemble: decision trees over lines of features.

use std::sync::Arc;

use super::arguments::required;
use super::constants::non_negative;
use super::registry::OpSpec;
use crate::engine::ir::{Attributes, Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{Dim, Tensor};

/// Targets of one ensemble, and of all lines.
const MAX_TARGETS: usize = 1 << 20;
const MAX_ENTRIES: usize = 1 << 28;

/// How a node compares its feature with its limit.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Unequal,
    /// Whether it is one of these.
    Member(Vec<f64>),
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Node(usize),
    Leaf(usize),
}

#[derive(Clone, Debug)]
struct Node {
    feature: usize,
    test: Test,
    limit: f64,
    /// Whether a feature that is NaN passes.
    missing_passes: bool,
    passed: Next,
    failed: Next,
}

impl Node {
    fn next(&self, line: &[f64]) -> Next {
        let (value, limit) = (line[self.feature], self.limit);
        let passes = match &self.test {
            Test::AtMost => value <= limit,
            Test::Below => value < limit,
            Test::AtLeast => value >= limit,
            Test::Above => value > limit,
            Test::Equal => value == limit,
            Test::Unequal => value != limit,
            Test::Member(members) => members.contains(&value),
        };
        if passes || (self.missing_passes && value.is_nan()) { self.passed } else { self.failed }
    }
}

/// How what the trees say of a target becomes one number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// What is done to a line of targets at the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Transform {
    None,
    Softmax,
    Logistic,
    /// Softmax of what is not zero.
    SoftmaxZero,
}

/// Input [lines, features] → output [lines, targets]: what the leaves reached add to their targets. Targets that no leaf
/// speaks of are 0.
#[derive(Debug)]
struct TreeEnsemble {
    nodes: Vec<Node>,
    /// Target and weight.
    leaves: Vec<(usize, f64)>,
    roots: Vec<Next>,
    aggregate: Aggregate,
    transform: Transform,
    targets: usize,
    features: usize,
}

struct Lists<'a>(&'a Attributes);

impl Lists<'_> {
    fn missing(name: &str) -> Error {
        Error::invalid_argument(format!("TreeEnsemble without the attribute {name}"))
    }

    fn ints(&self, name: &str) -> Result<Vec<usize>> {
        non_negative(&self.0.ints(name)?.ok_or_else(|| Self::missing(name))?)
    }

    fn reals(&self, name: &str) -> Result<Vec<f64>> {
        self.0.tensor(name)?.ok_or_else(|| Self::missing(name))?.to_f64s()
    }
}

/// The list of `count` entries.
fn sized<T>(name: &str, list: Vec<T>, count: usize) -> Result<Vec<T>> {
    if list.len() == count {
        return Ok(list);
    }
    Err(Error::invalid_argument(format!("{name} has {} entries where {count} are due", list.len())))
}

fn nodes(lists: &Lists<'_>, leaves: usize) -> Result<Vec<Node>> {
    let features = lists.ints("nodes_featureids")?;
    let count = features.len();
    let ints = |name: &str| sized(name, lists.ints(name)?, count);
    let branches = |ids: &str, flags: &str| -> Result<Vec<Next>> {
        let next = |(id, leaf): (usize, usize)| {
            if id >= if leaf == 0 { count } else { leaves } {
                return Err(Error::invalid_argument(format!("{ids} leads to {id}, which does not exist")));
            }
            Ok(if leaf == 0 { Next::Node(id) } else { Next::Leaf(id) })
        };
        ints(ids)?.into_iter().zip(ints(flags)?).map(next).collect()
    };
    let (passed, failed) =
        (branches("nodes_truenodeids", "nodes_trueleafs")?, branches("nodes_falsenodeids", "nodes_falseleafs")?);
    let limits = sized("nodes_splits", lists.reals("nodes_splits")?, count)?;
    let modes = sized("nodes_modes", lists.reals("nodes_modes")?, count)?;
    let missing = match lists.0.has("nodes_missing_value_tracks_true") {
        true => ints("nodes_missing_value_tracks_true")?,
        false => vec![0; count],
    };
    // Sets of members stand one after another, a NaN behind each.
    let members = lists.0.tensor("membership_values")?.map(|t| t.to_f64s()).transpose()?.unwrap_or_default();
    let mut sets = members.split_inclusive(|m| m.is_nan());
    let mut nodes = Vec::with_capacity(count);
    for i in 0..count {
        let test = match modes[i] as u8 {
            0 => Test::AtMost,
            1 => Test::Below,
            2 => Test::AtLeast,
            3 => Test::Above,
            4 => Test::Equal,
            5 => Test::Unequal,
            6 => {
                let set = sets.next().ok_or_else(|| Error::invalid_argument("membership_values lack a set"))?;
                Test::Member(set.iter().copied().filter(|m| !m.is_nan()).collect())
            }
            other => return Err(Error::invalid_argument(format!("nodes_modes holds {other}"))),
        };
        nodes.push(Node {
            feature: features[i],
            test,
            limit: limits[i],
            missing_passes: missing[i] != 0,
            passed: passed[i],
            failed: failed[i],
        });
    }
    Ok(nodes)
}

pub(super) fn tree_ensemble(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let lists = Lists(spec.attributes);
    let weights = lists.reals("leaf_weights")?;
    let targets = sized("leaf_targetids", lists.ints("leaf_targetids")?, weights.len())?;
    let nodes = nodes(&lists, weights.len())?;
    let count = spec.attributes.int("n_targets")?.map(|n| non_negative(&[n])).transpose()?.map(|n| n[0]);
    let count = count.unwrap_or_else(|| targets.iter().max().map_or(0, |t| t + 1));
    if count > MAX_TARGETS || targets.iter().any(|t| *t >= count) {
        return Err(Error::invalid_argument(format!(
            "leaf_targetids go past {count} targets, or those past {MAX_TARGETS}"
        )));
    }
    let roots = lists.ints("tree_roots")?.into_iter().map(|root| {
        let node = nodes.get(root).ok_or_else(|| Error::invalid_argument(format!("a tree has its root at {root}")))?;
        // A tree that is a leaf is written as a node that leads there in any case.
        let same = node.passed == node.failed;
        Ok(if let (true, Next::Leaf(_)) = (same, node.passed) { node.passed } else { Next::Node(root) })
    });
    let roots = roots.collect::<Result<_>>()?;
    let aggregate = match spec.attributes.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(Error::invalid_argument(format!("aggregate_function {other}"))),
    };
    let transform = match spec.attributes.int_or("post_transform", 0)? {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => return Err(Error::unimplemented("the post_transform PROBIT is not supported")),
        other => return Err(Error::invalid_argument(format!("post_transform {other}"))),
    };
    let features = nodes.iter().map(|n| n.feature.saturating_add(1)).max().unwrap_or(0);
    let leaves = targets.into_iter().zip(weights).collect();
    Ok(Arc::new(TreeEnsemble { nodes, leaves, roots, aggregate, transform, targets: count, features }))
}

impl TreeEnsemble {
    /// The leaf that `line` reaches from `root`.
    fn leaf(&self, root: Next, line: &[f64]) -> Result<usize> {
        let mut at = root;
        // A way through more nodes than there are goes in a circle.
        for _ in 0..=self.nodes.len() {
            match at {
                Next::Leaf(leaf) => return Ok(leaf),
                Next::Node(node) => at = self.nodes[node].next(line),
            }
        }
        Err(Error::invalid_argument("a tree's branches go in a circle"))
    }

    fn line(&self, features: &[f64]) -> Result<Vec<f64>> {
        let mut said: Vec<Option<f64>> = vec![None; self.targets];
        for root in &self.roots {
            let (target, weight) = self.leaves[self.leaf(*root, features)?];
            said[target] = Some(match (said[target], self.aggregate) {
                (None, _) => weight,
                (Some(so_far), Aggregate::Min) => so_far.min(weight),
                (Some(so_far), Aggregate::Max) => so_far.max(weight),
                (Some(so_far), Aggregate::Sum | Aggregate::Average) => so_far + weight,
            });
        }
        let share = if self.aggregate == Aggregate::Average { self.roots.len().max(1) as f64 } else { 1.0 };
        let mut line: Vec<f64> = said.into_iter().map(|v| v.unwrap_or(0.0) / share).collect();
        self.transform.apply(&mut line);
        Ok(line)
    }
}

impl Transform {
    fn apply(self, line: &mut [f64]) {
        match self {
            Transform::None => {}
            Transform::Logistic => line.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Transform::Softmax | Transform::SoftmaxZero => {
                let takes_part = |v: f64| self == Transform::Softmax || v != 0.0;
                let most = line.iter().copied().filter(|v| takes_part(*v)).fold(f64::NEG_INFINITY, f64::max);
                let power = |v: f64| if takes_part(v) { (v - most).exp() } else { 0.0 };
                let sum: f64 = line.iter().map(|v| power(*v)).sum();
                line.iter_mut().for_each(|v| *v = if sum > 0.0 { power(*v) / sum } else { 0.0 });
            }
        }
    }
}

impl Op for TreeEnsemble {
    fn name(&self) -> &'static str {
        "TreeEnsemble"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let lines = match input.dims.as_deref() {
            None => Dim::Unknown,
            Some([lines, _]) => lines.clone(),
            Some(other) => return Err(Error::invalid_argument(format!("features have two axes, not {}", other.len()))),
        };
        Ok(vec![Fact::new(input.dtype, [lines, Dim::Fixed(self.targets)])])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let &[lines, features] = input.shape().dims() else {
            return Err(Error::invalid_argument(format!("features have two axes, not {}", input.shape().rank())));
        };
        if features < self.features {
            return Err(Error::invalid_argument(format!("{features} features, the trees read {}", self.features)));
        }
        if lines.saturating_mul(self.targets) > MAX_ENTRIES {
            return Err(Error::resource_exhausted(format!("{lines} lines of {} targets", self.targets)));
        }
        let values = input.to_f64s()?;
        let mut output = Vec::with_capacity(lines * self.targets);
        for line in 0..lines {
            output.extend(self.line(&values[line * features..(line + 1) * features])?);
        }
        Ok(vec![Tensor::from_f64s(input.dtype(), [lines, self.targets], &output)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::Attribute;

    /// Two stumps: feature 0 ≤ 1 says target 0 is 2, else target 1 is 3; feature 1 of {5, 6} says target 0 is 4, else 1 is 8.
    fn op(changes: &[(&str, Attribute)]) -> Result<Arc<dyn Op>> {
        let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
        let reals = |values: &[f32]| Tensor::from_vec([values.len()], values.to_vec()).map(Attribute::Tensor);
        let mut all = Attributes::new();
        for (name, value) in [
            ("nodes_featureids", ints(&[0, 1])),
            ("nodes_modes", Attribute::Tensor(Tensor::from_vec([2], vec![0u8, 6])?)),
            ("nodes_splits", reals(&[1.0, f32::NAN])?),
            ("nodes_truenodeids", ints(&[0, 2])),
            ("nodes_falsenodeids", ints(&[1, 3])),
            ("nodes_trueleafs", ints(&[1, 1])),
            ("nodes_falseleafs", ints(&[1, 1])),
            ("membership_values", reals(&[5.0, 6.0, f32::NAN])?),
            ("leaf_targetids", ints(&[0, 1, 0, 1])),
            ("leaf_weights", reals(&[2.0, 3.0, 4.0, 8.0])?),
            ("tree_roots", ints(&[0, 1])),
            ("n_targets", Attribute::Int(3)),
        ] {
            all.set(name, value);
        }
        changes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        tree_ensemble(&OpSpec { domain: "", name: "TreeEnsemble", opset: 5, attributes: &all, inputs: 1, outputs: 1 })
    }

    fn run(changes: &[(&str, Attribute)]) -> Vec<f64> {
        let lines = Tensor::from_vec([2, 2], vec![0.5f32, 6.0, f32::NAN, 0.0]).expect("four");
        let op = op(changes).expect("whole trees");
        op.evaluate(&[Some(&lines)]).expect("two features")[0].to_f64s().expect("real")
    }

    #[test]
    fn leaves_add_up() {
        let int = |name, v| (name, Attribute::Int(v));
        assert_eq!(run(&[]), [6.0, 0.0, 0.0, 0.0, 11.0, 0.0]);
        assert_eq!(run(&[int("aggregate_function", 0)]), [3.0, 0.0, 0.0, 0.0, 5.5, 0.0]);
        assert_eq!(run(&[int("aggregate_function", 3)]), [4.0, 0.0, 0.0, 0.0, 8.0, 0.0]);
        let passes = ("nodes_missing_value_tracks_true", Attribute::Ints(vec![1, 0]));
        assert_eq!(run(&[passes])[3..], [2.0, 8.0, 0.0]);
        assert_eq!(run(&[int("post_transform", 3)]), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let softmax = run(&[int("post_transform", 1)]);
        assert!((softmax[0] / softmax[1] - 6f64.exp()).abs() < 1e-3);
    }

    #[test]
    fn broken_trees_are_refused() {
        let ints = |name, values: &[i64]| (name, Attribute::Ints(values.to_vec()));
        for change in [
            ints("nodes_truenodeids", &[0, 9]),
            ints("nodes_truenodeids", &[0]),
            ints("leaf_targetids", &[0, 1, 0, 3]),
            ints("tree_roots", &[2]),
            ("nodes_modes", Attribute::Tensor(Tensor::from_vec([2], vec![0u8, 7]).expect("two"))),
            ("membership_values", Attribute::Tensor(Tensor::from_vec::<f32>([0], vec![]).expect("none"))),
        ] {
            assert!(op(std::slice::from_ref(&change)).is_err(), "{}", change.0);
        }
        let circle = [ints("nodes_truenodeids", &[0, 0]), ints("nodes_trueleafs", &[0, 0])];
        let lines = Tensor::from_vec([1, 2], vec![0.0f32, 5.0]).expect("two");
        assert!(op(&circle).expect("whole so far").evaluate(&[Some(&lines)]).is_err());
        let narrow = Tensor::from_vec([1, 1], vec![0.0f32]).expect("one");
        assert!(op(&[]).expect("whole trees").evaluate(&[Some(&narrow)]).is_err());
    }
}
