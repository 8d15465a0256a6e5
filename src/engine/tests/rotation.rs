//! Rotary embeddings as exporters write them become one kernel, and what is not quite one does not.

use super::attention::{close, fused, ints, noise, software};
use super::*;

#[derive(Clone, Copy, Debug)]
struct Rotary {
    /// Where the first half ends, and where what is taken for the second one begins.
    cut: [i64; 2],
    negated: &'static str,
    joined: [&'static str; 2],
    cosine: &'static [usize],
    /// What is multiplied by cosines.
    plain: &'static str,
}

const ROTARY: Rotary =
    Rotary { cut: [8, 8], negated: "second", joined: ["negated", "first"], cosine: &[1, 1, 5, 16], plain: "heads" };

impl Rotary {
    /// Three heads of sixteen elements in five steps of two sequences.
    fn graph(&self) -> Graph {
        let perm = [("perm", Attribute::Ints(vec![0, 2, 1, 3]))];
        Sketch::new(vec![tensor("x", &[2, 5, 48])])
            .constant("apart", ints(&[2, 5, 3, 16]))
            .constant("zero", ints(&[0]))
            .constant("end", ints(&[self.cut[0]]))
            .constant("begin", ints(&[self.cut[1]]))
            .constant("all", ints(&[i64::MAX]))
            .constant("axis", ints(&[3]))
            .constant("cosine", noise(self.cosine, 2))
            .constant("sine", noise(&[5, 16], 3))
            .node("Reshape", &["x", "apart"], "rows", &[])
            .node("Transpose", &["rows"], "heads", &perm)
            .node("Transpose", &["rows"], "others", &perm)
            .node("Slice", &["heads", "zero", "end", "axis"], "first", &[])
            .node("Slice", &["heads", "begin", "all", "axis"], "second", &[])
            .node("Neg", &[self.negated], "negated", &[])
            .node("Concat", &self.joined, "turned", &[("axis", Attribute::Int(-1))])
            .node("Mul", &["cosine", self.plain], "a", &[])
            .node("Mul", &["turned", "sine"], "b", &[])
            .node("Add", &["b", "a"], "y", &[])
            .0
    }

    fn becomes(&self) -> Vec<&'static str> {
        let (graph, given) = (self.graph(), [noise(&[2, 5, 48], 1)]);
        let (names, found) = fused(&graph, &given, &software());
        assert!(close(&found[0], &oracle::evaluate(&graph, &given).expect("sound")[0]), "{self:?}: {names:?}");
        names
    }
}

#[test]
fn halves_that_turn_are_one_kernel() {
    assert_eq!(ROTARY.becomes(), ["RotaryEmbedding"]);
    assert_eq!(Rotary { cosine: &[2, 3, 5, 16], ..ROTARY }.becomes(), ["RotaryEmbedding"]);
    assert_eq!(Rotary { plain: "others", ..ROTARY }.becomes(), ["RotaryEmbedding"]);
}

#[test]
fn what_turns_otherwise_stays() {
    for other in [
        Rotary { negated: "first", joined: ["second", "negated"], ..ROTARY },
        Rotary { negated: "first", joined: ["negated", "second"], ..ROTARY },
        Rotary { joined: ["first", "negated"], ..ROTARY },
        Rotary { cut: [6, 6], ..ROTARY },
        Rotary { cut: [8, 8], plain: "turned", ..ROTARY },
    ] {
        assert!(!other.becomes().contains(&"RotaryEmbedding"), "{other:?}");
    }
}
