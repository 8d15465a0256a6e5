//! Joined channels are written where they are joined, and cut ones read where they lie.

use super::attention::{close, fused, ints, noise, software};
use super::*;

/// The kernels that `graph` becomes for an input x of this shape.
fn kernels(graph: &Graph, dims: &[usize], profile: &Profile) -> Vec<&'static str> {
    let graph = optimise(graph.clone(), profile).expect("sound");
    let program = compile(&graph, &[shape(dims)], profile, &Choices::new()).expect("sound");
    program.segments.iter().flat_map(|s| &s.dispatches).map(|d| d.kernel.name).collect()
}

fn copies(kernels: &[&'static str]) -> usize {
    kernels.iter().filter(|name| name.starts_with("copy")).count()
}

fn along_channels() -> [(&'static str, Attribute); 1] {
    [("axis", Attribute::Int(1))]
}

impl Sketch {
    /// A convolution that keeps extents.
    fn conv(self, x: &str, output: &str, [to, from, kernel]: [usize; 3]) -> Self {
        let (weights, pads) = (format!("weights_{output}"), [("pads", Attribute::Ints(vec![kernel as i64 / 2; 4]))]);
        self.constant(&weights, noise(&[to, from, kernel, kernel], output.len())).node(
            "Conv",
            &[x, &weights],
            output,
            &pads,
        )
    }

    /// The channels of x between two.
    fn cut(self, x: &str, output: &str, [from, to]: [i64; 2]) -> Self {
        self.every(x, output, [from, to, 1])
    }

    /// The channels of x between two, by steps.
    fn every(self, x: &str, output: &str, [from, to, by]: [i64; 3]) -> Self {
        let [start, end, axis, step] = ["start", "end", "axis", "step"].map(|name| format!("{name}_{output}"));
        let sketch = self.constant(&start, ints(&[from])).constant(&end, ints(&[to]));
        let sketch = sketch.constant(&axis, ints(&[1])).constant(&step, ints(&[by]));
        sketch.node("Slice", &[x, &start, &end, &axis, &step], output, &[])
    }
}

/// Three layers, each of which reads all that those before it gave, times a number a channel.
fn dense(dims: &[usize]) -> Graph {
    let mut sketch = Sketch::new(vec![tensor("x", dims)]).conv("x", "p0", [32, dims[1], 1]);
    let parts: Vec<String> = (0..4).map(|i| format!("p{i}")).collect();
    for layer in 1..4 {
        let [all, scale, scaled, sum] = ["all", "scale", "scaled", "sum"].map(|name| format!("{name}{layer}"));
        let before: Vec<&str> = parts[..layer].iter().map(String::as_str).collect();
        let joined = if layer == 1 { "p0" } else { &all };
        if layer > 1 {
            sketch = sketch.node("Concat", &before, &all, &along_channels());
        }
        sketch = sketch
            .constant(&scale, noise(&[32 * layer, 1, 1], layer))
            .node("Mul", &[joined, &scale], &scaled, &[])
            .node("Relu", &[&scaled], &sum, &[])
            .conv(&sum, &parts[layer], [32, 32 * layer, 3]);
    }
    sketch.node("Concat", &["p0", "p1", "p2", "p3"], "joined", &along_channels()).conv("joined", "y", [48, 128, 1]).0
}

#[test]
fn dense_layers_copy_nothing() {
    let gpu = Profile::plain(Family::Gpu);
    let sound = |dims: [usize; 4], profile: &Profile| {
        let kernels = kernels(&dense(&dims), &dims, profile);
        assert_eq!(copies(&kernels), 0, "{dims:?} {:?}: {kernels:?}", profile.family);
    };
    for dims in [[1, 24, 16, 16], [3, 24, 14, 14]] {
        sound(dims, &software());
        sound(dims, &gpu);
    }
    sound([1, 24, 7, 7], &gpu);
}

/// The first half of some channels, and the second one before and after two convolutions, joined again.
fn halved(dims: &[usize]) -> Graph {
    Sketch::new(vec![tensor("x", dims)])
        .conv("x", "wide", [64, dims[1], 1])
        .cut("wide", "first", [0, 32])
        .cut("wide", "second", [32, 64])
        .conv("second", "inner", [32, 32, 3])
        .conv("inner", "third", [32, 32, 3])
        .node("Concat", &["first", "second", "third"], "joined", &along_channels())
        .conv("joined", "y", [48, 96, 1])
        .0
}

#[test]
fn halves_stay_where_they_are() {
    for dims in [[1, 24, 16, 16], [2, 24, 14, 14], [2, 24, 16, 10]] {
        for profile in [software(), Profile::plain(Family::Gpu)] {
            let kernels = kernels(&halved(&dims), &dims, &profile);
            assert_eq!(copies(&kernels), 0, "{dims:?} {:?}: {kernels:?}", profile.family);
        }
    }
}

#[test]
fn every_other_channel_stays_where_it_is() {
    let dims = [2, 24, 14, 14];
    let sketch = Sketch::new(vec![tensor("x", &dims)]).conv("x", "wide", [64, 24, 1]);
    let graph = sketch.every("wide", "odd", [1, 64, 2]).conv("odd", "y", [48, 32, 1]).0;
    assert_eq!(copies(&kernels(&graph, &dims, &software())), 0);
}

#[test]
fn what_was_cut_apart_is_whole_again() {
    let pieces = |order: &[&str]| {
        Sketch::new(vec![tensor("x", &[2, 12, 5])])
            .cut("x", "a", [0, 3])
            .cut("x", "b", [3, 8])
            .cut("x", "c", [8, 12])
            .node("Concat", order, "joined", &along_channels())
            .node("Neg", &["joined"], "y", &[])
            .0
    };
    let given = [noise(&[2, 12, 5], 1)];
    let left = |order: &[&str]| {
        let graph = pieces(order);
        let (names, found) = fused(&graph, &given, &software());
        assert!(close(&found[0], &oracle::evaluate(&graph, &given).expect("sound")[0]), "{order:?}: {names:?}");
        names.iter().filter(|name| **name == "Concat").count()
    };
    assert_eq!(left(&["a", "b", "c"]), 0);
    assert_eq!(left(&["b", "a", "c"]), 1);
    assert_eq!(left(&["a", "b"]), 1);
    assert_eq!(left(&["c", "a", "b", "c"]), 1);
}

#[test]
fn a_join_goes_on_from_the_longest_before_it() {
    let graph = Sketch::new(vec![tensor("x", &[2, 3, 5])])
        .node("Neg", &["x"], "a", &[])
        .node("Exp", &["x"], "b", &[])
        .node("Concat", &["x", "a"], "two", &along_channels())
        .node("Concat", &["x", "a", "b"], "three", &along_channels())
        .node("Concat", &["x", "a", "b", "x"], "four", &along_channels())
        .node("Concat", &["two", "three", "four"], "y", &along_channels())
        .0;
    let given = [noise(&[2, 3, 5], 1)];
    let optimised = optimise(graph.clone(), &software()).expect("sound");
    let mut known = super::super::compile::specialise(&optimised, &[shape(&[2, 3, 5])], &software()).expect("sound");
    super::super::compile::fuse(&mut known, &software());
    let joins = known.live.iter().map(|index| &known.graph.nodes[*index]).filter(|node| node.op.name() == "Concat");
    assert_eq!(joins.map(|node| node.inputs.len()).collect::<Vec<_>>(), [2, 2, 2, 3]);
    let (_, found) = fused(&graph, &given, &software());
    assert!(close(&found[0], &oracle::evaluate(&graph, &given).expect("sound")[0]));
}
