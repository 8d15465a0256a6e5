//! How values came to be, as far as it matters for how near two ways of computing them must be.

use super::graph::{Graph, Node, ValueId};
use crate::tensor::{DType, Tensor};

/// What small differences of floats can have done to a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// It was computed with floats, so that the last bits are anybody's.
    pub rounded: bool,
    /// Floats of 16 bits or fewer were among them.
    pub halves: bool,
    /// Something was chosen by floats that were computed (an index, a condition, a step of a grid): where two of them are nearly
    /// equal, another choice is as right, and may change the value much.
    pub chosen: bool,
}

impl Origin {
    fn and(self, other: Self) -> Self {
        Self {
            rounded: self.rounded || other.rounded,
            halves: self.halves || other.halves,
            chosen: self.chosen || other.chosen,
        }
    }
}

/// Operators that give integers for floats without reckoning: exact inputs give exact outputs.
const EXACT: [&str; 14] = [
    "ArgMax",
    "ArgMin",
    "Cast",
    "CastLike",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "TopK",
    "Unique",
];

/// Operators whose outputs jump where their inputs pass some point, or whose insides are not looked into.
const STEPS: [&str; 16] = [
    "Ceil",
    "Floor",
    "Hardmax",
    "If",
    "Loop",
    "Mod",
    "NonMaxSuppression",
    "RoiAlign",
    "Round",
    "Scan",
    "SequenceMap",
    "Sign",
    "ThresholdedRelu",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
];

/// The origins of a graph's values, noted while it is evaluated.
#[derive(Clone, Debug)]
pub struct Origins(Vec<Origin>);

impl Origins {
    /// Inputs and constants are what they are.
    pub fn new(graph: &Graph) -> Self {
        Self(vec![Origin::default(); graph.values.len()])
    }

    /// That of a value.
    pub fn of(&self, value: ValueId) -> Origin {
        self.0[value.0]
    }

    /// Follows a node that gave `outputs` for `inputs`.
    pub fn note(&mut self, node: &Node, inputs: &[Option<&Tensor>], outputs: &[Tensor]) {
        let before = node.inputs.iter().flatten().map(|v| self.of(*v)).fold(Origin::default(), Origin::and);
        let name = node.op.name();
        let takes_floats = inputs.iter().flatten().any(|tensor| holds_floats(tensor));
        let halves = before.halves || inputs.iter().flatten().copied().chain(outputs).any(holds_halves);
        for (value, tensor) in node.outputs.iter().zip(outputs) {
            let Some(value) = value else { continue };
            self.0[value.0] = if holds_floats(tensor) {
                let chosen = before.chosen || (before.rounded && STEPS.contains(&name));
                Origin { rounded: true, halves, chosen }
            } else if node.op.reads_values() {
                let reckoned = takes_floats && !EXACT.contains(&name);
                Origin { rounded: false, halves, chosen: before.chosen || before.rounded || reckoned }
            } else {
                // Extents only: those of a choice differ with it.
                Origin { rounded: false, halves: false, chosen: before.chosen }
            };
        }
    }
}

fn holds(tensor: &Tensor, is: fn(DType) -> bool) -> bool {
    is(tensor.dtype()) || tensor.elements().iter().any(|element| holds(element, is))
}

fn holds_floats(tensor: &Tensor) -> bool {
    holds(tensor, |dtype| dtype.is_float() || matches!(dtype, DType::Complex64 | DType::Complex128))
}

fn holds_halves(tensor: &Tensor) -> bool {
    holds(tensor, |dtype| dtype.is_float() && dtype.bits() <= 16)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fact::Fact;
    use super::super::op::Op;
    use super::*;
    use crate::error::Result;
    use crate::tensor::{DType, Signature};

    /// An operator by name only.
    #[derive(Debug)]
    struct Named(&'static str);

    impl Op for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>> {
            Ok(Vec::new())
        }

        fn evaluate(&self, _: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
            Ok(Vec::new())
        }

        fn reads_values(&self) -> bool {
            self.0 != "Shape"
        }
    }

    /// An operator and what it gives.
    type Step = (&'static str, DType);

    /// Where the output of the last of `chain` comes from; each reads the one before, the first an input of `first`.
    fn follow(first: DType, chain: &[Step]) -> Origin {
        let mut graph = Graph {
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            signature: Signature { inputs: Vec::new(), outputs: Vec::new() },
        };
        let ids: Vec<_> = (0..=chain.len()).map(|at| graph.add_value(at.to_string(), None)).collect();
        let one = |dtype| Tensor::from_f64s(dtype, [1], &[1.0]).expect("a number");
        let (mut origins, mut before) = (Origins::new(&graph), one(first));
        for (at, (name, dtype)) in chain.iter().enumerate() {
            let (inputs, outputs) = (vec![Some(ids[at])], vec![Some(ids[at + 1])]);
            let node = Node { name: String::new(), op: Arc::new(Named(name)), inputs, outputs };
            let after = one(*dtype);
            origins.note(&node, &[Some(&before)], std::slice::from_ref(&after));
            before = after;
        }
        origins.of(ids[chain.len()])
    }

    #[test]
    fn choices_of_computed_floats_are_followed() {
        use DType::{Bool, F16, F32, I64, U8};
        let origin = |rounded, halves, chosen| Origin { rounded, halves, chosen };
        let cases: [(DType, &[Step], Origin); 9] = [
            (I64, &[("Add", I64)], origin(false, false, false)),
            (F32, &[("Add", F32)], origin(true, false, false)),
            // What callers send is exact.
            (F32, &[("ArgMax", I64)], origin(false, false, false)),
            (F32, &[("Exp", F32), ("ArgMax", I64)], origin(false, false, true)),
            (F32, &[("Exp", F32), ("Greater", Bool), ("Where", F32)], origin(true, false, true)),
            (F32, &[("QuantizeLinear", U8)], origin(false, false, true)),
            (F32, &[("Exp", F32), ("Floor", F32)], origin(true, false, true)),
            (F32, &[("Exp", F32), ("Shape", I64)], origin(false, false, false)),
            (F16, &[("Cast", F32), ("Exp", F32)], origin(true, true, false)),
        ];
        for (first, chain, expected) in cases {
            assert_eq!(follow(first, chain), expected, "{first} {chain:?}");
        }
    }
}
