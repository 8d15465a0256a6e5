//! Normalisations and softmax as exporters write them become one kernel, and what is not quite one does not.

use super::attention::{close, fused, ints, noise, software};
use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Divided {
    Root,
    Reciprocal,
    Quotient,
}

#[derive(Clone, Copy, Debug)]
struct Norm {
    centred: bool,
    /// The differences from the mean are computed once for the squares and once more.
    twice: bool,
    power: bool,
    divided: Divided,
    shifted: bool,
    axis: i64,
    epsilon: f32,
    /// Extents of the scale.
    scale: &'static [usize],
}

const NORM: Norm = Norm {
    centred: true,
    twice: false,
    power: true,
    divided: Divided::Root,
    shifted: true,
    axis: -1,
    epsilon: 1e-5,
    scale: &[64],
};

impl Norm {
    fn graph(&self) -> Graph {
        let keep = [("keepdims", Attribute::Int(1))];
        let mut sketch = Sketch::new(vec![tensor("x", &[3, 5, 64])])
            .constant("axes", ints(&[self.axis]))
            .constant("two", Tensor::scalar(2.0f32))
            .constant("one", Tensor::scalar(1.0f32))
            .constant("epsilon", Tensor::scalar(self.epsilon))
            .constant("scale", noise(self.scale, 2))
            .constant("bias", noise(&[64], 3));
        let (mut own, mut squared) = ("x", "x");
        if self.centred {
            sketch = sketch.node("ReduceMean", &["x", "axes"], "mean", &keep).node("Sub", &["x", "mean"], "d", &[]);
            (own, squared) = ("d", "d");
            if self.twice {
                sketch = sketch.node("Sub", &["x", "mean"], "e", &[]);
                squared = "e";
            }
        }
        sketch = match self.power {
            true => sketch.node("Pow", &[squared, "two"], "squares", &[]),
            false => sketch.node("Mul", &[squared, squared], "squares", &[]),
        };
        sketch = sketch
            .node("ReduceMean", &["squares", "axes"], "variance", &keep)
            .node("Add", &["variance", "epsilon"], "raised", &[])
            .node("Sqrt", &["raised"], "root", &[]);
        sketch = match self.divided {
            Divided::Root => sketch.node("Div", &[own, "root"], "n", &[]),
            Divided::Reciprocal => {
                sketch.node("Reciprocal", &["root"], "inverse", &[]).node("Mul", &["inverse", own], "n", &[])
            }
            Divided::Quotient => {
                sketch.node("Div", &["one", "root"], "inverse", &[]).node("Mul", &[own, "inverse"], "n", &[])
            }
        };
        sketch = sketch.node("Mul", &["scale", "n"], "scaled", &[]);
        if self.shifted {
            sketch = sketch.node("Add", &["scaled", "bias"], "y", &[]);
        }
        sketch.0
    }

    /// The operators that are left, which give what it gave.
    fn left(&self) -> Vec<&'static str> {
        left(&self.graph())
    }
}

fn left(graph: &Graph) -> Vec<&'static str> {
    let given = [noise(&[3, 5, 64], 1)];
    let expected = oracle::evaluate(graph, &given).expect("sound");
    let (names, found) = fused(graph, &given, &software());
    assert!(found.iter().zip(&expected).all(|(a, b)| a.shape() == b.shape() && close(a, b)), "{names:?}");
    names
}

#[test]
fn a_normalisation_is_one_kernel() {
    for divided in [Divided::Root, Divided::Reciprocal, Divided::Quotient] {
        for power in [false, true] {
            for shifted in [false, true] {
                let norm = Norm { divided, power, shifted, ..NORM };
                assert_eq!(norm.left(), ["LayerNormalization"], "{norm:?}");
                let twice = Norm { twice: true, ..norm };
                assert_eq!(twice.left(), ["LayerNormalization"], "{twice:?}");
                let simple = Norm { centred: false, ..norm };
                assert_eq!(simple.left(), ["RMSNormalization"], "{simple:?}");
            }
        }
    }
}

#[test]
fn what_is_no_normalisation_stays() {
    let stays = |graph: &Graph| !left(graph).iter().any(|name| name.ends_with("Normalization"));
    assert!(stays(&Norm { axis: 1, ..NORM }.graph()), "columns are no rows");
    assert!(stays(&Norm { epsilon: -1e-9, ..NORM }.graph()), "the root of less");
    assert!(stays(&Norm { scale: &[1], ..NORM }.graph()), "one scale for all");
    assert!(stays(&Norm { scale: &[5, 64], ..NORM }.graph()), "scales for several rows");
    // A deviation that something else reads is needed anyway.
    let mut graph = NORM.graph();
    let root = graph.values.iter().position(|v| v.name == "root").map(ValueId).expect("there");
    graph.outputs.push(root);
    assert!(stays(&graph));
    // Divided by the deviation of something else.
    let keep = [("keepdims", Attribute::Int(1))];
    let graph = Sketch::new(vec![tensor("x", &[3, 5, 64])])
        .constant("axes", ints(&[-1]))
        .constant("epsilon", Tensor::scalar(1e-5f32))
        .constant("scale", noise(&[64], 2))
        .node("Neg", &["x"], "other", &[])
        .node("Mul", &["other", "other"], "squares", &[])
        .node("ReduceMean", &["squares", "axes"], "variance", &keep)
        .node("Add", &["variance", "epsilon"], "raised", &[])
        .node("Sqrt", &["raised"], "root", &[])
        .node("Div", &["x", "root"], "n", &[])
        .node("Mul", &["scale", "n"], "y", &[])
        .0;
    assert!(stays(&graph));
}

/// Softmax along `axis`, whose differences are taken from the largest along `from`.
fn softmax(axis: i64, from: i64) -> Graph {
    let keep = [("keepdims", Attribute::Int(1))];
    Sketch::new(vec![tensor("x", &[3, 5, 64])])
        .constant("axis", ints(&[axis]))
        .constant("from", ints(&[from]))
        .node("ReduceMax", &["x", "from"], "largest", &keep)
        .node("Sub", &["x", "largest"], "differences", &[])
        .node("Exp", &["differences"], "powers", &[])
        .node("ReduceSum", &["powers", "axis"], "sum", &keep)
        .node("Div", &["powers", "sum"], "y", &[])
        .0
}

#[test]
fn a_softmax_is_one_kernel() {
    assert_eq!(left(&softmax(-1, -1)), ["Softmax"]);
    assert_eq!(left(&softmax(2, -1)), ["Softmax"]);
    for (axis, from) in [(1, 1), (-1, 1), (1, -1)] {
        assert!(!left(&softmax(axis, from)).contains(&"Softmax"), "{axis} {from}");
    }
    let mut graph = softmax(-1, -1);
    let sum = graph.values.iter().position(|v| v.name == "sum").map(ValueId).expect("there");
    graph.outputs.push(sum);
    assert!(!left(&graph).contains(&"Softmax"), "the sum is needed anyway");
}
