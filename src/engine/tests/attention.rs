//! Attention as exporters write it becomes one kernel, and what is not quite attention does not.

use proptest::prelude::*;

use super::super::compile::{fuse, specialise};
use super::*;

/// Elements between −1 and 1 that depend on the place and `seed` alone.
pub(super) fn noise(shape: &[usize], seed: usize) -> Tensor {
    let value = |i: usize| (((i * 7919 + seed * 104_729) * 2_654_435_761 % 65_521) as f64 / 32_760.5) - 1.0;
    Tensor::from_f64s(DType::F32, shape, &(0..shape.iter().product()).map(value).collect::<Vec<_>>()).expect("as many")
}

pub(super) fn ints(values: &[i64]) -> Tensor {
    Tensor::from_vec([values.len()], values.to_vec()).expect("as many")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scaled {
    Never,
    Behind,
    Divided,
    Before,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Masked {
    Never,
    /// Added, one for the keys of each batch entry.
    ByKey,
    /// Added, one for every query.
    ByQuery,
    /// Hides where it does not hold.
    Hiding,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    batch: usize,
    heads: usize,
    queries: usize,
    depth: usize,
    /// Queries, keys and values lie side by side in one input, the batch behind the steps.
    packed: bool,
    scaled: Scaled,
    masked: Masked,
    /// Heads go back side by side.
    joined: bool,
    softmax_axis: i64,
}

const LAYER: Layer = Layer {
    batch: 2,
    heads: 3,
    queries: 40,
    depth: 16,
    packed: false,
    scaled: Scaled::Behind,
    masked: Masked::Never,
    joined: true,
    softmax_axis: -1,
};

fn perm(order: &[i64]) -> [(&'static str, Attribute); 1] {
    [("perm", Attribute::Ints(order.to_vec()))]
}

impl Layer {
    /// Its graph up to the scores, and the tensors to feed.
    fn projected(&self) -> (Sketch, Vec<Tensor>) {
        let Self { batch, heads, queries, depth, .. } = *self;
        let width = heads * depth;
        let apart = ints(&[batch as i64, heads as i64, queries as i64, depth as i64]);
        if self.packed {
            let x = noise(&[queries, batch, 3 * width], 1);
            let steps = ints(&[queries as i64, (batch * heads) as i64, depth as i64]);
            let mut sketch = Sketch::new(vec![tensor("x", &x.shape().clone())])
                .constant("thirds", ints(&[queries as i64, batch as i64, 3, width as i64]))
                .constant("first", ints(&[0]))
                .constant("last", ints(&[-2]))
                .constant("steps", steps)
                .constant("apart", apart)
                .node("Reshape", &["x", "thirds"], "x3", &[])
                .node("Unsqueeze", &["x3", "first"], "x4", &[])
                .node("Transpose", &["x4"], "x5", &perm(&[3, 1, 2, 0, 4]))
                .node("Squeeze", &["x5", "last"], "x6", &[]);
            for (i, name) in ["q", "k", "v"].into_iter().enumerate() {
                let [index, part, rows, turned] = ["index", "part", "rows", "turned"].map(|s| format!("{s}_{name}"));
                sketch = sketch
                    .constant(&index, Tensor::scalar(i as i64))
                    .node("Gather", &["x6", &index], &part, &[])
                    .node("Reshape", &[&part, "steps"], &rows, &[])
                    .node("Transpose", &[&rows], &turned, &perm(&[1, 0, 2]))
                    .node("Reshape", &[&turned, "apart"], name, &[]);
            }
            return (sketch.node("Transpose", &["k"], "kt", &perm(&[0, 1, 3, 2])), vec![x]);
        }
        let given = [1, 2, 3].map(|seed| noise(&[batch, queries, width], seed));
        let specs = ["a", "b", "c"].map(|name| tensor(name, &[batch, queries, width]));
        let mut sketch = Sketch::new(specs.to_vec()).constant("split", ints(&[0, 0, heads as i64, depth as i64]));
        for (from, to, order) in [("a", "q", [0, 2, 1, 3]), ("b", "kt", [0, 2, 3, 1]), ("c", "v", [0, 2, 1, 3])] {
            let split = format!("{to}_split");
            sketch =
                sketch.node("Reshape", &[from, "split"], &split, &[]).node("Transpose", &[&split], to, &perm(&order));
        }
        (sketch, given.to_vec())
    }

    /// Scores named `scores`, as softmax takes them.
    fn scored(&self) -> (Sketch, Vec<Tensor>) {
        let Self { batch, queries, .. } = *self;
        let (sketch, mut given) = self.projected();
        let factor = |value: f32| Tensor::from_vec([1], vec![value]).expect("one");
        let sketch =
            match self.scaled {
                Scaled::Never => sketch.node("MatMul", &["q", "kt"], "scaled", &[]),
                Scaled::Behind => sketch
                    .constant("factor", factor(0.25))
                    .node("MatMul", &["q", "kt"], "raw", &[])
                    .node("Mul", &["raw", "factor"], "scaled", &[]),
                Scaled::Divided => sketch
                    .constant("factor", Tensor::scalar(4.0f32))
                    .node("MatMul", &["q", "kt"], "raw", &[])
                    .node("Div", &["raw", "factor"], "scaled", &[]),
                Scaled::Before => sketch
                    .constant("factor", factor(0.5))
                    .node("Mul", &["q", "factor"], "qs", &[])
                    .node("Mul", &["factor", "kt"], "ks", &[])
                    .node("MatMul", &["qs", "ks"], "scaled", &[]),
            };
        let mask_shape = match self.masked {
            Masked::Never => return (sketch.node("Identity", &["scaled"], "scores", &[]), given),
            Masked::ByKey => vec![batch, 1, 1, queries],
            Masked::ByQuery => vec![queries, queries],
            Masked::Hiding => vec![batch, 1, queries, queries],
        };
        let mask = noise(&mask_shape, 9);
        if self.masked != Masked::Hiding {
            let mut sketch = sketch.input(tensor("mask", &mask_shape));
            given.push(mask);
            sketch = sketch.node("Add", &["mask", "scaled"], "scores", &[]);
            return (sketch, given);
        }
        let holds = mask.to_f64s().expect("real").iter().map(|v| u8::from(*v > -0.5)).collect();
        let dims = mask_shape.iter().map(|d| Dim::Fixed(*d)).collect();
        given.push(Tensor::from_bools(mask_shape, holds).expect("as many"));
        let sketch = sketch.input(Spec::tensor("mask", DType::Bool, Some(dims)));
        let sketch = sketch.constant("lowest", Tensor::scalar(f32::MIN));
        (sketch.node("Where", &["mask", "scaled", "lowest"], "scores", &[]), given)
    }

    /// All of it.
    fn graph(&self) -> (Graph, Vec<Tensor>) {
        let (sketch, given) = self.scored();
        let sketch = sketch
            .node("Softmax", &["scores"], "weights", &[("axis", Attribute::Int(self.softmax_axis))])
            .node("MatMul", &["weights", "v"], "y", &[]);
        if !self.joined {
            return (sketch.0, given);
        }
        let sketch = sketch
            .constant("joined", ints(&[self.batch as i64, -1, (self.heads * self.depth) as i64]))
            .node("Transpose", &["y"], "back", &perm(&[0, 2, 1, 3]))
            .node("Reshape", &["back", "joined"], "z", &[]);
        (sketch.0, given)
    }
}

impl Sketch {
    fn input(mut self, spec: Spec) -> Self {
        let value = self.0.add_value(spec.name.clone(), None);
        self.0.inputs.push(value);
        self.0.signature.inputs.push(spec);
        self
    }
}

pub(super) fn software() -> Profile {
    Profile { subgroup: Some(8), ..Profile::plain(Family::Software) }
}

/// Operators that are left of `graph`, and what they give.
pub(super) fn fused(graph: &Graph, given: &[Tensor], profile: &Profile) -> (Vec<&'static str>, Vec<Tensor>) {
    let graph = optimise(graph.clone(), profile).expect("sound");
    let shapes: Vec<Given> = given.iter().map(|t| Given::Shape(t.shape().clone())).collect();
    let mut known = specialise(&graph, &shapes, profile).expect("sound");
    fuse(&mut known, profile);
    let nodes: Vec<Node> = known.live.iter().map(|index| known.graph.nodes[*index].clone()).collect();
    let left = Graph { nodes, ..known.graph.clone() };
    (left.nodes.iter().map(|n| n.op.name()).collect(), oracle::evaluate(&left, given).expect("computed"))
}

pub(super) fn close(found: &Tensor, expected: &Tensor) -> bool {
    let (found, wanted) = (found.to_f64s().expect("real"), expected.to_f64s().expect("real"));
    found.len() == wanted.len() && found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4)
}

/// Whether `graph` becomes one attention, giving what it gave.
fn is_fused(graph: &Graph, given: &[Tensor], profile: &Profile) -> bool {
    let expected = oracle::evaluate(graph, given).expect("sound");
    let (names, found) = fused(graph, given, profile);
    assert!(found.iter().zip(&expected).all(|(a, b)| a.shape() == b.shape() && close(a, b)), "{names:?}");
    names.contains(&"Attention")
}

#[test]
fn a_layer_is_one_kernel() {
    for packed in [false, true] {
        let (graph, given) = Layer { packed, scaled: Scaled::Before, ..LAYER }.graph();
        let (names, _) = fused(&graph, &given, &software());
        assert_eq!(names, ["Attention"]);
        let shapes: Vec<Given> = given.iter().map(|t| Given::Shape(t.shape().clone())).collect();
        for (profile, kernel) in [(software(), "attention"), (Profile::plain(Family::Gpu), "attention_blocks")] {
            let graph = optimise(graph.clone(), &profile).expect("sound");
            let program = compile(&graph, &shapes, &profile, &Choices::new()).expect("sound");
            let kernels: Vec<_> = program.segments.iter().flat_map(|s| &s.dispatches).map(|d| d.kernel.name).collect();
            assert_eq!(kernels, [kernel]);
        }
    }
}

#[test]
fn what_is_no_attention_stays() {
    let refused = |layer: Layer| {
        let (graph, given) = layer.graph();
        !is_fused(&graph, &given, &software())
    };
    assert!(!refused(LAYER));
    assert!(refused(Layer { softmax_axis: 2, ..LAYER }), "the weights of a key sum to one");
    assert!(refused(Layer { queries: 8, ..LAYER }), "most of a tile would idle");
    assert!(refused(Layer { depth: 18, ..LAYER }), "rows are no whole vectors");
    // Without subgroups that broadcast there is no kernel.
    let (graph, given) = LAYER.graph();
    assert!(!is_fused(&graph, &given, &profile()));
    // Scores that the caller wants are needed anyway.
    let (mut graph, given) = LAYER.graph();
    let weights = graph.values.iter().position(|v| v.name == "weights").map(ValueId).expect("there");
    graph.outputs.push(weights);
    assert!(!is_fused(&graph, &given, &software()));
    // So are scores that something else reads.
    let (sketch, given) = LAYER.scored();
    let sketch = sketch
        .node("Softmax", &["scores"], "weights", &[])
        .node("Mul", &["weights", "scores"], "other", &[])
        .node("MatMul", &["other", "v"], "y", &[]);
    assert!(!is_fused(&sketch.0, &given, &software()));
    let (sketch, given) = LAYER.scored();
    let sketch = sketch.node("LogSoftmax", &["scores"], "weights", &[]).node("MatMul", &["weights", "v"], "y", &[]);
    assert!(!is_fused(&sketch.0, &given, &software()));
    // A mask that is scaled too.
    let (sketch, given) = Layer { masked: Masked::ByKey, scaled: Scaled::Never, ..LAYER }.scored();
    let sketch = sketch
        .constant("two", Tensor::scalar(2.0f32))
        .node("Mul", &["scores", "two"], "twice", &[])
        .node("Softmax", &["twice"], "weights", &[])
        .node("MatMul", &["weights", "v"], "y", &[]);
    assert!(!is_fused(&sketch.0, &given, &software()));
    // A scale that differs from head to head.
    let (sketch, given) = LAYER.scored();
    let sketch = sketch
        .constant("each", noise(&[3, 1, 1], 4))
        .node("Mul", &["scores", "each"], "uneven", &[])
        .node("Softmax", &["uneven"], "weights", &[])
        .node("MatMul", &["weights", "v"], "y", &[]);
    assert!(!is_fused(&sketch.0, &given, &software()));
}

/// `LAYER` with weights that are `kept` where `asked` is no number, and a mask that hides all keys from the first query.
fn guarded(asked: &str, kept: [&str; 2], other: f32) -> (Graph, Vec<Tensor>) {
    let (sketch, mut given) = Layer { masked: Masked::ByQuery, ..LAYER }.scored();
    let mut mask = given[3].to_f64s().expect("real");
    mask[..40].fill(f64::NEG_INFINITY);
    given[3] = Tensor::from_f64s(DType::F32, [40, 40], &mask).expect("as many");
    let sketch = sketch
        .constant("other", Tensor::scalar(other))
        .node("Softmax", &["scores"], "weights", &[])
        .node("IsNaN", &[asked], "empty", &[])
        .node("Where", &["empty", kept[0], kept[1]], "kept", &[])
        .node("MatMul", &["kept", "v"], "y", &[]);
    (sketch.0, given)
}

#[test]
fn weights_may_be_guarded() {
    let (graph, given) = guarded("weights", ["other", "weights"], 0.0);
    assert!(is_fused(&graph, &given, &software()) && is_fused(&graph, &given, &Profile::plain(Family::Gpu)));
    let expected = oracle::evaluate(&graph, &given).expect("sound")[0].to_f64s().expect("real");
    assert!(expected[..16].iter().all(|v| *v == 0.0) && expected[16..32].iter().any(|v| *v != 0.0));
    for (graph, given) in [guarded("weights", ["other", "weights"], 1.0), guarded("scores", ["other", "weights"], 0.0)]
    {
        // Some of what they give is no number.
        assert!(!fused(&graph, &given, &software()).0.contains(&"Attention"));
    }
}

#[test]
fn weights_may_be_spelled_out() {
    let (sketch, given) = LAYER.scored();
    let keep = [("keepdims", Attribute::Int(1))];
    let sketch = sketch
        .constant("last", ints(&[-1]))
        .node("ReduceMax", &["scores", "last"], "largest", &keep)
        .node("Sub", &["scores", "largest"], "differences", &[])
        .node("Exp", &["differences"], "powers", &[])
        .node("ReduceSum", &["powers", "last"], "sum", &keep)
        .node("Div", &["powers", "sum"], "weights", &[])
        .node("MatMul", &["weights", "v"], "y", &[]);
    assert!(is_fused(&sketch.0, &given, &software()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn layers_give_what_their_nodes_give(
        batch in 1usize..3, heads in 1usize..4, queries in 8usize..14, depth in 4usize..7, packed: bool,
        scaled in 0usize..4, masked in 0usize..4, joined: bool,
    ) {
        let scaled = [Scaled::Never, Scaled::Behind, Scaled::Divided, Scaled::Before][scaled];
        let masked = [Masked::Never, Masked::ByKey, Masked::ByQuery, Masked::Hiding][masked];
        let queries = 4 * queries + queries % 2;
        let layer = Layer { batch, heads, queries, depth: 4 * depth, packed, scaled, masked, joined, softmax_axis: 3 };
        let (graph, given) = layer.graph();
        let work = batch * heads * queries * queries * 8 * depth;
        prop_assert_eq!(is_fused(&graph, &given, &Profile::plain(Family::Gpu)), work >= 262_144);
        let whole = queries % 4 == 0 || matches!(masked, Masked::Never | Masked::ByKey);
        prop_assert_eq!(is_fused(&graph, &given, &software()), work >= 262_144 && whole);
    }
}
