//! SplitToSequence and ConcatFromSequence: a tensor as a sequence of its parts, and back.

use std::sync::Arc;

use super::arguments::{axis_of, known, known_ints, required, unknown};
use super::composed::push;
use super::constants::non_negative;
use super::holding::{self, REASON, any_element, sequence_fact};
use super::registry::{OpSpec, build};
use super::stack::stack;
use crate::engine::ir::{Attribute, Attributes, Expansion, Fact, MAX_FOLLOWED_PARTS, Op, Profile, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// Pieces of one tensor.
const MAX_PIECES: usize = 1 << 16;

fn few(pieces: usize) -> Result<()> {
    if pieces <= MAX_PIECES {
        return Ok(());
    }
    Err(Error::resource_exhausted(format!("{pieces} pieces of one tensor, at most {MAX_PIECES} are made")))
}

pub(super) fn split(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let (axis, keep) = (spec.attributes.int_or("axis", 0)?, spec.attributes.flag_or("keepdims", true)?);
    Ok(Arc::new(Split { axis, keep: keep || spec.inputs > 1 }))
}

/// Input 0 cut along an axis: into pieces as long as the scalar input 1, or as its entries; without it into single entries,
/// which lose the axis unless it is kept.
#[derive(Debug)]
struct Split {
    axis: i64,
    keep: bool,
}

impl Split {
    /// The lengths of the pieces of an axis of `extent` entries; `None` while they are not known.
    fn lengths(&self, inputs: &[Option<&Fact>], extent: usize) -> Result<Option<Vec<usize>>> {
        let lengths = match known_ints(inputs, 1)? {
            None => {
                few(extent)?;
                return Ok(Some(vec![1; extent]));
            }
            Some(None) => return Ok(None),
            Some(Some(lengths)) => lengths,
        };
        if required(inputs, 1)?.rank() == Some(0) {
            let piece = lengths.first().and_then(|n| usize::try_from(*n).ok()).filter(|n| *n > 0);
            let piece = piece.ok_or_else(|| Error::invalid_argument(format!("pieces of length {lengths:?}")))?;
            few(extent.div_ceil(piece))?;
            return Ok(Some((0..extent).step_by(piece).map(|at| piece.min(extent - at)).collect()));
        }
        few(lengths.len())?;
        let lengths = non_negative(&lengths)?;
        let sum = lengths.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
        if sum != Some(extent) {
            return Err(Error::invalid_argument(format!("lengths {lengths:?} do not make up an axis of {extent}")));
        }
        Ok(Some(lengths))
    }

    /// The pieces as one node, and the sequence of them; `None` while it is not known how many there are.
    fn composition(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        let Some(dims) = &required(inputs, 0)?.dims else { return Ok(None) };
        let axis = axis_of(self.axis, dims.len())?;
        let Some(extent) = dims[axis].fixed() else { return Ok(None) };
        let Some(lengths) = self.lengths(inputs, extent)? else { return Ok(None) };
        let mut expansion = Expansion::default();
        if lengths.is_empty() {
            expansion.outputs = vec![Some(Wire::Constant(Tensor::sequence(Vec::new())?))];
            return Ok(Some(expansion));
        }
        let mut attributes = Attributes::new();
        attributes.set("axis", Attribute::Int(axis as i64));
        let given = Tensor::from_vec([lengths.len()], lengths.iter().map(|n| *n as i64).collect())?;
        let spec =
            OpSpec { domain: "", name: "Split", opset: 13, attributes: &attributes, inputs: 2, outputs: lengths.len() };
        expansion.push(build(&spec)?, vec![Some(Wire::Input(0)), Some(Wire::Constant(given))], lengths.len());
        let mut pieces: Vec<Wire> = (0..lengths.len()).map(|output| Wire::Output { node: 0, output }).collect();
        if !self.keep {
            let axes = Tensor::from_vec([1], vec![axis as i64])?;
            for piece in &mut pieces {
                let inputs = vec![Some(piece.clone()), Some(Wire::Constant(axes.clone()))];
                *piece = push(&mut expansion, "Squeeze", &Attributes::new(), inputs)?;
            }
        }
        let sequence = holding::sequence(&mut expansion, pieces);
        expansion.outputs = vec![Some(sequence)];
        Ok(Some(expansion))
    }

    /// What holds for every piece.
    fn piece(&self, input: &Fact) -> Result<Fact> {
        let Some(mut dims) = input.dims.clone() else { return Ok(Fact::of_unknown_rank(input.dtype)) };
        let axis = axis_of(self.axis, dims.len())?;
        match self.keep {
            true => dims[axis] = Dim::Unknown,
            false => drop(dims.remove(axis)),
        }
        Ok(Fact::open(input.dtype, Some(dims)))
    }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "SplitToSequence"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        match self.composition(inputs)? {
            Some(expansion) => expansion.infer(inputs),
            None => Ok(vec![Fact::of_many(DType::Sequence, Some(self.piece(required(inputs, 0)?)?))]),
        }
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let composition = self.composition(&facts)?;
        composition.ok_or_else(|| Error::internal("a split of constants is not known"))?.evaluate(inputs)
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        let followed = |e: &Expansion| e.nodes.first().is_none_or(|split| split.outputs <= MAX_FOLLOWED_PARTS);
        Ok(self.composition(inputs)?.filter(followed))
    }
}

pub(super) fn concat(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axis = spec.attributes.int("axis")?;
    let axis = axis.ok_or_else(|| Error::invalid_argument("ConcatFromSequence without the attribute axis"))?;
    Ok(Arc::new(Concat { axis, new_axis: spec.attributes.flag_or("new_axis", false)? }))
}

/// The elements of a sequence side by side along an axis, which may be a new one.
#[derive(Debug)]
struct Concat {
    axis: i64,
    new_axis: bool,
}

impl Concat {
    fn join(&self, expansion: &mut Expansion, parts: Vec<Wire>) -> Result<Wire> {
        if parts.is_empty() {
            return Err(Error::invalid_argument("a sequence without elements cannot be joined"));
        }
        if self.new_axis {
            return stack(expansion, parts, self.axis);
        }
        let mut attributes = Attributes::new();
        attributes.set("axis", Attribute::Int(self.axis));
        push(expansion, "Concat", &attributes, parts.into_iter().map(Some).collect())
    }

    fn composition(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        let Some(parts) = sequence_fact(inputs, 0)?.parts() else { return Ok(None) };
        let mut expansion = Expansion::default();
        let parts = (0..parts.len()).map(|i| holding::element(&mut expansion, Wire::Input(0), i)).collect();
        expansion.outputs = vec![Some(self.join(&mut expansion, parts)?)];
        Ok(Some(expansion))
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "ConcatFromSequence"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        if let Some(expansion) = self.composition(inputs)? {
            return expansion.infer(inputs);
        }
        let element = any_element(sequence_fact(inputs, 0)?)?;
        let rank = element.rank().map(|rank| unknown(rank + usize::from(self.new_axis)));
        Ok(vec![Fact::open(element.dtype, rank)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let elements = required(inputs, 0)?.as_sequence()?;
        let mut expansion = Expansion::default();
        let joined = self.join(&mut expansion, (0..elements.len()).map(Wire::Input).collect())?;
        expansion.outputs = vec![Some(joined)];
        expansion.evaluate(&elements.iter().map(Some).collect::<Vec<_>>())
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        self.composition(inputs)
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(split: &Split, lengths: Option<Tensor>) -> Result<Vec<Vec<f32>>> {
        let input = Tensor::from_vec([5], (0..5).map(|v| v as f32).collect())?;
        let sequence = split.evaluate(&[Some(&input), lengths.as_ref()])?.remove(0);
        sequence.elements().iter().map(|e| Ok(e.values::<f32>()?.into_owned())).collect()
    }

    #[test]
    fn lengths_are_a_number_a_list_or_ones() {
        let split = Split { axis: 0, keep: true };
        let some = |t: Result<Tensor>| Some(t.expect("a tensor"));
        assert_eq!(
            pieces(&split, Some(Tensor::scalar(2i64))).expect("three"),
            [vec![0.0, 1.0], vec![2.0, 3.0], vec![4.0]]
        );
        let list = some(Tensor::from_vec([3], vec![4i64, 0, 1]));
        assert_eq!(pieces(&split, list).expect("three"), [vec![0.0, 1.0, 2.0, 3.0], vec![], vec![4.0]]);
        assert_eq!(pieces(&Split { axis: -1, keep: false }, None).expect("five").len(), 5);
        for wrong in [Tensor::from_vec([2], vec![4i64, 2]), Tensor::from_vec([2], vec![-1i64, 6])] {
            assert!(pieces(&split, some(wrong)).is_err());
        }
        for wrong in [0i64, -2] {
            assert!(pieces(&split, Some(Tensor::scalar(wrong))).is_err());
        }
        assert!(pieces(&Split { axis: 1, keep: true }, None).is_err());
        let long = Fact::of_shape(DType::F32, &[1 << 40]);
        assert!(split.infer(&[Some(&long), None]).is_err());
    }

    #[test]
    fn joining_is_splitting_reversed() {
        let input = Tensor::from_vec([2, 3], (0..6).collect::<Vec<i32>>()).expect("six");
        for (keep, new_axis) in [(true, false), (false, true)] {
            for axis in [0, 1, -1, -2] {
                let parts = Split { axis, keep }.evaluate(&[Some(&input), None]).expect("an axis");
                let joined = Concat { axis, new_axis }.evaluate(&[Some(&parts[0])]).expect("equal pieces");
                assert_eq!(joined[0], input, "axis {axis}");
            }
        }
        let none = Tensor::sequence(Vec::new()).expect("none");
        assert!(Concat { axis: 0, new_axis: false }.evaluate(&[Some(&none)]).is_err());
        assert!(Concat { axis: 0, new_axis: false }.evaluate(&[Some(&input)]).is_err());
    }
}
